//! The store: conditions, watches, compaction, and what a killed process leaves behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use kubeopencode_embedded::store::{Expect, Location, Retention, Store, StoreError, Write};
use serde_json::json;

fn put(key: &str, expect: Expect, n: u64) -> Write {
    Write::Put {
        key: key.into(),
        expect,
        value: json!({"metadata": {"name": key}, "n": n}),
    }
}

fn memory(retention: Retention) -> Store {
    Store::open(&Location::Memory, retention).expect("a store in memory opens")
}

#[tokio::test]
async fn a_write_holds_only_at_the_expected_revision() {
    let store = memory(Retention::default());
    let one = store.write(put("/a", Expect::Absent, 1)).await.unwrap();
    assert_eq!(one.value["metadata"]["resourceVersion"], "1");
    let again = store.write(put("/a", Expect::Absent, 2)).await;
    assert!(matches!(again, Err(StoreError::Conflict(Some(there))) if there.revision == 1));
    let two = store
        .write(put("/a", Expect::Revision(1), 2))
        .await
        .unwrap();
    assert_eq!((two.revision, two.created), (2, 1));
    let stale = Write::Delete {
        key: "/a".into(),
        revision: 1,
    };
    assert!(matches!(
        store.write(stale).await,
        Err(StoreError::Conflict(_))
    ));
}

#[tokio::test]
async fn of_many_writers_at_one_revision_exactly_one_wins() {
    let store = memory(Retention::default());
    store.write(put("/a", Expect::Absent, 0)).await.unwrap();
    let all = (0..50).map(|n| store.write(put("/a", Expect::Revision(1), n)));
    let won = futures::future::join_all(all)
        .await
        .into_iter()
        .flatten()
        .count();
    assert_eq!(won, 1);
}

/// A watcher that is read only at the end sees the same as one that keeps up, though the window in
/// memory holds a fraction of it.
#[tokio::test]
async fn a_slow_watcher_misses_nothing_and_sees_nothing_twice() {
    let store = memory(Retention {
        window: 8,
        ..Retention::default()
    });
    let mut slow = store.watch("/a/", 0).unwrap();
    let mut quick = store.watch("/a/", 0).unwrap();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 601 {
            seen.extend(quick.next().await.unwrap());
        }
        seen
    });
    for n in 0..300 {
        for prefix in ["/a/", "/b/"] {
            store
                .write(put(&format!("{prefix}{n}"), Expect::Absent, n))
                .await
                .unwrap();
        }
        let key = format!("/a/{n}");
        let revision = store.get(&key).unwrap().revision;
        store
            .write(put(&key, Expect::Revision(revision), n))
            .await
            .unwrap();
    }
    let revision = store.get("/a/7").unwrap().revision;
    store
        .write(Write::Delete {
            key: "/a/7".into(),
            revision,
        })
        .await
        .unwrap();
    let quick = reader.await.unwrap();
    let mut late = Vec::new();
    while late.len() < 601 {
        late.extend(slow.next().await.unwrap());
    }
    assert!(slow.ready().await.unwrap().is_empty());
    let brief = |changes: &[std::sync::Arc<kubeopencode_embedded::store::Change>]| -> Vec<_> {
        changes
            .iter()
            .map(|c| {
                let before = c.previous.as_ref().map(|p| p.revision);
                (c.object.revision, c.object.key.clone(), c.deleted, before)
            })
            .collect()
    };
    assert_eq!(brief(&quick), brief(&late));
    assert!(
        quick
            .windows(2)
            .all(|w| w[0].object.revision < w[1].object.revision)
    );
    assert!(late.last().unwrap().deleted);
}

