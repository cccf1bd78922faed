//! Before the commit point: references, rendering, creating the Job, recording it.

use kubeopencode_api::names::condition;

use super::{Action, Input, LOST_LIMIT, Outcome, Step, delete, record, refused, rest, rest_for};
use crate::{
    lower::{Lowered, Missing},
    observe::{JobView, Refusal},
    queue::{SlotView, Standing, class},
    render::{Rendered, render},
    run::Run,
    state::{Condition, Phase, QueuePlace, Reason},
};

pub fn decide(input: &Input<'_>) -> Step {
    let ours = |job: &JobView| job.owner_uid.as_deref() == Some(&input.owner.uid);
    match &input.observation.job {
        Some(job) if ours(job) => created(input, job),
        _ if input.stopping() => stopped(input),
        Some(job) => record::end(
            input,
            Outcome::new(
                Reason::InfrastructureError,
                format!("a Job {} exists and belongs to somebody else", job.name),
            ),
        ),
        None => match (refused_to_us(input), &input.observation.slot) {
            (Some(refusal), _) => refused::create(input, refusal),
            // It is looked at anew when its turn has come, or when it was edited, not each time that somebody before it moves
            // on.
            (
                _,
                Some(SlotView {
                    agent,
                    standing: Standing::Waits(position),
                }),
            ) if input.state.phase == Phase::Queued
                && input.state.observed_generation >= Some(input.owner.generation) =>
            {
                waits(input, agent, *position)
            }
            _ => absent(input),
        },
    }
}

/// The Job exists, suspended, and is not on record yet.
fn created(input: &Input<'_>, job: &JobView) -> Step {
    let edited = |generation| generation != input.owner.generation;
    if let Some(deletion) = job.deletion {
        goes(input, job, deletion)
    } else if input.stopping() && job.suspended {
        if input.state.stop_is_recorded() {
            delete(job)
        } else {
            record::stopping(input)
        }
    } else if job.unreleased() && job.generation.is_some_and(edited) {
        // The spec may be edited until the Job is on record, and what is on record then is what runs.
        delete_unrecorded(input, job)
    } else if let Some(agent) = job.agent.as_ref().filter(|_| job.suspended) {
        with_a_slot(input, job, &agent.name)
    } else {
        // Also when somebody has released it by hand: then it runs, and has to be followed.
        record::job(input, job)
    }
}

/// Somebody created it who may have known more of its Agent's limit than we do, or less; and that may be long ago.
fn with_a_slot(input: &Input<'_>, job: &JobView, agent: &str) -> Step {
    if let Some(refusal) = refused_to_us(input) {
        return refused::create(input, refusal);
    }
    match (standing(input, agent), input.lowered) {
        (Some(Standing::Held | Standing::Unlimited), _) => record::job(input, job),
        (Some(Standing::Waits(position)), _) => waits(input, agent, position),
        // Whether there is still such an Agent: who waits for one that is gone waits in vain.
        (None, None | Some(Lowered::Needs(_))) => Step::Lower,
        (None, Some(Lowered::Ready(run))) if run.limit.is_none() && !job.limited => {
            record::job(input, job)
        }
        // Its Agent is gone for good, and its slot with it: what runs in its place is the built-in one.
        (None, Some(Lowered::Ready(run))) if run.agent.generation.is_none() => {
            delete_unrecorded(input, job)
        }
        (None, Some(Lowered::Ready(_))) => Step::Claim {
            agent: agent.to_owned(),
        },
        (None, Some(_)) => delete_unrecorded(input, job),
    }
}

/// That it is not on record has to be the API server's own word: it may be since a moment ago, and is nobody's to delete
/// then.
pub fn delete_unrecorded(input: &Input<'_>, job: &JobView) -> Step {
    if input.observation.confirmed {
        delete(job)
    } else {
        Step::Confirm
    }
}

/// What was to be created, or looked up, in this round.
fn refused_to_us<'a>(input: &Input<'a>) -> Option<&'a Refusal> {
    let refusal = input.observation.refused.as_ref();
    refusal.filter(|refusal| refusal.change.is_none())
}

