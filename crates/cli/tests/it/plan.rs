//! `plan`: what would become of manifests, from the files alone.

use std::path::Path;

use crate::support::Sandbox;

/// Every manifest that the design document prints, as the engine's tests have them.
#[test]
fn every_manifest_of_the_document_has_a_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/data");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the engine's test data")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let sandbox = Sandbox::new();
        let outcome = sandbox
            .run(&["plan", "-f", &file.display().to_string()])
            .expect_code(0);
        assert!(
            !outcome.stdout.is_empty() || outcome.stderr.contains("no Task"),
            "{}: {}{}",
            file.display(),
            outcome.stdout,
            outcome.stderr
        );
    }
}

#[test]
fn a_plan_has_the_files_the_job_and_what_is_missing() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "task.yaml",
        "\
apiVersion: kubeopencode.io/v1alpha1
kind: KubeOpenCodeConfig
metadata: {name: default}
spec: {systemImage: {imagePullPolicy: Always}}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec:
  serviceAccountName: default
  timeout: 1h
  command: [\"sh\", \"-c\", \"cat task.md\"]
  credentials: [{name: key, secretRef: {name: api, key: token}, env: TOKEN}]
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: ready}
spec:
  description: Do it.
  contexts: [{type: Text, mountPath: bin/check, fileMode: 0755, text: '#!/bin/sh'}]
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: waits}
spec: {agentRef: nobody, description: Do it.}
",
    );
    let plan = sandbox
        .run(&["plan", "-f", "task.yaml"])
        .expect_code(0)
        .stdout;
    let (comments, yaml) = plan
        .split_once("---\n")
        .expect("objects follow the comments");
    insta::assert_snapshot!(comments, @r#"
    # Task ready in namespace default
    #   agent:    default (from the files)
    #   command:  ["sh", "-c", "cat task.md"]
    #   secret:   api (in none of the files: the Pod would wait for it)
    #   settings:
    #     systemImage.image             quay.io/kubeopencode/kubeopencode:latest                built in
    #     systemImage.imagePullPolicy   Always                                                  KubeOpenCodeConfig default/default
    #     referenceTimeoutSeconds       300                                                     built in
    #     agentImage                    quay.io/kubeopencode/kubeopencode-agent-devbox:latest   built in
    #     timeout                       1h                                                      Agent default/default
    #
    # Files (names of Job and ConfigMaps follow from the Task's UID, which only a cluster gives):
    #
    # /workspace/task.md (7 bytes, mode 0644)
    #   | Do it.
    #
    # /workspace/bin/check (9 bytes, mode 0755)
    #   | #!/bin/sh
    "#);
    assert!(
        yaml.contains("kind: Job") && yaml.contains("suspend: true"),
        "{yaml}"
    );
    assert!(plan.contains("Agent default/nobody"), "{plan}");
}
