//! The API service as `kube` sees it.

use futures::{StreamExt, TryStreamExt};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kubeopencode_embedded::cluster::{Cluster, Options};
use serde_json::json;

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": value}}))
        .expect("a ConfigMap")
}

async fn without_controllers() -> Cluster {
    let options = Options {
        controllers: false,
        ..Options::default()
    };
    Cluster::start(options).await.expect("a cluster")
}

#[tokio::test]
async fn objects_are_created_read_changed_watched_and_deleted() {
    let cluster = without_controllers().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let made = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let version = made.metadata.resource_version.clone().unwrap();
    let events = maps.watch(&WatchParams::default(), &version).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    maps.patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let error = maps
        .replace("a", &PostParams::default(), &made)
        .await
        .unwrap_err();
    assert!(
        matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
    );
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let seen: Vec<_> = events.boxed().take(2).try_collect().await.unwrap();
    assert!(
        matches!(&seen[0], WatchEvent::Modified(map) if map.data.as_ref().unwrap()["k"] == "2")
    );
    assert!(matches!(&seen[1], WatchEvent::Deleted(_)));
    cluster.shutdown().await;
}

/// How many of them come, and when, differs from run to run on a real server: no recording has them.
#[tokio::test]
async fn a_quiet_watch_hears_of_the_version_before_its_end() {
    let cluster = without_controllers().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), "default");
    let made = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let version = made.metadata.resource_version.unwrap();
    let quiet = WatchParams::default().timeout(3);
    let events = maps.watch(&quiet, &version).await.unwrap();
    let other = serde_json::from_value(json!({"metadata": {"name": "other"}})).unwrap();
    let other = secrets
        .create(&PostParams::default(), &other)
        .await
        .unwrap();
    let seen: Vec<_> = events.boxed().take(1).try_collect().await.unwrap();
    assert!(
        matches!(&seen[0], WatchEvent::Bookmark(bookmark) if Some(&bookmark.metadata.resource_version) == other.metadata.resource_version.as_ref())
    );
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_new_object_needs_its_namespace() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "nowhere");
    let error = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, kube::Error::Api(status) if status.code == 404 && status.message.contains("nowhere"))
    );
    cluster.shutdown().await;
}

/// Recordings have no times.
#[tokio::test]
async fn a_second_deletion_of_a_pod_brings_its_end_forward_from_the_first_one() {
    let cluster = without_controllers().await;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "node", "containers": [{"name": "m", "image": "i"}]},
    }))
    .expect("a Pod");
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let delete = async |grace| {
        let parameters = DeleteParams::default().grace_period(grace);
        let pod = pods.delete("p", &parameters).await.unwrap().unwrap_left();
        pod.metadata.deletion_timestamp.unwrap().0
    };
    let end = delete(30).await;
    assert_eq!(delete(25).await, end - SignedDuration::from_secs(5));
    assert_eq!(delete(28).await, end - SignedDuration::from_secs(5));
    cluster.shutdown().await;
}
