//! Where a scenario happens: a namespace with an Agent that counts itself, two operators with a wire each, and Tasks.

use std::{path::Path, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use kube::{Api, Client, Config};
use kubeopencode_api::{names, v1alpha1::Task};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, timeout};

use super::{Scenario, TroubleArgs, lease::Leases};
use crate::{
    api,
    counter::Counter,
    operator::{Operator, Start},
    report::{self, Checks},
    rights,
    wire::{Gate, Wire},
};

/// Longest time until there is a leader: a Lease that was not released has to expire first (15 s).
pub(super) const ELECTION: Duration = Duration::from_mins(1);
/// Longest time until something happens that the cluster has to do.
pub(super) const SOON: Duration = Duration::from_mins(2);

/// What all scenarios share.
pub(super) struct Setting {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) arguments: TroubleArgs,
    pub(super) counter: Counter,
    pub(super) folder: tempfile::TempDir,
}

/// An operator, and the wire between it and the API server.
#[derive(Debug)]
pub(super) struct Wired {
    pub(super) operator: Operator,
    pub(super) wire: Wire,
    /// Where it answers probes.
    listen: Option<std::net::SocketAddr>,
}

/// Where an operator's network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// The node's.
    Shared,
    /// One of its own, behind an interface.
    Own,
}

/// Host side of the network of one operator, documentation addresses: nobody else's.
pub(super) const LINK: &str = "veth-operator";
const LINK_HOST: &str = "198.51.100.1";
const LINK_OPERATOR: &str = "198.51.100.2";

/// A scenario's own place.
pub(super) struct Stage<'a> {
    pub(super) setting: &'a Setting,
    pub(super) namespace: String,
    scenario: Scenario,
    /// With the rights of an operator.
    config: Config,
    pub(super) tasks: Api<Task>,
    pub(super) leases: Leases,
    pub(super) operators: Vec<Wired>,
    /// The gates of all operators that there ever were.
    gates: Vec<Gate>,
    pub(super) checks: &'a mut Checks,
    /// Tasks that were created.
    pub(super) created: usize,
    started: usize,
}

impl<'a> Stage<'a> {
    pub(super) async fn new(
        setting: &'a Setting,
        scenario: Scenario,
        checks: &'a mut Checks,
    ) -> Result<Self> {
        // Another one in each run: what one that was broken off has left, its Lease for one, must not count.
        let namespace = format!("trouble-{}-{}", scenario.name(), std::process::id());
        let client = setting.client.clone();
        api::namespace(&client, &namespace).await?;
        let agent =
            (setting.counter).agent(&setting.arguments.agent_image, scenario.agent_seconds());
        api::agent(&client, &namespace, agent).await?;
        let program = &setting.arguments.operator.program;
        let config = rights::of_operator(&setting.config, program, &namespace, scenario.beside());
        Ok(Self {
            config: config.await?,
            tasks: Api::namespaced(client.clone(), &namespace),
            leases: Leases::follow(client, &namespace),
            setting,
            scenario,
            namespace,
            operators: Vec::new(),
            gates: Vec::new(),
            checks,
            created: 0,
            started: 0,
        })
    }

    /// Starts one more operator, under a name that no other one had.
    pub(super) async fn start(&mut self, network: Network) -> Result<()> {
        self.started += 1;
        let name = format!("{}-{}", self.namespace, self.started);
        let address = match network {
            Network::Shared => "127.0.0.1",
            // Bound before the interface has it.
            Network::Own => "0.0.0.0",
        };
        let wire = Wire::new(self.config.clone(), address).await?;
        let kubeconfig = self
            .setting
            .folder
            .path()
            .join(format!("{name}.kubeconfig"));
        let seen_from_there = match network {
            Network::Shared => wire.address,
            Network::Own => format!("{LINK_HOST}:{}", wire.address.port()).parse()?,
        };
        Wire::kubeconfig(seen_from_there, &kubeconfig)?;
        let listen = match network {
            Network::Shared => Some(free_address().await?),
            Network::Own => None,
        };
        let mut operator = Operator::start(Start {
            program: &self.setting.arguments.operator.program,
            name,
            kubeconfig: &kubeconfig,
            arguments: self.arguments(listen),
            logs: self.logs(),
            own_network: network == Network::Own,
        })?;
        if network == Network::Own {
            give_network(operator.pid()).await?;
            operator.go().await?;
        }
        self.gates.push(wire.gate());
        self.operators.push(Wired {
            operator,
            wire,
            listen,
        });
        Ok(())
    }

