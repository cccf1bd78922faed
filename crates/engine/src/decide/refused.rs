//! What the API server refuses, by quota, admission or rights, or cannot do because of a webhook, or what somebody undoes: it
//! is told, tried again, and has an end as long as nothing has run.

use std::time::Duration;

use kubeopencode_api::names::condition;

use super::{Input, Outcome, STALL_LIMIT, Step, pending::since, record, rest, rest_for};
use crate::{
    observe::{JobView, Refusal, RefusalKind},
    state::Reason,
};

/// How long until it is tried again.
pub const REFUSED_AGAIN: Duration = Duration::from_secs(30);

/// The API server refused a ConfigMap or the Job, or to look at what is needed for them.
pub fn create(input: &Input<'_>, refusal: &Refusal) -> Step {
    let Refusal {
        what,
        kind,
        message,
        change: _,
        again: _,
    } = refusal;
    let reason = match kind {
        RefusalKind::Invalid => Reason::InvalidSpec,
        RefusalKind::NameTaken => Reason::InfrastructureError,
        RefusalKind::Forbidden | RefusalKind::Broken | RefusalKind::Undone => {
            let known = input.state.condition(condition::JOB_CREATED);
            let since = since(known, record::REFUSED).unwrap_or(input.now);
            if input.left(since, STALL_LIMIT).is_some() {
                let subject = format!("{what} is refused: ");
                return record::waiting(
                    input,
                    condition::JOB_CREATED,
                    record::REFUSED,
                    &subject,
                    message,
                )
                .unwrap_or_else(|| rest_for(REFUSED_AGAIN));
            }
            Reason::InfrastructureError
        }
    };
    record::end(
        input,
        Outcome::new(reason, format!("{what} is refused: {message}")),
    )
}

/// A Job that is not on record was to be deleted. It never ran, and is suspended.
fn unrecorded(input: &Input<'_>, refusal: &Refusal) -> Step {
    let Refusal { what, message, .. } = refusal;
    let subject = format!("{what} is refused: ");
    let known = input.state.condition(condition::JOB_CREATED);
    let since = since(known, record::REFUSED).unwrap_or(input.now);
    // One refusal may be a mishap, however long ago the last one is.
    if input.left(since, STALL_LIMIT).is_some() || !refusal.again {
        let (type_, word) = (condition::JOB_CREATED, record::REFUSED);
        let told = record::waiting(input, type_, word, &subject, message);
        return told.unwrap_or_else(|| rest_for(REFUSED_AGAIN));
    }
    let reason = if input.stopping() {
        Reason::UserStopped
    } else {
        Reason::InfrastructureError
    };
    record::end(input, Outcome::new(reason, format!("{subject}{message}")))
}

/// A change was refused in this round, and would be tried again at once. Nothing was ever released where the release is
/// what is refused, so that has an end. What else is refused is tried for as long as something runs.
pub fn change(input: &Input<'_>, refusal: &Refusal) -> Step {
    let Refusal { what, message, .. } = refusal;
    if input.state.phase.is_terminal() || input.deleting {
        let for_the_eye = refusal
            .change
            .as_ref()
            .is_some_and(|it| it.is_for_the_eye());
        // Its slot may be given back at a time that no event tells.
        return if for_the_eye && input.observation.slot.is_none() {
            rest()
        } else {
            rest_for(REFUSED_AGAIN)
        };
    }
    if input.state.job.is_none() {
        return unrecorded(input, refusal);
    }
    let subject = format!("{what} is refused");
    let words = format!("{subject}: {message}");
    let job = input.observation.job.as_ref();
    let recorded = input.state.condition(condition::JOB_CREATED);
    let since = recorded.map_or(input.now, |recorded| recorded.last_transition);
    let told = |known: &String| known.starts_with(&subject);
    if input.state.message.as_ref().is_some_and(told) {
        // One refusal may be a mishap, however long ago the record is.
        let over = refusal.again && input.left(since, STALL_LIMIT).is_none();
        return if job.is_some_and(JobView::unreleased) && over {
            record::end(input, Outcome::new(Reason::InfrastructureError, words))
        } else {
            rest_for(REFUSED_AGAIN)
        };
    }
    record::problem(input, Some(&words)).unwrap_or_else(|| rest_for(REFUSED_AGAIN))
}
