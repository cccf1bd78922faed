//! After the commit point: release, follow, stop.

use std::time::Duration;

use jiff::Timestamp;
use kubeopencode_api::names::condition;

use super::{
    Action, Input, LOST_LIMIT, Outcome, STALL_LIMIT, Step,
    again::{self, After},
    delete, outcome,
    overdue::{self, Outlives, grace},
    problem::{self, Problem},
    record,
    refused::REFUSED_AGAIN,
    rest, rest_for,
};
use crate::{
    observe::{JobEnd, JobView, PodView},
    state::{JobRecord, Reason},
};

/// How long a Job may be without a Pod before that is worth a word.
const NO_POD_PATIENCE: Duration = Duration::from_secs(30);

/// How long a Pod may be without a container that runs, and without a word why, before that is worth one of ours. Longer
/// than most images take to be pulled.
const SILENT_PATIENCE: Duration = Duration::from_mins(2);

pub fn decide(input: &Input<'_>, recorded: &JobRecord) -> Step {
    let pods: Vec<&PodView> = of_job(input, recorded).collect();
    // What has ended has ended, whatever became of the Job since.
    let marked = input.state.stop_is_recorded();
    let job = input.observation.job.as_ref();
    let job = job.filter(|job| job.uid == recorded.uid);
    if let Some(pod) = last_ended(&pods) {
        // Gone, going, or suspended by somebody: its Pod went with it.
        let with_its_job = job.is_none_or(|job| job.deleting() || (job.suspended && job.released));
        let lost = with_its_job && outcome::ended_by_deletion(pod) && !marked;
        if !lost {
            match again::after(input, job, &pods, pod) {
                After::End => return record::end(input, outcome::of_pod(pod, input)),
                After::Exhausted => {
                    let reason = Reason::RetriesExhausted;
                    let outcome = outcome::of_pod(pod, input);
                    return record::end(input, Outcome { reason, ..outcome });
                }
                After::Spent if !again::is_spent(input.state) => {
                    let why = outcome::of_pod(pod, input).message;
                    return record::spent(input, recorded, &why);
                }
                After::Stop => return record::stopping(input),
                After::Spent | After::Wait => {}
            }
        }
    }
    let Some(job) = job else {
        let outcome = if input.stopping() {
            Outcome::new(Reason::UserStopped, "stopped by a person; its Job is gone")
        } else {
            Outcome::new(
                Reason::JobLost,
                format!("its Job {} was deleted", recorded.name),
            )
        };
        return record::end(input, outcome);
    };
    let step = of_a_job_that_is_there(input, recorded, job, newest_alive(&pods));
    match step {
        // The mark was refused in this round.
        Step::Rest { again } if !input.state.stop_is_recorded() && lacks_its_mark(job) => {
            rest_for(again.map_or(REFUSED_AGAIN, |again| again.min(REFUSED_AGAIN)))
        }
        step => step,
    }
}

/// Nothing of it is known to have ended.
fn of_a_job_that_is_there(
    input: &Input<'_>,
    recorded: &JobRecord,
    job: &JobView,
    pod: Option<&PodView>,
) -> Step {
    let marked = input.state.stop_is_recorded();
    let spent = again::is_spent(input.state) && !input.stopping();
    match (pod, &job.end) {
        (None, Some(_)) if spent => again::next(input, job, recorded),
        (None, Some(_)) if again::is_spent(input.state) && !marked => record::stopping(input),
        (None, Some(end)) => record::end(input, of_job_end(job, end, marked)),
        _ if input.stopping() && !marked => record::stopping(input),
        (None, None) if job.deleting() => wait_until_job_is_gone(input, job),
        _ if marked => stop(input, job, pod),
        // After a stop: somebody may fight about it. And what it is refused for keeps nothing from its end.
        _ if lacks_its_mark(job) && input.observation.refused.is_none() => {
            Step::Act(vec![Action::MarkReleased {
                name: job.name.clone(),
                uid: job.uid.clone(),
            }])
        }
        (Some(pod), _) if pod.deletion.is_some() => wait_until_gone(input, pod),
        // Its Pod ends by itself, or by the garbage collector's hand; but where a finalizer holds the Job, not soon.
        (Some(pod), _) if job.deleting() => follow(input, job, pod),
        _ if job.deleting() => rest(),
        _ if job.suspended => suspended(input, job, pod),
        // Also of a Job that has ended by somebody's word.
        (Some(pod), _) => follow(input, job, pod),
        (None, None) if spent => wait_for_end(input, job),
        (None, None) => wait_for_pod(input, job),
    }
}

/// It may have run, and does not say so: somebody else has released it, or taken the mark off.
fn lacks_its_mark(job: &JobView) -> bool {
    !job.suspended && !job.released && !job.deleting() && job.end.is_none()
}

/// The Pods of the recorded Job.
pub fn of_job<'a>(input: &Input<'a>, job: &'a JobRecord) -> impl Iterator<Item = &'a PodView> {
    input
        .observation
        .pods
        .iter()
        .filter(|pod| pod.job_uid.as_deref() == Some(&job.uid))
}

