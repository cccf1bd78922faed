//! The logs of containers: what is read back is what was written.

#![expect(
    clippy::unwrap_used,
    reason = "what the tests share fails and speaks as they do"
)]

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use kubeopencode_embedded::logs::record::Source;
use kubeopencode_embedded::logs::{LogError, LogOptions, LogStore};

fn store() -> (tempfile::TempDir, LogStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path().join("logs")).unwrap();
    (directory, store)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

async fn collect(stream: impl Stream<Item = std::io::Result<Bytes>>) -> Vec<u8> {
    let mut stream = std::pin::pin!(stream);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

async fn read(store: &LogStore, options: LogOptions) -> String {
    let stream = store.read("uid", "main", options).await.unwrap();
    String::from_utf8(collect(stream).await).unwrap()
}

async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future)
        .await
        .expect("the log does not end")
}

#[tokio::test]
async fn both_streams_come_back_as_they_were_written() {
    let (_directory, store) = store();
    let writer = store.create("uid", "main", 0).await.unwrap();
    let out = b"one\nnot \xff\xfe text\0\nno newline".as_slice();
    guarded(writer.copy(out, b"".as_slice(), Timestamp::now)).await;
    let stream = store
        .read("uid", "main", LogOptions::default())
        .await
        .unwrap();
    assert_eq!(collect(stream).await, out);
}

#[tokio::test]
async fn the_options_of_kubectl_logs() {
    let (_directory, store) = store();
    let mut writer = store.create("uid", "main", 0).await.unwrap();
    for (second, source, text) in [
        (1, Source::Stdout, "one\n"),
        (2, Source::Stderr, "two\n"),
        (3, Source::Stdout, "thr"),
        (4, Source::Stdout, "ee\nfour\n"),
        (5, Source::Stdout, "rest"),
    ] {
        writer
            .append(at(second), source, text.as_bytes())
            .await
            .unwrap();
    }
    let tail = |lines| LogOptions {
        tail_lines: Some(lines),
        ..LogOptions::default()
    };
    assert_eq!(read(&store, tail(0)).await, "");
    assert_eq!(read(&store, tail(1)).await, "rest");
    assert_eq!(read(&store, tail(2)).await, "four\nrest");
    assert_eq!(read(&store, tail(3)).await, "three\nfour\nrest");
    assert_eq!(read(&store, tail(4)).await, "two\nthree\nfour\nrest");
    assert_eq!(read(&store, tail(99)).await, "one\ntwo\nthree\nfour\nrest");
    let limited = LogOptions {
        limit_bytes: Some(6),
        ..LogOptions::default()
    };
    assert_eq!(read(&store, limited).await, "one\ntw");
    let since = LogOptions {
        since_time: Some(at(4)),
        ..LogOptions::default()
    };
    assert_eq!(read(&store, since).await, "ee\nfour\nrest");
    let recent = LogOptions {
        since_seconds: Some(3600),
        ..LogOptions::default()
    };
    assert_eq!(read(&store, recent).await, "");
    let timed = LogOptions {
        timestamps: true,
        tail_lines: Some(3),
        ..LogOptions::default()
    };
    assert_eq!(
        read(&store, timed).await,
        "1970-01-01T00:00:03.000000000Z three\n1970-01-01T00:00:04.000000000Z four\n\
         1970-01-01T00:00:05.000000000Z rest"
    );
}

/// As a kubelet gives it: a time stands at the beginning of a line, and nowhere else.
#[tokio::test]
async fn a_line_of_both_streams_has_one_time() {
    let (_directory, store) = store();
    let mut writer = store.create("uid", "main", 0).await.unwrap();
    for (second, source, text) in [
        (1, Source::Stdout, "out "),
        (2, Source::Stderr, "err\n"),
        (3, Source::Stdout, "more\n"),
    ] {
        writer
            .append(at(second), source, text.as_bytes())
            .await
            .unwrap();
    }
    let timed = LogOptions {
        timestamps: true,
        ..LogOptions::default()
    };
    assert_eq!(
        read(&store, timed).await,
        "1970-01-01T00:00:01.000000000Z out err\n1970-01-01T00:00:03.000000000Z more\n"
    );
}