#[tokio::test]
async fn the_past_can_be_listed_until_it_is_compacted() {
    let store = memory(Retention {
        window: 1,
        ..Retention::default()
    });
    store.write(put("/a/1", Expect::Absent, 1)).await.unwrap();
    store.write(put("/a/2", Expect::Absent, 1)).await.unwrap();
    store
        .write(put("/a/1", Expect::Revision(1), 2))
        .await
        .unwrap();
    store
        .write(Write::Delete {
            key: "/a/2".into(),
            revision: 2,
        })
        .await
        .unwrap();
    let names = |at: Vec<std::sync::Arc<kubeopencode_embedded::store::Revised>>| -> Vec<_> {
        at.iter().map(|o| (o.key.clone(), o.revision)).collect()
    };
    assert_eq!(
        names(store.list_at("/a/", 2).await.unwrap()),
        [("/a/1".into(), 1), ("/a/2".into(), 2)]
    );
    store.compact(3).await.unwrap();
    assert!(matches!(
        store.list_at("/a/", 2).await,
        Err(StoreError::Compacted {
            asked: 2,
            oldest: 3
        })
    ));
    assert!(matches!(
        store.watch("/a/", 2),
        Err(StoreError::Compacted { .. })
    ));
    assert_eq!(
        names(store.list_at("/a/", 3).await.unwrap()),
        [("/a/1".into(), 3), ("/a/2".into(), 2)]
    );
    assert_eq!(names(store.list("/a/").0), [("/a/1".into(), 3)]);
}

#[tokio::test]
async fn a_watch_may_begin_before_what_was_compacted_as_long_as_the_window_has_it() {
    let store = memory(Retention {
        window: 10,
        ..Retention::default()
    });
    for name in ["/a/1", "/a/2", "/a/3"] {
        store.write(put(name, Expect::Absent, 1)).await.unwrap();
    }
    store.compact(3).await.unwrap();
    assert!(matches!(
        store.list_at("/a/", 1).await,
        Err(StoreError::Compacted { .. })
    ));
    let mut watcher = store.watch("/a/", 1).unwrap();
    let mut revisions = Vec::new();
    while revisions.len() < 2 {
        let changes = watcher.next().await.unwrap();
        revisions.extend(changes.iter().map(|change| change.object.revision));
    }
    assert_eq!(revisions, [2, 3]);
}

#[tokio::test]
async fn closing_ends_watchers_and_a_reopened_store_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let file = Location::File(dir.path().join("store.db"));
    let store = Store::open(&file, Retention::default()).unwrap();
    let mut watcher = store.watch("/", 0).unwrap();
    store.write(put("/a", Expect::Absent, 1)).await.unwrap();
    assert_eq!(watcher.next().await.unwrap().len(), 1);
    store.close().await;
    assert!(matches!(watcher.next().await, Err(StoreError::Closed)));
    drop((store, watcher));
    let store = Store::open(&file, Retention::default()).unwrap();
    assert_eq!(store.revision(), 1);
    assert_eq!(store.get("/a").unwrap().value["n"], 1);
    store.write(put("/b", Expect::Absent, 1)).await.unwrap();
    assert_eq!(store.revision(), 2);
}

const CHILD: &str = "KUBEOPENCODE_TEST_STORE";

/// The child of the next test: writes until it is killed, and says what was committed.
#[test]
#[ignore = "only run as a child process of killed_at_any_moment"]
fn writes_until_killed() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(
            &Location::File(path.into()),
            Retention {
                revisions: 500,
                ..Retention::default()
            },
        )
        .unwrap();
        let (objects, _) = store.list("/k");
        println!("open {}", objects.len());
        for n in objects.len().. {
            let writes = (0..8).map(|m| store.write(put(&format!("/k{n}-{m}"), Expect::Absent, 1)));
            futures::future::join_all(writes).await;
            println!("wrote {}", store.revision());
        }
    });
}

#[test]
fn killed_at_any_moment_the_store_opens_with_all_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (_, module) = module_path!().split_once("::").unwrap();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("{module}::writes_until_killed"),
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answered = 0;
        for line in lines.map_while(Result::ok) {
            if let Some(revision) = line.split("wrote ").nth(1) {
                answered = revision.parse::<u64>().unwrap();
                if answered % 100 > 10 * round {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(answered > 0, "the child wrote nothing");
        let store = Store::open(&Location::File(path.clone()), Retention::default()).unwrap();
        assert!(store.revision() >= answered);
        assert!(store.list("/k").0.len() as u64 >= answered);
    }
}