    fn arguments(&self, listen: Option<std::net::SocketAddr>) -> Vec<String> {
        let listen = listen.map_or_else(|| "off".to_owned(), |listen| listen.to_string());
        let only_here = ["--namespace", &self.namespace];
        let mut arguments = vec![
            "--system-namespace",
            names::SYSTEM_NAMESPACE,
            "--leader-elect",
            "--lease-name",
            &self.namespace,
            "--listen",
            &listen,
            "--system-image",
            &self.setting.arguments.operator.system_image,
        ];
        if self.scenario.beside() {
            arguments.extend(only_here);
        }
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn logs(&self) -> &Path {
        let logs = self.setting.arguments.operator.logs.as_deref();
        logs.unwrap_or(self.setting.folder.path())
    }

    /// What the operators were refused for want of a right; None if that may happen in this scenario.
    pub(super) fn refused(&self) -> Option<Vec<String>> {
        let seen = self.gates.iter().flat_map(Gate::seen);
        let refused = seen.filter(|seen| seen.status == Some(403));
        let refused = refused.map(|seen| format!("{} {}", seen.verb, seen.resource));
        (!self.scenario.may_be_refused()).then(|| refused.collect())
    }

    /// Two operators, one of which leads.
    pub(super) async fn two_operators(&mut self) -> Result<usize> {
        self.start(Network::Shared).await?;
        self.start(Network::Shared).await?;
        self.leader().await
    }

    /// The operator that leads: waits until it is one that lives.
    pub(super) async fn leader(&self) -> Result<usize> {
        let place = |name: &str| {
            let operators = self.operators.iter();
            operators
                .map(|wired| &wired.operator.name)
                .position(|known| known == name)
        };
        let holder = self
            .leases
            .until(ELECTION, |holder| place(&holder.name).is_some())
            .await
            .with_context(|| format!("nobody took the Lease; it says {:?}", self.leases.now()))?;
        place(&holder.name).context("it lives")
    }

    /// Creates so many Tasks more.
    pub(super) async fn create(&mut self, count: usize) -> Result<()> {
        let names = (self.created..self.created + count).map(|number| format!("task-{number:04}"));
        self.created += count;
        api::create(&self.tasks, names.collect(), 8).await
    }

    /// Waits until so many agents more have started.
    pub(super) async fn more_start(&self, more: usize) -> Result<()> {
        let counter = &self.setting.counter;
        let goal = (counter.count(&self.namespace).started + more).min(self.created);
        let reached = counter
            .until(&self.namespace, SOON, |count| count.started >= goal)
            .await;
        if !reached {
            bail!("no more agents start; {:?}", counter.count(&self.namespace));
        }
        Ok(())
    }

    /// What there is, for whoever has to find out what hangs.
    pub(super) async fn dump(&self) {
        let shown = tokio::process::Command::new("kubectl")
            .args(["--namespace", &self.namespace, "get", "tasks,jobs,pods"])
            .output();
        if let Ok(Ok(shown)) = timeout(Duration::from_secs(20), shown).await {
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            let open = |line: &&str| !line.contains("Completed") && !line.contains("Complete ");
            for line in text.lines().filter(open).take(40) {
                report::aside(line);
            }
        }
        for wired in &self.operators {
            report::aside(format!("── {}", wired.operator.name));
            report::aside(wired.operator.last_words(15));
        }
    }
}

impl Wired {
    /// Waits until it says that it is ready.
    pub(super) async fn ready(&self) -> Result<()> {
        let listen = self.listen.context("it answers no probes")?;
        let end = Instant::now() + SOON;
        while !is_ready(listen).await {
            if Instant::now() > end {
                bail!("{} does not get ready", self.operator.name);
            }
            // A probe is asked again and again: that is its nature.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

async fn is_ready(listen: std::net::SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(listen).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
    };
    matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}

async fn free_address() -> Result<std::net::SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?)
}

/// Connects the network namespace of a process with ours.
async fn give_network(pid: i32) -> Result<()> {
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let theirs = PathBuf::from(format!("/proc/{pid}/ns/net"));
    // Between its start and its first act nothing tells that it has one.
    while std::fs::read_link(&theirs)? == own {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = pid.to_string();
    let there = ["nsenter", "--target", &pid, "--net", "--"];
    let host = format!("{LINK_HOST}/30");
    let operator = format!("{LINK_OPERATOR}/30");
    run(&[
        "ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &pid,
    ])
    .await?;
    run(&["ip", "address", "add", &host, "dev", LINK]).await?;
    run(&["ip", "link", "set", LINK, "up"]).await?;
    for command in [
        &["ip", "address", "add", &operator, "dev", "eth0"][..],
        &["ip", "link", "set", "eth0", "up"],
        &["ip", "link", "set", "lo", "up"],
    ] {
        run(&[&there, command].concat()).await?;
    }
    Ok(())
}

/// Runs a program to its end.
pub(super) async fn run(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no program")?;
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .env("PATH", path())
        .output()
        .await
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{}: {}", command.join(" "), said.trim());
    }
    Ok(())
}

/// `ip` is an administrator's program.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Sends a signal to a part of the cluster, which keeps the numbers of its processes beside its kubeconfig.
pub(super) fn signal_part(part: &str, signal: Signal) -> Result<()> {
    let file = api::kubeconfig()?.with_file_name("pid").join(part);
    let pid = std::fs::read_to_string(&file)
        .with_context(|| format!("{}: is this a cluster of cluster/cluster?", file.display()))?;
    kill(Pid::from_raw(pid.trim().parse()?), signal)
        .with_context(|| format!("cannot signal {part}"))
}

/// Waits until the API server answers that it is ready.
pub(super) async fn api_server_ready(client: &Client) -> Result<Duration> {
    let begin = Instant::now();
    api::patiently("reach the API server", async || {
        let request = http::Request::get("/readyz").body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        client.request_text(request).await.map(drop)
    })
    .await?;
    Ok(begin.elapsed())
}
