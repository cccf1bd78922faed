//! The node through the API: a Pod manifest goes in, what a kubelet would report comes out.
//!
//! Needs user namespaces, as the sandbox does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::large_futures,
    reason = "what the tests share fails and speaks as they do"
)]

use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::wait::await_condition;
use kubeopencode_embedded::cluster::{Cluster, Options};
use kubeopencode_embedded::logs::{LogOptions, LogStore};
use kubeopencode_embedded::node::{HostFiles, HostImage, LookUp, Node, NodeOptions};
use serde_json::json;
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
async fn volumes_and_environment() {
    let bench = Bench::new().await;
    bench
        .apply(
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "files"}, "data": {"task.md": "do it", "b": "B"}}),
        )
        .await;
    bench
        .apply(
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "key"}, "stringData": {"token": "s3cret", "id": "rsa"}}),
        )
        .await;
    let repository = bench.directory.path().join("repository");
    std::fs::create_dir(&repository).unwrap();
    std::fs::write(repository.join("README"), "read me").unwrap();
    bench
        .create(&format!("
metadata: {{name: p, labels: {{app: x}}}}
spec:
  restartPolicy: Never
  initContainers:
  - name: prepare
    image: any
    command: [sh, -c, 'cp /repo/README /workspace/ && mkdir -p /tools && cp /bin/echo /tools/say; touch /repo/x 2>/dev/null || echo read-only']
    volumeMounts:
    - {{name: work, mountPath: /workspace}}
    - {{name: tools, mountPath: /tools}}
    - {{name: repo, mountPath: /repo, readOnly: true}}
  containers:
  - name: main
    image: any
    workingDir: /workspace
    command: [sh, -c]
    args: ['cat README task.md /etc/app/key.json /all/b /all/name; wc -c < /all/token; stat -c %a /etc/app/key.json; echo $A $P_token $KUBERNETES_SERVICE_HOST $NODE $0; ls /repo 2>/dev/null; pwd; /tools/say said; ls /tmp | wc -l; echo $HOME; touch ~/x && ls ~', '$(A)-$(NONE)-$$(A)']
    env:
    - {{name: A, value: a}}
    - {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
    envFrom: [{{prefix: P_, secretRef: {{name: key}}}}]
    volumeMounts:
    - {{name: work, mountPath: /workspace}}
    - {{name: tools, mountPath: /tools}}
    - {{name: files, mountPath: /workspace/task.md, subPath: task.md}}
    - {{name: secret, mountPath: /etc/app/key.json, subPath: token}}
    - {{name: all, mountPath: /all}}
  volumes:
  - {{name: work, emptyDir: {{}}}}
  - {{name: tools, emptyDir: {{}}}}
  - {{name: files, configMap: {{name: files}}}}
  - {{name: secret, secret: {{secretName: key, defaultMode: 384}}}}
  - {{name: repo, hostPath: {{path: {}, type: Directory}}}}
  - name: all
    projected:
      sources:
      - configMap: {{name: files, items: [{{key: b, path: b}}]}}
      - downwardAPI: {{items: [{{path: name, fieldRef: {{fieldPath: metadata.name}}}}]}}
      - serviceAccountToken: {{path: token}}
", repository.display()))
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(
        bench.all(&pod, "main").await,
        "read medo its3cretBp64\n600\na s3cret 127.0.0.1 node-1 a-$(NONE)-$(A)\n/workspace\nsaid\n0\n/root\nx\n"
    );
    assert_eq!(bench.all(&pod, "prepare").await, "read-only\n");
    assert_eq!(std::fs::read_dir(&repository).unwrap().count(), 1);
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
async fn what_is_missing_is_waited_for_and_named() {
    let bench = Bench::new().await;
    bench
        .create(
            "
metadata: {name: p}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: any
    command: [sh, -c, 'cat /c/k; echo $TOKEN']
    env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: token}}}]
    volumeMounts: [{name: c, mountPath: /c}]
  volumes: [{name: c, configMap: {name: m}}]
",
        )
        .await;
    bench.until("p", |status| status.start_time.is_some()).await;
    bench
        .apply(
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "m"}, "data": {"k": "v "}}),
        )
        .await;
    let refused = |reason: &'static str| {
        move |status: &PodStatus| {
            let state = status
                .container_statuses
                .as_ref()
                .and_then(|list| list[0].state.as_ref());
            let message = state.and_then(|state| state.waiting.as_ref()?.message.as_deref());
            message == Some(reason)
        }
    };
    let pod = bench.until("p", refused("secret \"s\" not found")).await;
    assert_eq!(waiting(&pod, "main").0, "CreateContainerConfigError");
    bench
        .apply(
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "s"}, "data": {}}),
        )
        .await;
    bench
        .until("p", refused("couldn't find key token in Secret default/s"))
        .await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(bench.cluster.client(), "default");
    let patch = Patch::Merge(json!({"stringData": {"token": "t"}}));
    secrets
        .patch("s", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let pod = bench.ended("p").await;
    assert_eq!(bench.all(&pod, "main").await, "v t\n");
    bench.end().await;
}

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
async fn a_deadline_set_later_ends_a_running_pod_and_keeps_it() {
    let bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    let patch = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
    bench
        .pods
        .patch("p", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(
        termination(&pod, "main"),
        (143, "Error".into(), "stopped".into())
    );
    assert!(bench.all(&pod, "main").await.contains("got TERM"));
    bench.end().await;
}

#[tokio::test]
async fn deletion_asks_waits_and_leaves_nothing() {
    let mut bench = Bench::new().await;
    let created = bench.create(PATIENT).await;
    let uid = created.metadata.uid.unwrap();
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    let directory = bench.data_dir().join("pods").join(&uid);
    assert!(directory.is_dir());
    let watch = bench
        .pods
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    bench
        .pods
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    bench.gone("p").await;
    let last: Vec<WatchEvent<Pod>> = guarded(
        watch
            .try_take_while(|event| futures::future::ok(!matches!(event, WatchEvent::Deleted(_))))
            .try_collect(),
    )
    .await
    .unwrap();
    let told = last.iter().any(|event| {
        matches!(event, WatchEvent::Modified(pod) if status(pod).phase.as_deref() == Some("Failed")
            && termination(pod, "main") == (143, "Error".into(), "stopped".into()))
    });
    assert!(told, "{last:#?}");
    // The end of the node waits for the cleaning up.
    let (data_dir, logs) = (bench.data_dir(), bench.logs.clone());
    bench.stop_node().await;
    assert_eq!(std::fs::read_dir(data_dir.join("pods")).unwrap().count(), 0);
    assert!(logs.pod_uids().unwrap().is_empty());
    bench.end().await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: p, finalizers: [example.org/keep]}
spec:
  restartPolicy: Never
  containers: [{name: main, image: any, command: [sh, -c, 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done']}]
")
        .await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    bench
        .pods
        .delete("p", &DeleteParams::default().grace_period(1))
        .await
        .unwrap();
    let pod = bench.ended("p").await;
    assert_eq!(termination(&pod, "main").0, 137);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bench
        .pods
        .patch("p", &PatchParams::default(), &patch)
        .await
        .unwrap();
    bench.gone("p").await;
    bench.end().await;
}

#[tokio::test]
async fn a_pod_removed_by_force_leaves_no_process() {
    let bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    bench
        .pods
        .delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    bench.gone("p").await;
    // A follower's log ends with the last process.
    let uid = pod.metadata.uid.as_deref().unwrap();
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    if let Ok(stream) = bench.logs.read(uid, "main", follow).await {
        let _: Result<Vec<bytes::Bytes>, _> = guarded(stream.try_collect()).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn what_this_node_cannot_give_fails_at_once_with_a_message() {
    let bench = Bench::new().await;
    bench
        .create(
            "
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers: [{name: first, image: any, command: ['true']}]
  containers:
  - {name: main, image: 'example.org/absent:v1', command: [tool]}
  - {name: other, image: any, command: [no-such-program]}
",
        )
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).reason.as_deref(), Some("UnsupportedByNode"));
    let message = status(&pod).message.clone().unwrap();
    for words in [
        "\"main\": image \"example.org/absent:v1\": install it with: npm install",
        "\"no-such-program\" is not installed",
    ] {
        assert!(message.contains(words), "{message}");
    }
    // As of a kubelet that rejects a Pod: `kubectl get` shows the reason then.
    assert_eq!(status(&pod).init_container_statuses, None);
    assert_eq!(status(&pod).container_statuses, None);
    let uid = pod.metadata.uid.as_deref().unwrap();
    assert!(
        bench
            .logs
            .read(uid, "first", LogOptions::default())
            .await
            .is_err()
    );
    bench.end().await;
}

#[tokio::test]
async fn files_of_the_host_stand_for_an_image() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: p}
spec:
  restartPolicy: Never
  containers: [{name: main, image: 'example.org/shell:v1', args: [-c, 'echo from $0; ls -d /shell']}]
")
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(bench.all(&pod, "main").await, "from /shell\n/shell\n");
    bench.end().await;
}

#[tokio::test]
async fn a_pod_that_lost_its_processes_is_failed_and_never_started_again() {
    let mut bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    bench.crash_node().await;
    let leftover = bench
        .data_dir()
        .join("pods/11111111-0000-0000-0000-000000000000/volumes");
    std::fs::create_dir_all(&leftover).unwrap();
    bench.start_node();
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).phase.as_deref(), Some("Failed"));
    assert_eq!(status(&pod).reason.as_deref(), Some("NodeRestart"));
    assert_eq!(termination(&pod, "main").1, "ContainerStatusUnknown");
    assert!(bench.all(&pod, "main").await.starts_with("ready\n"));
    bench.stop_node().await;
    assert!(!leftover.exists());
    bench.end().await;
}

