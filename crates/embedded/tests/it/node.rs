//! The node through the API: a Pod manifest goes in, what a kubelet would report comes out.
//!
//! Needs user namespaces, as the sandbox does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::large_futures,
    reason = "what the tests share fails and speaks as they do"
)]

mod containers;
mod death;
mod end;
mod wants;

use std::{path::PathBuf, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use kube::{
    api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    runtime::wait::await_condition,
};
use kubeopencode_embedded::{
    cluster::{Cluster, Options},
    logs::{LogOptions, LogStore},
    node::{HostFiles, HostImage, LookUp, Node, NodeOptions},
};
use tokio_util::sync::CancellationToken;

/// A cluster with a node, all in this process.
struct Bench {
    cluster: Cluster,
    directory: tempfile::TempDir,
    logs: LogStore,
    pods: Api<Pod>,
    node: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let logs = LogStore::open(directory.path().join("logs")).unwrap();
        let options = Options {
            logs: Some(logs.clone()),
            ..Options::default()
        };
        let cluster = Cluster::start(options).await.unwrap();
        let pods = Api::namespaced(cluster.client(), "default");
        let mut bench = Self {
            cluster,
            directory,
            logs,
            pods,
            node: None,
        };
        bench.start_node();
        bench
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("node")
    }

    fn start_node(&mut self) {
        let helper = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-helper"));
        let mut options = NodeOptions::new("node-1", self.data_dir(), helper, self.logs.clone());
        let images = vec![
            HostImage {
                name: "example.org/shell".into(),
                files: vec![("/shell".into(), "/bin/sh".into())],
                entrypoint: vec!["/shell".into()],
                missing: None,
            },
            HostImage {
                name: "example.org/absent".into(),
                missing: Some("install it with: npm install".into()),
                ..HostImage::default()
            },
        ];
        options.files = LookUp::new(move || HostFiles {
            images: images.clone(),
            everywhere: Vec::new(),
        });
        options.env = vec![("KUBERNETES_SERVICE_HOST".into(), "127.0.0.1".into())];
        let node = Node::new(self.cluster.client(), options).unwrap();
        let end = CancellationToken::new();
        let shutdown = end.clone().cancelled_owned();
        self.node = Some((end, tokio::spawn(node.run(shutdown))));
    }

    /// Ends the node as a shutdown does.
    async fn stop_node(&mut self) {
        let (end, task) = self.node.take().unwrap();
        end.cancel();
        guarded(task).await.unwrap();
    }

    /// Ends the node without a word, as a crash does.
    async fn crash_node(&mut self) {
        let (_, task) = self.node.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    async fn end(mut self) {
        if self.node.is_some() {
            self.stop_node().await;
        }
        self.cluster.shutdown().await;
    }

    async fn create(&self, yaml: &str) -> Pod {
        let pod: Pod = serde_saphyr::from_str(yaml).unwrap();
        self.pods
            .create(&PostParams::default(), &pod)
            .await
            .unwrap()
    }

    async fn apply(&self, path: &str, object: serde_json::Value) {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())
            .unwrap();
        self.cluster.client().request_text(request).await.unwrap();
    }

    async fn until(&self, name: &str, holds: impl Fn(&PodStatus) -> bool) -> Pod {
        let condition =
            |pod: Option<&Pod>| pod.and_then(|pod| pod.status.as_ref()).is_some_and(&holds);
        let waited = tokio::time::timeout(
            Duration::from_mins(1),
            await_condition(self.pods.clone(), name, condition),
        );
        if let Ok(pod) = waited.await {
            return pod.unwrap().unwrap();
        }
        panic!("{name}: {:#?}", self.pods.get(name).await.unwrap().status)
    }

    async fn ended(&self, name: &str) -> Pod {
        self.until(name, |status| {
            matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
        })
        .await
    }

    async fn running(&self, name: &str) -> Pod {
        self.until(name, |status| status.phase.as_deref() == Some("Running"))
            .await
    }

    async fn gone(&self, name: &str) {
        let condition = |pod: Option<&Pod>| pod.is_none();
        guarded(await_condition(self.pods.clone(), name, condition))
            .await
            .unwrap();
    }

    async fn log(&self, pod: &Pod, container: &str, options: LogOptions) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap();
        let stream = self.logs.read(uid, container, options).await.unwrap();
        let bytes: Vec<bytes::Bytes> = guarded(stream.try_collect()).await.unwrap();
        String::from_utf8(bytes.concat()).unwrap()
    }

    async fn all(&self, pod: &Pod, container: &str) -> String {
        self.log(pod, container, LogOptions::default()).await
    }

    /// Waits for the first line of a container's log.
    async fn first_line(&self, pod: &Pod, container: &str) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap();
        let follow = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let stream = self.logs.read(uid, container, follow).await.unwrap();
        let mut stream = std::pin::pin!(stream);
        let piece = guarded(stream.next()).await.unwrap().unwrap();
        String::from_utf8(piece.to_vec()).unwrap()
    }

    async fn events(&self, name: &str) -> Vec<(String, String)> {
        let api: Api<Event> = Api::namespaced(self.cluster.client(), "default");
        let events = api.list(&ListParams::default()).await.unwrap();
        events
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .map(|event| {
                (
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default(),
                )
            })
            .collect()
    }
}