/// The Job that has the name of the next one is on its way out, by somebody else's hand.
fn goes(input: &Input<'_>, job: &JobView, deletion: jiff::Timestamp) -> Step {
    if input.stopping() && job.unreleased() {
        return stopped(input);
    }
    match input.left(deletion, LOST_LIMIT) {
        Some(left) => rest_for(left),
        None => record::end(
            input,
            Outcome::new(
                Reason::InfrastructureError,
                format!(
                    "its Job {} was deleted and does not go: a finalizer holds it",
                    job.name
                ),
            ),
        ),
    }
}

fn standing(input: &Input<'_>, agent: &str) -> Option<Standing> {
    let slot = input.observation.slot.as_ref();
    slot.filter(|slot| slot.agent == agent)
        .map(|slot| slot.standing)
}

fn waits(input: &Input<'_>, agent: &str, position: usize) -> Step {
    let told =
        |place: &QueuePlace| place.agent == agent && class(place.position) <= class(position);
    if input.state.phase == Phase::Queued
        && input.state.queue.as_ref().is_some_and(told)
        && input.state.observed_generation >= Some(input.owner.generation)
    {
        rest()
    } else {
        record::queued(input, agent, position)
    }
}

fn stopped(input: &Input<'_>) -> Step {
    record::end(
        input,
        Outcome::new(Reason::UserStopped, "stopped by a person before it started"),
    )
}

fn absent(input: &Input<'_>) -> Step {
    match input.lowered {
        None | Some(Lowered::Needs(_)) => Step::Lower,
        Some(Lowered::Invalid(error)) => {
            record::end(input, Outcome::new(Reason::InvalidSpec, error.to_string()))
        }
        Some(Lowered::Missing { missing, timeout }) => wait_for(input, missing, *timeout),
        Some(Lowered::Ready(run)) => {
            let waited = input.state.condition(condition::READY);
            if waited.is_some_and(|ready| !ready.status) {
                record::ready(input)
            } else {
                admit(input, run)
            }
        }
    }
}

/// Visible, and not for ever.
fn wait_for(input: &Input<'_>, missing: &[Missing], timeout: std::time::Duration) -> Step {
    let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    let since =
        since(input.state.condition(condition::READY), record::NOT_FOUND).unwrap_or(input.now);
    let Some(left) = input.left(since, timeout) else {
        return record::end(
            input,
            Outcome::new(
                Reason::ReferenceNotFound,
                format!("waited {} s in vain for {list}", timeout.as_secs()),
            ),
        );
    };
    let message = format!("waits for {list}");
    record::waiting(input, condition::READY, record::NOT_FOUND, &message, "")
        .unwrap_or_else(|| rest_for(left))
}

/// Where its Agent has a limit, it goes on only with a slot.
fn admit(input: &Input<'_>, run: &Run) -> Step {
    let agent = &run.agent.name;
    match (run.limit, standing(input, agent)) {
        (None, _) | (Some(_), Some(Standing::Held | Standing::Unlimited)) => create(input, run),
        (Some(_), Some(Standing::Waits(position))) => waits(input, agent, position),
        // What cannot be rendered never takes a slot.
        (Some(_), None) => match render(run, input.state.attempts + 1) {
            Err(error) => record::end(input, Outcome::new(Reason::InvalidSpec, error.to_string())),
            Ok(_) => Step::Claim {
                agent: agent.clone(),
            },
        },
    }
}

fn create(input: &Input<'_>, run: &Run) -> Step {
    match render(run, input.state.attempts + 1) {
        Err(error) => record::end(input, Outcome::new(Reason::InvalidSpec, error.to_string())),
        Ok(Rendered { config_maps, job }) => {
            let files = config_maps
                .into_iter()
                .map(|config_map| Action::CreateConfigMap(Box::new(config_map)));
            Step::Act(files.chain([Action::CreateJob(Box::new(job))]).collect())
        }
    }
}

/// Since when the condition is false for that reason.
pub fn since(condition: Option<&Condition>, reason: &str) -> Option<jiff::Timestamp> {
    condition
        .filter(|condition| !condition.status && condition.reason == reason)
        .map(|condition| condition.last_transition)
}
