//! The cluster, as the tests use it: install, make, follow, delete.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_api::{
    names,
    v1alpha1::{Agent, Task},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Who writes what the tests write.
const MANAGER: &str = "test";

/// The cluster that KUBECONFIG names.
pub(crate) async fn config() -> Result<Config> {
    let kubeconfig = kubeconfig()?;
    let kubeconfig = Kubeconfig::read_from(&kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// Its file, which lies among the cluster's own.
pub(crate) fn kubeconfig() -> Result<PathBuf> {
    std::env::var_os("KUBECONFIG").map(PathBuf::from).context(
        "KUBECONFIG is not set: run this in a cluster, as `cluster/cluster with -- PROGRAM …` does",
    )
}

/// Installs the CRDs of the program, and makes the operator's namespace.
pub(crate) async fn install(client: &Client, program: &Path) -> Result<()> {
    let crds = tokio::process::Command::new(program)
        .arg("crds")
        .output()
        .await
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(crds.status.success(), "`kubeopencode crds` failed");
    kubectl(&["apply", "--server-side", "-f", "-"], &crds.stdout).await?;
    kubectl(
        &[
            "wait",
            // Not `condition=`: kubectl takes a definition that has no conditions yet for a fault.
            "--for=jsonpath={.status.conditions[?(@.type==\"Established\")].status}=True",
            "--timeout=60s",
            "crd",
            "--all",
        ],
        &[],
    )
    .await?;
    namespace(client, names::SYSTEM_NAMESPACE).await
}

async fn kubectl(arguments: &[&str], input: &[u8]) -> Result<()> {
    let mut child = tokio::process::Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start kubectl")?;
    let mut stdin = child.stdin.take().context("its input is a pipe")?;
    stdin.write_all(input).await?;
    drop(stdin);
    let status = child.wait().await?;
    ensure!(status.success(), "kubectl {} failed", arguments.join(" "));
    Ok(())
}

/// Makes a namespace, if it is not there.
pub(crate) async fn namespace(client: &Client, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    Api::<Namespace>::all(client.clone())
        .patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(object))
        .await?;
    Ok(())
}

/// The Agent of the Tasks that name none.
pub(crate) async fn agent(client: &Client, namespace: &str, spec: Value) -> Result<()> {
    let object = json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent",
        "metadata": {"name": "default"}, "spec": spec,
    });
    Api::<Agent>::namespaced(client.clone(), namespace)
        .patch(
            "default",
            &PatchParams::apply(MANAGER),
            &Patch::Apply(object),
        )
        .await?;
    Ok(())
}

/// A Task of that name.
pub(crate) fn task(name: &str) -> Task {
    let mut task = Task::new(name, kubeopencode_api::v1alpha1::TaskSpec::default());
    task.spec.description = Some("Count yourself".to_owned());
    task
}

/// Creates Tasks; a failure is tried again for a minute, since the API server may be the one in trouble.
pub(crate) async fn create(api: &Api<Task>, names: Vec<String>, at_once: usize) -> Result<()> {
    stream::iter(names.into_iter().map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(at_once, async |name| {
            patiently("create a Task", async || {
                match api.create(&PostParams::default(), &task(&name)).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                    other => other.map(drop),
                }
            })
            .await
        })
        .await
}

/// Does it again until it succeeds, for up to a minute.
pub(crate) async fn patiently<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, kube::Error>,
) -> Result<T> {
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if tokio::time::Instant::now() > end => {
                bail!("cannot {what}: {error}")
            }
            // The API server is away, and nothing tells when it is back.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Follows the objects of a kind until `satisfied` says so of all that there are; with what it is that has to come.
/// Watches that break are begun anew.
pub(crate) async fn until<K>(
    api: Api<K>,
    selector: &str,
    within: Duration,
    what: &str,
    mut satisfied: impl FnMut(&std::collections::BTreeMap<String, K>) -> bool,
) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let mut objects = std::collections::BTreeMap::new();
    let mut changes = watcher(api, watcher::Config::default().labels(selector))
        .default_backoff()
        .boxed();
    let reached = tokio::time::timeout(within, async {
        let mut listed = false;
        while let Some(event) = changes.next().await {
            match event {
                Ok(watcher::Event::Init) => objects.clear(),
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                    objects.insert(object.name_any(), object);
                }
                Ok(watcher::Event::Delete(object)) => {
                    objects.remove(&object.name_any());
                }
                Ok(watcher::Event::InitDone) => listed = true,
                // It goes on by itself.
                Err(_) => continue,
            }
            if listed && satisfied(&objects) {
                return;
            }
        }
    })
    .await;
    if reached.is_err() {
        let left: Vec<&String> = objects.keys().take(5).collect();
        bail!(
            "{what} did not come within {} s; there are {} of {}: {left:?} …",
            within.as_secs(),
            objects.len(),
            K::plural(&()),
        );
    }
    Ok(())
}

/// Deletes all Tasks of a namespace.
pub(crate) async fn delete_tasks(api: &Api<Task>) -> Result<()> {
    patiently("delete the Tasks", async || {
        api.delete_collection(
            &DeleteParams::background(),
            &kube::api::ListParams::default(),
        )
        .await
    })
    .await?;
    Ok(())
}