/// The Pod that matters: what has ended has ended, else the newest.
pub fn pod<'a>(input: &Input<'a>, job: &'a JobRecord) -> Option<&'a PodView> {
    let pods: Vec<&PodView> = of_job(input, job).collect();
    last_ended(&pods).or_else(|| newest_alive(&pods))
}

/// Of the Pods that ended, one whose agent did something, else the newest.
fn last_ended<'a>(pods: &[&'a PodView]) -> Option<&'a PodView> {
    pods.iter()
        .copied()
        .filter(|pod| pod.ended())
        .max_by_key(|pod| (outcome::agent_ran(pod), pod.created, &pod.uid))
}

fn newest_alive<'a>(pods: &[&'a PodView]) -> Option<&'a PodView> {
    pods.iter()
        .copied()
        .filter(|pod| !pod.ended())
        .max_by_key(|pod| (pod.created, &pod.uid))
}

/// The Job ended and no Pod is left to tell how.
fn of_job_end(job: &JobView, end: &JobEnd, stopped: bool) -> Outcome {
    match end {
        _ if stopped && job.closed && job.failed == 0 => Outcome::new(
            Reason::UserStopped,
            "stopped by a person before the agent started",
        ),
        _ if stopped => Outcome::new(Reason::UserStopped, "stopped by a person"),
        JobEnd::Complete => Outcome::new(
            Reason::Succeeded,
            "its Job is complete; its Pod was gone before the result was read",
        ),
        JobEnd::Failed { reason, message } => Outcome::new(
            Reason::InfrastructureError,
            format!(
                "its Pod was deleted before the result was read; Job {}: {reason}: {message}",
                job.name
            ),
        ),
    }
}

/// Recorded and suspended: released once, and never again.
fn suspended(input: &Input<'_>, job: &JobView, pod: Option<&PodView>) -> Step {
    if !job.released {
        return Step::Act(vec![Action::ReleaseJob {
            name: job.name.clone(),
            uid: job.uid.clone(),
            annotated: job.annotated,
        }]);
    }
    if let Some(pod) = pod {
        return follow(input, job, pod);
    }
    if job.active > 0 {
        return rest();
    }
    record::end(
        input,
        Outcome::new(
            Reason::JobLost,
            format!(
                "its Job {} was suspended by somebody, and its Pod deleted with that",
                job.name
            ),
        ),
    )
}

/// The Pod is there and has not ended.
fn follow(input: &Input<'_>, job: &JobView, pod: &PodView) -> Step {
    if let Some(outlives) = Outlives::of(pod, input.now) {
        return outlived(input, pod, outlives);
    }
    let left = overdue::has_to_end(pod, job).map(|(since, limit)| input.left(since, limit));
    match left {
        Some(None) if !input.observation.confirmed => Step::Confirm,
        Some(None) => {
            let words = format!(
                "its Pod {} had to end by its own deadline and has not: its node does not answer",
                pod.name
            );
            record::end(input, Outcome::new(Reason::InfrastructureError, words))
        }
        left => start(input, pod, left.flatten()),
    }
}

/// The agent has ended, and something that was put beside it has not. All that was to be done is done.
fn outlived(input: &Input<'_>, pod: &PodView, outlives: Outlives) -> Step {
    let since = outlives.since.unwrap_or(input.now);
    if let Some(left) = input.left(since, outlives.limit) {
        return rest_for(left);
    }
    if !input.observation.confirmed {
        return Step::Confirm;
    }
    if input.observation.refused.is_none()
        && let Some(deadline) = deadline(pod)
    {
        return deadline;
    }
    match input.left(since, outlives.lost) {
        Some(left) => rest_for(left),
        None => record::end(input, outcome::of_pod(pod, input)),
    }
}

/// The agent has not ended, and may not have begun. `again`: when the Pod has to be looked at anyway.
fn start(input: &Input<'_>, pod: &PodView, again: Option<Duration>) -> Step {
    let stalled = problem::stalled_since(pod, input.now);
    let left = |limit| stalled.map(|since| input.left(since, limit));
    let silent = left(SILENT_PATIENCE);
    let seen = problem::of_pod(pod).or_else(|| match silent {
        Some(None) => Some(problem::silent(pod)),
        _ => input.observation.refused.as_ref().map(Problem::refused),
    });
    let known = input.state.message.as_deref();
    let news = match &seen {
        Some(problem) => !known.is_some_and(|known| problem.is_told_by(known)),
        None => known.is_some(),
    };
    let limit = left(STALL_LIMIT);
    if limit == Some(None) {
        if !input.observation.confirmed {
            return Step::Confirm;
        }
        let why = seen.map_or_else(|| problem::silent(pod).message, |problem| problem.message);
        return record::end(input, Outcome::new(Reason::InfrastructureError, why));
    }
    let message = seen.as_ref().map(|problem| problem.message.as_str());
    if news && let Some(told) = record::problem(input, message) {
        return told;
    }
    let silent = silent.filter(|_| seen.is_none());
    let waits = [silent.flatten(), limit.flatten(), again];
    Step::Rest {
        again: waits.into_iter().flatten().min(),
    }
}

