//! `supervise`: runs the agent, passes signals on, leaves no process behind, and reports how it ended.
//!
//! In: a command, its environment and its standard streams, which it inherits: every byte arrives as written. Between us and
//! an agent whose events can be read, its standard output is a pipe that is [listened to](hearing) on the way. Out: the
//! agent's exit code (128 + the number of the signal that ended it; 127 not found, 126 not executable; [`TIMED_OUT`] when
//! its time was over or a limit was passed; [`UNFINISHED`] and [`NOT_PUSHED`] in the place of a 0), and a [`Report`] in the
//! termination message.
//!
//! It works as PID 1 of a container and below another one (it becomes a subreaper). It sleeps until a signal arrives or
//! a deadline passes; it looks at nothing in between.

mod checkouts;
mod hearing;
mod push;
mod report;
mod tree;

use std::{
    ffi::OsString,
    io,
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use kubeopencode_agents::Profile;
use kubeopencode_engine::handover::{
    AgentReport, GRACE_VARIABLE, LIMITS_VARIABLE, Limits, NOT_PUSHED, PROFILE_VARIABLE,
    PUSH_VARIABLE, Passed, PushReport, Report, SECRETS_VARIABLE, Secrets, TERMINATION_LOG,
    TIMED_OUT, TIMEOUT_VARIABLE, TOOLS_DIR, UNFINISHED,
};
use nix::sys::{
    prctl,
    signal::{SigSet, Signal},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, WaitOptions, WaitStatus},
};
use signal_hook::iterator::{backend::SignalDelivery, exfiltrator::SignalOnly};

use self::{hearing::Hearing, push::GitPush};
use crate::{run::timespec, say, scrub::Scrub};

type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// The signals that are passed on. What ends a program by default and comes from outside is among them; of the rest,
/// what programs use for messages.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// Of these, the ones that mean "end": whoever is still there when the grace is over is killed. Kubernetes sends
/// SIGTERM, or what the image names as its STOPSIGNAL.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
/// Kubernetes' `terminationGracePeriodSeconds` where nobody said another.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long what the agent left behind may take to end after SIGTERM.
const LEFTOVERS: Duration = Duration::from_secs(2);
/// How long killed processes may take to be gone. One that the kernel does not let go of must not keep the report back.
const UNKILLABLE: Duration = Duration::from_secs(10);
/// How long all questions to git together may take when nobody is waiting to kill this process.
const FACTS: Duration = Duration::from_secs(30);
/// Exit code of a shell for a command that is there and cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code of a shell for a command that is not there.
const NOT_FOUND: u8 = 127;

/// Where things are, and how long the end may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Pod's grace period: after it the kubelet kills the container, so everything has to be over a little earlier.
    pub grace: Duration,
    /// How long the agent may run before it is told to end; `None` is for ever. Whole seconds.
    pub timeout: Option<Duration>,
    /// Where the report goes.
    pub termination_log: PathBuf,
    /// Where `git-init` left its records.
    pub tools_dir: PathBuf,
    /// Where `git-push` listens; `None`: nothing is pushed.
    pub push_socket: Option<PathBuf>,
    /// The agent, where its events are to be read.
    pub profile: Option<&'static Profile>,
    /// How much it may do.
    pub limits: Limits,
    /// Where it has its secrets.
    pub secrets: Secrets,
}

impl Settings {
    /// The constants of the handover, and what its environment variables say. What they say and cannot be read is taken as
    /// not said.
    #[must_use]
    pub fn from_environment() -> Self {
        let seconds = |variable| {
            let seconds = std::env::var(variable).ok()?.parse().ok()?;
            Some(Duration::from_secs(seconds))
        };
        let secrets = std::env::var(SECRETS_VARIABLE).ok();
        Self {
            grace: seconds(GRACE_VARIABLE).unwrap_or(DEFAULT_GRACE),
            timeout: seconds(TIMEOUT_VARIABLE),
            termination_log: TERMINATION_LOG.into(),
            tools_dir: TOOLS_DIR.into(),
            push_socket: std::env::var_os(PUSH_VARIABLE).map(PathBuf::from),
            profile: std::env::var(PROFILE_VARIABLE)
                .ok()
                .and_then(|name| Profile::named(&name)),
            limits: std::env::var(LIMITS_VARIABLE)
                .ok()
                .and_then(|limits| serde_json::from_str(&limits).ok())
                .unwrap_or_default(),
            secrets: secrets
                .and_then(|secrets| serde_json::from_str(&secrets).ok())
                .unwrap_or_default(),
        }
    }

