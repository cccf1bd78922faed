//! Garbage collection by owner reference, between kinds that come and go.

use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy,
};
use serde_json::{Value, json};

use super::world::World;

async fn create(api: &Api<DynamicObject>, object: Value) -> DynamicObject {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

fn definition(group: &str, kind: &str, plural: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

/// A cluster with the kind Widget.
struct Garden {
    world: World,
    definitions: Api<DynamicObject>,
    widgets: Api<DynamicObject>,
    maps: Api<DynamicObject>,
}

impl Garden {
    async fn new() -> Self {
        let world = World::new("2026-01-01T00:00:00Z".parse().unwrap()).await;
        let definitions = world.api(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
        );
        create(
            &definitions,
            definition("example.test", "Widget", "widgets"),
        )
        .await;
        Self {
            widgets: world.api_in("default", "example.test/v1", "Widget", "widgets"),
            maps: world.api_in("default", "v1", "ConfigMap", "configmaps"),
            definitions,
            world,
        }
    }

    async fn widget(&self, name: &str) -> String {
        let widget =
            json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": name}});
        create(&self.widgets, widget).await.metadata.uid.unwrap()
    }

    async fn map(&self, name: &str, owners: Value) -> DynamicObject {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}});
        create(&self.maps, map).await
    }
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "example.test/v1", "kind": "Widget", "name": name, "uid": uid, "blockOwnerDeletion": true})
}

