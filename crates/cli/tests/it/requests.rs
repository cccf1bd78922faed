//! What the operator and the command line send, held against what was recorded.
//!
//! `tests/differential` shows that the local cluster answers recorded requests as a real API server did. That says something of
//! this program if its requests are among them. So real operators and real commands live a few lives here, over a wire
//! that notes each request, and each has to have the shape of a recorded one: verb, kind, form of body and answer, and
//! the names of its parameters. What is missing is added to a script there, and recorded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use http::{HeaderMap, Method, Uri, header};
use kube::{
    Api,
    runtime::wait::{Condition, await_condition},
};
use kubeopencode_api::v1alpha1::{Task, TaskPhase};
use kubeopencode_embedded::{
    cluster::{Cluster, Options},
    logs::LogStore,
    node::{HostFiles, LookUp, NodeOptions},
};
use kubeopencode_engine::handover;
use kubeopencode_operator::request::words_of;
use serde::Deserialize;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::{
    controller::Replica,
    support::{Sandbox, can_run_pods},
};

/// Only against a hang; nothing waits for it to pass.
const GUARD: Duration = Duration::from_mins(1);

/// A line of a recording.
#[derive(Deserialize)]
struct Exchange {
    method: String,
    path: String,
    request_headers: HashMap<String, String>,
}

/// What requests have in common that an API server treats alike.
fn shape(method: &Method, uri: &Uri, headers: &HeaderMap) -> String {
    let (verb, resource) = words_of(method, uri);
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        other => (String::new(), other),
    };
    let place = if matches!(rest, ["namespaces", _, _, ..]) {
        " of a namespace"
    } else {
        ""
    };
    let mut words = vec![format!("{verb} {group} {resource}{place}")];
    let names: BTreeSet<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split('=').next())
        .filter(|name| !name.is_empty())
        .collect();
    if !names.is_empty() {
        words.push(format!("with {}", joined(names, " ")));
    }
    let form = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(form) = form(header::CONTENT_TYPE) {
        words.push(format!("sends {form}"));
    }
    if let Some(form) = form(header::ACCEPT).filter(|form| form.contains(';')) {
        // Parameters of a media type have no order.
        let forms = form.split(',').map(|form| {
            let parts: BTreeSet<&str> = form.split(';').map(str::trim).collect();
            joined(parts, ";")
        });
        words.push(format!("asks for {}", forms.collect::<Vec<_>>().join(",")));
    }
    words.join(", ")
}

fn joined(words: BTreeSet<&str>, between: &str) -> String {
    words.into_iter().collect::<Vec<_>>().join(between)
}

/// The shapes of all that was recorded.
fn recorded() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/differential/recorded");
    let mut shapes = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("recordings") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a recording");
        for line in text.lines() {
            let exchange: Exchange = serde_json::from_str(line).expect("an exchange");
            let method = exchange.method.parse().expect("a method");
            let headers = (&exchange.request_headers).try_into().expect("headers");
            // Placeholders are no part of a URI.
            let path = exchange.path.replace(['<', '>', ' '], "_");
            let Ok(uri) = path.parse() else {
                continue;
            };
            shapes.insert(shape(&method, &uri, &headers));
        }
    }
    shapes
}

/// The shapes that came over a wire, each with one of its requests.
type Seen = Arc<Mutex<BTreeMap<String, String>>>;

/// A cluster with a node and without an operator, and a wire to it.
struct World {
    runtime: tokio::runtime::Runtime,
    cluster: Cluster,
    seen: Seen,
    sandbox: Sandbox,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let sandbox = Sandbox::new();
        let folder = tempfile::tempdir().expect("a folder");
        let program = Path::new(env!("CARGO_BIN_EXE_kubeopencode")).to_owned();
        let logs = LogStore::open(folder.path().join("logs")).expect("a folder for logs");
        let mut node = NodeOptions::new("local", folder.path().to_owned(), program.clone(), logs);
        node.files = LookUp::new(move || HostFiles {
            everywhere: vec![(handover::PROGRAM.into(), program.clone())],
            ..HostFiles::default()
        });
        node.env = vec![(
            handover::PROGRAM_EVERYWHERE.to_owned(),
            handover::PROGRAM.to_owned(),
        )];
        let definitions = kubeopencode_api::crds();
        let definitions = definitions.iter().map(serde_json::to_value);
        let started = Cluster::start(Options {
            definitions: definitions.collect::<Result<_, _>>().expect("definitions"),
            node: Some(node),
            ..Options::default()
        });
        let cluster = runtime.block_on(started).expect("a cluster");
        let seen = Seen::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (api, noted) = (cluster.api(), Arc::clone(&seen));
        let wire = Router::new().fallback(move |request: Request| {
            let example = format!("{} {}", request.method(), request.uri());
            let shape = shape(request.method(), request.uri(), request.headers());
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.entry(shape).or_insert(example);
            let api = api.clone();
            async move {
                let Ok(response) = api.oneshot(request).await;
                let answer: Response = response.map(Body::new);
                answer
            }
        });
        runtime.spawn(async { axum::serve(listener, wire).await });
        sandbox.write(
            "kubeconfig",
            &format!(
                "clusters: [{{name: a, cluster: {{server: 'http://{address}'}}}}]\nusers: [{{name: a, user: {{}}}}]\n\
                 contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\ncurrent-context: a\n"
            ),
        );
        Self {
            runtime,
            cluster,
            seen,
            sandbox,
            _folder: folder,
        }
    }

    /// A command of a person, over the wire; its standard output.
    #[track_caller]
    fn person(&self, words: &str, code: i32) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let arguments = [&words[..], &["--kubeconfig", "kubeconfig"]].concat();
        self.sandbox.run(&arguments).expect_code(code).stdout
    }

    /// Waits, beside the wire, until it holds of a Task.
    fn until(&self, name: &str, condition: impl Condition<Task>) {
        let holds = async {
            let tasks: Api<Task> = Api::default_namespaced(self.cluster.client());
            tokio::time::timeout(GUARD, await_condition(tasks, name, condition)).await
        };
        let holds = self.runtime.block_on(holds);
        holds.expect("it comes").expect("a watch");
    }

    fn until_phase(&self, task: &str, phase: TaskPhase) {
        self.until(task, move |task: Option<&Task>| {
            let status = task.and_then(|task| task.status.as_ref());
            status.is_some_and(|status| status.phase == Some(phase))
        });
    }

    /// Fails with the requests whose shape nobody recorded.
    fn check(self) {
        self.runtime.block_on(self.cluster.shutdown());
        let recorded = recorded();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<String> = seen
            .iter()
            .filter(|(shape, _)| !recorded.contains(*shape))
            .map(|(shape, example)| format!("{shape}\n    {example}"))
            .collect();
        assert!(
            missing.is_empty(),
            "{} of {} shapes of requests stand in no recording; add them to tests/differential/scripts and record those \
             (tests/differential/README.md):\n{}",
            missing.len(),
            seen.len(),
            missing.join("\n")
        );
    }
}