    /// How long before the end of the grace the killing begins.
    fn margin(&self) -> Duration {
        (self.grace / 4).min(Duration::from_secs(3))
    }

    /// For how long the agent may go on after it was told to end: the grace, less what the killing and the report take.
    fn patience(&self) -> Duration {
        self.grace.saturating_sub(self.margin())
    }

    /// When the agent's time is over, counted from its start, and what that is then.
    fn deadline(&self, began: Instant) -> Option<(Instant, Over)> {
        // Too far to be a point in time is never.
        let timeout = self.timeout.and_then(|timeout| {
            Some((
                began.checked_add(timeout)?,
                Over::Timeout(timeout.as_secs()),
            ))
        });
        let limit = self.limits.seconds.and_then(|seconds| {
            let passed = Passed {
                limit: "duration".to_owned(),
                allowed: format!("{seconds} s"),
                reached: format!("{seconds} s"),
            };
            let at = began.checked_add(Duration::from_secs(seconds))?;
            Some((at, Over::Limit(passed)))
        });
        timeout.into_iter().chain(limit).min_by_key(|(at, _)| *at)
    }

    /// Until when git may be asked after that: what is left then is for writing the report.
    fn asking(&self) -> Duration {
        self.grace.saturating_sub(self.margin() / 3)
    }
}

/// Runs `command` (program and arguments) to its end and answers the exit code. Call it while the process has no other
/// thread: it blocks signals, and it reaps every child of the process.
#[must_use]
pub fn supervise(command: &[OsString], settings: &Settings) -> u8 {
    let began = Instant::now();
    // As they were when it began: what the agent makes of its files is not what it got.
    let scrub = Scrub::of_agent(&settings.secrets);
    let mut report = Report::default();
    let mut pushed = None;
    let (code, stop_by) = match begin(command, settings) {
        Ok(started) => {
            let mut watch = Watch {
                signals: started.signals,
                agent: started.agent,
                hearing: started.hearing,
                patience: settings.patience(),
                runs_until: settings.deadline(began),
                over: None,
                ended: None,
                deadline: None,
                told_to_end: None,
                told_first: false,
                killing: false,
            };
            let (status, at) = watch.wait_for_the_end().unzip();
            let ran = at.unwrap_or_else(Instant::now).duration_since(began);
            report.duration_millis = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
            let stop_by = watch.told_to_end.map(|told| told + settings.asking());
            let until = Instant::now() + FACTS;
            let until = stop_by.map_or(until, |by| until.min(by));
            report.agent = watch.hear_the_end(until);
            report.told_to_end = Some(watch.told_first);
            let code = match watch.over.take() {
                Some(Over::Timeout(seconds)) => {
                    report.timed_out_after_seconds = Some(seconds);
                    TIMED_OUT
                }
                Some(Over::Limit(passed)) => {
                    report.passed = Some(passed);
                    TIMED_OUT
                }
                None => code_of(status),
            };
            let unfinished = report
                .agent
                .as_ref()
                .is_some_and(AgentReport::is_unfinished);
            let code = if code == 0 && unfinished {
                UNFINISHED
            } else {
                code
            };
            report.exit_code = status.and_then(WaitStatus::exit_status);
            report.signal = status.and_then(WaitStatus::terminating_signal).map(name_of);
            // Before git looks at the checkouts: what the agent configured there may be run then.
            pushed = started
                .git_push
                .map(|git_push| git_push.push(&mut watch, settings));
            (code, stop_by)
        }
        Err((code, text)) => {
            say::line(&scrub.clean(&format!("supervise: {text}")));
            report.error = Some(text);
            (code, None)
        }
    };
    let until = Instant::now() + FACTS;
    let until = stop_by.map_or(until, |by| until.min(by));
    let records = checkouts::records(&settings.tools_dir);
    report.checkouts = checkouts::look(&settings.tools_dir, &records, until);
    if let Some(pushed) = pushed {
        pushed.enter(&records, &mut report.checkouts);
    }
    let lost = |pushed: &PushReport| pushed.state.is_loss();
    let mut of_pushes = report
        .checkouts
        .iter()
        .filter_map(|checkout| checkout.pushed.as_ref());
    // A Job must not be complete when its Task has failed.
    let code = if code == 0 && of_pushes.any(lost) {
        NOT_PUSHED
    } else {
        code
    };
    if let Err(error) = report::write(&settings.termination_log, &report, &scrub) {
        say::line(&format!(
            "supervise: cannot write {}: {error}",
            settings.termination_log.display()
        ));
    }
    code
}