fn policy(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    }
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner_through_all_generations() {
    let garden = Garden::new().await;
    let mut maps = garden.world.follow(&garden.maps).await;
    let uid = garden.widget("grandparent").await;
    let parent = garden
        .map("parent", json!([owner("grandparent", &uid)]))
        .await;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "parent", "uid": parent.metadata.uid});
    garden.map("child", json!([reference])).await;
    garden
        .widgets
        .delete("grandparent", &DeleteParams::default())
        .await
        .unwrap();
    maps.until_gone("parent").await;
    maps.until_gone("child").await;
    garden.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_deleted_in_the_foreground_goes_last() {
    let garden = Garden::new().await;
    let mut widgets = garden.world.follow(&garden.widgets).await;
    let uid = garden.widget("owner").await;
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "held", "ownerReferences": [owner("owner", &uid)], "finalizers": ["example.test/hold"],
    }});
    create(&garden.maps, held).await;
    garden.map("free", json!([owner("owner", &uid)])).await;
    let mut maps = garden.world.follow(&garden.maps).await;
    let mut the_same = garden.world.follow(&garden.maps).await;
    garden
        .widgets
        .delete("owner", &policy(PropagationPolicy::Foreground))
        .await
        .unwrap();
    maps.until_gone("free").await;
    let deleting = |_: &str, map: &Value| {
        map["metadata"]["name"] == "held" && map["metadata"]["deletionTimestamp"].is_string()
    };
    the_same.until("held to be deleted", deleting).await;
    let waiting = garden.widgets.get("owner").await.unwrap();
    assert_eq!(waiting.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    garden
        .maps
        .patch("held", &PatchParams::default(), &release)
        .await
        .unwrap();
    widgets.until_gone("owner").await;
    assert!(garden.maps.get_opt("held").await.unwrap().is_none());
    garden.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_ring_go_although_each_waits_for_the_next() {
    for count in [2, 3] {
        let garden = Garden::new().await;
        let mut maps = garden.world.follow(&garden.maps).await;
        let reference = |name: &str, map: &DynamicObject| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": map.metadata.uid, "blockOwnerDeletion": true}]);
        let mut last = garden.map("0", json!([])).await;
        for number in 1..count {
            let owner = reference(&(number - 1).to_string(), &last);
            last = garden.map(&number.to_string(), owner).await;
        }
        let closed =
            json!({"metadata": {"ownerReferences": reference(&(count - 1).to_string(), &last)}});
        garden
            .maps
            .patch("0", &PatchParams::default(), &Patch::Merge(closed))
            .await
            .unwrap();
        garden
            .maps
            .delete("0", &policy(PropagationPolicy::Foreground))
            .await
            .unwrap();
        let mut all = vec![false; count];
        while all.contains(&false) {
            let gone = |kind: &str, _: &Value| kind == "DELETED";
            let map = maps.until("one that goes", gone).await;
            let number: Option<usize> = map["metadata"]["name"]
                .as_str()
                .and_then(|name| name.parse().ok());
            if let Some(gone) = number {
                all[gone] = true;
            }
        }
        garden.world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_and_no_longer_name_their_owner() {
    let garden = Garden::new().await;
    let uid = garden.widget("owner").await;
    let other = garden.widget("other").await;
    let mut maps = garden.world.follow(&garden.maps).await;
    garden
        .map(
            "child",
            json!([owner("owner", &uid), owner("other", &other)]),
        )
        .await;
    // Seen by a watch of ours, so perhaps not yet by the collector's: the owner is deleted after a round trip more.
    let mut widgets = garden.world.follow(&garden.widgets).await;
    maps.until("child", |_, map| map["metadata"]["name"] == "child")
        .await;
    garden
        .widgets
        .delete("owner", &policy(PropagationPolicy::Orphan))
        .await
        .unwrap();
    widgets.until_gone("owner").await;
    let child = garden.maps.get("child").await.unwrap();
    let owners = child.metadata.owner_references.unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].uid, other);
    garden.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_owner_that_is_there_keeps_an_object_and_those_that_are_not_are_struck_out() {
    let garden = Garden::new().await;
    let stays = garden.widget("stays").await;
    let goes = garden.widget("goes").await;
    garden
        .map(
            "child",
            json!([owner("stays", &stays), owner("goes", &goes)]),
        )
        .await;
    let mut maps = garden.world.follow(&garden.maps).await;
    garden
        .widgets
        .delete("goes", &DeleteParams::default())
        .await
        .unwrap();
    let struck = |_: &str, map: &Value| {
        map["metadata"]["name"] == "child"
            && map["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|owners| owners.len() == 1)
    };
    let child = maps.until("one owner to be struck out", struck).await;
    assert_eq!(child["metadata"]["ownerReferences"][0]["uid"], json!(stays));
    garden.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_is_its_uid_and_a_kind_that_nobody_knows_keeps_its_dependents() {
    let garden = Garden::new().await;
    let mut maps = garden.world.follow(&garden.maps).await;
    garden.widget("owner").await;
    let unknown = json!([{
        "apiVersion": "nosuch.test/v1", "kind": "Thing", "name": "x", "uid": "11111111-2222-3333-4444-555555555556",
    }]);
    garden.map("waits", unknown).await;
    garden
        .map(
            "wrong",
            json!([owner("owner", "11111111-2222-3333-4444-555555555555")]),
        )
        .await;
    maps.until_gone("wrong").await;
    assert!(garden.maps.get_opt("waits").await.unwrap().is_some());
    // Once the kind is there its object can be asked for, and is not.
    create(
        &garden.definitions,
        definition("nosuch.test", "Thing", "things"),
    )
    .await;
    maps.until_gone("waits").await;
    garden.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_a_definition_goes_its_objects_and_their_dependents_go() {
    let garden = Garden::new().await;
    let mut maps = garden.world.follow(&garden.maps).await;
    let uid = garden.widget("owner").await;
    garden.map("child", json!([owner("owner", &uid)])).await;
    let mut definitions = garden.world.follow(&garden.definitions).await;
    garden
        .definitions
        .delete("widgets.example.test", &DeleteParams::default())
        .await
        .unwrap();
    definitions.until_gone("widgets.example.test").await;
    maps.until_gone("child").await;
    garden.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_before_it_has_a_node_fails_and_goes() {
    let garden = Garden::new().await;
    let world = &garden.world;
    let pods = world.api_in("default", "v1", "Pod", "pods");
    let jobs = world.api_in("default", "batch/v1", "Job", "jobs");
    let mut pod_events = world.follow(&pods).await;
    let mut job_events = world.follow(&jobs).await;
    // A Pod that is going is waited for, and the Job counts it only when it has ended.
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {
        "backoffLimit": 0, "podReplacementPolicy": "Failed",
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}},
    }});
    create(&jobs, job).await;
    let pod = pod_events.until("a Pod", |_, _| true).await;
    let name = pod["metadata"]["name"].as_str().unwrap();
    let held = |_: &str, job: &Value| job["status"]["active"] == 1;
    job_events.until("the Job to count it", held).await;
    pods.delete(name, &policy(PropagationPolicy::Foreground))
        .await
        .unwrap();
    pod_events.until_gone(name).await;
    let failed = |_: &str, job: &Value| {
        let conditions = job["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Failed")
    };
    let job = job_events.until("the Job to fail", failed).await;
    assert_eq!(job["status"]["failed"], 1, "{job}");
    garden.world.end().await;
}
