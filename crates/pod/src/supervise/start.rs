//! Starting the agent: with the streams and the terminal that it would have without us, or with words for why it cannot be.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::Command,
};

use kubeopencode_engine::handover::{
    DEFAULTS_VARIABLE, GRACE_VARIABLE, LIMITS_VARIABLE, NOT_PUSHED, PROFILE_VARIABLE,
    PUSH_VARIABLE, REPORT_BYTES_VARIABLE, SECRETS_VARIABLE, TIMEOUT_VARIABLE,
};
use nix::sys::{
    prctl,
    signal::{SigSet, Signal},
};
use rustix::process::Pid;
use signal_hook::iterator::{backend::SignalDelivery, exfiltrator::SignalOnly};

use super::{
    Settings,
    hearing::Hearing,
    push::{self, GitPush},
    watch::{PASSED_ON, Signals},
};
use crate::once;

/// Exit code of a shell for a command that is there and cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code of a shell for a command that is not there.
const NOT_FOUND: u8 = 127;

/// An agent that has been started, and what listens to it.
pub(super) struct Begun {
    pub signals: Signals,
    pub agent: Pid,
    pub hearing: Option<Hearing>,
}

/// Why the agent was not started.
pub(super) struct NotStarted {
    /// The exit code.
    pub code: u8,
    /// For a person.
    pub text: String,
    /// It has begun in this Pod before.
    pub begun_before: bool,
}

impl NotStarted {
    fn new(code: u8, text: String) -> Self {
        Self {
            code,
            text,
            begun_before: false,
        }
    }
}

/// Gets everything ready, `git-push` too where there is one, and starts the agent; or says why not.
pub(super) fn begin(
    command: &[OsString],
    settings: &Settings,
) -> Result<(Begun, Option<GitPush>), NotStarted> {
    if let Some(variable) = settings.unreadable {
        // Without what it says, a limit would not be held, or a secret be told.
        let text = format!(
            "{variable} cannot be read: the operator and the system image are of different versions; use those of one release"
        );
        return Err(NotStarted::new(NOT_EXECUTABLE, text));
    }
    let signals = listen().map_err(|error| cannot_start(command, &error))?;
    let git_push = settings
        .push_socket
        .as_ref()
        .map(|socket| push::connect(socket, signals.get_read().as_fd()))
        .transpose()
        .map_err(|error| {
            let text =
                format!("git-push, which is to push its commits, cannot be reached: {error}");
            NotStarted::new(NOT_PUSHED, text)
        })?;
    match mark_and_start(command, settings) {
        Ok((agent, hearing)) => {
            let begun = Begun {
                signals,
                agent,
                hearing,
            };
            Ok((begun, git_push))
        }
        Err(not_started) => {
            // Its mark may be there.
            if let Some(git_push) = git_push {
                git_push.refuse();
            }
            Err(not_started)
        }
    }
}

fn mark_and_start(
    command: &[OsString],
    settings: &Settings,
) -> Result<(Pid, Option<Hearing>), NotStarted> {
    // The last moment before it: whatever fails until here may be tried again.
    once::mark(&settings.begun_dir).map_err(|refused| NotStarted {
        begun_before: matches!(refused, once::Refused::Twice),
        ..NotStarted::new(NOT_EXECUTABLE, refused.to_string())
    })?;
    start(command, settings).map_err(|error| cannot_start(command, &error))
}

/// Listens for the signals that matter. By handlers and not by blocking them: handlers end at exec, a mask would be the
/// agent's too. For the same reason a mask that came from outside is taken away.
fn listen() -> io::Result<Signals> {
    let (read, write) = UnixStream::pair()?;
    let numbers = PASSED_ON
        .into_iter()
        .chain([Signal::SIGCHLD])
        .map(|signal| signal as i32);
    let signals = SignalDelivery::with_pipe(read, write, SignalOnly, numbers)?;
    SigSet::empty().thread_set_mask()?;
    // Below another PID 1, orphans would go there.
    prctl::set_child_subreaper(true)?;
    Ok(signals)
}

/// Starts the agent in a process group of its own, which is what a signal from a terminal or a shell goes to.
fn start(command: &[OsString], settings: &Settings) -> io::Result<(Pid, Option<Hearing>)> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // On a terminal the agent shows something for people.
    let heard = settings
        .profile
        .filter(|_| !rustix::termios::isatty(rustix::stdio::stdout()));
    let words = command
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    for ours in [
        GRACE_VARIABLE,
        TIMEOUT_VARIABLE,
        PUSH_VARIABLE,
        PROFILE_VARIABLE,
        LIMITS_VARIABLE,
        REPORT_BYTES_VARIABLE,
        SECRETS_VARIABLE,
        DEFAULTS_VARIABLE,
    ] {
        command.env_remove(ours);
    }
    for (name, value) in &settings.defaults {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    let hearing = heard
        .map(|profile| Hearing::begin(profile, &words, &settings.limits))
        .transpose()?
        .map(|(hearing, stdout)| {
            command.stdout(stdout);
            hearing
        });
    let agent = Pid::from_child(&command.spawn()?);
    // With a terminal, only the group in front may read from it. It may have tried already, and have been stopped.
    let terminal = rustix::stdio::stdin();
    if rustix::termios::isatty(terminal) {
        let mut background = SigSet::empty();
        background.add(Signal::SIGTTOU);
        background.thread_block()?;
        if rustix::termios::tcsetpgrp(terminal, agent).is_ok() {
            let _ = rustix::process::kill_process_group(agent, rustix::process::Signal::CONT);
        }
        background.thread_unblock()?;
    }
    Ok((agent, hearing))
}

/// For an agent that never ran. The arguments are not repeated: they may hold a secret.
fn cannot_start(command: &[OsString], error: &io::Error) -> NotStarted {
    let program = command
        .first()
        .map(|program| Path::new(program).display().to_string())
        .unwrap_or_default();
    let missing = match error.kind() {
        io::ErrorKind::NotFound => true,
        // A directory of PATH that may not be looked into hides that the others have nothing.
        io::ErrorKind::PermissionDenied => !program.contains('/') && !on_path(&program),
        _ => false,
    };
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound if Path::new(&program).exists() => (
            NOT_FOUND,
            "the interpreter or loader that it names is not there".to_owned(),
        ),
        _ if missing => (
            NOT_FOUND,
            "no such program in the agent's image (or on its PATH)".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (NOT_EXECUTABLE, "it is not executable".to_owned()),
        io::ErrorKind::ArgumentListTooLong => (
            NOT_EXECUTABLE,
            "its arguments and environment are too long".to_owned(),
        ),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => (
            NOT_EXECUTABLE,
            "it is neither a program for this machine nor a script that begins with #!".to_owned(),
        ),
        _ => (NOT_EXECUTABLE, error.to_string()),
    };
    NotStarted::new(code, format!("cannot start {program}: {why}"))
}

/// Whether a directory of `PATH` has a file of this name.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