/// The last status that was written may be older than the last process that was started: nobody is told that a container
/// was never made.
#[tokio::test]
async fn a_node_that_died_does_not_say_of_a_container_that_it_was_never_made() {
    let mut bench = Bench::new().await;
    bench
        .create(
            "
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers: [{name: before, image: any, command: [sh, -c, 'echo ready; sleep 1000']}]
  containers: [{name: main, image: any, command: [sh, -c, 'true']}]
",
        )
        .await;
    let pod = bench
        .until("p", |status| {
            let init = status.init_container_statuses.iter().flatten();
            let mut states = init.filter_map(|container| container.state.as_ref());
            states.any(|state| state.running.is_some())
        })
        .await;
    assert_eq!(container(&pod, "main").container_id, None);
    bench.crash_node().await;
    bench.start_node();
    let pod = bench.ended("p").await;
    assert_eq!(termination(&pod, "main").1, "ContainerStatusUnknown");
    assert!(container(&pod, "main").container_id.is_some());
    bench.end().await;
}

#[tokio::test]
async fn the_end_of_the_node_fails_its_pods_and_leaves_no_process() {
    let mut bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    bench.stop_node().await;
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).reason.as_deref(), Some("NodeShutdown"));
    assert_eq!(termination(&pod, "main").0, 143);
    bench.end().await;
}

