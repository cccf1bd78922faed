//! What to do next for a Job: a pure function of the Job, its Pods and the time.
//!
//! [`sync`] answers with one [`Step`]: first `release`, then `delete`, then `create`, then `status`. When a step
//! has been performed the caller asks again with what the API now says, until the step is empty.
//!
//! A Job ends in two steps, as in Kubernetes (KEP-2307, KEP-3939): an ended Pod is first named in
//! `uncountedTerminatedPods`, then loses its finalizer, and only then is counted; `SuccessCriteriaMet` or
//! `FailureTarget` come first, `Complete` or `Failed` once every Pod has ended. So no Pod is counted twice and
//! none is lost, wherever the controller is interrupted.

use std::borrow::Borrow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};
use kube::ResourceExt as _;

use super::{
    backoff::Backoff,
    failure_policy::{self, Verdict},
    pods,
    status::{
        self, COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, Uncounted,
        counter, holds, number, set_condition,
    },
};

/// Something to tell about a Job, as an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// `Warning` rather than `Normal`.
    pub(crate) warning: bool,
    /// In one word.
    pub(crate) reason: String,
    /// In a sentence.
    pub(crate) message: String,
}

/// What to do, in the order of the fields down to `status`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// Names of Pods that lose the tracking finalizer.
    pub(crate) release: Vec<String>,
    /// Names of Pods to delete.
    pub(crate) delete: Vec<String>,
    /// How many Pods to create. `status` counts them as active already.
    pub(crate) create: usize,
    /// The status to write, if it is another.
    pub(crate) status: Option<JobStatus>,
    /// To tell once the status is written.
    pub(crate) notes: Vec<Note>,
    /// Back-off to remember once the status is written.
    pub(crate) backoff: Backoff,
    /// Look again at this time even if nothing happens.
    pub(crate) wake: Option<Timestamp>,
    /// The Job's time to live after its end is over: delete it.
    pub(crate) expired: bool,
}

impl Step {
    /// Whether there is nothing to do now.
    pub(crate) fn is_settled(&self) -> bool {
        self.release.is_empty()
            && self.delete.is_empty()
            && self.create == 0
            && self.status.is_none()
            && !self.expired
    }

    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |other| other.min(time)));
    }

    fn release(&mut self, pod: &Pod) {
        self.release.push(pod.name_any());
    }
}

/// `spec.managedBy` of the Jobs that are this controller's; the others are left alone.
const OURSELVES: &str = "kubernetes.io/job-controller";

/// The next step for `job`. `pods` are all that it controls, `backoff` is what earlier steps said.
pub(crate) fn sync<P: Borrow<Pod>>(
    job: &Job,
    pods: &[P],
    backoff: &Backoff,
    now: Timestamp,
) -> Step {
    let pods: Vec<&Pod> = pods.iter().map(Borrow::borrow).collect();
    let old = job.status.clone().unwrap_or_default();
    let spec = job.spec.clone().unwrap_or_default();
    let mut step = Step {
        backoff: backoff.clone(),
        ..Step::default()
    };
    if spec.managed_by.as_deref().is_some_and(|by| by != OURSELVES) {
        return step;
    }
    if let Some(end) = status::finished(&old) {
        for pod in pods.iter().filter(|pod| pods::is_tracked(pod)) {
            step.release(pod);
        }
        let ended = end.last_transition_time.as_ref().map(|time| time.0);
        expire(job, &spec, ended, now, &mut step);
        return step;
    }
    let uncounted = Uncounted::of(&old);
    if uncounted.is_empty() {
        observe(job, &spec, &old, &pods, now, &mut step);
    } else {
        count(&spec, &old, &uncounted, &pods, now, &mut step);
    }
    step
}

/// A finished Job with `ttlSecondsAfterFinished` goes when that time is over.
fn expire(job: &Job, spec: &JobSpec, ended: Option<Timestamp>, now: Timestamp, step: &mut Step) {
    let Some((ttl, ended)) = spec.ttl_seconds_after_finished.zip(ended) else {
        return;
    };
    if job.metadata.deletion_timestamp.is_some() {
        return;
    }
    let due = ended
        .checked_add(SignedDuration::from_secs(i64::from(ttl)))
        .unwrap_or(Timestamp::MAX);
    if due <= now {
        step.expired = true;
    } else {
        step.wake_at(due);
    }
}

/// A Job that is not suspended has begun, and says so before it says anything else: without that it could not end.
fn begin(spec: &JobSpec, status: &mut JobStatus, now: Timestamp) {
    if status.start_time.is_none() && spec.suspend != Some(true) {
        status.start_time = Some(status::time(now));
    }
}

