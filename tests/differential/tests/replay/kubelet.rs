//! Stands in for scheduler and kubelet: puts a Pod on `node-1`, writes what its containers printed, and
//! the status that was recorded.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use kubeopencode_embedded::api::Api;
use kubeopencode_embedded::logs::record::Source;
use kubeopencode_embedded::logs::{LogStore, LogWriter};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::Replay;

pub(super) struct Kubelet {
    pub(super) api: Api,
    pub(super) logs: LogStore,
}

impl Kubelet {
    /// Runs a Pod of the namespace `rec` to the recorded state. Gives back the log of its first
    /// container, which is still open, and what that container has yet to print.
    pub(super) async fn run(
        &self,
        replay: &Replay,
        pod: &str,
        status: &Value,
    ) -> Option<(LogWriter, Vec<String>)> {
        let path = format!("/api/v1/namespaces/rec/pods/{pod}");
        let binding =
            json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": "node-1"}});
        self.send(
            "kube-scheduler",
            "POST",
            &format!("{path}/binding"),
            &binding,
        )
        .await;
        let object = self.send("kubelet", "GET", &path, &Value::Null).await;
        let uid = object["metadata"]["uid"].as_str().expect("a uid");
        let mut open = None;
        for (container, mut lines) in output(pod) {
            let mut writer = self.logs.create(uid, container, 0).await.expect("a log");
            let rest = lines.split_off(lines.len().min(if pod == "lg4" { 3 } else { 4 }));
            for line in lines {
                let written = writer.append(Timestamp::now(), Source::Stdout, line.as_bytes());
                written.await.expect("a log that can be written");
            }
            open = (!rest.is_empty()).then_some((writer, rest));
        }
        let scheduled = object["status"]["conditions"][0]["lastTransitionTime"].as_str();
        let status = status
            .to_string()
            .replace("<time>", scheduled.expect("a bound Pod"));
        let status = replay.bindings.fill(&status, 0);
        let status: Value = serde_json::from_str(&status).expect("a status");
        let body = json!({"status": status});
        self.send("kubelet", "PATCH", &format!("{path}/status"), &body)
            .await;
        open
    }

    async fn send(&self, agent: &str, method: &str, path: &str, body: &Value) -> Value {
        let media = match method {
            "PATCH" if path.ends_with("/status") => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("user-agent", agent)
            .header("content-type", media)
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let response = match self.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let code = response.status();
        let body = response.into_body().collect().await.expect("a body");
        let bytes = body.to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert!(code.is_success(), "{method} {path}: {text}");
        serde_json::from_slice(&bytes).expect("an object")
    }
}

/// What the containers of the recorded Pods print.
fn output(pod: &str) -> Vec<(&'static str, Vec<String>)> {
    let lines = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    match pod {
        "lg1" => vec![
            ("init", lines(&["from init\n"])),
            ("main", lines(&["one\n", "two\n", "three\n", "tail"])),
        ],
        "lg2" => vec![
            ("main", lines(&["from main\n"])),
            ("side", lines(&["from side\n"])),
        ],
        "lg4" => vec![("main", (0..8).map(|n| format!("line {n}\n")).collect())],
        _ => Vec::new(),
    }
}
