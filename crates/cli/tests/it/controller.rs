//! `controller`, as Deployments run it: two replicas against one cluster.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use k8s_openapi::api::{batch::v1::Job, coordination::v1::Lease};
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::wait::await_condition,
};
use kubeopencode_api::v1alpha1::{Agent, Task};
use kubeopencode_embedded::cluster::{Cluster, Options};
use serde_json::{Value, json};

use crate::support::{Outcome, Sandbox};

/// Only against a hang; nothing waits for it to pass.
const GUARD: Duration = Duration::from_mins(1);

/// A cluster without any operator, reached by HTTPS.
async fn cluster(sandbox: &Sandbox) -> Cluster {
    let definitions = kubeopencode_api::crds();
    let definitions = definitions.iter().map(serde_json::to_value);
    let cluster = Cluster::start(Options {
        definitions: definitions.collect::<Result<_, _>>().expect("definitions"),
        listen: Some(0),
        ..Options::default()
    });
    let cluster = cluster.await.expect("a cluster");
    sandbox.write("kubeconfig", cluster.kubeconfig().expect("it listens"));
    cluster
}

/// A replica. Killed with its value.
pub(crate) struct Replica {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Replica {
    pub(crate) fn start(sandbox: &Sandbox, pod: &str, more: &[&str]) -> Self {
        let usual = [
            "controller",
            "--kubeconfig=kubeconfig",
            "--system-namespace=default",
        ];
        let listens = more.iter().any(|argument| argument.starts_with("--listen"));
        let listen: &[_] = if listens {
            &[]
        } else {
            &["--listen=127.0.0.1:0"]
        };
        let mut child = sandbox
            .command(&[&usual, listen, more].concat())
            .env("HOSTNAME", pod)
            .env("KUBEOPENCODE_AGENT_IMAGE", "registry.example.com/agent:1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let said = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if send.send(said).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for the line of the log that has this message.
    pub(crate) fn says(&mut self, message: &str) -> Value {
        if let Some(line) = self.seen.iter().find(|line| line["message"] == message) {
            return line.clone();
        }
        loop {
            let line = self.lines.recv_timeout(GUARD);
            assert!(line.is_ok(), "no {message:?}, only {:#?}", self.seen);
            let line = line.unwrap_or_default();
            self.seen.push(line.clone());
            if line["message"] == message {
                return line;
            }
        }
    }

    /// Status and body of what its endpoint answers.
    fn get(&mut self, path: &str) -> (String, String) {
        let address = self.address();
        Self::get_from(address, path)
    }

    /// Where its endpoint listens.
    fn address(&mut self) -> SocketAddr {
        let served = self.says("probes and metrics are served");
        let address = served["address"].as_str().expect("an address");
        address.parse().expect("an address")
    }

    fn get_from(address: SocketAddr, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        (
            head.split(' ').nth(1).unwrap_or_default().to_owned(),
            body.to_owned(),
        )
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status();
        assert!(kill.expect("kill").success());
    }

    pub(crate) fn ends(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn holder(cluster: &Cluster) -> String {
    let leases: Api<Lease> = Api::default_namespaced(cluster.client());
    let lease = leases.get("kubeopencode").await.expect("a Lease");
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_acts_and_the_other_takes_over_when_it_ends() {
    let sandbox = Sandbox::new();
    let cluster = cluster(&sandbox).await;
    let mut first = Replica::start(
        &sandbox,
        "first",
        &["--system-image=registry.example.com/system:1"],
    );
    first.says("this operator leads");
    first.says("the caches are complete");
    let mut second = Replica::start(&sandbox, "second", &[]);
    second.says("the caches are complete");
    assert!(holder(&cluster).await.starts_with("first_"));
    for replica in [&mut first, &mut second] {
        for probe in ["/livez", "/healthz", "/readyz"] {
            assert_eq!(
                replica.get(probe),
                ("200".to_owned(), "ok\n".to_owned()),
                "{probe}"
            );
        }
    }
    assert!(
        first
            .get("/metrics")
            .1
            .contains("\nkubeopencode_leader 1\n")
    );
    assert!(
        second
            .get("/metrics")
            .1
            .contains("\nkubeopencode_leader 0\n")
    );

    let agent = json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
        "spec": {"serviceAccountName": "default", "command": ["true"]},
    });
    let task = json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
        "spec": {"description": "Do it."},
    });
    let agents: Api<Agent> = Api::default_namespaced(cluster.client());
    let agent = serde_json::from_value(agent).expect("an Agent");
    agents
        .create(&PostParams::default(), &agent)
        .await
        .expect("an Agent");
    let tasks: Api<Task> = Api::default_namespaced(cluster.client());
    let task = serde_json::from_value(task).expect("a Task");
    tasks
        .create(&PostParams::default(), &task)
        .await
        .expect("a Task");
    let started = await_condition(tasks, "it", |task: Option<&Task>| {
        task.and_then(|task| task.status.as_ref())
            .is_some_and(|status| status.job_name.is_some())
    });
    tokio::time::timeout(GUARD, started)
        .await
        .expect("it starts")
        .expect("a watch");
    let jobs: Api<Job> = Api::default_namespaced(cluster.client());
    let jobs = jobs
        .list(&ListParams::default())
        .await
        .expect("a list")
        .items;
    let job = serde_json::to_string(&jobs).expect("JSON");
    assert!(
        job.contains("registry.example.com/system:1")
            && job.contains("registry.example.com/agent:1"),
        "{job}"
    );

    first.terminate();
    assert_eq!(first.ends(), Some(0));
    first.says("the Lease is released");
    second.says("this operator leads");
    assert!(holder(&cluster).await.starts_with("second_"));
    let requests = second.get("/metrics").1;
    let took = r#"kubeopencode_api_requests_total{verb="update",resource="leases",code="200"}"#;
    assert!(requests.contains(took), "{requests}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_elected_says_what_to_do() {
    let sandbox = Sandbox::new();
    let cluster = cluster(&sandbox).await;
    let mut command = sandbox.command(&["controller", "--kubeconfig=kubeconfig", "--listen=off"]);
    let outcome =
        tokio::task::spawn_blocking(move || Outcome::of(&command.output().expect("it runs")));
    let outcome = outcome.await.expect("an end").expect_code(1);
    let said = &outcome.stderr;
    assert!(
        said.contains("there is no namespace kubeopencode-system"),
        "{said}"
    );
    assert!(said.contains("--leader-elect=false"), "{said}");
    let mut alone = Replica::start(&sandbox, "alone", &["--leader-elect=false"]);
    alone.says("the caches are complete");
    assert!(
        alone
            .get("/metrics")
            .1
            .contains("\nkubeopencode_leader 1\n")
    );
    alone.terminate();
    assert_eq!(alone.ends(), Some(0));
    cluster.shutdown().await;
}

/// A kubeconfig whose cluster is an address where nobody listens.
fn nobody(sandbox: &Sandbox) -> SocketAddr {
    // One that was free a moment ago may be anybody's by now, the operator's own too; this one is given to nobody.
    let address = (Ipv4Addr::LOCALHOST, 1).into();
    sandbox.write(
        "kubeconfig",
        &format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: c}}}}], \
             clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}], users: [{{name: c, user: {{}}}}]}}"
        ),
    );
    address
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let sandbox = Sandbox::new();
    let address = nobody(&sandbox);
    let mut replica = Replica::start(&sandbox, "first", &[]);
    let line = replica.says("the cluster cannot be asked; going on trying");
    let cluster = line["span"]["cluster"].as_str().unwrap_or_default();
    assert!(cluster.contains(&address.to_string()), "{line}");
    assert_eq!(replica.get("/livez").0, "200");
    assert_eq!(replica.get("/readyz").0, "503");
    replica.terminate();
    assert_eq!(replica.ends(), Some(0));
}

/// As the chart's operators do: the address of a Pod may be of either kind, or there may be no IPv6 at all.
#[test]
fn on_all_addresses_it_answers_to_both_kinds_as_far_as_there_are_some() {
    let sandbox = Sandbox::new();
    nobody(&sandbox);
    let mut replica = Replica::start(&sandbox, "first", &["--listen=[::]:0"]);
    let port = replica.address().port();
    let four = (Ipv4Addr::LOCALHOST, port).into();
    assert_eq!(Replica::get_from(four, "/livez").0, "200");
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let six = (Ipv6Addr::LOCALHOST, port).into();
        assert_eq!(Replica::get_from(six, "/livez").0, "200");
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    let outcome = Sandbox::new()
        .run(&["controller", "--listen", "8080"])
        .expect_code(2);
    assert!(
        outcome.stderr.contains("127.0.0.1:8080"),
        "{}",
        outcome.stderr
    );
}
