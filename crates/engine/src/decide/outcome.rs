//! What an ended Pod says of the Run.

use std::fmt::Write as _;

use kubeopencode_agents::FailureClass;
use kubeopencode_api::names::container;
use serde_json::Value;

use super::{Input, Outcome, record};
use crate::{
    handover::{AgentReport, FailureReport, NOT_PUSHED, PushReport, PushState, Report, UNFINISHED},
    observe::{CONTAINER_UNKNOWN, ContainerState, PodPhase, PodView},
    state::Reason,
};

/// The status holds no more. The agent can write to the termination message too: whatever is in it, the status has to
/// be one that the API server accepts, or the Run never ends.
const MOST_CHECKOUTS: usize = 64;
/// The same, of a checkout's commits.
const MOST_COMMITS: usize = 10;

/// Whether the agent container ever did anything. Where it did not, another attempt repeats nothing.
pub fn agent_ran(pod: &PodView) -> bool {
    match pod.agent.as_ref().map(|agent| &agent.state) {
        Some(ContainerState::Running) => true,
        Some(ContainerState::Terminated { reason, .. }) => !start_failed(reason),
        Some(ContainerState::Waiting { .. }) | None => false,
    }
}

/// Whether the deletion of the Pod ended it. Its exit code says nothing then: many programs end with 0 when asked to.
///
/// `supervise` knows whether it was told to end. Where it has not said so, the end by the node's clock is compared with the
/// request by the API server's, and an end in the second of the request counts as its consequence.
pub fn ended_by_deletion(pod: &PodView) -> bool {
    let Some(requested) = pod.deletion_requested else {
        return false;
    };
    match pod.agent.as_ref().map(|agent| &agent.state) {
        Some(ContainerState::Terminated {
            finished, message, ..
        }) => told_to_end(message).unwrap_or_else(|| {
            finished.is_none_or(|finished| finished.as_second() >= requested.as_second())
        }),
        _ => true,
    }
}

/// Whether the agent has ended and `supervise` says that nobody had told it to.
fn ended_by_itself(pod: &PodView) -> bool {
    let agent = pod.agent.as_ref().map(|agent| &agent.state);
    matches!(agent, Some(ContainerState::Terminated { message, .. }) if told_to_end(message) == Some(false))
}

/// Whether the Pod's deadline is the one that ends what outlives the agent: no stop is on record, and the Pod was not made
/// with it. An agent without a report has ended before that was set. A person who sets the same looks the same, unless
/// `supervise` says that the agent was told to end.
fn was_for_the_rest(pod: &PodView, input: &Input<'_>) -> bool {
    let job = input.observation.job.as_ref();
    let of_template = job.and_then(|job| job.pod_deadline_seconds);
    let agent = pod.agent.as_ref().map(|agent| &agent.state);
    let unheard = matches!(agent, Some(ContainerState::Terminated { message, .. }) if told_to_end(message).is_none());
    unheard && pod.active_deadline_seconds == Some(1) && of_template != Some(1)
}

/// What `supervise` says of it; None: nothing.
fn told_to_end(termination_message: &str) -> Option<bool> {
    let report: Report = serde_json::from_str(termination_message).ok()?;
    report.told_to_end
}

/// The container runtime could not start the container.
fn start_failed(reason: &str) -> bool {
    matches!(reason, "StartError" | "ContainerCannotRun")
}

/// How the Run ended.
///
/// Of several that wanted its end, the first that the agent heard is how it ended. `supervise` names a timeout or a limit
/// only where nobody had told the agent to end before. Otherwise, a Run whose stop was on record when its Pod ended is
/// stopped, with the result that the agent left; one whose Pod had ended when the stop was first seen ended by itself.
pub fn of_pod(pod: &PodView, input: &Input<'_>) -> Outcome {
    let mut result = report(pod);
    let over = result.as_mut().and_then(over);
    // Only the message says that, too.
    let agent = result.as_mut().and_then(|report| report.agent.as_mut());
    let end_is_unread = agent.is_some_and(|agent| std::mem::take(&mut agent.end_is_unread));
    let (reason, mut message) = if let Some(over) = over {
        over
    } else if input.state.stop_is_recorded() {
        (Reason::UserStopped, "stopped by a person".to_owned())
    } else {
        judge(pod, result.as_ref(), input)
    };
    if end_is_unread && reason == Reason::Succeeded {
        message.push_str("; what it printed last was not read, so how it ended is not known");
    }
    let loss = result.as_ref().and_then(not_pushed);
    if let Some((path, pushed)) = loss.filter(|_| !is_about_a_push(reason)) {
        message.push_str("; also, ");
        message.push_str(&loss_words(path, pushed));
    }
    if is_pushed_unheard(pod) {
        message.push_str(
            "; the log of the Pod's container git-push tells whether its commits were pushed",
        );
    }
    Outcome {
        reason,
        message,
        result,
    }
}