/// An agent that has been started, and who listens to it.
struct Begun {
    signals: Signals,
    agent: Pid,
    hearing: Option<Hearing>,
    git_push: Option<GitPush>,
}

/// Gets everything ready, and starts the agent; or answers exit code and words for why not.
fn begin(command: &[OsString], settings: &Settings) -> Result<Begun, (u8, String)> {
    let signals = listen().map_err(|error| cannot_start(command, &error))?;
    let git_push = settings
        .push_socket
        .as_ref()
        .map(|socket| push::connect(socket, signals.get_read().as_fd()))
        .transpose()
        .map_err(|error| {
            let text =
                format!("git-push, which is to push its commits, cannot be reached: {error}");
            (NOT_PUSHED, text)
        })?;
    let started = start(command, settings).map_err(|error| cannot_start(command, &error))?;
    let (agent, hearing) = started;
    Ok(Begun {
        signals,
        agent,
        hearing,
        git_push,
    })
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
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    for ours in [
        GRACE_VARIABLE,
        TIMEOUT_VARIABLE,
        PUSH_VARIABLE,
        PROFILE_VARIABLE,
        LIMITS_VARIABLE,
        SECRETS_VARIABLE,
    ] {
        command.env_remove(ours);
    }
    let hearing = heard
        .map(|profile| Hearing::begin(profile, &settings.limits))
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

/// Why the agent was told to end from here.
enum Over {
    /// Its timeout, in seconds.
    Timeout(u64),
    /// A limit.
    Limit(Passed),
}

/// The wait for the end of the agent, and of everything below it.
struct Watch {
    signals: Signals,
    agent: Pid,
    hearing: Option<Hearing>,
    patience: Duration,
    /// When the agent has run for as long as it may, and what that is then.
    runs_until: Option<(Instant, Over)>,
    /// That, or another limit, came before the agent had ended, and before anybody else told it to end.
    over: Option<Over>,
    /// How the agent ended, and when.
    ended: Option<(WaitStatus, Instant)>,
    /// When the rest is killed, or, once `killing`, given up.
    deadline: Option<Instant>,
    /// When the first signal that means "end" came from outside.
    told_to_end: Option<Instant>,
    /// Whether that was before the agent had ended, and before it was told to end from here.
    told_first: bool,
    killing: bool,
}

impl Watch {
    /// Answers how the agent ended; `None` when even SIGKILL did not end it in time.
    fn wait_for_the_end(&mut self) -> Option<(WaitStatus, Instant)> {
        while self.reap() {
            self.wait();
            self.look_at_the_limits();
            if self.deadline.is_some_and(|at| at <= Instant::now()) {
                if self.killing {
                    say::line("supervise: a process cannot be killed; leaving it behind");
                    break;
                }
                self.killing = true;
                self.deadline = Some(Instant::now() + UNKILLABLE);
            }
            if self.killing {
                // Again after each death: one may have forked between the look and the kill.
                tree::signal_all(Signal::SIGKILL);
            }
        }
        self.ended
    }

    /// Reaps whoever has ended. False: no child is left, so nothing is left at all, because orphans become children.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.agent => {
                    // It may have ended by itself, but too late: then nobody told it to.
                    self.look_at_the_limits();
                    self.ended = Some((status, Instant::now()));
                    self.end_leftovers();
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The agent has ended: what it left behind is asked to end, and has a short time for it.
    fn end_leftovers(&mut self) {
        if !self.killing {
            tree::signal_all(Signal::SIGTERM);
            self.end_within(LEFTOVERS);
        }
    }

    /// Tells the agent to end when its time is over, or a limit was passed, as a stop from outside would.
    fn look_at_the_limits(&mut self) {
        if !self.may_be_told() {
            return;
        }
        let passed = self.hearing.as_ref().and_then(Hearing::passed);
        let late = self
            .agents_deadline()
            .is_some_and(|at| at <= Instant::now());
        self.over = match passed {
            Some(passed) => Some(Over::Limit(passed)),
            None if late => self.runs_until.take().map(|(_, over)| over),
            None => return,
        };
        tree::signal_all(Signal::SIGTERM);
        self.end_within(self.patience);
    }

    /// What the agent told until the end of its output. A limit that was passed in what it printed last is passed, too, if
    /// nobody else had told it to end.
    fn hear_the_end(&mut self, until: Instant) -> Option<AgentReport> {
        let hearing = self.hearing.take()?;
        hearing.wait(until);
        if self.told_to_end.is_none() && self.over.is_none() {
            self.over = hearing.passed().map(Over::Limit);
        }
        hearing.report()
    }

    /// Whether telling the agent to end would mean anything: it runs, and was not told.
    fn may_be_told(&self) -> bool {
        self.ended.is_none() && self.told_to_end.is_none() && self.over.is_none()
    }

    /// When the agent's time is over.
    fn agents_deadline(&self) -> Option<Instant> {
        let at = self.runs_until.as_ref().map(|(at, _)| *at);
        at.filter(|_| self.may_be_told())
    }

    /// Whoever is still there after this time is killed, unless that is to happen earlier.
    fn end_within(&mut self, patience: Duration) {
        if !self.killing {
            let by = Instant::now() + patience;
            self.deadline = Some(self.deadline.map_or(by, |deadline| deadline.min(by)));
        }
    }

    /// Sleeps until a signal, the deadline, the end of the agent's time or a limit, and passes signals on.
    fn wait(&mut self) {
        let timeout = self
            .deadline
            .into_iter()
            .chain(self.agents_deadline())
            .min()
            .and_then(|at| timespec(at.saturating_duration_since(Instant::now())));
        let signals = self.signals.get_read().as_fd();
        let hearing = self.hearing.as_ref().filter(|_| self.may_be_told());
        let mut watched: Vec<PollFd<'_>> = [Some(signals), hearing.map(Hearing::passed_fd)]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let _ = poll(&mut watched, timeout.as_ref());
        drop(watched);
        let arrived: Vec<i32> = self.signals.pending().collect();
        for signal in PASSED_ON {
            if arrived.contains(&(signal as i32)) {
                self.pass_on(signal);
            }
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        tree::signal_all(signal);
        if ENDING.contains(&signal) && self.told_to_end.is_none() {
            self.told_first = self.may_be_told();
            self.told_to_end = Some(Instant::now());
            self.end_within(self.patience);
        }
    }
}

/// The exit code that says how a process ended, as a shell does.
fn code_of(status: Option<WaitStatus>) -> u8 {
    let killed = 128 + 9;
    let code = status.map_or(killed, |status| {
        status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
            .unwrap_or(killed)
    });
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// `SIGKILL` and the like; a real-time signal by its number.
fn name_of(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}

/// Exit code and words for an agent that never ran. The arguments are not repeated: they may hold a secret.
fn cannot_start(command: &[OsString], error: &io::Error) -> (u8, String) {
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
    (code, format!("cannot start {program}: {why}"))
}

/// Whether a directory of `PATH` has a file of this name.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
