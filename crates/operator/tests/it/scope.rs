//! Where an operator works, and what it says where it can't.

use std::{future::pending, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::PostParams};
use kubeopencode_api::v1alpha1::Task;
use kubeopencode_embedded::cluster::{Cluster, Options};
use kubeopencode_engine::lower::Settings;
use kubeopencode_operator::{Health, Operator, OperatorError, OperatorOptions, Scope};
use tokio::time::Instant;

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World},
};

#[tokio::test]
async fn an_operator_of_one_namespace_asks_for_nothing_outside_it() {
    let mut world = World::new(Play::Ends(0)).await;
    let namespace = serde_saphyr::from_str("{metadata: {name: other}}").unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let task: Task = serde_saphyr::from_str(TASK).unwrap();
    let elsewhere: Api<Task> = Api::namespaced(world.client.clone(), "other");
    elsewhere
        .create(&PostParams::default(), &task)
        .await
        .unwrap();
    let faults = Faults::none();
    let options = OperatorOptions {
        scope: Scope::Namespace("default".to_owned()),
        settings: Settings {
            system_namespace: "default".to_owned(),
            ..Settings::default()
        },
        ..OperatorOptions::default()
    };
    world.operate_with(&faults, &options);
    world.create(AGENT).await;
    world.create(TASK).await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
    for call in faults.calls() {
        assert_eq!(call.namespace, "default", "{call:?}");
    }
}

#[tokio::test]
async fn a_cluster_without_the_definitions_is_told_at_once_with_the_remedy() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let operator = Operator::new(cluster.client(), OperatorOptions::default());
    let error = operator.run(pending()).await.unwrap_err();
    assert!(matches!(error, OperatorError::NotInstalled), "{error}");
    assert!(error.to_string().contains("kubeopencode crds"));
    cluster.shutdown().await;
}

/// So does an API server that begins: it knows no roles until it has read them.
#[tokio::test(start_paused = true)]
async fn an_operator_that_is_forbidden_everything_at_first_goes_on_trying() {
    let mut world = World::new(Play::Ends(0)).await;
    let begin = Instant::now();
    let faults = Faults::timed(move |_, _| {
        if begin.elapsed() < Duration::from_secs(50) {
            Fault::Forbidden
        } else {
            Fault::None
        }
    });
    world.guard = Duration::from_mins(10);
    world.operate(&faults);
    world.create(AGENT).await;
    world.create(TASK).await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_forbidden_says_so_after_a_minute_and_is_alive_until_then() {
    let world = World::new(Play::Ends(0)).await;
    let begin = Instant::now();
    let health = Health::default();
    let options = OperatorOptions {
        health: health.clone(),
        ..OperatorOptions::default()
    };
    let forbidden = Faults::timed(|_, _| Fault::Forbidden);
    let operator = Operator::new(world.client_with(&forbidden), options);
    let error = operator.run(pending()).await.unwrap_err();
    assert!(matches!(error, OperatorError::Forbidden(_)), "{error}");
    let after = begin.elapsed();
    assert!(
        after >= Duration::from_mins(1) && after < Duration::from_secs(63),
        "{after:?}"
    );
    assert!(forbidden.calls().iter().all(|call| !call.writes()));
    assert_eq!(health.stuck(), Ok(()), "a kubelet would not have waited");
    world.end().await;
}
