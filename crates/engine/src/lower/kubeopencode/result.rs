//! `TaskResult` and [`Report`] say the same in different words.

use kubeopencode_api::v1alpha1 as api;

use crate::{
    handover::{
        AgentReport, CheckoutReport, CommitReport, FailureReport, Omitted, Passed, PushReport,
        PushState, Report, UsageReport,
    },
    state::Reason,
};

/// What the status remembers.
pub fn to_report(result: &api::TaskResult) -> Report {
    let agent = AgentReport {
        session: result.session.clone(),
        steps: unsigned(result.steps),
        tools: unsigned(result.tool_calls),
        refused: unsigned(result.refused_tool_calls),
        usage: result.usage.as_ref().map(|usage| UsageReport {
            input: unsigned(Some(usage.input_tokens)),
            output: unsigned(Some(usage.output_tokens)),
            cached: unsigned(Some(usage.cached_tokens)),
            cost: usage.cost.clone(),
        }),
        message: result.agent_message.clone(),
        failure: result.failure.as_ref().map(|failure| FailureReport {
            class: failure.class.clone(),
            message: failure.message.clone(),
        }),
        stopped: result.stopped.clone(),
        unread: unsigned(result.unread_lines),
        end_is_unread: false,
    };
    Report {
        exit_code: result.exit_code,
        signal: result.signal.clone(),
        error: result.error.clone(),
        begun_before: false,
        told_to_end: None,
        timed_out_after_seconds: None,
        passed: result.passed_limit.as_ref().map(|passed| Passed {
            limit: passed.limit.clone(),
            allowed: passed.allowed.clone(),
            reached: passed.reached.clone(),
            ended_by_itself: false,
        }),
        agent: result.steps.is_some().then_some(agent),
        duration_millis: result
            .duration_millis
            .and_then(|millis| u64::try_from(millis).ok()),
        checkouts: result.checkouts.iter().map(to_checkout).collect(),
        omitted: result
            .omitted_checkouts
            .map(|checkouts| omitted(checkouts, result)),
    }
}

/// What is not said of them follows from what is said of all.
fn omitted(checkouts: i64, result: &api::TaskResult) -> Omitted {
    let small = |number: i64| u32::try_from(number).unwrap_or_default();
    let known = result.checkouts.iter().filter_map(|it| it.commits);
    let known: i64 = known.map(i64::from).sum();
    Omitted {
        checkouts: small(checkouts),
        commits: small(result.commits.unwrap_or_default().saturating_sub(known)),
        unchanged: result.outcome == Some(api::TaskOutcome::NoChanges),
    }
}

/// The status that remembers this.
pub fn of_report(report: &Report, reason: Option<Reason>) -> api::TaskResult {
    let agent = report.agent.clone();
    let (told, agent) = (agent.is_some(), agent.unwrap_or_default());
    let counted = |number: u64| told.then(|| signed(number));
    let unless_zero = |number: u64| (number > 0).then(|| signed(number));
    api::TaskResult {
        outcome: reason.map(|reason| outcome(reason, report)),
        exit_code: report.exit_code,
        signal: report.signal.clone(),
        error: report.error.clone(),
        duration_millis: report.duration_millis.map(signed),
        agent_message: agent.message,
        session: agent.session,
        steps: counted(agent.steps),
        tool_calls: counted(agent.tools),
        refused_tool_calls: unless_zero(agent.refused),
        usage: agent.usage.map(|usage| api::Usage {
            input_tokens: signed(usage.input),
            output_tokens: signed(usage.output),
            cached_tokens: signed(usage.cached),
            cost: usage.cost,
        }),
        failure: agent.failure.map(|failure| api::AgentFailure {
            class: failure.class,
            message: failure.message,
        }),
        stopped: agent.stopped,
        passed_limit: report.passed.as_ref().map(|passed| api::PassedLimit {
            limit: passed.limit.clone(),
            allowed: passed.allowed.clone(),
            reached: passed.reached.clone(),
        }),
        unread_lines: unless_zero(agent.unread),
        commits: report.commits().map(signed),
        checkouts: report.checkouts.iter().map(of_checkout).collect(),
        omitted_checkouts: report
            .omitted
            .as_ref()
            .map(|omitted| i64::from(omitted.checkouts)),
    }
}