/// What `supervise` told the agent to end for. What only the reason says afterwards is taken out: the status has no other
/// place for it.
fn over(report: &mut Report) -> Option<(Reason, String)> {
    report.told_to_end = None;
    if let Some(seconds) = report.timed_out_after_seconds.take() {
        return Some((
            Reason::Timeout,
            format!("it ran longer than its timeout of {}", duration(seconds)),
        ));
    }
    let passed = report.passed.as_mut()?;
    let told = if std::mem::take(&mut passed.ended_by_itself) {
        "the agent had ended"
    } else {
        "the agent was told to end"
    };
    Some((Reason::LimitExceeded, format!("{told} {passed}")))
}

fn judge(pod: &PodView, report: Option<&Report>, input: &Input<'_>) -> (Reason, String) {
    if ended_by_deletion(pod) {
        return (
            Reason::InfrastructureError,
            "its Pod was deleted before the agent had ended".to_owned(),
        );
    }
    if pod.phase == PodPhase::Succeeded {
        return judge_success(report);
    }
    let words = |reason: &str| match &pod.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    };
    match pod.reason.as_deref() {
        // The agent had ended; the deadline was for what was put beside it.
        Some("DeadlineExceeded") if ended_by_itself(pod) || was_for_the_rest(pod, input) => {}
        Some("DeadlineExceeded") => return (Reason::Timeout, deadline_words(pod)),
        Some(reason) => return (Reason::InfrastructureError, words(reason)),
        None => {}
    }
    if let Some(disruption) = &pod.disruption {
        return (
            Reason::InfrastructureError,
            format!("its Pod was disrupted: {disruption}"),
        );
    }
    if let Some(words) = failed_init_words(pod) {
        return (Reason::InfrastructureError, words);
    }
    match pod.agent.as_ref().map(|agent| &agent.state) {
        Some(ContainerState::Terminated {
            exit_code,
            reason,
            message,
            ..
        }) => judge_agent(*exit_code, reason, message, report),
        _ => (
            Reason::InfrastructureError,
            words("its Pod ended before the agent started"),
        ),
    }
}

/// The kubelet ended it.
fn deadline_words(pod: &PodView) -> String {
    let allowed = pod
        .active_deadline_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or_else(String::new, |seconds| format!(" {}", duration(seconds)));
    format!(
        "its Pod had not ended{allowed} after its node took it, which is all that its timeout, or its limits.duration, allows"
    )
}

/// Of the first init container that failed.
fn failed_init_words(pod: &PodView) -> Option<String> {
    pod.init.iter().find_map(|container| {
        let ContainerState::Terminated {
            exit_code,
            reason,
            message,
            ..
        } = &container.state
        else {
            return None;
        };
        let why = match (exit_code, message.trim(), reason.as_str()) {
            (0, ..) => return None,
            (exit_code, "", reason) => format!("exit code {exit_code} {reason}"),
            (_, message, _) => without_prefix(message, &container.name),
        };
        Some(format!("{} failed: {}", container.name, why.trim_end()))
    })
}

