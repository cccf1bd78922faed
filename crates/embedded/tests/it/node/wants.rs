//! What a Pod asks for, and this node has or has not.

use k8s_openapi::api::core::v1::PodStatus;
use kube::api::{Api, Patch, PatchParams};
use kubeopencode_embedded::logs::LogOptions;
use serde_json::json;

use super::{Bench, conditions, status, waiting};

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