#[tokio::test]
async fn a_sidecar_runs_beside_and_ends_after() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers:
  - {name: before, image: any, command: [sh, -c, 'echo -n before > /w/file'], volumeMounts: [{name: w, mountPath: /w}]}
  - name: side
    image: any
    restartPolicy: Always
    command: [sh, -c, 'trap \"echo ended; exit 0\" TERM; echo -n \" side\" >> /w/file; echo up; while :; do sleep 0.1; done']
    volumeMounts: [{name: w, mountPath: /w}]
  containers:
  - {name: main, image: any, command: [sh, -c, 'until grep -q side /w/file; do sleep 0.01; done; cat /w/file'], volumeMounts: [{name: w, mountPath: /w}]}
  volumes: [{name: w, emptyDir: {}}]
")
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).phase.as_deref(), Some("Succeeded"));
    assert_eq!(bench.all(&pod, "main").await, "before side");
    assert!(bench.all(&pod, "side").await.contains("ended\n"));
    bench.end().await;
}

#[tokio::test]
async fn sidecars_are_ready_while_they_run_and_end_in_the_opposite_order() {
    let bench = Bench::new().await;
    let side = |name: &str| {
        let script = format!(
            "trap 'echo {name} ended >> /w/file; exit 0' TERM; echo {name} >> /w/file; while :; do sleep 0.1; done"
        );
        json!({
            "name": name, "image": "any", "restartPolicy": "Always", "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "w", "mountPath": "/w"}],
        })
    };
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [side("one"), side("two")],
            "containers": [{
                "name": "main", "image": "any",
                "command": ["sh", "-c", "until grep -q two /w/file && grep -q one /w/file; do sleep 0.01; done; until [ -e /w/go ]; do sleep 0.01; done; exit 3"],
                "volumeMounts": [{"name": "w", "mountPath": "/w"}],
            }],
            "volumes": [{"name": "w", "emptyDir": {}}],
        },
    });
    bench.create(&pod.to_string()).await;
    let pod = bench
        .until("p", |status| status.phase.as_deref() == Some("Running"))
        .await;
    for name in ["one", "two"] {
        let side = container(&pod, name);
        assert!(side.ready && side.started == Some(true), "{side:?}");
    }
    let uid = pod.metadata.uid.as_deref().unwrap();
    let volume = bench.data_dir().join("pods").join(uid).join("volumes/w");
    std::fs::write(volume.join("go"), "").unwrap();
    let pod = bench.ended("p").await;
    // Of the main container alone.
    assert_eq!(status(&pod).phase.as_deref(), Some("Failed"));
    for name in ["one", "two"] {
        let side = container(&pod, name);
        assert!(!side.ready && side.started == Some(false), "{side:?}");
        let end = side.state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((end.exit_code, side.restart_count), (0, 0));
    }
    let file = std::fs::read_to_string(volume.join("file")).unwrap();
    assert!(file.ends_with("two ended\none ended\n"), "{file}");
    bench.end().await;
}

