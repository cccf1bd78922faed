//! The states that are recorded, and what people hear of them.

use jiff::Timestamp;
use kubeopencode_api::names::condition;

use super::{Event, EventType, Input, Outcome, Step, again};
use crate::{
    lower::Lowered,
    observe::JobView,
    queue::Standing,
    run::AgentUsed,
    state::{Condition, FailedAttempt, JobRecord, Phase, QueuePlace, Reason, RunState},
};

/// Messages are cut to this many bytes: a status has to stay small, and what others write has no limit.
const LONGEST_MESSAGE: usize = 1000;

/// Reason of the condition Ready while something is missing.
pub const NOT_FOUND: &str = Reason::ReferenceNotFound.as_str();
/// Reason of the Event that says what it waits for. The reason of an end is told with the end alone.
const WAITING: &str = "Waiting";
/// Reason of the condition JobCreated, and of the Event, while the API server refuses.
pub const REFUSED: &str = "Refused";

/// The Run has ended.
pub fn end(input: &Input<'_>, outcome: Outcome) -> Step {
    let Outcome {
        reason,
        message,
        result,
    } = outcome;
    let attempts = input.state.attempts;
    let never_ran = matches!(
        reason,
        Reason::InfrastructureError | Reason::RetriesExhausted
    );
    let again = never_ran && !input.state.failed_attempts.is_empty();
    let message = cut(&if again {
        format!("after {attempts} attempts: {message}")
    } else {
        message
    });
    let well = matches!(reason, Reason::Succeeded | Reason::UserStopped);
    let mut state = next(input);
    state.phase = if well {
        Phase::Completed
    } else {
        Phase::Failed
    };
    state.completion_time = Some(whole_seconds(input.now));
    state.reason = Some(reason);
    state.message = Some(message.clone());
    state.result = result;
    leaves_the_queue(input, &mut state, "Ended");
    let word = reason.as_str();
    match reason {
        Reason::InvalidSpec | Reason::ReferenceNotFound => {
            set(input, &mut state, condition::READY, false, word, &message);
        }
        Reason::UserStopped => {
            set(input, &mut state, condition::STOPPED, true, word, &message);
        }
        _ if state.stop_is_recorded() => {
            let message = "it was about to end for another reason when it was to be stopped";
            set(input, &mut state, condition::STOPPED, false, word, message);
        }
        _ => {}
    }
    let type_ = if well {
        condition::COMPLETE
    } else {
        condition::FAILED
    };
    set(input, &mut state, type_, true, word, &message);
    let type_ = if well {
        EventType::Normal
    } else {
        EventType::Warning
    };
    record(state, vec![event(type_, word, &message)])
}

/// The Job of the next attempt is on record: the commit point.
pub fn job(input: &Input<'_>, job: &JobView) -> Step {
    let mut state = next(input);
    state.phase = Phase::Running;
    state.attempts += 1;
    state.job = Some(JobRecord {
        name: job.name.clone(),
        uid: job.uid.clone(),
    });
    state.agent.clone_from(&job.agent);
    state.start_time = state.start_time.or(Some(whole_seconds(input.now)));
    state.message = None;
    leaves_the_queue(input, &mut state, "Admitted");
    let found = "everything that it refers to was found";
    set(input, &mut state, condition::READY, true, "Resolved", found);
    let note = format!("Job {} runs attempt {}", job.name, state.attempts);
    set(
        input,
        &mut state,
        condition::JOB_CREATED,
        true,
        "JobCreated",
        &note,
    );
    record(state, vec![event(EventType::Normal, "Running", &note)])
}

/// The attempt ended before its agent was started. That is on record before the Pod that says so is gone.
pub fn spent(input: &Input<'_>, job: &JobRecord, why: &str) -> Step {
    let mut state = next(input);
    state.failed_attempts.push(FailedAttempt {
        job: job.name.clone(),
        message: cut(why),
        time: whole_seconds(input.now),
    });
    let (attempt, pause) = (state.attempts, again::pause(state.attempts).as_secs());
    state.message = Some(cut(&format!(
        "attempt {attempt} ended before the agent was started, another one begins {pause} s later: {why}"
    )));
    record(state, Vec::new())
}

/// Another attempt follows the one that is spent.
pub fn again(input: &Input<'_>) -> Step {
    let mut state = next(input);
    let why = state.failed_attempts.last();
    let why = why.map_or("", |failed| failed.message.as_str());
    let attempt = state.attempts;
    let note = cut(&format!(
        "attempt {attempt} ended before the agent was started: {why}"
    ));
    state.phase = Phase::Pending;
    state.job = None;
    state.message = Some(note.clone());
    state
        .conditions
        .retain(|condition| condition.type_ != condition::JOB_CREATED);
    record(state, vec![event(EventType::Warning, "NewAttempt", &note)])
}

/// All slots of its Agent are in use.
pub fn queued(input: &Input<'_>, agent: &str, position: usize) -> Step {
    let mut state = next(input);
    let began = state.phase != Phase::Queued;
    state.phase = Phase::Queued;
    forget_the_refusal(&mut state);
    state.queue = Some(QueuePlace {
        agent: agent.to_owned(),
        position,
    });
    // Should it be deleted, no other is taken for it.
    if let Some(used) = looked_up(input).filter(|used| used.name == agent) {
        state.agent = Some(used.clone());
    }
    let message = format!("waits for a free slot of Agent {agent}");
    state.message = Some(message.clone());
    let found = "everything that it refers to was found";
    set(input, &mut state, condition::READY, true, "Resolved", found);
    set(
        input,
        &mut state,
        condition::QUEUED,
        true,
        "AtCapacity",
        &message,
    );
    let note = format!("{message}, at place {position}");
    let events = began.then(|| event(EventType::Normal, "Queued", &note));
    record(state, events.into_iter().collect())
}

