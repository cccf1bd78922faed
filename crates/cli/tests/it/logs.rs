//! `task logs`: what it promises, and its exit status where that is not what it gave.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::Uri,
};

use futures::{StreamExt as _, stream};

use super::local::served::Local;
use crate::support::{Outcome, Sandbox, can_run_pods};

const MANIFESTS: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec: {serviceAccountName: default, command: [sh, -c, 'cat task.md']}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: it}
spec: {description: Do it.}
";

#[test]
fn a_log_that_is_not_given_to_its_end_is_no_success() {
    if !can_run_pods("task logs --follow") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    sandbox.write("all.yaml", MANIFESTS);
    sandbox
        .run(&["task", "create", "-f", "all.yaml"])
        .expect_code(0);
    let follow = || sandbox.run(&["task", "logs", "--follow", "it"]);
    assert_eq!(follow().expect_code(0).stdout, "Do it.\n");
    // Its disk does not give the log any more: it leads to itself.
    let logs = sandbox.data().join("kubeopencode/logs");
    for pod in std::fs::read_dir(logs).expect("the logs") {
        let log = pod.expect("a Pod").path().join("agent/0.log");
        std::fs::remove_file(&log).expect("the log of the agent");
        std::os::unix::fs::symlink("0.log", &log).expect("a link");
    }
    let cut = follow().expect_code(1);
    assert_eq!(cut.stdout, "");
    let says = "error: it: the logs cannot be read to their end: ";
    assert!(
        cut.stderr.starts_with(says) && cut.stderr.contains("\nhint: "),
        "{}",
        cut.stderr
    );
    let cut = sandbox.run(&["task", "logs", "it"]).expect_code(1);
    assert!(
        cut.stderr.starts_with("error: agent: the logs"),
        "{}",
        cut.stderr
    );
    sandbox.run(&["task", "get", "it"]).expect_code(0);
}

/// What the node has in its file when it is asked: times in seconds, and what was printed then.
type File = &'static [(i64, &'static str)];

/// A cluster with one Task, whose agent's log is asked for so often. All connections but the last two break after their
/// bytes; before the last the agent has ended.
struct Rotating {
    files: Vec<File>,
    asked: AtomicUsize,
}

impl Rotating {
    /// Serves it; answers its kubeconfig.
    fn serve(sandbox: &Sandbox, files: Vec<File>) -> PathBuf {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let it = Arc::new(Self {
            files,
            asked: AtomicUsize::new(0),
        });
        let answers = Router::new().fallback(move |uri: Uri| {
            let it = Arc::clone(&it);
            async move { it.answer(&uri) }
        });
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            runtime.block_on(async { axum::serve(listener, answers).await })
        });
        let text = format!(
            "clusters: [{{name: a, cluster: {{server: 'http://{address}'}}}}]\nusers: [{{name: a, user: {{}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\ncurrent-context: a\n"
        );
        sandbox.write("kubeconfig", &text)
    }

    fn answer(&self, uri: &Uri) -> Body {
        let query = uri.query().unwrap_or_default();
        let json = match uri.path() {
            "/apis/kubeopencode.io/v1alpha1/namespaces/default/tasks/it" => serde_json::json!({
                "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task",
                "metadata": {"name": "it", "namespace": "default"},
                "spec": {}, "status": {"phase": "Running", "jobName": "job"},
            }),
            "/api/v1/namespaces/default/pods" if query.contains("watch=") => return Body::empty(),
            "/api/v1/namespaces/default/pods" => serde_json::json!({
                "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [self.pod()],
            }),
            "/api/v1/namespaces/default/pods/p" => self.pod(),
            "/api/v1/namespaces/default/pods/p/log" => return self.log(query),
            other => unreachable!("{other} is asked for"),
        };
        json.to_string().into()
    }

    fn pod(&self) -> serde_json::Value {
        let asked = self.asked.load(Ordering::Relaxed);
        let state = if asked + 1 < self.files.len() {
            "running"
        } else {
            "terminated"
        };
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
            "spec": {"containers": [{"name": "side"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "side", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {state: {"exitCode": 0}},
            }]},
        })
    }

    fn log(&self, query: &str) -> Body {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let file = self.files[asked];
        let time = |second: i64| {
            jiff::Timestamp::from_second(second)
                .expect("a time")
                .to_string()
        };
        let since = query.split("sinceTime=").nth(1).map(|since| {
            let since = since.split('&').next().unwrap_or_default();
            since.replace("%3A", ":")
        });
        let mut text = String::new();
        for (second, printed) in file {
            if since.as_ref().is_some_and(|since| time(*second) < *since) {
                continue;
            }
            if query.contains("timestamps=true") {
                let _ = write!(text, "{} ", time(*second));
            }
            text.push_str(printed);
        }
        let bytes = stream::iter([Ok(Bytes::from(text))]);
        let breaks = asked + 2 < self.files.len();
        let end = stream::once(async move {
            // What is waited after is sent before.
            tokio::task::yield_now().await;
            breaks.then(|| Err(std::io::Error::other("it breaks")))
        });
        Body::from_stream(bytes.chain(end.filter_map(std::future::ready)))
    }
}

fn follow_side(sandbox: &Sandbox, kubeconfig: &Path) -> Outcome {
    let kubeconfig = kubeconfig.to_string_lossy();
    let arguments = ["--kubeconfig", &kubeconfig, "--container", "side", "it"];
    sandbox.run(&[&["task", "logs", "--follow"], &arguments[..]].concat())
}

#[test]
fn a_log_goes_on_after_a_broken_connection_where_it_was() {
    let sandbox = Sandbox::new();
    let begun: File = &[
        (100, "one\n"),
        (101, "same\n"),
        (101, "same\n"),
        (102, "thr"),
    ];
    let gone_on: File = &[
        (100, "one\n"),
        (101, "same\n"),
        (101, "same\n"),
        (102, "three\n"),
        (200, "four\n"),
    ];
    // Its beginning is in another file by now, and what was read last is not.
    let rotated: File = &[(102, "three\n"), (200, "four\n"), (201, "five")];
    let files = vec![begun, gone_on, rotated, rotated];
    let kubeconfig = Rotating::serve(&sandbox, files);
    let followed = follow_side(&sandbox, &kubeconfig).expect_code(0);
    assert_eq!(followed.stdout, "one\nsame\nsame\nthree\nfour\nfive");
}

#[test]
fn a_log_that_was_rotated_away_while_a_connection_was_broken_is_not_all_of_it() {
    let sandbox = Sandbox::new();
    let begun: File = &[(100, "a long line that was read\n"), (101, "and another\n")];
    let rotated: File = &[(200, "new\n")];
    let kubeconfig = Rotating::serve(&sandbox, vec![begun, rotated, rotated]);
    let followed = follow_side(&sandbox, &kubeconfig).expect_code(1);
    assert_eq!(
        followed.stdout,
        "a long line that was read\nand another\nnew\n"
    );
    let says = "error: side: a part of the logs is missing: the node rotated them while the connection was broken\n";
    assert_eq!(followed.stderr, says);
}