#[tokio::test]
async fn a_failed_container_is_restarted_on_failure() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: p}
spec:
  restartPolicy: OnFailure
  containers:
  - {name: main, image: any, command: [sh, -c, 'if [ -e /w/again ]; then echo second; else touch /w/again; echo first; exit 1; fi'], volumeMounts: [{name: w, mountPath: /w}]}
  volumes: [{name: w, emptyDir: {}}]
")
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).phase.as_deref(), Some("Succeeded"));
    let main = container(&pod, "main");
    assert_eq!(main.restart_count, 1);
    let last = main
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(last.exit_code, 1);
    assert_eq!(bench.all(&pod, "main").await, "second\n");
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    assert_eq!(bench.log(&pod, "main", previous).await, "first\n");
    bench.end().await;
}

#[tokio::test]
async fn a_node_selector_is_honoured() {
    let bench = Bench::new().await;
    let yaml = |name: &str, selector: &str| {
        format!("
metadata: {{name: {name}}}
spec: {{restartPolicy: Never, nodeSelector: {selector}, containers: [{{name: main, image: any, command: ['true']}}]}}
")
    };
    bench
        .create(&yaml(
            "here",
            "{kubernetes.io/os: linux, kubernetes.io/hostname: node-1}",
        ))
        .await;
    bench.create(&yaml("nowhere", "{disk: ssd}")).await;
    bench.ended("here").await;
    let pod = bench
        .until("nowhere", |status| status.conditions.is_some())
        .await;
    assert_eq!(conditions(&pod), "PodScheduled=False Unschedulable");
    assert_eq!(pod.spec.unwrap().node_name, None);
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

#[tokio::test]
async fn users_are_numbers_inside() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: p}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1234, runAsGroup: 4321, runAsNonRoot: true}
  containers: [{name: main, image: any, command: [sh, -c, 'id -u; id -g; touch /w/x; stat -c %u /w/x'], volumeMounts: [{name: w, mountPath: /w}]}]
  volumes: [{name: w, emptyDir: {}}]
")
        .await;
    bench
        .create("
metadata: {name: root}
spec:
  restartPolicy: Never
  containers: [{name: main, image: any, command: ['true'], securityContext: {runAsUser: 0, runAsNonRoot: true}}]
")
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(bench.all(&pod, "main").await, "1234\n4321\n1234\n");
    let pod = bench.ended("root").await;
    assert_eq!(
        termination(&pod, "main").2,
        "container's runAsUser breaks non-root policy"
    );
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
