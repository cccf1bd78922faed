//! Runs a program in namespaces of its own: the container of this node.
//!
//! The node starts a helper process, which is the node's own binary ([`helper_main`]), and tells
//! it over a socket what to do. In: a [`Container`]. Out: the program's output on two pipes, and
//! how it ended. What cannot be set up is a [`SetupError`], never an exit code.
//!
//! What holds, whatever the program does:
//! - nothing on the host is written except in the writable mounts of the description;
//! - nothing of the container is left when [`Running::wait`] has returned, daemons included;
//! - everything ends when the node ends, even by SIGKILL: the helper sees its socket close;
//! - the program has no capabilities, cannot get any, and cannot change mounts, also when the node
//!   runs as root.
//!
//! Helper stages: `outer` (namespaces) → `init` (PID 1: root file system, reaping) → `program`
//! (second user namespace, no privileges, exec).

mod init;
mod outer;
mod program;
mod root;
mod seccomp;
pub mod spec;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

pub use self::spec::{
    Container, Mount, Process, Resource, Rlimit, RootFs, SetupError, SetupReason, Source, User,
};
use self::spec::{Context as _, Report, Request};

/// The first argument of a process that is a helper.
pub const HELPER_ARGUMENT: &str = "__sandbox";
const STAGE_INIT: &str = "init";
const STAGE_PROGRAM: &str = "program";

/// The helper's `main`: `None` when this process was not started as one.
///
/// A binary that hosts a node must call this before anything else, above all before it starts a
/// thread.
#[must_use]
pub fn helper_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != HELPER_ARGUMENT {
        return None;
    }
    let stage = arguments.next();
    if stage.is_none() && outer::close_inherited().is_err() {
        return Some(ExitCode::FAILURE);
    }
    // Duplicates are closed at exec, so that the program never has the connection.
    let Ok(connection) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return Some(ExitCode::FAILURE);
    };
    let mut connection = StdUnixStream::from(connection);
    let result = match stage.as_deref().and_then(|stage| stage.to_str()) {
        None => outer::run(),
        Some(STAGE_INIT) => init::run(&mut connection),
        Some(STAGE_PROGRAM) => {
            program::run(&mut connection);
            Ok(())
        }
        Some(_) => return Some(ExitCode::FAILURE),
    };
    if let Err(error) = result {
        init::tell(&mut connection, &Report::Failed(error));
        return Some(ExitCode::FAILURE);
    }
    Some(ExitCode::SUCCESS)
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It was ended from outside: [`Running::kill`], or somebody killed the helper.
    Killed,
}

impl Ended {
    /// The exit code as container runtimes give it: 128 and the signal.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
            Self::Killed => 137,
        }
    }
}

/// A container whose program runs. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Running {
    outer: Child,
    reports: BufReader<OwnedReadHalf>,
    requests: OwnedWriteHalf,
    /// What was received of the next report, so that a dropped wait loses nothing.
    line: Vec<u8>,
    /// What was reported of the end.
    ended: Option<Ended>,
}

/// A container that was just started.
#[derive(Debug)]
pub struct Started {
    /// The handle.
    pub running: Running,
    /// What the program writes to descriptor 1. Ends when the container does.
    pub stdout: ChildStdout,
    /// What the program writes to descriptor 2. Ends when the container does.
    pub stderr: ChildStderr,
}

/// Starts a container; `helper` is a binary that calls [`helper_main`].
/// Returns when the program runs, or with the reason why it does not; then nothing is left of it.
///
/// Nobody reads the output while this waits, which is right: the program does not exist yet.
pub async fn start(helper: &Path, container: &Container) -> Result<Started, SetupError> {
    let (ours, theirs) = StdUnixStream::pair().or_other("connection to the helper")?;
    ours.set_nonblocking(true)
        .or_other("connection to the helper")?;
    let mut outer = Command::new(helper)
        .arg(HELPER_ARGUMENT)
        .env_clear()
        .current_dir("/")
        // A group of its own: Ctrl-C in the node's terminal is the node's to handle.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .or_other(&format!("starting {}", helper.display()))?;
    let (Some(stdout), Some(stderr)) = (outer.stdout.take(), outer.stderr.take()) else {
        return Err(SetupError::new(SetupReason::Other, "no output pipes"));
    };
    let (reports, requests) = UnixStream::from_std(ours)
        .or_other("connection to the helper")?
        .into_split();
    let mut running = Running {
        outer,
        reports: BufReader::new(reports),
        requests,
        line: Vec::new(),
        ended: None,
    };
    // An error of sending is explained by what the helper says, or by its silence.
    let _ = running.send(container).await;
    match running.report().await {
        Some(Report::Started) => Ok(Started {
            running,
            stdout,
            stderr,
        }),
        Some(Report::Failed(error)) => {
            let _ = running.outer.wait().await;
            Err(error)
        }
        Some(Report::Exited(_) | Report::Signaled(_)) | None => {
            let _ = running.outer.kill().await;
            Err(SetupError::new(
                SetupReason::Other,
                format!("the helper process {} ended early", helper.display()),
            ))
        }
    }
}

impl Running {
    /// Waits until the program has ended and, with it, everything else in the container.
    /// May be dropped and called again.
    pub async fn wait(&mut self) -> Ended {
        let ended = match self.ended {
            Some(ended) => ended,
            None => match self.report().await {
                Some(Report::Exited(code)) => Ended::Exited(code),
                Some(Report::Signaled(signal)) => Ended::Signaled(signal),
                Some(Report::Started | Report::Failed(_)) | None => Ended::Killed,
            },
        };
        self.ended = Some(ended);
        // The kernel lets the outer process see the end only when all others are gone.
        let _ = self.outer.wait().await;
        ended
    }

    /// Sends a signal to the program's process group; one that has ended is left alone.
    pub async fn signal(&mut self, signal: nix::sys::signal::Signal) {
        let _ = self.send(&Request::Signal(signal as i32)).await;
    }

    /// Ends everything in the container at once. [`Running::wait`] tells when it is done.
    pub fn kill(&mut self) {
        let _ = self.outer.start_kill();
    }

    async fn send(&mut self, message: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.requests.write_all(&line).await
    }

    /// The next report; `None` when the helper is gone.
    async fn report(&mut self) -> Option<Report> {
        self.reports.read_until(b'\n', &mut self.line).await.ok()?;
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice(&line).ok()
    }
}

/// Whether a container on the host's root sees a program at this absolute path of the host.
#[must_use]
pub fn host_has_program(path: &Path, visible: &[std::path::PathBuf]) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = |path: &Path| root::is_shown(path) || visible.iter().any(|at| path.starts_with(at));
    shown(path)
        && path.canonicalize().is_ok_and(|real| shown(&real))
        && path
            .metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Why this host cannot run containers, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host does not let this user run sandboxed processes: {0}")]
pub struct Unavailable(SetupError);

/// Tries out everything that a container needs, without running a program.
pub async fn probe(helper: &Path) -> Result<(), Unavailable> {
    let nothing = Container {
        hostname: "probe".to_owned(),
        root: RootFs::Host {
            visible: Vec::new(),
            hidden: Vec::new(),
        },
        readonly_root: true,
        mounts: Vec::new(),
        process: Process {
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
            user: User { uid: 0, gid: 0 },
            rlimits: Vec::new(),
        },
    };
    let mut started = start(helper, &nothing).await.map_err(Unavailable)?;
    match started.running.wait().await {
        Ended::Exited(0) => Ok(()),
        ended => Err(Unavailable(SetupError::new(
            SetupReason::Other,
            format!("the trial ended with {ended:?}"),
        ))),
    }
}
