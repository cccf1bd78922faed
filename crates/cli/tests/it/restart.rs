//! `local`, killed at any moment and started again: nothing is lost, nothing hangs, and no agent runs twice.
//!
//! An agent tells that it runs by a connection to the test, which is also its leave to end. Needs bash, whose
//! `/dev/tcp` makes that connection.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use kubeopencode_api::v1alpha1::{Agent, Task};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::local::served::Local;
use crate::support::{Sandbox, can_run_pods};

/// Only against a hang; nothing waits for it to pass.
const GUARD: Duration = Duration::from_mins(1);

/// Whether there is a bash; says so loudly where there is none.
#[expect(clippy::print_stderr, reason = "what is left out has to be seen")]
fn has_bash() -> bool {
    let found = std::path::Path::new("/bin/bash").exists();
    if !found {
        eprintln!("LEFT OUT: local and a kill needs /bin/bash, and this machine has none");
    }
    found
}

async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future)
        .await
        .expect("it goes on")
}

async fn client(local: &Local) -> Client {
    let kubeconfig = Kubeconfig::read_from(local.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// Makes an Agent, and a Task whose agent connects to `port` and ends when it is answered, or nobody is there any more.
async fn create(client: &Client, port: u16) {
    let command = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r leave <&3; true");
    let agent = json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
        "spec": {"serviceAccountName": "default", "command": ["bash", "-c", command]},
    });
    let task = json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "once"},
        "spec": {"description": "Do it once."},
    });
    let agent: Agent = serde_json::from_value(agent).expect("an Agent");
    let task: Task = serde_json::from_value(task).expect("a Task");
    Api::<Agent>::default_namespaced(client.clone())
        .create(&PostParams::default(), &agent)
        .await
        .expect("a new Agent");
    Api::<Task>::default_namespaced(client.clone())
        .create(&PostParams::default(), &task)
        .await
        .expect("a new Task");
}

/// Every change of the kind from now on, as nothing but the news that there was one.
async fn changes<K>(client: &Client) -> futures::stream::BoxStream<'static, ()>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api = Api::<K>::default_namespaced(client.clone());
    let now = api.list(&ListParams::default()).await.expect("a list");
    let from = now.metadata.resource_version.unwrap_or_default();
    let watch = api.watch(&WatchParams::default(), &from).await;
    watch
        .expect("a watch")
        .map_ok(|_: WatchEvent<K>| ())
        // The end of the cluster is the end of what it sends.
        .take_while(|change| std::future::ready(change.is_ok()))
        .map(|_| ())
        .boxed()
}

/// The connection of the next agent that begins. Can be dropped without losing one.
async fn begun(listener: &TcpListener) -> TcpStream {
    listener.accept().await.expect("a connection").0
}

/// The Task once it has ended.
async fn ended(client: &Client) -> Task {
    let tasks = Api::<Task>::default_namespaced(client.clone());
    let over = |task: Option<&Task>| {
        let phase = task.and_then(|task| {
            serde_json::to_value(&task.status).ok()?["phase"]
                .as_str()
                .map(str::to_owned)
        });
        matches!(phase.as_deref(), Some("Completed" | "Failed"))
    };
    let task = kube::runtime::wait::await_condition(tasks, "once", over).await;
    task.expect("a watch").expect("the Task is there")
}

async fn uids<K>(client: &Client) -> BTreeSet<String>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = Api::<K>::default_namespaced(client.clone());
    let list = api.list(&ListParams::default()).await.expect("a list");
    list.iter().filter_map(kube::ResourceExt::uid).collect()
}

#[test]
fn a_task_whose_processes_died_with_local_fails_and_is_not_run_again() {
    if !can_run_pods("local and a kill") || !has_bash() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let sandbox = Sandbox::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let local = Local::start(&sandbox.data()).expect("it serves");
        let before = client(&local).await;
        create(&before, port).await;
        let mut agent = guarded(begun(&listener)).await;
        let (jobs, pods) = (uids::<Job>(&before).await, uids::<Pod>(&before).await);
        drop(local);
        // The agent's processes are gone when its connection is.
        let mut rest = Vec::new();
        guarded(agent.read_to_end(&mut rest)).await.expect("an end");

        let local = Local::start(&sandbox.data()).expect("it serves again");
        let after = client(&local).await;
        let task = guarded(ended(&after)).await;
        let status = serde_json::to_value(&task.status).expect("a status");
        assert_eq!(status["phase"], "Failed", "{status:#}");
        assert_eq!(status["reason"], "InfrastructureError", "{status:#}");
        assert_eq!(uids::<Job>(&after).await, jobs);
        assert_eq!(uids::<Pod>(&after).await, pods);
        let pods = Api::<Pod>::default_namespaced(after.clone());
        for pod in pods.list(&ListParams::default()).await.expect("Pods") {
            let status = pod.status.clone().unwrap_or_default();
            assert_eq!(status.phase.as_deref(), Some("Failed"));
            assert!(status.reason.is_some(), "{}: {status:#?}", pod.name_any());
        }
    });
}

/// Kills it after the first change of a Task, Job or Pod, then after the second, and so on, until the agent runs.
#[test]
fn after_a_kill_at_any_moment_a_task_ends_and_its_agent_ran_once_at_most() {
    if !can_run_pods("local and a kill") || !has_bash() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for moment in 0.. {
            assert!(moment < 200, "the agent never begins");
            if Box::pin(killed_after(moment)).await {
                break;
            }
        }
    });
}

/// One Task, with the end of the cluster after so many changes; whether its agent had begun by then.
async fn killed_after(moment: usize) -> bool {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let local = Local::start(&sandbox.data()).expect("it serves");
    let before = client(&local).await;
    let mut news = futures::stream::select_all([
        changes::<Task>(&before).await,
        changes::<Job>(&before).await,
        changes::<Pod>(&before).await,
    ]);
    create(&before, port).await;
    let first = guarded(async {
        tokio::select! {
            () = async { for _ in 0..moment { news.next().await; } } => None,
            agent = begun(&listener) => Some(agent),
        }
    })
    .await;
    drop(local);

    let local = Local::start(&sandbox.data()).expect("it serves again");
    let after = client(&local).await;
    let mut runs = usize::from(first.is_some());
    let mut kept = Vec::new();
    let task = {
        let mut end = std::pin::pin!(guarded(ended(&after)));
        loop {
            tokio::select! {
                task = &mut end => break task,
                mut agent = begun(&listener) => {
                    runs += 1;
                    // One that died with the first cluster is not there to read it.
                    let _ = agent.write_all(b"leave\n").await;
                    kept.push(agent);
                }
            }
        }
    };
    // One that began before the kill, and was not seen until now.
    while begun(&listener).now_or_never().is_some() {
        runs += 1;
    }
    let status = serde_json::to_value(&task.status).expect("a status");
    assert!(runs <= 1, "after {moment} changes: {runs} runs: {status:#}");
    assert!(uids::<Job>(&after).await.len() <= 1);
    if first.is_some() {
        assert_eq!(
            status["phase"], "Failed",
            "after {moment} changes: {status:#}"
        );
    }
    first.is_some()
}
