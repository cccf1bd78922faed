//! The wait for the end of the agent and of everything below it: signals are passed on, orphans reaped, limits held, and
//! who does not end is killed.

use std::{
    fmt,
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::{Duration, Instant},
};

use kubeopencode_engine::handover::{AgentReport, Passed};
use nix::sys::signal::Signal;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, WaitOptions, WaitStatus},
};
use signal_hook::iterator::{backend::SignalDelivery, exfiltrator::SignalOnly};

use super::{Settings, hearing::Hearing, start::Begun, tree};
use crate::{run::timespec, say};

pub(super) type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// The signals that are passed on. What ends a program by default and comes from outside is among them; of the rest,
/// what programs use for messages.
pub(super) const PASSED_ON: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// Of these, the ones that mean "end": whoever is still there when the grace is over is killed. Kubernetes sends
/// SIGTERM, or what the image names as its STOPSIGNAL.
pub(super) const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
/// How long what the agent left behind may take to end after SIGTERM.
const LEFTOVERS: Duration = Duration::from_secs(2);
/// How long killed processes may take to be gone. One that the kernel does not let go of must not keep the report back.
const UNKILLABLE: Duration = Duration::from_secs(10);
/// The same at least, however late it is.
const A_MOMENT: Duration = Duration::from_secs(1);
/// How many processes are reaped before anything else is looked at.
const A_FEW: usize = 256;

/// Why the agent was told to end from here.
pub(super) enum Over {
    /// Its timeout, in seconds.
    Timeout(u64),
    /// A limit.
    Limit(Passed),
}

/// After "told to end".
impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(seconds) => write!(f, "after its timeout of {seconds} s"),
            Self::Limit(passed) => passed.fmt(f),
        }
    }
}

impl Over {
    /// The same, of an agent that had ended when that was seen.
    fn after_the_end(self) -> Self {
        match self {
            Self::Limit(passed) => Self::Limit(Passed {
                ended_by_itself: true,
                ..passed
            }),
            Self::Timeout(seconds) => Self::Timeout(seconds),
        }
    }
}

/// What came of reaping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reaped {
    /// There is no process below this one any more.
    NobodyIsLeft,
    /// Whoever had ended.
    All,
    /// Some of them; there may be more.
    AFew,
}

/// How the wait came to its end.
pub(super) struct TheEnd {
    /// How the agent ended, and when; `None` when even SIGKILL did not end it in time.
    pub agent: Option<(WaitStatus, Instant)>,
    /// Whether no process of the agent is left.
    pub all_are_gone: bool,
}

/// The wait for the end of the agent, and of everything below it.
pub(super) struct Watch {
    pub signals: Signals,
    agent: Pid,
    hearing: Option<Hearing>,
    patience: Duration,
    asking: Duration,
    /// When the agent has run for as long as it may, and what that is then.
    runs_until: Option<(Instant, Over)>,
    /// That, or another limit, came before the agent had ended, and before anybody else told it to end.
    pub over: Option<Over>,
    /// How the agent ended, and when.
    ended: Option<(WaitStatus, Instant)>,
    /// When the rest is killed, or, once `killing`, given up.
    deadline: Option<Instant>,
    /// When the first signal that means "end" came from outside.
    pub told_to_end: Option<Instant>,
    /// Whether that was before the agent had ended, and before it was told to end from here.
    pub told_first: bool,
    killing: bool,
}

impl Watch {
    pub fn new(started: Begun, settings: &Settings, began: Instant) -> Self {
        Self {
            signals: started.signals,
            agent: started.agent,
            hearing: started.hearing,
            patience: settings.patience(),
            asking: settings.asking(),
            runs_until: settings.deadline(began),
            over: None,
            ended: None,
            deadline: None,
            told_to_end: None,
            told_first: false,
            killing: false,
        }
    }

    /// Kills whoever is there now.
    pub fn kill_all(&mut self) {
        self.killing = true;
        self.deadline = Some(self.gives_up_at());
        tree::kill_all();
        self.wait_until_all_are_gone();
    }

    /// Waits until the agent and all below it have ended, or cannot be made to.
    pub fn wait_for_the_end(&mut self) -> TheEnd {
        let all_are_gone = self.wait_until_all_are_gone();
        TheEnd {
            agent: self.ended,
            all_are_gone,
        }
    }