/// Our own programs begin each line of their log with their name, which is the container's.
fn without_prefix(message: &str, name: &str) -> String {
    let lines = message.lines().map(|line| {
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn judge_agent(
    exit_code: i32,
    reason: &str,
    message: &str,
    report: Option<&Report>,
) -> (Reason, String) {
    if start_failed(reason) {
        return (
            Reason::InfrastructureError,
            format!("the agent's container could not be started: {message}"),
        );
    }
    if reason == CONTAINER_UNKNOWN {
        return (
            Reason::InfrastructureError,
            "its node lost sight of the agent".to_owned(),
        );
    }
    if let Some(error) = report
        .filter(|report| report.begun_before)
        .and_then(|report| report.error.clone())
    {
        return (Reason::InfrastructureError, error);
    }
    let ended_well = report.is_some_and(|report| report.exit_code == Some(0));
    if exit_code == i32::from(NOT_PUSHED) && ended_well {
        return match judge_success(report) {
            // The report had no room for it.
            (Reason::Succeeded, _) => (
                Reason::PushFailed,
                "what the agent committed was not pushed; the log of git-push says why".to_owned(),
            ),
            judged => judged,
        };
    }
    if exit_code == 0 || (exit_code == i32::from(UNFINISHED) && ended_well) {
        return judge_success(report);
    }
    let why = if reason == "OOMKilled" {
        "the agent was killed: it needed more memory than its limit".to_owned()
    } else if let Some(error) = report.and_then(|report| report.error.as_ref()) {
        format!("the agent could not be started: {error}")
    } else if let Some(signal) = report.and_then(|report| report.signal.as_ref()) {
        format!("the agent was ended by {signal}")
    } else {
        format!("the agent ended with exit code {exit_code}")
    };
    let told = report.and_then(|report| report.agent.as_ref()?.failure.as_ref());
    let why = match told {
        Some(failure) => format!("{why}: {}", in_words(failure)),
        None => why,
    };
    (Reason::AgentExitNonZero, why)
}

/// The class, where it is known, and the agent's words.
fn in_words(failure: &FailureReport) -> String {
    let FailureReport { class, message } = failure;
    match FailureClass::from_word(class) {
        None | Some(FailureClass::Unknown) => message.clone(),
        Some(_) => format!("{class}: {message}"),
    }
}

/// Whether `git-push` had nobody to tell what became of the commits: `supervise` was killed with the agent. With a Pod that
/// is deleted its log goes, too.
fn is_pushed_unheard(pod: &PodView) -> bool {
    let agent = pod.agent.as_ref().map(|agent| &agent.state);
    let unheard = matches!(agent, Some(ContainerState::Terminated { reason, message, .. })
        if !start_failed(reason) && serde_json::from_str::<Report>(message).is_err());
    let mut sidecars = pod.sidecars.iter();
    unheard
        && pod.deletion_requested.is_none()
        && sidecars.any(|sidecar| sidecar.name == container::GIT_PUSH)
}

fn is_about_a_push(reason: Reason) -> bool {
    matches!(reason, Reason::PushRefused | Reason::PushFailed)
}

/// The first checkout whose commits did not arrive.
fn not_pushed(report: &Report) -> Option<(&str, &PushReport)> {
    let lost = |(_, pushed): &(&str, &PushReport)| pushed.state.is_loss();
    let pushes = report.checkouts.iter();
    pushes
        .filter_map(|checkout| Some((checkout.path.as_str(), checkout.pushed.as_ref()?)))
        .find(lost)
}

fn loss_words(path: &str, pushed: &PushReport) -> String {
    let PushReport {
        branch,
        state,
        message,
        ..
    } = pushed;
    let what = match state {
        PushState::Refused => "was refused",
        _ => "failed",
    };
    let mut words = format!("the push of {path} to branch {branch} {what}");
    if let Some(message) = message {
        words.push_str(": ");
        words.push_str(message);
    }
    words
}

/// The agent exited 0: whether its work is done, and arrived where it should.
fn judge_success(report: Option<&Report>) -> (Reason, String) {
    let agent = report.and_then(|report| report.agent.as_ref());
    if let Some(agent) = agent.filter(|agent| agent.is_unfinished()) {
        return (Reason::AgentUnfinished, unfinished_words(agent));
    }
    if let Some((path, pushed)) = report.and_then(not_pushed) {
        let reason = match pushed.state {
            PushState::Refused => Reason::PushRefused,
            _ => Reason::PushFailed,
        };
        return (reason, loss_words(path, pushed));
    }
    let mut words = "the agent ended with exit code 0".to_owned();
    if report.is_some_and(Report::changed_nothing) {
        words.push_str(", and changed nothing");
    }
    let others = report.into_iter().flat_map(|report| &report.checkouts);
    let others = others.map(|checkout| checkout.other_commits);
    match others.fold(0, u32::saturating_add) {
        0 => {}
        1 => words.push_str("; 1 commit is on another branch, or put aside"),
        count => {
            let _ = write!(
                words,
                "; {count} commits are on other branches, or put aside"
            );
        }
    }
    if let Some(refused) = agent
        .map(|agent| agent.refused)
        .filter(|refused| *refused > 0)
    {
        let _ = write!(words, "; {refused} of its tool calls were refused");
    }
    (Reason::Succeeded, words)
}

/// Where it stopped for a refusal there is a failure, too, in its own words; these are ours.
fn unfinished_words(agent: &AgentReport) -> String {
    match (&agent.stopped, &agent.failure) {
        (None, Some(failure)) => {
            format!(
                "the agent ended with exit code 0, and gave up: {}",
                in_words(failure)
            )
        }
        (stopped, _) => {
            let stopped = stopped.as_deref().unwrap_or_default();
            let refused = match agent.refused {
                0 => "",
                _ => ", which was refused",
            };
            format!("the agent ended with exit code 0, and stopped {stopped}{refused}")
        }
    }
}

/// As the API writes durations: `1h30m`.
fn duration(seconds: u64) -> String {
    let units = [
        (seconds / 3600, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let mut text = String::new();
    for (number, unit) in units {
        if number > 0 {
            text.push_str(&number.to_string());
            text.push(unit);
        }
    }
    text
}

/// Every text in it as a message of ours may be: a status stays small, and people see it on terminals.
fn tame(told: &mut Value) {
    match told {
        Value::String(text) => *text = record::cut(text),
        Value::Array(items) => items.iter_mut().for_each(tame),
        Value::Object(fields) => fields.values_mut().for_each(tame),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The report in the termination message; without one, what the kubelet knows.
fn report(pod: &PodView) -> Option<Report> {
    let Some(ContainerState::Terminated {
        exit_code,
        reason,
        message,
        ..
    }) = pod.agent.as_ref().map(|agent| &agent.state)
    else {
        return None;
    };
    if start_failed(reason) {
        return None;
    }
    let told = serde_json::from_str(message).and_then(|mut told| {
        tame(&mut told);
        serde_json::from_value(told)
    });
    let mut report: Report = told.unwrap_or_else(|_| Report {
        exit_code: (reason != CONTAINER_UNKNOWN).then_some(*exit_code),
        ..Report::default()
    });
    while report.checkouts.len() > MOST_CHECKOUTS {
        report.omit(report.checkouts.len() - 1);
    }
    for checkout in &mut report.checkouts {
        checkout.newest.truncate(MOST_COMMITS);
    }
    Some(report)
}
