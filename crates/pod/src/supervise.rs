//! `supervise`: runs the agent, passes signals on, leaves no process behind, and reports how it ended.
//!
//! In: a command, its environment and its standard streams, which it inherits: every byte arrives as written. Between us and
//! an agent whose events can be read, its standard output is a pipe that is [listened to](hearing) on the way. Out: the
//! agent's exit code (128 + the number of the signal that ended it; 127 not found, 126 not executable; [`TIMED_OUT`] when
//! its time was over or a limit was passed; [`UNFINISHED`], [`NOT_PUSHED`] and [`TOLD_TO_END`] in the place of a 0), and a
//! [`Report`] in the termination message.
//!
//! It works as PID 1 of a container and below another one (it becomes a subreaper). It sleeps until a signal arrives or
//! a deadline passes; it looks at nothing in between.

mod checkouts;
mod hearing;
mod push;
mod report;
mod settings;
mod start;
mod tree;
mod watch;

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use kubeopencode_engine::handover::{
    AgentReport, NOT_PUSHED, Report, TIMED_OUT, TOLD_TO_END, UNFINISHED,
};
use nix::sys::signal::Signal;
use rustix::process::WaitStatus;

pub use self::settings::Settings;
pub(crate) use self::settings::grace;
use self::{
    push::Pushed,
    start::{NotStarted, begin},
    watch::{Over, TheEnd, Watch},
};
use crate::{say, scrub::Scrub};

/// How long all questions to git together may take when nobody is waiting to kill this process.
const FACTS: Duration = Duration::from_secs(30);

/// Runs `command` (program and arguments) to its end and answers the exit code. Call it while the process has no other
/// thread: it blocks signals, and it reaps every child of the process.
#[must_use]
pub fn supervise(command: &[OsString], settings: &Settings) -> u8 {
    let began = Instant::now();
    // As they were when it began: what the agent makes of its files is not what it got.
    let scrub = Scrub::of_agent(&settings.secrets);
    let mut report = Report::default();
    let code = match begin(command, settings) {
        Ok((started, git_push)) => {
            let mut watch = Watch::new(started, settings, began);
            let end = watch.wait_for_the_end();
            let code = enter(&end, &mut watch, settings, began, &mut report);
            // Before git looks at the checkouts: what the agent configured there may be run then.
            let pushed = git_push.map(|git_push| {
                if end.all_are_gone {
                    git_push.push(&mut watch, settings)
                } else {
                    git_push.refuse();
                    Pushed::nothing(
                        "a process of the agent could not be ended, so nothing was read",
                    )
                }
            });
            look(&mut report, settings, pushed.as_ref(), watch.told_to_end);
            // And what that was, it must not come after the report.
            watch.kill_all();
            code
        }
        Err(NotStarted {
            code,
            text,
            begun_before,
        }) => {
            say::line(&scrub.clean(&format!("supervise: {text}")));
            report.error = Some(text);
            report.begun_before = begun_before;
            look(&mut report, settings, None, None);
            code
        }
    };
    // A Job must not be complete when its Task has failed.
    let code = if code == 0 && report.lost_a_push() {
        NOT_PUSHED
    } else {
        code
    };
    if let Err(error) = report::write(
        &settings.termination_log,
        &report,
        &scrub,
        settings.report_bytes,
    ) {
        say::line(&format!(
            "supervise: cannot write {}: {error}",
            settings.termination_log.display()
        ));
    }
    code
}

/// Enters how the agent ended. Answers the exit code.
fn enter(
    end: &TheEnd,
    watch: &mut Watch,
    settings: &Settings,
    began: Instant,
    report: &mut Report,
) -> u8 {
    let (status, at) = end.agent.unzip();
    let ran = at.unwrap_or_else(Instant::now).duration_since(began);
    report.duration_millis = Some(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX));
    let until = facts_until(settings, watch.told_to_end);
    report.agent = watch.hear_the_end(until, code_of(status) == 0);
    report.told_to_end = Some(watch.told_first);
    report.exit_code = status.and_then(WaitStatus::exit_status);
    report.signal = status.and_then(WaitStatus::terminating_signal).map(name_of);
    let unfinished = report
        .agent
        .as_ref()
        .is_some_and(AgentReport::is_unfinished);
    match watch.over.take() {
        Some(Over::Timeout(seconds)) => {
            report.timed_out_after_seconds = Some(seconds);
            TIMED_OUT
        }
        Some(Over::Limit(passed)) => {
            report.passed = Some(passed);
            TIMED_OUT
        }
        None => match code_of(status) {
            // Whoever sees nothing but the Pod, or its Job, must not take it for done.
            0 if watch.told_first => TOLD_TO_END,
            0 if unfinished => UNFINISHED,
            code => code,
        },
    }
}

/// Enters what is in the checkouts, and what became of it.
fn look(
    report: &mut Report,
    settings: &Settings,
    pushed: Option<&Pushed>,
    told_to_end: Option<Instant>,
) {
    let records = checkouts::records(&settings.tools_dir);
    let until = facts_until(settings, told_to_end);
    report.checkouts = checkouts::look(&settings.tools_dir, &records, until);
    if let Some(pushed) = pushed {
        pushed.enter(&records, &mut report.checkouts);
    }
}

/// Until when facts are gathered: when somebody told us to end, until there is just the time to write the report.
fn facts_until(settings: &Settings, told_to_end: Option<Instant>) -> Instant {
    let until = Instant::now() + FACTS;
    told_to_end.map_or(until, |told| until.min(told + settings.asking()))
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