/// Second half of an ending: the Pods named as uncounted lose their finalizer and are counted.
fn count(
    spec: &JobSpec,
    old: &JobStatus,
    uncounted: &Uncounted,
    pods: &[&Pod],
    now: Timestamp,
    step: &mut Step,
) {
    let waiting = |pod: &Pod| uncounted.contains(pods::uid(pod));
    for pod in pods
        .iter()
        .filter(|pod| waiting(pod) && pods::is_tracked(pod))
    {
        step.release(pod);
    }
    let mut new = old.clone();
    begin(spec, &mut new, now);
    new.succeeded = counter(number(old.succeeded) + uncounted.succeeded.len());
    new.failed = counter(number(old.failed) + uncounted.failed.len());
    Uncounted::default().write(&mut new);
    let active: Vec<&&Pod> = pods
        .iter()
        .filter(|pod| pods::is_active(pod) && !waiting(pod))
        .collect();
    let terminating = pods.iter().filter(|pod| pods::is_terminating(pod)).count();
    write_counters(&mut new, active.len(), &active, terminating);
    let all_ended = active.is_empty()
        && terminating == 0
        && pods
            .iter()
            .all(|pod| !pods::is_tracked(pod) || waiting(pod));
    if all_ended {
        finish(spec, &mut new, now, step);
    }
    step.status = Some(new);
}

/// First half: looks at the Pods, decides whether the Job is over, and what to create and delete.
fn observe(
    job: &Job,
    spec: &JobSpec,
    old: &JobStatus,
    pods: &[&Pod],
    now: Timestamp,
    step: &mut Step,
) {
    let deleting = job.metadata.deletion_timestamp.is_some();
    let suspended = spec.suspend == Some(true);
    let mut new = old.clone();
    let mut uncounted = Uncounted::default();
    let mut policy_message = None;
    for pod in pods.iter().filter(|pod| pods::is_tracked(pod)) {
        if pods::has_succeeded(pod) {
            uncounted.succeeded.push(pods::uid(pod).to_owned());
            step.backoff
                .succeeded(pods::finished_at(pod).unwrap_or(now));
        } else if deleting && pods::is_terminating(pod) {
            step.release(pod);
        } else if pods::has_failed(pod) || (pods::is_terminating(pod) && !waits_for_end(spec)) {
            match failure_policy::judge(spec, pod) {
                Verdict::Ignore => step.release(pod),
                verdict => {
                    uncounted.failed.push(pods::uid(pod).to_owned());
                    step.backoff.failed(pods::finished_at(pod).unwrap_or(now));
                    if let Verdict::FailJob(message) = verdict {
                        policy_message.get_or_insert(message);
                    }
                }
            }
        }
    }
    let mut active: Vec<&&Pod> = pods.iter().filter(|pod| pods::is_active(pod)).collect();
    let mut terminating = pods.iter().filter(|pod| pods::is_terminating(pod)).count();
    begin(spec, &mut new, now);
    let tally = Tally {
        succeeded: number(old.succeeded) + uncounted.succeeded.len(),
        failed: number(old.failed) + uncounted.failed.len(),
        active: active.len(),
        terminating,
        restarts: active.iter().map(|pod| pods::restarts(pod)).sum(),
    };
    let mut created = 0;
    match outcome(job, spec, &new, &tally, policy_message, now) {
        Outcome::Failing(reason, message) => {
            set_condition(&mut new, FAILURE_TARGET, true, &reason, &message, now);
            for pod in active.drain(..) {
                step.delete.push(pod.name_any());
                terminating += 1;
                if pods::is_tracked(pod) {
                    uncounted.failed.push(pods::uid(pod).to_owned());
                }
            }
        }
        Outcome::Succeeding => {
            let (reason, message) = success_words(spec);
            set_condition(&mut new, SUCCESS_CRITERIA_MET, true, reason, message, now);
            terminating += drop_pods(&mut active, 0, step);
        }
        Outcome::GoesOn if deleting => {}
        Outcome::GoesOn if suspended => {
            terminating += drop_pods(&mut active, 0, step);
            suspend(&mut new, now, step);
        }
        Outcome::GoesOn => {
            resume(&mut new, now, step);
            if let Some(due) = deadline(spec, &new) {
                step.wake_at(due);
            }
            let wanted = wanted_pods(spec, &tally);
            if wanted < active.len() {
                terminating += drop_pods(&mut active, wanted, step);
            }
            let waiting = if waits_for_end(spec) { terminating } else { 0 };
            created = wanted.saturating_sub(active.len() + waiting);
            if created > 0
                && let Some(due) = step.backoff.due().filter(|due| *due > now)
            {
                step.wake_at(due);
                created = 0;
            }
        }
    }
    step.create = created;
    uncounted.write(&mut new);
    write_counters(&mut new, active.len() + created, &active, terminating);
    let settled = active.is_empty() && terminating == 0;
    if new == *old && settled {
        finish(spec, &mut new, now, step);
    }
    step.status = (new != *old).then_some(new);
}

