//! The containers of a Pod: sidecars, another start, who they are.

use kubeopencode_embedded::logs::LogOptions;
use serde_json::json;

use super::{Bench, container, status, termination};

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