/// The Agent that its next Job was made for, or would be.
fn looked_up<'a>(input: &'a Input<'_>) -> Option<&'a AgentUsed> {
    match (&input.observation.job, input.lowered) {
        (Some(job), _) => job.agent.as_ref(),
        (None, Some(Lowered::Ready(run))) => Some(&run.agent),
        (None, _) => None,
    }
}

/// A person asked for a stop, and it is on its way: the condition is there, and becomes true with the end.
pub fn stopping(input: &Input<'_>) -> Step {
    let mut state = next(input);
    let message = "a person asked for it to stop";
    state.message = Some(message.to_owned());
    set(
        input,
        &mut state,
        condition::STOPPED,
        false,
        "StopRequested",
        message,
    );
    record(state, vec![event(EventType::Normal, "Stopping", message)])
}

/// A condition that explains why it does not go on, if that is news: if `subject`, the beginning of the message, is
/// another than before. Words that differ at each attempt would wake up the next attempt, again and again.
pub fn waiting(
    input: &Input<'_>,
    type_: &'static str,
    reason: &'static str,
    subject: &str,
    detail: &str,
) -> Option<Step> {
    let told = |known: &&Condition| {
        !known.status
            && known.reason == reason
            && known.message.starts_with(subject)
            && known.observed_generation >= Some(input.owner.generation)
    };
    if !detail.is_empty() && input.state.condition(type_).as_ref().is_some_and(told) {
        return None;
    }
    let message = cut(&format!("{subject}{detail}"));
    let mut state = next(input);
    if type_ != condition::JOB_CREATED {
        forget_the_refusal(&mut state);
    }
    if state.phase == Phase::Queued {
        state.phase = Phase::Pending;
        leaves_the_queue(input, &mut state, reason);
    }
    let slot = input.observation.slot.as_ref();
    if slot.is_some_and(|slot| slot.standing == Standing::Held) {
        // It keeps the slot while it waits, and that is on record: its Agent must not be changed any more.
        let message = "it does not wait for a slot";
        set(
            input,
            &mut state,
            condition::QUEUED,
            false,
            "Admitted",
            message,
        );
    }
    set(input, &mut state, type_, false, reason, &message);
    state.message = Some(message.clone());
    let word = if reason == REFUSED { REFUSED } else { WAITING };
    (state != *input.state).then(|| record(state, vec![event(EventType::Warning, word, &message)]))
}

/// What it waited for is there.
pub fn ready(input: &Input<'_>) -> Step {
    let mut state = next(input);
    let message = "everything that it refers to was found";
    set(
        input,
        &mut state,
        condition::READY,
        true,
        "Resolved",
        message,
    );
    state.message = None;
    record(state, vec![event(EventType::Normal, "Resolved", message)])
}

/// What is wrong with its Pod, or None for nothing any more, if that is news.
pub fn problem(input: &Input<'_>, message: Option<&str>) -> Option<Step> {
    let mut state = next(input);
    state.message = message.map(cut);
    if state.message == input.state.message {
        return None;
    }
    let events = state
        .message
        .iter()
        .map(|message| event(EventType::Warning, WAITING, message))
        .collect();
    Some(record(state, events))
}

/// What the API server refused before it came to something else is no part of how long it refuses the next time.
fn forget_the_refusal(state: &mut RunState) {
    let refused =
        |condition: &Condition| condition.type_ == condition::JOB_CREATED && !condition.status;
    state.conditions.retain(|condition| !refused(condition));
}

fn leaves_the_queue(input: &Input<'_>, state: &mut RunState, reason: &str) {
    state.queue = None;
    if state.is_true(condition::QUEUED) {
        set(
            input,
            state,
            condition::QUEUED,
            false,
            reason,
            "it does not wait for a slot",
        );
    }
}

fn next(input: &Input<'_>) -> RunState {
    RunState {
        observed_generation: Some(input.owner.generation),
        ..input.state.clone()
    }
}

fn set(
    input: &Input<'_>,
    state: &mut RunState,
    type_: &str,
    status: bool,
    reason: &str,
    message: &str,
) {
    state.set_condition(Condition {
        type_: type_.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition: whole_seconds(input.now),
        observed_generation: Some(input.owner.generation),
    });
}

fn record(state: RunState, events: Vec<Event>) -> Step {
    Step::Record {
        state: Box::new(state),
        events,
    }
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: note.to_owned(),
    }
}

/// The API keeps times in whole seconds; the state is to survive a round trip.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// At most [`LONGEST_MESSAGE`] bytes, cut between characters. Control characters become spaces: each would be six bytes
/// of JSON, and the words may be those of a stranger's server, on their way to somebody's terminal.
pub fn cut(message: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let message: String = message.trim().chars().map(plain).collect();
    if message.len() <= LONGEST_MESSAGE {
        return message;
    }
    let mut end = LONGEST_MESSAGE;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", message.get(..end).unwrap_or_default())
}