#[tokio::test]
async fn a_tail_in_a_log_of_many_blocks() {
    let (_directory, store) = store();
    let lines: Vec<String> = (0..20_000)
        .map(|n| format!("line {n} {}\n", "x".repeat(n % 97)))
        .collect();
    let writer = store.create("uid", "main", 0).await.unwrap();
    let all = lines.concat();
    guarded(writer.copy(all.as_bytes(), b"".as_slice(), Timestamp::now)).await;
    for count in [1, 2, 999, 15_000, 19_999, 20_000, 20_001] {
        let options = LogOptions {
            tail_lines: Some(count),
            ..LogOptions::default()
        };
        let expected =
            lines[lines.len().saturating_sub(usize::try_from(count).unwrap())..].concat();
        assert!(read(&store, options).await == expected, "tail {count}");
    }
    assert_eq!(
        store.tail("uid", "main", 80, 20).await,
        &all.as_bytes()[all.len() - 20..]
    );
}

#[tokio::test]
async fn a_follower_gets_what_comes_later_and_the_end() {
    let (_directory, store) = store();
    let mut writer = store.create("uid", "main", 0).await.unwrap();
    writer
        .append(at(1), Source::Stdout, b"before\n")
        .await
        .unwrap();
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let stream = store.read("uid", "main", follow.clone()).await.unwrap();
    let mut stream = std::pin::pin!(stream);
    assert_eq!(guarded(stream.next()).await.unwrap().unwrap(), "before\n");
    let (next, ()) = guarded(futures::future::join(stream.next(), async {
        writer.append(at(2), Source::Stderr, b"la").await.unwrap();
    }))
    .await;
    assert_eq!(next.unwrap().unwrap(), "la");
    writer.append(at(3), Source::Stderr, b"ter").await.unwrap();
    drop(writer);
    assert_eq!(guarded(collect(stream)).await, b"ter");
    // An ended log ends at once, also for one who would follow.
    assert_eq!(guarded(read(&store, follow)).await, "before\nlater");
}

#[tokio::test]
async fn a_restarted_container_has_a_previous_log() {
    let (_directory, store) = store();
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    for attempt in 0..2 {
        let writer = store.create("uid", "main", attempt).await.unwrap();
        let text = format!("attempt {attempt}\n");
        writer
            .copy(text.as_bytes(), b"".as_slice(), Timestamp::now)
            .await;
        let earlier = store.read("uid", "main", previous.clone()).await.err();
        assert_eq!(earlier.is_some(), attempt == 0);
    }
    assert_eq!(read(&store, previous).await, "attempt 0\n");
    assert_eq!(read(&store, LogOptions::default()).await, "attempt 1\n");
}

#[tokio::test]
async fn logs_outlive_the_process_and_go_with_the_pod() {
    let (directory, store) = store();
    let writer = store.create("uid", "main", 0).await.unwrap();
    writer
        .copy(b"kept\n".as_slice(), b"".as_slice(), Timestamp::now)
        .await;
    let again = LogStore::open(directory.path().join("logs")).unwrap();
    assert_eq!(read(&again, LogOptions::default()).await, "kept\n");
    assert_eq!(again.pod_uids().unwrap(), ["uid"]);
    again.remove("uid").unwrap();
    let gone = again.read("uid", "main", LogOptions::default()).await.err();
    assert!(matches!(gone, Some(LogError::NotFound { .. })));
    assert!(again.pod_uids().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_cannot_leave_the_directory() {
    let (directory, store) = store();
    std::fs::create_dir_all(directory.path().join("else/main")).unwrap();
    std::fs::write(directory.path().join("else/main/0.log"), "").unwrap();
    for uid in ["../else", "..", ".", "", "a/b"] {
        let refused = store.read(uid, "main", LogOptions::default()).await.err();
        assert!(matches!(refused, Some(LogError::NotFound { .. })), "{uid}");
    }
    store.remove("../else").unwrap();
    assert!(directory.path().join("else").exists());
}