/// What came out of it, in one word.
fn outcome(reason: Reason, report: &Report) -> api::TaskOutcome {
    match reason {
        Reason::Succeeded if report.changed_nothing() => api::TaskOutcome::NoChanges,
        Reason::Succeeded => api::TaskOutcome::Done,
        Reason::UserStopped => api::TaskOutcome::Stopped,
        Reason::AgentUnfinished | Reason::LimitExceeded | Reason::Timeout => {
            api::TaskOutcome::Unfinished
        }
        _ => api::TaskOutcome::Failed,
    }
}

fn to_checkout(checkout: &api::CheckoutResult) -> CheckoutReport {
    CheckoutReport {
        path: checkout.path.clone(),
        branch: checkout.branch.clone(),
        base: checkout.base.clone(),
        head: checkout.head.clone(),
        commits: checkout
            .commits
            .and_then(|commits| u32::try_from(commits).ok()),
        newest: checkout
            .newest
            .iter()
            .map(|commit| CommitReport {
                id: commit.id.clone(),
                subject: commit.subject.clone(),
            })
            .collect(),
        files: checkout.files.and_then(|files| u32::try_from(files).ok()),
        other_commits: checkout
            .other_commits
            .and_then(|commits| u32::try_from(commits).ok())
            .unwrap_or_default(),
        dirty: checkout.dirty,
        error: checkout.error.clone(),
        pushed: checkout.pushed.as_ref().map(to_pushed),
    }
}

fn of_checkout(checkout: &CheckoutReport) -> api::CheckoutResult {
    let small = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    api::CheckoutResult {
        path: checkout.path.clone(),
        branch: checkout.branch.clone(),
        base: checkout.base.clone(),
        head: checkout.head.clone(),
        commits: checkout.commits.map(small),
        newest: checkout
            .newest
            .iter()
            .map(|commit| api::CommitResult {
                id: commit.id.clone(),
                subject: commit.subject.clone(),
            })
            .collect(),
        files: checkout.files.map(small),
        other_commits: (checkout.other_commits > 0).then(|| small(checkout.other_commits)),
        dirty: checkout.dirty,
        error: checkout.error.clone(),
        pushed: checkout.pushed.as_ref().map(of_pushed),
    }
}

fn to_pushed(pushed: &api::PushResult) -> PushReport {
    PushReport {
        branch: pushed.branch.clone(),
        state: match pushed.state {
            api::PushState::Pushed => PushState::Pushed,
            api::PushState::Nothing => PushState::Nothing,
            api::PushState::Refused => PushState::Refused,
            api::PushState::Failed => PushState::Failed,
        },
        head: pushed.head.clone(),
        message: pushed.message.clone(),
    }
}

fn of_pushed(pushed: &PushReport) -> api::PushResult {
    api::PushResult {
        branch: pushed.branch.clone(),
        state: match pushed.state {
            PushState::Pushed => api::PushState::Pushed,
            PushState::Nothing => api::PushState::Nothing,
            PushState::Refused => api::PushState::Refused,
            PushState::Failed => api::PushState::Failed,
        },
        head: pushed.head.clone(),
        message: pushed.message.clone(),
    }
}

fn unsigned(number: Option<i64>) -> u64 {
    number
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or_default()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_status_says_of_omitted_checkouts_comes_back() {
        for (known, commits, unchanged) in [
            (Some(2), 3, false),
            (Some(0), 0, true),
            (None, 0, false),
            (None, 7, false),
        ] {
            let checkout = CheckoutReport {
                commits: known,
                dirty: Some(false),
                ..CheckoutReport::default()
            };
            let report = Report {
                checkouts: vec![checkout],
                omitted: Some(Omitted {
                    checkouts: 4,
                    commits,
                    unchanged,
                }),
                ..Report::default()
            };
            let result = of_report(&report, Some(Reason::Succeeded));
            assert_eq!(to_report(&result), report);
        }
    }
}
