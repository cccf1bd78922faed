//! What a Task refers to and does not exist yet: it waits visibly, and goes on by event.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::ConfigMap,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use kubeopencode_api::v1alpha1::{Agent, TaskPhase};
use serde_json::json;

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World, condition, task},
};

#[tokio::test]
async fn an_agent_that_appears_later() {
    let world = World::start(Play::Ends(0)).await;
    world
        .create(&TASK.replace("spec: {", "spec: {agentRef: later, "))
        .await;
    let waiting = world
        .status("it", "waiting", |status| {
            condition(status, "Ready") == Some("False")
        })
        .await;
    assert_eq!(waiting.phase, Some(TaskPhase::Pending));
    assert!(waiting.message.unwrap().contains("Agent default/later"));
    assert!(world.jobs().await.is_empty());
    world
        .create(&AGENT.replace("{name: default}", "{name: later}"))
        .await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
}

/// As when somebody has upgraded the definitions, and an operator of before still runs.
#[tokio::test]
async fn an_agent_that_this_version_cannot_read_is_told_and_waited_for() {
    let world = World::start(Play::Ends(0)).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let anything = json!([{
        "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }]);
    let anything = Patch::Json::<()>(serde_json::from_value(anything).unwrap());
    definitions
        .patch("agents.kubeopencode.io", &PatchParams::default(), &anything)
        .await
        .unwrap();
    world
        .create(&AGENT.replace("spec: {", "spec: {maxConcurrentTasks: many, "))
        .await;
    world.create(TASK).await;
    let waiting = world
        .status("it", "waiting", |status| {
            condition(status, "Ready") == Some("False")
        })
        .await;
    let message = waiting.message.unwrap();
    assert!(
        message.contains("Agent default/default in a form that this version reads"),
        "{message}"
    );
    let mended = Patch::Merge(json!({"spec": {"maxConcurrentTasks": null}}));
    world
        .api::<Agent>()
        .patch("default", &PatchParams::default(), &mended)
        .await
        .unwrap();
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
}

#[tokio::test]
async fn a_config_map_and_then_its_key_that_appear_later() {
    let world = World::start(Play::Ends(0)).await;
    world.create(AGENT).await;
    let contexts =
        "spec: {contexts: [{name: notes, type: ConfigMap, configMap: {name: notes, key: todo}}], ";
    world.create(&TASK.replace("spec: {", contexts)).await;
    world
        .status("it", "waiting for the ConfigMap", |status| {
            status
                .message
                .as_deref()
                .is_some_and(|text| text.contains("ConfigMap default/notes"))
        })
        .await;
    world
        .create("{apiVersion: v1, kind: ConfigMap, metadata: {name: notes}, data: {other: x}}")
        .await;
    world
        .status("it", "waiting for the key", |status| {
            status
                .message
                .as_deref()
                .is_some_and(|text| text.contains("\"todo\""))
        })
        .await;
    let change = Patch::Merge(json!({"data": {"todo": "this"}}));
    world
        .api::<ConfigMap>()
        .patch("notes", &PatchParams::default(), &change)
        .await
        .unwrap();
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
}

#[tokio::test]
async fn what_never_appears_fails_the_task_in_time() {
    let world = World::start(Play::Ends(0)).await;
    world
        .create(
            "
apiVersion: kubeopencode.io/v1alpha1
kind: KubeOpenCodeConfig
metadata: {name: default}
spec: {referenceTimeoutSeconds: 1}
",
        )
        .await;
    world
        .create(&TASK.replace("spec: {", "spec: {agentRef: never, "))
        .await;
    let status = world.ends("it").await;
    assert_eq!(status.phase, Some(TaskPhase::Failed));
    assert_eq!(status.reason.as_deref(), Some("ReferenceNotFound"));
    world.end().await;
}

#[tokio::test]
async fn a_change_of_the_agent_right_before_a_task_is_what_the_task_runs_with() {
    let world = World::start(Play::Ends(0)).await;
    world.create(AGENT).await;
    for number in 0..10 {
        let change =
            Patch::Merge(json!({"spec": {"command": ["sh", "-c", format!("echo {number}")]}}));
        let agents = world.api::<Agent>();
        let agent = agents
            .patch("default", &PatchParams::default(), &change)
            .await
            .unwrap();
        let name = format!("it-{number}");
        world.create(&task(&name)).await;
        let used = world.ends(&name).await.agent.unwrap();
        assert_eq!(used.generation, agent.metadata.generation);
    }
    world.end().await;
}

/// That its Job was recorded was never answered, and no watch has shown it yet: what it refers to does not matter any more.
#[tokio::test]
async fn an_agent_that_goes_after_the_record_takes_nothing_away() {
    let mut world = World::new(Play::Ends(0)).await;
    let mut is_recorded = false;
    let faults = Faults::new(move |_, call| match (call.verb, call.resource.as_str()) {
        ("update", "tasks/status") if !is_recorded => {
            is_recorded = true;
            Fault::AnswerLost
        }
        ("get", "agents") if is_recorded => Fault::Missing,
        ("watch", "tasks") => Fault::Late(Duration::from_secs(2)),
        _ => Fault::None,
    });
    world.operate(&faults);
    world.create(AGENT).await;
    world
        .create(&TASK.replace("spec: {", "spec: {agentRef: default, "))
        .await;
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("Succeeded"), "{status:?}");
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
    let calls = faults.calls();
    assert!(calls.iter().all(|call| call.verb != "delete"), "{calls:?}");
    let looked = calls
        .iter()
        .any(|call| call.verb == "get" && call.resource == "tasks");
    assert!(looked, "the case did not arise: {calls:?}");
}
