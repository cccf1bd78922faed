//! Second stage of the helper: PID 1 of the container. Builds the root file system, starts the
//! program, reaps whatever is orphaned, passes signals on, and reports the end.
//!
//! When it ends, the kernel ends everything that is left in the container. It ends when the
//! program does, and when the connection to the node does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};

use super::root;
use super::spec::{Container, Context as _, Process, Report, Request, SetupError};

/// Runs the stage. An error means that the program never ran.
pub(super) fn run(node: &mut UnixStream) -> Result<(), SetupError> {
    // Killing the stage outside ends this one, whatever it is doing.
    prctl::set_pdeathsig(Signal::SIGKILL).or_other("asking to end with the node")?;
    let mut requests = Requests::new(node.try_clone().or_other("connection to the node")?);
    let Some(container) = requests.container()? else {
        return Ok(());
    };
    let name: String = container.hostname.chars().take(63).collect();
    sethostname(name).or_other("setting the name of the host")?;
    root::build(&container)?;

    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().or_other("blocking SIGCHLD")?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .or_other("listening for SIGCHLD")?;

    let program = start(&container.process)?;
    let pid = Pid::from_raw(i32::try_from(program.id()).unwrap_or(i32::MAX));
    tell(node, &Report::Started);
    // From here on nothing is an error: the program runs, or the node is gone.
    if let Some(report) = supervise(&signals, &mut requests, pid) {
        tell(node, &report);
    }
    Ok(())
}

/// Sends a report. A node that is gone cannot be told, and needs not be.
pub(super) fn tell(node: &mut UnixStream, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = node.write_all(&line);
    }
}

/// Starts the last stage and waits until it has become the program.
fn start(process: &Process) -> Result<Child, SetupError> {
    let (mut ours, theirs) = UnixStream::pair().or_other("connection to the program")?;
    let child = Command::new("/proc/self/exe")
        .args([super::HELPER_ARGUMENT, super::STAGE_PROGRAM])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .or_other("starting the program's process")?;
    let description = serde_json::to_vec(process).or_other("describing the program")?;
    ours.write_all(&description)
        .and_then(|()| ours.shutdown(std::net::Shutdown::Write))
        .or_other("describing the program")?;
    // The other end closes at exec; anything it said before is why there was none.
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer)
        .or_other("waiting for the program")?;
    match serde_json::from_slice(&answer) {
        Ok(error) => Err(error),
        Err(_) => Ok(child),
    }
}

/// Waits for the end of the program; `None` when the node is gone.
fn supervise(signals: &SignalFd, requests: &mut Requests, program: Pid) -> Option<Report> {
    loop {
        while let Some(Request::Signal(number)) = requests.take() {
            if let Ok(signal) = Signal::try_from(number) {
                // The program leads a process group of its own.
                let _ = killpg(program, signal);
            }
        }
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(requests.node.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let (child, node) = (ready[0].any() == Some(true), ready[1].any() == Some(true));
        if child {
            while let Ok(Some(_)) = signals.read_signal() {}
            if let Some(report) = reap(program) {
                return Some(report);
            }
        }
        if node && !requests.receive() {
            return None;
        }
    }
}

/// Reaps every child that has ended; the report when the program is among them.
fn reap(program: Pid) -> Option<Report> {
    let mut report = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => {
                report = Some(Report::Exited(code));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                report = Some(Report::Signaled(signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return report,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return report,
        }
    }
}

/// The lines that come from the node.
struct Requests {
    node: UnixStream,
    received: Vec<u8>,
}

impl Requests {
    fn new(node: UnixStream) -> Self {
        Self {
            node,
            received: Vec::new(),
        }
    }

    /// The first line. `None` when the node ended before it had sent it.
    fn container(&mut self) -> Result<Option<Container>, SetupError> {
        let mut reader = BufReader::new(&self.node);
        let mut line = Vec::new();
        reader
            .read_until(b'\n', &mut line)
            .or_other("reading the description of the container")?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        self.received = reader.buffer().to_vec();
        serde_json::from_slice(&line)
            .map(Some)
            .or_other("reading the description of the container")
    }

    /// The next request that has been received whole.
    fn take(&mut self) -> Option<Request> {
        loop {
            let end = self.received.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.received.drain(..=end).collect();
            if let Ok(request) = serde_json::from_slice(&line) {
                return Some(request);
            }
        }
    }

    /// Receives what is there; false at the end of the connection.
    fn receive(&mut self) -> bool {
        let mut bytes = [0; 1024];
        match self.node.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.received.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }
}