/// What a file may say beside Tasks: it is applied, and may be there already.
const THINGS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: Secret
metadata: {name: model}
stringData: {KEY: abc}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {a: b}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: agent}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: agent}
rules: [{apiGroups: [kubeopencode.io], resources: [tasks], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: agent}
subjects: [{kind: ServiceAccount, name: agent}]
---
apiVersion: kubeopencode.io/v1alpha1
kind: KubeOpenCodeConfig
metadata: {name: default}
spec: {}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec:
  serviceAccountName: default
  maxConcurrentTasks: 1
  command: [sh, -c, 'cat task.md; grep -q quick task.md || exec sleep 1000']
  credentials: [{name: key, secretRef: {name: model, key: KEY}, env: KEY}]
";

const TASKS: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: long, labels: {a: b}}
spec: {description: Take long., timeout: 1h}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: waits}
spec: {description: Be quick., contexts: [{type: ConfigMap, mountPath: notes, configMap: {name: late}}]}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: elsewhere, namespace: team}
spec: {description: Never., agentRef: nobody}
";

const LATE: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: late}
data: {a: b}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: queued}
spec: {description: Be quick.}
";

const MORE: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: more}
spec: {description: Take long.}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: never}
spec: {description: Take long.}
";

#[test]
fn each_request_has_the_shape_of_a_recorded_one() {
    if !can_run_pods("what operator and command line send") {
        return;
    }
    let world = World::new();
    let sandbox = &world.sandbox;
    let mut first = Replica::start(sandbox, "first", &[]);
    first.says("the caches are complete");
    let mut second = Replica::start(sandbox, "second", &[]);
    second.says("the caches are complete");

    // Two that begin, one that waits for what is not there, one that waits for its turn.
    sandbox.write("things.yaml", THINGS);
    sandbox.write("tasks.yaml", TASKS);
    sandbox.write("late.yaml", LATE);
    sandbox.write("more.yaml", MORE);
    for file in ["things.yaml", "things.yaml", "tasks.yaml"] {
        world.person(&format!("task create -f {file}"), 0);
    }
    world.until_phase("long", TaskPhase::Running);
    world.person("task create -f late.yaml", 0);
    world.until_phase("queued", TaskPhase::Queued);
    for look in [
        "task list",
        "task list --all-namespaces",
        "task list --selector a=b -o name",
        "task list -o json",
        "task get long",
        "task get long -o yaml",
        "task why long",
        "task why queued",
        "task why elsewhere --namespace team",
        "task logs long",
        "agent list",
        "agent list --all-namespaces",
        "agent get default",
    ] {
        world.person(look, 0);
    }

    // The other one takes over; the rest is stopped, waited for and deleted.
    first.terminate();
    assert_eq!(first.ends(), Some(0));
    second.says("this operator leads");
    world.person("task stop long", 0);
    world.until_phase("long", TaskPhase::Completed);
    assert!(
        world
            .person("task logs --follow queued", 0)
            .contains("quick")
    );
    world.person("task logs --follow waits", 0);
    world.person("task why waits", 0);
    world.person("task get nobody", 1);
    world.person("run --name runs --command true quick", 0);
    world.person("run --name fails --command false quick", 1);
    // Stopped before it began, and deleted while it runs.
    world.person("task create -f more.yaml", 0);
    world.until_phase("more", TaskPhase::Running);
    world.until_phase("never", TaskPhase::Queued);
    world.person("task stop never", 0);
    world.until_phase("never", TaskPhase::Completed);
    for task in ["long", "queued", "waits", "runs", "fails", "more", "never"] {
        world.person(&format!("task delete {task}"), 0);
        world.until(task, |task: Option<&Task>| task.is_none());
    }
    second.terminate();
    assert_eq!(second.ends(), Some(0));

    // One that looks after a namespace alone, and is asked by nobody whether it leads.
    let mut alone = Replica::start(
        sandbox,
        "alone",
        &["--leader-elect=false", "--namespace=default"],
    );
    alone.says("the caches are complete");
    world.person("run --name alone --timeout 1h --command true quick", 0);
    alone.terminate();
    assert_eq!(alone.ends(), Some(0));
    world.check();
}
