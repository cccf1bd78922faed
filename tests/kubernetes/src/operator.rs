//! An operator: the real binary as a process, which can be killed, paused, ended, and asked what it costs.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// How an operator is started.
#[derive(Debug, Clone)]
pub(crate) struct Start<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Who it is: the beginning of its identity in the Lease, and the name of its log.
    pub(crate) name: String,
    /// Where it finds the API server.
    pub(crate) kubeconfig: &'a Path,
    /// Further arguments of `controller`.
    pub(crate) arguments: Vec<String>,
    /// Folder of its log.
    pub(crate) logs: &'a Path,
    /// Whether it waits in a network namespace of its own until that is set up: see [`Operator::go`].
    pub(crate) own_network: bool,
}

/// A running operator. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    child: Child,
    pid: Pid,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// The most memory that it ever had, in KiB.
    pub(crate) peak_kib: u64,
    /// Processor time, of user and system.
    pub(crate) cpu: Duration,
    /// Open files, sockets and the like.
    pub(crate) open_files: usize,
}

impl Operator {
    pub(crate) fn start(start: Start<'_>) -> Result<Self> {
        let log = start.logs.join(format!("{}.log", start.name));
        let mut command = if start.own_network {
            // The shell waits for a line, and becomes the operator: the namespace exists, and can be given an interface.
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", "read -r _ && exec \"$@\"", "sh"]);
            command.arg(start.program);
            command
        } else {
            Command::new(start.program)
        };
        let child = command
            .arg("controller")
            .arg("--kubeconfig")
            .arg(start.kubeconfig)
            .args(&start.arguments)
            .env("HOSTNAME", &start.name)
            .env_remove("KUBECONFIG")
            .stdin(if start.own_network {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", start.program.display()))?;
        let pid = child.id().context("it has ended already")?;
        let pid = Pid::from_raw(i32::try_from(pid)?);
        Ok(Self {
            name: start.name,
            log,
            child,
            pid,
        })
    }

    /// Lets one that waits in its own network begin.
    pub(crate) async fn go(&mut self) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let mut line = self.child.stdin.take().context("it does not wait")?;
        line.write_all(b"go\n").await?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// `kill -9`, and gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// SIGTERM, and how long it took to end by itself.
    pub(crate) async fn end(mut self, within: Duration) -> Result<Duration> {
        let begin = tokio::time::Instant::now();
        self.signal(Signal::SIGTERM)?;
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => {
                Ok(begin.elapsed())
            }
            Ok(status) => bail!("{} ended with {}", self.name, status?),
            Err(_) => bail!("{} goes on {} s after SIGTERM", self.name, within.as_secs()),
        }
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let folder = PathBuf::from(format!("/proc/{}", self.pid));
        let status = std::fs::read_to_string(folder.join("status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.context("/proc says nothing of its memory")?;
        let stat = std::fs::read_to_string(folder.join("stat"))?;
        // After the program's name, which may hold anything, in parentheses: proc_pid_stat(5), fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        Ok(Usage {
            peak_kib: peak.trim().trim_end_matches(" kB").trim().parse()?,
            // A tick is a hundredth of a second on every Linux that this runs on.
            cpu: Duration::from_millis(ticks * 10),
            open_files: std::fs::read_dir(folder.join("fd"))?.count(),
        })
    }

    /// The end of what it wrote.
    pub(crate) fn last_words(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