    fn wait_until_all_are_gone(&mut self) -> bool {
        loop {
            let reaped = self.reap();
            if reaped == Reaped::NobodyIsLeft {
                return true;
            }
            self.wait(reaped);
            if self.look_at_the_limits()
                && let Some(over) = &self.over
            {
                let patience = self.patience.as_secs();
                say::unless_full(&format!(
                    "supervise: the agent is told to end {over}; it has {patience} s for that"
                ));
            }
            if self.deadline.is_some_and(|at| at <= Instant::now()) {
                if self.killing {
                    say::line("supervise: a process cannot be killed; leaving it behind");
                    return false;
                }
                self.killing = true;
                self.deadline = Some(self.gives_up_at());
            }
            if self.killing {
                // Again after each death: where it is no single call, one may have forked meanwhile.
                tree::kill_all();
            }
        }
    }

    /// Until when killed processes are waited for: when somebody is waiting for us, until there is just the time to say so.
    /// But a busy machine takes a moment for any of them.
    fn gives_up_at(&self) -> Instant {
        let now = Instant::now();
        let at = now + UNKILLABLE;
        self.told_to_end
            .map_or(at, |told| at.min(told + self.asking).max(now + A_MOMENT))
    }

    /// Reaps those who have ended.
    fn reap(&mut self) -> Reaped {
        a_few(
            || rustix::process::wait(WaitOptions::NOHANG),
            |(pid, status)| {
                if pid == self.agent {
                    // A signal to the whole group ends it before it was passed on.
                    self.hear_signals();
                    // It may have ended by itself, but too late: then nobody told it to.
                    if self.look_at_the_limits() {
                        self.over = self.over.take().map(Over::after_the_end);
                    }
                    self.ended = Some((status, Instant::now()));
                    self.end_leftovers();
                }
            },
        )
    }

    /// The agent has ended: what it left behind is asked to end, and has a short time for it.
    fn end_leftovers(&mut self) {
        if !self.killing {
            tree::signal_all(Signal::SIGTERM);
            self.end_within(LEFTOVERS);
        }
    }

    /// Tells the agent to end when its time is over, or a limit was passed, as a stop from outside would. Answers whether it
    /// did.
    fn look_at_the_limits(&mut self) -> bool {
        if !self.may_be_told() {
            return false;
        }
        let passed = self.hearing.as_ref().and_then(Hearing::passed);
        let late = self
            .agents_deadline()
            .is_some_and(|at| at <= Instant::now());
        self.over = match passed {
            Some(passed) => Some(Over::Limit(passed)),
            None if late => self.runs_until.take().map(|(_, over)| over),
            None => return false,
        };
        tree::signal_all(Signal::SIGTERM);
        self.end_within(self.patience);
        true
    }

    /// What the agent told until the end of its output. A limit that was passed in what it printed last is passed, too, if
    /// nobody else had told it to end.
    pub fn hear_the_end(&mut self, until: Instant, ended_well: bool) -> Option<AgentReport> {
        let hearing = self.hearing.take()?;
        hearing.wait(until);
        if self.told_to_end.is_none() && self.over.is_none() {
            let over = hearing.passed().map(Over::Limit);
            self.over = over.map(Over::after_the_end);
        }
        hearing.report(ended_well)
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

    /// Sleeps until a signal, the deadline, the end of the agent's time or a limit, and passes signals on. Does not sleep
    /// while there is somebody to reap.
    fn wait(&mut self, reaped: Reaped) {
        let at_once = (reaped == Reaped::AFew).then(Instant::now);
        let timeout = self
            .deadline
            .into_iter()
            .chain(self.agents_deadline())
            .chain(at_once)
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
        self.hear_signals();
    }

    /// Passes on what has arrived.
    fn hear_signals(&mut self) {
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

/// Takes those who have ended, but no more than a few: who makes new ones for ever must not keep us from killing it.
fn a_few<Ended>(
    mut next: impl FnMut() -> rustix::io::Result<Option<Ended>>,
    mut each: impl FnMut(Ended),
) -> Reaped {
    for _ in 0..A_FEW {
        match next() {
            Ok(Some(ended)) => each(ended),
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Reaped::All,
            // No child is left, so nothing is left at all, because orphans become children.
            Err(_) => return Reaped::NobodyIsLeft,
        }
    }
    Reaped::AFew
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_row_of_orphans_lets_others_have_their_turn() {
        let mut reaped = 0;
        let found = a_few(|| Ok(Some(())), |()| reaped += 1);
        assert!(found == Reaped::AFew);
        assert_eq!(reaped, A_FEW);
    }
}