async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future)
        .await
        .expect("it does not happen")
}

fn status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap()
}

fn container<'a>(pod: &'a Pod, name: &str) -> &'a ContainerStatus {
    let status = status(pod);
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .find(|container| container.name == name)
        .unwrap()
}

/// Exit code, reason and message of a container that has ended.
fn termination(pod: &Pod, name: &str) -> (i32, String, String) {
    let terminated = container(pod, name)
        .state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref();
    let terminated = terminated
        .unwrap_or_else(|| panic!("{:#?}", pod.status))
        .clone();
    (
        terminated.exit_code,
        terminated.reason.unwrap_or_default(),
        terminated.message.unwrap_or_default(),
    )
}

fn waiting(pod: &Pod, name: &str) -> (String, String) {
    let waiting = container(pod, name)
        .state
        .as_ref()
        .unwrap()
        .waiting
        .clone()
        .unwrap();
    (
        waiting.reason.unwrap_or_default(),
        waiting.message.unwrap_or_default(),
    )
}

fn conditions(pod: &Pod) -> String {
    let conditions = status(pod).conditions.iter().flatten();
    let words: Vec<String> = conditions
        .map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or_default();
            format!("{}={} {reason}", condition.type_, condition.status)
                .trim()
                .to_owned()
        })
        .collect();
    words.join(", ")
}

/// A Pod that ends when it is told to, and not before.
const PATIENT: &str = "
metadata: {name: p}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 60
  containers:
  - name: main
    image: any
    command: [sh, -c, 'trap \"echo -n stopped > /dev/termination-log; echo got TERM; exit 143\" TERM; echo ready; while :; do sleep 0.1; done']
";

#[tokio::test]
async fn a_pod_runs_to_its_end_with_the_statuses_of_a_kubelet() {
    let bench = Bench::new().await;
    let watch = bench
        .pods
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    bench
        .create(
            "
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers: [{name: first, image: any, command: [sh, -c, 'echo init']}]
  containers: [{name: main, image: any, command: [sh, -c, 'echo one; echo two']}]
",
        )
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).phase.as_deref(), Some("Succeeded"));
    assert_eq!(
        termination(&pod, "main"),
        (0, "Completed".into(), String::new())
    );
    assert_eq!(
        conditions(&pod),
        "PodReadyToStartContainers=False, Initialized=True PodCompleted, Ready=False PodCompleted, \
         ContainersReady=False PodCompleted, PodScheduled=True"
    );
    assert_eq!(bench.all(&pod, "main").await, "one\ntwo\n");
    assert_eq!(bench.all(&pod, "first").await, "init\n");
    assert_eq!(
        bench
            .pods
            .logs("p", &kube::api::LogParams::default())
            .await
            .unwrap(),
        "one\ntwo\n"
    );
    // Each status says something new, and the first has the start time and nothing running.
    let seen: Vec<Pod> = watch
        .try_filter_map(|event| async {
            Ok(match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => Some(pod),
                _ => None,
            })
        })
        .try_take_while(|pod| {
            let over = status(pod).phase.as_deref() == Some("Succeeded");
            futures::future::ok(!over)
        })
        .try_collect()
        .await
        .unwrap();
    let phases: Vec<String> = seen
        .iter()
        .filter(|pod| status(pod).start_time.is_some())
        .map(|pod| format!("{} {}", status(pod).phase.clone().unwrap(), conditions(pod)))
        .collect();
    assert_eq!(
        phases[0],
        "Pending PodReadyToStartContainers=False, Initialized=False ContainersNotInitialized, \
         Ready=False ContainersNotReady, ContainersReady=False ContainersNotReady, PodScheduled=True"
    );
    assert!(phases.len() <= 3, "{phases:#?}");
    bench.end().await;
}

