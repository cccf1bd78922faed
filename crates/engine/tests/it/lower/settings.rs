//! Whose word counts: Task, Agent, the configurations, and what is built in.

use kubeopencode_engine::{lower::Lowered, run::AgentUsed};

use super::{super::fixture::Cluster, cluster, task};

#[test]
fn without_agent_ref_and_without_an_agent_default_the_built_in_one_is_used() {
    let run = Cluster::of("kind: Task\nmetadata: {name: fix}\nspec: {description: x}").run();
    assert_eq!(
        run.agent,
        AgentUsed {
            name: "default".into(),
            generation: None
        }
    );
    assert_eq!(
        run.images.agent.reference,
        "quay.io/kubeopencode/kubeopencode-agent-devbox:latest"
    );
    assert_eq!(run.pod.service_account_name, None);
    assert_eq!(
        run.command.expect("OpenCode"),
        [
            "sh",
            "-c",
            r#"exec /tools/opencode run --format json < "$WORKSPACE_DIR/task.md""#
        ]
    );
    assert!(run.images.opencode.is_some());
}

#[test]
fn configuration_is_field_by_field_nearer_first() {
    let more = "
---
kind: KubeOpenCodeConfig
metadata: {name: default}
spec: {systemImage: {imagePullPolicy: Always}, referenceTimeoutSeconds: 7}
---
kind: KubeOpenCodeConfig
metadata: {name: default, namespace: kubeopencode-system}
spec: {systemImage: {image: far, imagePullPolicy: Never}, opencodeImage: {image: oc}, referenceTimeoutSeconds: 9}
";
    let run = cluster("", "", more).run();
    assert_eq!(run.images.system.reference, "far");
    assert_eq!(run.images.system.pull_policy.as_deref(), Some("Always"));
    let opencode = run.images.opencode.expect("the default command");
    assert_eq!(opencode.reference, "oc");
    assert_eq!(opencode.pull_policy.as_deref(), Some("IfNotPresent"));
    match cluster("", "agentRef: nobody", more).lower() {
        Lowered::Missing { timeout, .. } => assert_eq!(timeout.as_secs(), 7),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_setting_tells_its_source() {
    let more = "
---
kind: KubeOpenCodeConfig
metadata: {name: default}
spec: {systemImage: {imagePullPolicy: Always}}
---
kind: KubeOpenCodeConfig
metadata: {name: default, namespace: kubeopencode-system}
spec: {systemImage: {image: far, imagePullPolicy: Never}, referenceTimeoutSeconds: 9}
";
    let near = "KubeOpenCodeConfig team-a/default";
    let far = "KubeOpenCodeConfig kubeopencode-system/default";
    let agent = "Agent team-a/default";
    assert_eq!(
        cluster("timeout: 1h", "timeout: 90s", more).told(),
        [
            ["systemImage.image", "far", far],
            ["systemImage.imagePullPolicy", "Always", near],
            [
                "opencodeImage.image",
                "quay.io/kubeopencode/kubeopencode-opencode:latest",
                "built in"
            ],
            ["opencodeImage.imagePullPolicy", "IfNotPresent", "built in"],
            ["referenceTimeoutSeconds", "9", far],
            [
                "agentImage",
                "quay.io/kubeopencode/kubeopencode-agent-devbox:latest",
                "built in"
            ],
            ["timeout", "90s", "its own spec"],
        ]
    );
    let told = cluster(
        "timeout: 1h
agentImage: mine
command: [work]",
        "",
        "",
    )
    .told();
    assert_eq!(
        told[2..],
        [
            ["referenceTimeoutSeconds", "300", "built in"],
            ["agentImage", "mine", agent],
            ["timeout", "1h", agent],
        ]
    );
    let told = cluster("", "agentRef: nobody", "").told();
    assert_eq!(
        told.last().expect("a setting")[0],
        "referenceTimeoutSeconds",
        "what an Agent says that is not there is not known"
    );
}

#[test]
fn the_tasks_timeout_wins_over_the_agents() {
    let seconds = |agent: &str, task: &str| {
        let timeout = cluster(agent, task, "").run().timeout;
        timeout.map(|timeout| timeout.as_secs())
    };
    assert_eq!(seconds("", ""), None);
    assert_eq!(seconds("timeout: 1h30m", ""), Some(5400));
    assert_eq!(seconds("timeout: 1h30m", "timeout: 90s"), Some(90));
    for bad in [
        "0s",
        "1",
        "1d",
        "5m1h",
        "-1s",
        "1.5h",
        "999999999999999999999h",
        "600000h",
    ] {
        let error = task(&format!("timeout: '{bad}'")).error();
        assert!(error.starts_with("Task fix: timeout: "), "{bad}: {error}");
    }
}
