//! After the end of a Run, or of one of its attempts: nothing of it keeps running, and nothing of it is released any more.

use kubeopencode_api::names::condition;

use super::{Action, Input, Step, delete, rest, running};
use crate::{
    observe::{JobView, Observation, PodView},
    queue::{Remains, SlotView, Standing},
};

/// A slot is given back when nothing of the Run can run any more, and not before. What is only for people to see may be
/// refused, and does not hold it.
pub fn give_back(input: &Input<'_>, step: Step) -> Step {
    let slot = input.observation.slot.as_ref();
    let Some(slot) = slot.filter(|slot| slot.standing == Standing::Held) else {
        return step;
    };
    let asked = match &step {
        Step::Rest { again } => *again,
        Step::Act(actions) if actions.iter().all(Action::is_for_the_eye) => {
            return match remains(input) {
                Remains::Nothing => given_back(input, slot),
                Remains::Act(_) | Remains::Something(_) => step,
            };
        }
        _ => return step,
    };
    match remains(input) {
        Remains::Nothing => given_back(input, slot),
        // Whoever rests may have something to do, later.
        Remains::Something(again) => Step::Rest {
            again: [again, asked].into_iter().flatten().min(),
        },
        // What has the version as precondition finds out by itself.
        Remains::Act(action) if action.trusts_the_view() && !input.observation.confirmed => {
            Step::Confirm
        }
        Remains::Act(action) => Step::Act(vec![*action]),
    }
}

/// Nothing remains, as far as can be seen.
fn given_back(input: &Input<'_>, slot: &SlotView) -> Step {
    let lost = pods(input).any(|pod| !pod.ended());
    // A cache that is late shows as lost what still ends.
    if lost && !input.observation.confirmed {
        Step::Confirm
    } else {
        Step::GiveBack {
            agent: slot.agent.clone(),
        }
    }
}

fn remains(input: &Input<'_>) -> Remains {
    let job = input.observation.job.as_ref();
    Remains::of(
        job.filter(|job| is_ours(input, job)),
        pods(input),
        input.now,
    )
}

/// One that was orphaned is on record still, and runs on.
fn is_ours(input: &Input<'_>, job: &JobView) -> bool {
    let recorded = input.state.job.as_ref();
    job.owner_uid.as_deref() == Some(&input.owner.uid)
        || recorded.is_some_and(|recorded| recorded.uid == job.uid)
}

/// Without those of a Job of somebody else that has our name: they are none of ours, and their end would not be heard of.
fn pods<'a>(input: &Input<'a>) -> impl Iterator<Item = &'a PodView> {
    let Observation { job, pods, .. } = input.observation;
    let foreign = job.as_ref().filter(|job| !is_ours(input, job));
    let foreign = foreign.map(|job| &job.uid);
    pods.iter()
        .filter(move |pod| foreign.is_none() || pod.job_uid.as_ref() != foreign)
}

/// When there is nothing else to do: a Job of an attempt that is over and was never released is nobody's, and whoever resumed
/// it would start the agent once more.
pub fn clear_away(input: &Input<'_>, step: Step) -> Step {
    if !matches!(step, Step::Rest { .. }) {
        return step;
    }
    let ours = |job: &&JobView| job.owner_uid.as_deref() == Some(&input.owner.uid);
    let mut superseded = input.observation.superseded.iter().filter(ours);
    match superseded.find(|job| job.unreleased() && !job.deleting()) {
        Some(job) => delete(job),
        None => step,
    }
}

pub fn decide(input: &Input<'_>) -> Step {
    let state = input.state;
    let recorded = state.job.as_ref();
    let ours = |job: &&JobView| job.owner_uid.as_deref() == Some(&input.owner.uid);
    let job = input.observation.job.as_ref().filter(ours);
    if let Some(job) = job
        && recorded.is_none_or(|recorded| recorded.uid != job.uid)
    {
        // Created by somebody who did not know that it was over. It never ran.
        return if job.deleting() { rest() } else { delete(job) };
    }
    let Some(recorded) = recorded else {
        return rest();
    };
    let pods: Vec<&PodView> = running::of_job(input, recorded).collect();
    let alive = pods
        .iter()
        .copied()
        .find(|pod| !pod.ended() && pod.deletion.is_none());
    match (alive, job) {
        (Some(pod), Some(job)) if job.end.is_none() => {
            let since = state.completion_time.unwrap_or(input.now);
            running::end_pod(input, job, pod, since)
        }
        (Some(pod), None) if !pod.bound => Step::Act(vec![Action::delete_pod(pod)]),
        (Some(pod), _) if pod.started.is_some() => running::deadline(pod).unwrap_or_else(rest),
        // A Job with an ended Pod ends by itself, unless somebody has raised its backoffLimit; one without could still make
        // one, and so could one that somebody has suspended and resumes. One whose Pod is lost with its node never ends.
        (None, Some(job)) if job.end.is_none() => {
            if !job.retries && pods.iter().any(|pod| pod.ended()) {
                rest()
            } else if job.unreleased() && input.observation.refused.is_some() {
                // Whoever refuses every change of it may let it go, and of one that never ran nothing is lost.
                delete(job)
            } else {
                running::close(job)
            }
        }
        // People expect a stopped Job to be suspended, but not before it has ended: a Job controller that has not seen yet
        // that the Pod has ended would delete it, and the logs with it. One that was closed has nothing to suspend.
        (None, Some(job))
            if state.is_true(condition::STOPPED)
                && !(job.suspended || job.closed || job.deleting()) =>
        {
            running::suspend(job)
        }
        (Some(_) | None, _) => rest(),
    }
}
