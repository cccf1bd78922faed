//! After the end of a Run, or of one of its attempts: nothing of it keeps running, and nothing of it is released any more.

use kubeopencode_api::names::condition;

use super::{Action, Input, Step, delete, rest, running};
use crate::{
    observe::{JobView, Observation, PodView},
    queue::{Remains, Standing},
};

/// A slot is given back when nothing of the Run can run any more, and not before.
pub fn give_back(input: &Input<'_>, step: Step) -> Step {
    let slot = input.observation.slot.as_ref();
    let held = slot.filter(|slot| slot.standing == Standing::Held);
    let (Some(slot), Step::Rest { again }) = (held, &step) else {
        return step;
    };
    let asked = *again;
    let Observation { job, pods, .. } = input.observation;
    // One that was orphaned is on record still, and runs on.
    let recorded = |job: &JobView| {
        let recorded = input.state.job.as_ref();
        recorded.is_some_and(|recorded| recorded.uid == job.uid)
    };
    let ours = |job: &&JobView| job.owner_uid.as_deref() == Some(&input.owner.uid) || recorded(job);
    // Of a Job of somebody else that has our name: its Pods are none of ours, and their end would not be heard of.
    let foreign = job.as_ref().filter(|job| !ours(job)).map(|job| &job.uid);
    let pods = pods
        .iter()
        .filter(|pod| foreign.is_none() || pod.job_uid.as_ref() != foreign);
    let lost = pods.clone().any(|pod| !pod.ended());
    match Remains::of(job.iter().filter(ours), pods, input.now) {
        // A cache that is late shows as lost what still ends.
        Remains::Nothing if lost && !input.observation.confirmed => Step::Confirm,
        Remains::Nothing => Step::GiveBack {
            agent: slot.agent.clone(),
        },
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
