//! Running another program to its end, with bounded output and a bounded wait: never for ever, whatever it does.

use std::{
    io::{self, Read as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, pidfd_open},
};

/// How far a program may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// When it is killed.
    pub until: Option<Instant>,
    /// For how long it may write nothing before it is killed.
    pub silence: Option<Duration>,
    /// How many bytes of standard output are kept; with one more it is killed. Of standard error the last 64 KiB are.
    pub output: usize,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// Killed: too late, or silent for too long.
    TimedOut,
    /// Killed: it wrote more than was wanted. What came before that is there.
    TooMuch,
}

/// What it left.
#[derive(Debug)]
pub(crate) struct Output {
    pub end: End,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A program that can be told to end from elsewhere, by its process group.
pub(crate) trait Groups {
    /// A process group exists.
    fn began(&self, group: Pid);
    /// Its leader is about to be reaped: from now on the number may mean something else.
    fn ended(&self, group: Pid);
}

/// For those whom nobody has to tell.
pub(crate) struct Untold;

impl Groups for Untold {
    fn began(&self, _: Pid) {}
    fn ended(&self, _: Pid) {}
}

const KEPT_OF_STDERR: usize = 64 * 1024;

/// Runs `command` in a process group of its own, with the standard input that it was given. `on_stderr` gets each piece of standard error
/// as it comes.
pub(crate) fn run(
    command: &mut Command,
    limits: Limits,
    groups: &dyn Groups,
    mut on_stderr: impl FnMut(&[u8]),
) -> io::Result<Output> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    groups.began(group);
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut kept_stdout, mut kept_stderr) = (Vec::new(), Vec::new());
    let mut killed = None;
    let mut quiet_since = Instant::now();
    let mut buffer = [0; 16 * 1024];
    while stdout.is_some() || stderr.is_some() {
        let (out_ready, err_ready) = {
            let mut watched = Vec::with_capacity(2);
            watched.extend(stdout.as_ref().map(|pipe| pipe.as_fd()));
            watched.extend(stderr.as_ref().map(|pipe| pipe.as_fd()));
            let mut watched: Vec<_> = watched
                .iter()
                .map(|pipe| PollFd::new(pipe, PollFlags::IN))
                .collect();
            match poll(&mut watched, wait(limits, quiet_since).as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                // Without poll there is no telling, and no waiting.
                Ok(0) | Err(_) => {
                    killed = Some(End::TimedOut);
                    break;
                }
                Ok(_) => {}
            }
            let mut ready = watched.iter().map(|pipe| !pipe.revents().is_empty());
            (
                stdout.is_some() && ready.next() == Some(true),
                stderr.is_some() && ready.next() == Some(true),
            )
        };
        quiet_since = Instant::now();
        if out_ready && let Some(pipe) = &mut stdout {
            match pipe.read(&mut buffer) {
                Ok(0) => stdout = None,
                Ok(read) => kept_stdout.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => stdout = None,
            }
            if kept_stdout.len() > limits.output {
                killed = Some(End::TooMuch);
                break;
            }
        }
        if err_ready && let Some(pipe) = &mut stderr {
            match pipe.read(&mut buffer) {
                Ok(0) => stderr = None,
                Ok(read) => {
                    on_stderr(&buffer[..read]);
                    kept_stderr.extend_from_slice(&buffer[..read]);
                    let extra = kept_stderr.len().saturating_sub(KEPT_OF_STDERR);
                    kept_stderr.drain(..extra);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => stderr = None,
            }
        }
    }
    // It may have closed its output and go on.
    if killed.is_none() && !ends(group, limits, quiet_since) {
        killed = Some(End::TimedOut);
    }
    if killed.is_some() {
        let _ = killpg(group, Signal::SIGKILL);
        // And where it has gone into another one.
        let _ = child.kill();
    }
    groups.ended(group);
    let status = child.wait()?;
    Ok(Output {
        end: killed.unwrap_or(End::Exited(status)),
        stdout: kept_stdout,
        stderr: kept_stderr,
    })
}

/// Waits for the end of a child that nobody has reaped; `false`: it went on for too long.
fn ends(child: Pid, limits: Limits, quiet_since: Instant) -> bool {
    let child = rustix::process::Pid::from_raw(child.as_raw());
    let handle = child.map(|child| pidfd_open(child, PidfdFlags::empty()));
    let Some(Ok(handle)) = handle else {
        return false;
    };
    loop {
        let mut watched = [PollFd::new(&handle, PollFlags::IN)];
        match poll(&mut watched, wait(limits, quiet_since).as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ended => return ended.is_ok_and(|ended| ended > 0),
        }
    }
}

/// How long to wait for output; `None` is without end.
fn wait(limits: Limits, quiet_since: Instant) -> Option<Timespec> {
    let silent = limits.silence.map(|silence| quiet_since + silence);
    let until = match (limits.until, silent) {
        (Some(one), Some(other)) => one.min(other),
        (one, other) => one.or(other)?,
    };
    timespec(until.saturating_duration_since(Instant::now()))
}

/// A duration as the kernel wants it; `None` when it is too long to matter.
pub(crate) fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}