/// Pods are replaced, and counted as failed, only when they have ended, not already when they are deleted.
fn waits_for_end(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

/// Numbers that decide about a Job.
struct Tally {
    succeeded: usize,
    failed: usize,
    active: usize,
    terminating: usize,
    restarts: i32,
}

enum Outcome {
    GoesOn,
    Succeeding,
    Failing(String, String),
}

fn outcome(
    job: &Job,
    spec: &JobSpec,
    status: &JobStatus,
    tally: &Tally,
    policy_message: Option<String>,
    now: Timestamp,
) -> Outcome {
    let failing =
        |reason: &str, message: &str| Outcome::Failing(reason.to_owned(), message.to_owned());
    if let Some(condition) = holds(status, FAILURE_TARGET) {
        let words = |text: &Option<String>| text.clone().unwrap_or_default();
        return Outcome::Failing(words(&condition.reason), words(&condition.message));
    }
    if holds(status, SUCCESS_CRITERIA_MET).is_some() {
        return Outcome::Succeeding;
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Outcome::GoesOn;
    }
    if spec.completion_mode.as_deref() == Some("Indexed") {
        // Better said than run without the index that every Pod asks for.
        let message = "this cluster does not run Jobs with completionMode Indexed";
        return failing("UnsupportedCompletionMode", message);
    }
    if let Some(message) = policy_message {
        return failing("PodFailurePolicy", &message);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let in_place = spec
        .template
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref())
        == Some("OnFailure");
    let too_many_restarts = in_place && tally.restarts > 0 && tally.restarts >= limit;
    if tally.failed > number(Some(limit)) || too_many_restarts {
        return failing(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
    if deadline(spec, status).is_some_and(|due| due <= now) {
        return failing(
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        );
    }
    let complete = match spec.completions {
        Some(completions) => tally.succeeded >= number(Some(completions)),
        None => tally.succeeded > 0 && tally.active == 0 && tally.terminating == 0,
    };
    if complete {
        Outcome::Succeeding
    } else {
        Outcome::GoesOn
    }
}

/// When `activeDeadlineSeconds` is over. A suspended Job has none.
fn deadline(spec: &JobSpec, status: &JobStatus) -> Option<Timestamp> {
    if spec.suspend == Some(true) {
        return None;
    }
    let seconds = SignedDuration::from_secs(spec.active_deadline_seconds?);
    Some(
        status
            .start_time
            .as_ref()?
            .0
            .checked_add(seconds)
            .unwrap_or(Timestamp::MAX),
    )
}

/// How many Pods should run now.
fn wanted_pods(spec: &JobSpec, tally: &Tally) -> usize {
    let parallelism = number(Some(spec.parallelism.unwrap_or(1)));
    match spec.completions {
        // A work queue: once one Pod has succeeded the others only end.
        None if tally.succeeded > 0 => tally.active.min(parallelism),
        None => parallelism,
        Some(completions) => number(Some(completions))
            .saturating_sub(tally.succeeded)
            .min(parallelism),
    }
}

/// Takes Pods off until `keep` are left; these are deleted without counting as failed. Answers how many.
fn drop_pods(active: &mut Vec<&&Pod>, keep: usize, step: &mut Step) -> usize {
    active.sort_by(|a, b| pods::by_cost_of_deletion(a, b));
    let gone = active.len() - keep;
    for pod in active.drain(..gone) {
        if pods::is_tracked(pod) {
            step.release(pod);
        }
        step.delete.push(pod.name_any());
    }
    gone
}

fn suspend(status: &mut JobStatus, now: Timestamp, step: &mut Step) {
    status.start_time = None;
    if holds(status, SUSPENDED).is_none() {
        set_condition(
            status,
            SUSPENDED,
            true,
            "JobSuspended",
            "Job suspended",
            now,
        );
        step.notes.push(normal("Suspended", "Job suspended"));
    }
}

fn resume(status: &mut JobStatus, now: Timestamp, step: &mut Step) {
    if holds(status, SUSPENDED).is_some() {
        set_condition(status, SUSPENDED, false, "JobResumed", "Job resumed", now);
        status.start_time = Some(status::time(now));
        step.notes.push(normal("Resumed", "Job resumed"));
    }
}

/// Writes the last condition, once the first of the two is there and every Pod has ended.
fn finish(spec: &JobSpec, status: &mut JobStatus, now: Timestamp, step: &mut Step) {
    if let Some(target) = holds(status, FAILURE_TARGET).cloned() {
        let reason = target.reason.unwrap_or_default();
        let message = target.message.unwrap_or_default();
        set_condition(status, FAILED, true, &reason, &message, now);
        step.notes.push(Note {
            warning: true,
            reason,
            message,
        });
    } else if holds(status, SUCCESS_CRITERIA_MET).is_some() {
        let (reason, message) = success_words(spec);
        set_condition(status, COMPLETE, true, reason, message, now);
        status.completion_time = Some(status::time(now));
        step.notes.push(normal("Completed", "Job completed"));
    }
}

fn success_words(_spec: &JobSpec) -> (&'static str, &'static str) {
    (
        "CompletionsReached",
        "Reached expected number of succeeded pods",
    )
}

fn normal(reason: &str, message: &str) -> Note {
    Note {
        warning: false,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn write_counters(status: &mut JobStatus, active: usize, running: &[&&Pod], terminating: usize) {
    let ready = running.iter().filter(|pod| pods::is_ready(pod)).count();
    let plain = |number: usize| Some(i32::try_from(number).unwrap_or(i32::MAX));
    status.active = counter(active);
    status.terminating = plain(terminating);
    status.ready = plain(ready);
}
