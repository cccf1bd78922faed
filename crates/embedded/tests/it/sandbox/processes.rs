//! The processes of a container, to the last.

use std::fs;

use kubeopencode_embedded::node::sandbox::Ended;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;

use super::{Bed, finish, guarded, shell};

#[tokio::test]
async fn daemons_end_with_the_program() {
    for bed in Bed::all() {
        let mark = format!("{}", 100_000 + std::process::id() % 100_000 + bed.uid % 7);
        let script = format!(
            "(setsid sh -c 'trap \"\" TERM HUP; sleep {mark} & sleep {mark}' &) ; (sleep {mark} &); echo started"
        );
        let (output, ended) = bed.run(&shell(&script)).await;
        assert_eq!((output.as_str(), ended), ("started\n", Ended::Exited(0)));
        assert_eq!(processes_with(&mark), 0);
    }
}

/// How many processes of the host have this argument.
fn processes_with(mark: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|argument| argument == mark.as_bytes())
        })
        .count()
}

#[tokio::test]
async fn orphans_are_reaped() {
    for bed in Bed::all() {
        // Each orphan writes to the pipe when it has ended; then its zombie must go too.
        let script = "for i in 1 2 3 4 5 6 7 8; do (true &); done; sleep 0.2; \
            while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo clean";
        let (output, _) = bed.run(&shell(script)).await;
        assert!(output.ends_with("clean\n"), "{output}");
    }
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group_and_kill_ends_all() {
    for bed in Bed::all() {
        let mut container =
            shell("trap 'echo got TERM; exit 143' TERM; echo ready; while :; do sleep 0.1; done");
        let mut started = bed.start(&container).await.unwrap();
        let mut ready = [0; 6];
        guarded(started.stdout.read_exact(&mut ready))
            .await
            .unwrap();
        started.running.signal(Signal::SIGTERM).await;
        let (output, ended) = finish(started).await;
        assert_eq!(ended, Ended::Exited(143), "{output}");
        assert!(output.starts_with("got TERM\n"), "{output}");

        container.process.args[2] =
            "trap '' TERM; echo ready; while :; do sleep 0.1; done".to_owned();
        let mut started = bed.start(&container).await.unwrap();
        guarded(started.stdout.read_exact(&mut ready))
            .await
            .unwrap();
        started.running.signal(Signal::SIGTERM).await;
        started.running.kill();
        assert_eq!(finish(started).await.1, Ended::Killed);
    }
}

#[tokio::test]
async fn dropping_the_handle_ends_the_container() {
    for bed in Bed::all() {
        let mut started = bed
            .start(&shell("echo ready; exec sleep 1000"))
            .await
            .unwrap();
        let mut ready = [0; 6];
        guarded(started.stdout.read_exact(&mut ready))
            .await
            .unwrap();
        drop(started.running);
        // The pipe closes when the last process is gone.
        let mut rest = Vec::new();
        guarded(started.stdout.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn the_end_of_the_node_ends_the_container() {
    use tokio::io::AsyncWriteExt as _;
    for bed in Bed::all() {
        // The node of this test is a connection that closes without a word, as after kill -9.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut helper = tokio::process::Command::new(&bed.helper)
            .arg("__sandbox")
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut node = tokio::net::UnixStream::from_std(ours).unwrap();
        let mut line =
            serde_json::to_vec(&shell("(setsid sleep 1000 &); echo ready; exec sleep 1000"))
                .unwrap();
        line.push(b'\n');
        node.write_all(&line).await.unwrap();
        let mut stdout = helper.stdout.take().unwrap();
        let mut ready = [0; 6];
        guarded(stdout.read_exact(&mut ready)).await.unwrap();
        drop(node);
        let mut rest = Vec::new();
        guarded(stdout.read_to_end(&mut rest)).await.unwrap();
        guarded(helper.wait()).await.unwrap();
    }
}