#[tokio::test]
async fn failures_and_termination_messages() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: message}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: any, command: [sh, -c, 'head -c 5000 /dev/zero | tr \"\\0\" x > /run/end; echo -n end >> /run/end; exit 3'], terminationMessagePath: /run/end}
")
        .await;
    bench
        .create("
metadata: {name: log}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: any, command: [sh, -c, 'echo what went wrong; kill -9 $$$$'], terminationMessagePolicy: FallbackToLogsOnError}
")
        .await;
    bench
        .create(
            "
metadata: {name: init}
spec:
  restartPolicy: Never
  initContainers: [{name: first, image: any, command: [sh, -c, 'exit 7']}]
  containers: [{name: main, image: any, command: ['true']}]
",
        )
        .await;
    bench
        .create("
metadata: {name: start}
spec:
  restartPolicy: Never
  containers: [{name: main, image: any, command: [/tools/none], volumeMounts: [{name: t, mountPath: /tools}]}]
  volumes: [{name: t, emptyDir: {}}]
")
        .await;
    let pod = bench.ended("message").await;
    let (code, reason, message) = termination(&pod, "main");
    assert_eq!((code, reason.as_str(), message.len()), (3, "Error", 4096));
    assert!(message.ends_with("xend"));
    assert_eq!(status(&pod).phase.as_deref(), Some("Failed"));
    let pod = bench.ended("log").await;
    assert_eq!(
        termination(&pod, "main"),
        (137, "Error".into(), "what went wrong\n".into())
    );
    let pod = bench.ended("init").await;
    assert_eq!(termination(&pod, "first").0, 7);
    assert_eq!(
        waiting(&pod, "main"),
        ("PodInitializing".into(), String::new())
    );
    let pod = bench.ended("start").await;
    let (code, reason, message) = termination(&pod, "main");
    assert_eq!((code, reason.as_str()), (128, "StartError"));
    assert_eq!(message, "exec: \"/tools/none\": No such file or directory");
    bench.end().await;
}

#[tokio::test]
async fn events_tell_the_story() {
    let mut bench = Bench::new().await;
    bench
        .create(
            "
metadata: {name: p}
spec: {restartPolicy: Never, containers: [{name: main, image: any, command: ['true']}]}
",
        )
        .await;
    bench.ended("p").await;
    // The node writes what is left before it ends.
    bench.stop_node().await;
    let mut reasons: Vec<String> = bench
        .events("p")
        .await
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["Created", "Scheduled", "Started"]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_at_once_keep_apart() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..40).map(|number| format!("p{number}")).collect();
    for name in &names {
        bench
            .create(&format!(
                "
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  containers: [{{name: main, image: any, command: [sh, -c, 'hostname > /w/x; cat /w/x; ls /w | wc -l'], volumeMounts: [{{name: w, mountPath: /w}}]}}]
  volumes: [{{name: w, emptyDir: {{}}}}]
"
            ))
            .await;
    }
    for name in &names {
        let pod = bench.ended(name).await;
        assert_eq!(bench.all(&pod, "main").await, format!("{name}\n1\n"));
        bench
            .pods
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    for name in &names {
        bench.gone(name).await;
    }
    bench.end().await;
}
