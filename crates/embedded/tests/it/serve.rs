//! The cluster over HTTPS, as clients from outside see it.

use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kubeopencode_embedded::cluster::{Cluster, ClusterError, Options};
use serde_json::json;

fn on_disk(dir: &std::path::Path) -> Options {
    Options {
        data_dir: Some(dir.join("data")),
        listen: Some(0),
        ..Options::default()
    }
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    Client::try_from(config).expect("a client")
}

#[tokio::test]
async fn its_kubeconfig_is_enough_and_nobody_else_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(on_disk(dir.path())).await.unwrap();
    let kubeconfig = cluster.kubeconfig().unwrap().to_owned();
    let namespaces: Api<Namespace> = Api::all(client(&kubeconfig).await);
    assert_eq!(
        namespaces
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        4
    );

    let token_at = kubeconfig.find("token: ").unwrap() + "token: ".len();
    let mut wrong = kubeconfig.clone();
    wrong.replace_range(token_at..token_at + 4, "zzzz");
    let refused = Api::<Namespace>::all(client(&wrong).await);
    let error = refused.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 401));

    assert!(cluster.address().unwrap().ip().is_loopback());
    for file in [
        "kubeconfig",
        "pki/token",
        "pki/server.key",
        "lock",
        "store.db",
    ] {
        let mode = std::fs::metadata(dir.path().join("data").join(file))
            .unwrap()
            .permissions()
            .mode();
        assert!(mode.trailing_zeros() >= 6, "{file} has mode {mode:o}");
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_restart_loses_nothing_and_keeps_its_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(on_disk(dir.path())).await.unwrap();
    let token = std::fs::read_to_string(dir.path().join("data/pki/token")).unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let map = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    cluster.shutdown().await;

    let cluster = Cluster::start(on_disk(dir.path())).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(cluster.kubeconfig().unwrap()).await);
    assert_eq!(maps.get("a").await.unwrap(), made);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("data/pki/token")).unwrap(),
        token
    );
    cluster.shutdown().await;
}

#[tokio::test]
async fn two_processes_cannot_use_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(on_disk(dir.path())).await.unwrap();
    let error = Cluster::start(on_disk(dir.path())).await.err().unwrap();
    assert!(matches!(error, ClusterError::Lock(_)), "{error}");
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    cluster.shutdown().await;
    Cluster::start(on_disk(dir.path()))
        .await
        .unwrap()
        .shutdown()
        .await;
}