/// Released, and the Job controller has made no Pod (yet).
fn wait_for_pod(input: &Input<'_>, job: &JobView) -> Step {
    // Of this attempt, not of the first. Its release may have been long after its record.
    let created = input.state.condition(condition::JOB_CREATED);
    let created = created.map(|created| created.last_transition);
    let since = job.released_at.or(created).unwrap_or(input.now);
    let message = format!(
        "its Job {} has no Pod: the Events of the Job say why (often a missing ServiceAccount or a quota)",
        job.name
    );
    let Some(left) = input.left(since, STALL_LIMIT) else {
        return record::end(input, Outcome::new(Reason::InfrastructureError, message));
    };
    match input.left(since, NO_POD_PATIENCE) {
        Some(patience) => rest_for(patience),
        None => record::problem(input, Some(&message)).unwrap_or_else(|| rest_for(left)),
    }
}

/// The attempt is spent, and its Job is about to end.
fn wait_for_end(input: &Input<'_>, job: &JobView) -> Step {
    let spent = input.state.failed_attempts.last();
    let since = spent.map_or(input.now, |failed| failed.time);
    if let Some(left) = input.left(since, STALL_LIMIT) {
        return rest_for(left);
    }
    let words = format!("its Job {} does not end although its Pod has", job.name);
    record::end(input, Outcome::new(Reason::InfrastructureError, words))
}

/// Somebody has deleted the Job, and it has no Pod. Where a finalizer holds it, nobody else takes it away.
fn wait_until_job_is_gone(input: &Input<'_>, job: &JobView) -> Step {
    let since = job.deletion.unwrap_or(input.now);
    match input.left(since, LOST_LIMIT) {
        Some(left) => rest_for(left),
        None if !input.observation.confirmed => Step::Confirm,
        None if input.stopping() => record::end(
            input,
            Outcome::new(
                Reason::UserStopped,
                "stopped by a person; its Job was deleted",
            ),
        ),
        None => record::end(
            input,
            Outcome::new(
                Reason::JobLost,
                format!("its Job {} was deleted, and a finalizer holds it", job.name),
            ),
        ),
    }
}

/// The Pod is being deleted. When its node does not answer, nobody ever takes it away.
fn wait_until_gone(input: &Input<'_>, pod: &PodView) -> Step {
    let since = pod.deletion.unwrap_or(input.now);
    match input.left(since, LOST_LIMIT) {
        Some(left) => rest_for(left),
        None if !input.observation.confirmed => Step::Confirm,
        None => record::end(
            input,
            if input.stopping() {
                Outcome::new(Reason::UserStopped, "stopped by a person; its node is lost")
            } else {
                Outcome::new(
                    Reason::InfrastructureError,
                    format!("its Pod {} was lost with its node", pod.name),
                )
            },
        ),
    }
}

/// A stop is on record. A Pod that its kubelet has taken is ended by a deadline, so that its logs stay; suspending the
/// Job would delete it. Where there are no logs yet, the Job is closed.
fn stop(input: &Input<'_>, job: &JobView, pod: Option<&PodView>) -> Step {
    let Some(pod) = pod else {
        return if job.unreleased() && !job.deleting() {
            delete(job)
        } else {
            close(job)
        };
    };
    if pod.deletion.is_some() {
        return wait_until_gone(input, pod);
    }
    let since = input
        .state
        .condition(condition::STOPPED)
        .map_or(input.now, |stopped| stopped.last_transition);
    end_pod(input, job, pod, since)
}

/// End a Pod that has not ended, and keep its logs if that is possible.
pub fn end_pod(input: &Input<'_>, job: &JobView, pod: &PodView, since: Timestamp) -> Step {
    let taken = pod.started.is_some();
    if job.deleting() && !taken {
        // It is deleted with that; but where a finalizer holds the Job, not soon.
        return Step::Act(vec![Action::delete_pod(pod)]);
    }
    if job.suspended || job.closed {
        return rest();
    }
    if taken
        && input.observation.refused.is_none()
        && let Some(deadline) = deadline(pod)
    {
        return deadline;
    }
    match input.left(since, grace(pod) + LOST_LIMIT).filter(|_| taken) {
        Some(left) => rest_for(left),
        // It deletes the Pod, and its logs: a cache is not believed that there are none.
        None if !input.observation.confirmed => Step::Confirm,
        // No kubelet has taken it, or its node does not answer.
        None => close(job),
    }
}

/// Set the deadline that ends the Pod now, unless it is set.
pub fn deadline(pod: &PodView) -> Option<Step> {
    (pod.active_deadline_seconds != Some(1)).then(|| Step::Act(vec![Action::end_pod(pod)]))
}

/// It makes no Pod any more, and its end says so.
pub fn close(job: &JobView) -> Step {
    if job.deleting() || (job.closed && !job.suspended) {
        return rest();
    }
    Step::Act(vec![Action::close_job(job)])
}

pub fn suspend(job: &JobView) -> Step {
    Step::Act(vec![Action::SuspendJob {
        name: job.name.clone(),
        uid: job.uid.clone(),
    }])
}
