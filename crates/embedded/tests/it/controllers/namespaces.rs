//! What a new namespace gets, and how one goes.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::world::World;

const RECORDING: &str = include_str!("../../../../../tests/differential/recorded/namespaces.jsonl");

fn is(name: &'static str) -> impl Fn(&'static str, &Value) -> bool {
    move |kind, object| kind != "DELETED" && object["metadata"]["name"] == name
}

async fn world_with(namespace: &str) -> World {
    let world = World::new("2026-01-01T00:00:00Z".parse().unwrap()).await;
    let namespaces = world.api("v1", "Namespace", "namespaces");
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let object = serde_json::from_value(object).unwrap();
    namespaces
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_account_and_the_root_certificate_and_gets_them_again() {
    let world = world_with("rec").await;
    let accounts = world.api_in("rec", "v1", "ServiceAccount", "serviceaccounts");
    let maps = world.api_in("rec", "v1", "ConfigMap", "configmaps");
    let mut account_events = world.follow(&accounts).await;
    let mut map_events = world.follow(&maps).await;
    account_events.until("the account", is("default")).await;
    let map = map_events
        .until("the certificate", is("kube-root-ca.crt"))
        .await;
    assert_eq!(map["data"], json!({"ca.crt": "the root"}));
    assert_eq!(
        map["metadata"]["annotations"],
        recorded("namespaces/settled")["metadata"]["annotations"]
    );

    accounts
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    account_events.until_gone("default").await;
    account_events
        .until("the account again", is("default"))
        .await;
    let forged = Patch::Merge(json!({"data": {"ca.crt": "another"}}));
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &forged)
        .await
        .unwrap();
    map_events
        .until("the change", |_, map| map["data"]["ca.crt"] == "another")
        .await;
    map_events
        .until("the certificate again", |_, map| {
            map["data"]["ca.crt"] == "the root"
        })
        .await;
    world.end().await;
}

fn recorded(id: &str) -> Value {
    let exchange = RECORDING
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|exchange| exchange["id"] == id);
    exchange.unwrap()["response_body"].clone()
}

fn conditions(namespace: &Value) -> Value {
    let mut conditions = namespace["status"]["conditions"].clone();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!("<time>");
    }
    conditions
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_as_recorded_and_takes_everything_along() {
    let world = world_with("rec-gone").await;
    let namespaces = world.api("v1", "Namespace", "namespaces");
    let maps = world.api_in("rec-gone", "v1", "ConfigMap", "configmaps");
    let pods = world.api_in("rec-gone", "v1", "Pod", "pods");
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "held", "finalizers": ["example.test/hold"],
    }});
    maps.create(
        &PostParams::default(),
        &serde_json::from_value(held).unwrap(),
    )
    .await
    .unwrap();
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}},
    }});
    let jobs = world.api_in("rec-gone", "batch/v1", "Job", "jobs");
    jobs.create(
        &PostParams::default(),
        &serde_json::from_value(job).unwrap(),
    )
    .await
    .unwrap();
    let mut pod_events = world.follow(&pods).await;
    pod_events.until("a Pod", |_, _| true).await;

    let mut events = world.follow(&namespaces).await;
    events.until("the namespace", is("rec-gone")).await;
    namespaces
        .delete("rec-gone", &DeleteParams::default())
        .await
        .unwrap();
    let mut ours = Vec::new();
    let mut released = false;
    loop {
        let (kind, namespace) = events.next(&("the namespace to go", &ours)).await;
        if namespace["metadata"]["name"] != "rec-gone" {
            continue;
        }
        let seen = (
            kind.to_owned(),
            namespace["status"]["phase"].clone(),
            conditions(&namespace),
        );
        // A Pod that goes in between shows as one more condition: only what lasts was recorded.
        let passing = seen.2[3]["message"]
            .as_str()
            .is_some_and(|message| message.contains("pods."));
        if !passing {
            ours.push(seen);
        }
        if kind == "DELETED" {
            break;
        }
        let waits_for_map = conditions(&namespace)[3]["message"]
            == "Some resources are remaining: configmaps. has 1 resource instances";
        if waits_for_map && !released {
            released = true;
            let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            maps.patch("held", &PatchParams::default(), &release)
                .await
                .unwrap();
        }
    }
    let theirs: Vec<_> = recorded("namespaces/watch")
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["object"]["metadata"]["name"] == "rec-gone")
        .map(|event| {
            let object = &event["object"];
            let kind = event["type"].as_str().unwrap().to_owned();
            (kind, object["status"]["phase"].clone(), conditions(object))
        })
        .collect();
    ours.dedup();
    assert_eq!(ours, theirs);
    assert!(jobs.get_opt("job").await.unwrap().is_none());
    assert!(
        pods.list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    world.end().await;
}
