//! A real cluster beside the local one, for tests: named by `KUBEOPENCODE_TEST_CLUSTER`, a kubeconfig.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use regex::Regex;

/// Where documents want their objects; a session may make it.
const SYSTEM_NAMESPACE: &str = "kubeopencode-system";

/// Each session has an operator for all namespaces, and may make [`SYSTEM_NAMESPACE`]: one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What differs between two runs of one command, and what stands for it.
static VARIABLE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let all = [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "TIME"),
        (
            r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [0-9:]+ [+-]\d{4}",
            "TIME",
        ),
        (r"(resourceVersion|Resource Version): \S+", "$1: N"),
        (r"(durationMillis|Duration Millis): \d+", "$1: N"),
        (r#"Context "[^"]+""#, "Context NAME"),
        (r"\b(\d+[dhms])+\b|<unknown>", "AGE"),
        (r" \(x\d+ over AGE\)", ""),
        // Names of Jobs, and of Pods after them.
        (
            r"\b(hello|long|quick|update-service-a)-[a-z0-9]{5,6}(-[a-z0-9]{5})?\b",
            "$1-NAME",
        ),
        (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-NAME"),
        // Where a Pod runs, and what runs it: the local cluster has no Pod network, and takes images as folders.
        (r"\b\d+\.\d+\.\d+\.\d+\b", "IP"),
        (r"(IP |Node: |to )(node|local)\b", "${1}NODE"),
        (r"\b(containerd|sandbox)://\w+", "ID"),
        (r"(?m)^Image ID:.*$", "Image ID: ID"),
    ];
    all.into_iter()
        .map(|(pattern, name)| (Regex::new(pattern).expect("a pattern"), name))
        .collect()
});

/// A line about an event. Those of one second come in any order.
static EVENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^(AGE )?(Normal|Warning) ").expect("a pattern"));

/// Events of a node that has images to pull; and `cluster/cluster` has no DNS, which its kubelet says of every Pod.
static OF_A_REAL_NODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^(AGE )?(Normal Pulled|Warning MissingClusterDNS) ").expect("a pattern")
});

/// A cluster that is there.
#[derive(Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
}

impl Cluster {
    /// The one that the environment names.
    pub fn of_environment() -> Option<Self> {
        let kubeconfig = std::env::var_os("KUBEOPENCODE_TEST_CLUSTER")?.into();
        Some(Self { kubeconfig })
    }

    /// The one of this kubeconfig.
    pub fn of(kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// Whether it has a node.
    pub fn runs_pods(&self, kubectl: &Path) -> Result<bool> {
        let nodes = ask(kubectl, &self.kubeconfig, "get nodes -o name")
            .context("asking the cluster of KUBEOPENCODE_TEST_CLUSTER for its nodes")?;
        Ok(!nodes.is_empty())
    }
}

fn ask(kubectl: &Path, kubeconfig: &Path, arguments: &str) -> Result<String> {
    let output = Command::new(kubectl)
        .args(arguments.split(' '))
        .env("KUBECONFIG", kubeconfig)
        .output()?;
    ensure!(
        output.status.success(),
        "kubectl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One session there: our definitions, the operator as a child, and a namespace, which all end with the value.
pub struct Session {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    operator: Child,
    _turn: MutexGuard<'static, ()>,
}

impl Session {
    /// Prepares the cluster for the session of a file. What is there is somebody else's, and stays as it is.
    pub fn begin(cluster: &Cluster, kubectl: &Path, path: &Path, folder: &Path) -> Result<Self> {
        let turn = ONE_AT_A_TIME.lock();
        let turn = turn.unwrap_or_else(PoisonError::into_inner);
        let kubeconfig = folder.join("kubeconfig");
        std::fs::copy(&cluster.kubeconfig, &kubeconfig)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let namespace = format!("session-{stem}");
        nobody_has(kubectl, &kubeconfig, [&namespace, SYSTEM_NAMESPACE])?;
        let program = env!("CARGO_BIN_EXE_kubeopencode");
        let definitions = folder.join("definitions.yaml");
        let output = Command::new(program).arg("crds").output()?;
        std::fs::write(&definitions, output.stdout)?;
        // Without force: other definitions of somebody else are a conflict, not ours to change.
        let apply = format!("apply --server-side -f {}", definitions.display());
        ask(kubectl, &kubeconfig, &apply)?;
        ask(
            kubectl,
            &kubeconfig,
            // Not `condition=`: kubectl takes a definition that has no conditions yet for a fault.
            "wait --for=jsonpath={.status.conditions[?(@.type==\"Established\")].status}=True crd --all --timeout=60s",
        )?;
        ask(
            kubectl,
            &kubeconfig,
            &format!("create namespace {namespace}"),
        )?;
        let operator = Command::new(program)
            .args(["controller", "--leader-elect=false", "--listen=off"])
            .args(["opencode", "agent", "system"].map(|image| {
                let name = match image {
                    "opencode" => "kubeopencode-opencode",
                    "agent" => "kubeopencode-agent-devbox",
                    _ => "kubeopencode",
                };
                format!("--{image}-image=quay.io/kubeopencode/{name}:test")
            }))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("operator.log"))?)
            .spawn()?;
        let session = Self {
            kubectl: kubectl.to_owned(),
            kubeconfig,
            namespace,
            operator,
            _turn: turn,
        };
        let account = format!(
            "wait --for=create serviceaccount/default -n {}",
            session.namespace
        );
        session.ask(&account)?;
        session.ask(&format!(
            "config set-context --current --namespace {}",
            session.namespace
        ))?;
        Ok(session)
    }

    fn ask(&self, arguments: &str) -> Result<String> {
        ask(&self.kubectl, &self.kubeconfig, arguments)
    }

    /// A kubeconfig of the session's own.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What a command has printed, without what differs from run to run. The session's namespace is the local
    /// cluster's `default`.
    pub fn comparable(&self, printed: &str) -> String {
        let mut text = printed.replace(&self.namespace, "default");
        for (pattern, name) in &*VARIABLE {
            text = pattern.replace_all(&text, *name).into_owned();
        }
        let mut lines: Vec<&str> = text
            .lines()
            .filter(|line| !OF_A_REAL_NODE.is_match(line))
            .collect();
        for events in lines.chunk_by_mut(|a, b| EVENT.is_match(a) && EVENT.is_match(b)) {
            events.sort_unstable();
        }
        lines.join("\n")
    }

    /// Ends what the session has made: before it neither namespace was there.
    fn clear(&self) {
        let gone = "delete namespace --ignore-not-found --wait";
        // A namespace that does not go is seen by the session that wants it next.
        let _ = self.ask(&format!("{gone} {} {SYSTEM_NAMESPACE}", self.namespace));
    }
}

/// Refuses a cluster that has one of these namespaces: a session ends with their deletion.
fn nobody_has(kubectl: &Path, kubeconfig: &Path, namespaces: [&str; 2]) -> Result<()> {
    for namespace in namespaces {
        let get = format!("get namespace {namespace} --ignore-not-found -o name");
        ensure!(
            ask(kubectl, kubeconfig, &get)?.is_empty(),
            "the cluster has a namespace {namespace}, which this session would make and delete. \
             Take another cluster; if it is left of an earlier run: kubectl delete namespace {namespace}"
        );
    }
    Ok(())
}

impl Drop for Session {
    fn drop(&mut self) {
        self.clear();
        let _ = self.operator.kill();
        let _ = self.operator.wait();
    }
}
