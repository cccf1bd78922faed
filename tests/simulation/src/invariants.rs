//! What has to hold, each rule a function with a sentence.
//!
//! Those that speak of a change are asked at each revision that the store gets, those at the end when everything has
//! come to rest. What was started is what the *node* counted: no status is believed.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use kubeopencode_api::names;
use kubeopencode_engine::{
    decide::{LOST_LIMIT, STALL_LIMIT},
    handover::TIMED_OUT,
};
use serde_json::Value;

/// A rule that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which one.
    pub rule: &'static str,
    /// Of what.
    pub what: String,
}

/// What a rule says.
pub type Held = Result<(), Violation>;

pub(crate) fn broken(rule: &'static str, what: String) -> Held {
    Err(Violation { rule, what })
}

/// That the node started the agent of a Task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// UID of the Task.
    pub task: String,
    /// Its name, for people.
    pub name: String,
    /// The attempt that the Pod says it is of.
    pub attempt: String,
    /// UID of the Job.
    pub job: String,
    /// Name of the Pod.
    pub pod: String,
}

/// The agent of a Task starts once: not twice in an attempt, and not in a second attempt when it has started in one.
pub fn an_agent_starts_once(before: &[Start], start: &Start) -> Held {
    match before.iter().find(|other| other.task == start.task) {
        Some(other) => broken(
            "the agent of a Task starts once",
            format!(
                "Task {}: started in Pod {} (attempt {}) and in Pod {} (attempt {})",
                start.name, other.pod, other.attempt, start.pod, start.attempt
            ),
        ),
        None => Ok(()),
    }
}

/// A Task that has ended never has another phase, reason or completionTime.
pub fn an_end_is_final(name: &str, before: &Value, after: &Value) -> Held {
    if !is_terminal(before) {
        return Ok(());
    }
    for field in ["phase", "reason", "completionTime"] {
        let (was, is) = (&before["status"][field], &after["status"][field]);
        if was != is {
            return broken(
                "a terminal phase, its reason and completionTime never change",
                format!("Task {name}: {field} was {was} and is {is}"),
            );
        }
    }
    Ok(())
}

/// A Task that has ended says why and when.
pub fn an_end_is_told(name: &str, task: &Value) -> Held {
    let status = &task["status"];
    if is_terminal(task) && (!status["reason"].is_string() || !status["completionTime"].is_string())
    {
        return broken(
            "a terminal Task has reason and completionTime",
            format!("Task {name}: {status}"),
        );
    }
    Ok(())
}

/// An attempt has one Job: its UID is recorded once.
pub fn an_attempt_has_one_job(name: &str, before: &Value, after: &Value) -> Held {
    let (was, is) = (&before["status"], &after["status"]);
    if was["jobUID"].is_string()
        && was["attempts"] == is["attempts"]
        && was["jobUID"] != is["jobUID"]
        && is["jobUID"].is_string()
    {
        return broken(
            "an attempt has one Job",
            format!(
                "Task {name}: Job {} and then {}",
                was["jobUID"], is["jobUID"]
            ),
        );
    }
    Ok(())
}

/// The Job that is on record belongs to the Task.
pub fn a_recorded_job_is_its_own(name: &str, task: &Value, owner_of_job: Option<&str>) -> Held {
    let uid = task["metadata"]["uid"].as_str();
    if task["status"]["jobUID"].is_string() && uid != owner_of_job {
        return broken(
            "the Job on record is the Task's own",
            format!(
                "Task {name}: Job {} is of {owner_of_job:?}",
                task["status"]["jobName"]
            ),
        );
    }
    Ok(())
}

/// What is put on record is made of what the Task says then, unless somebody has released it.
pub fn a_recorded_job_is_of_this_spec(
    name: &str,
    before: Option<&Value>,
    task: &Value,
    job: Option<&Value>,
) -> Held {
    let recorded = |task: &Value| task["status"]["jobUID"].clone();
    let (Some(job), false) = (job, before.is_some_and(|it| recorded(it) == recorded(task))) else {
        return Ok(());
    };
    let of = &job["metadata"]["annotations"][names::ANNOTATION_GENERATION];
    let is = task["metadata"]["generation"].to_string();
    if job["spec"]["suspend"] != true || of.as_str().is_none_or(|of| of == is) {
        return Ok(());
    }
    broken(
        "the Job on record is made of what the Task says",
        format!("Task {name}: generation {is}, and the Job of {of}"),
    )
}

/// An operator releases a Job only when its UID is on record.
pub fn a_released_job_is_on_record(
    name: &str,
    before: &Value,
    after: &Value,
    recorded: bool,
) -> Held {
    let released = before["spec"]["suspend"] == true && after["spec"]["suspend"] != true;
    if released && !recorded {
        return broken(
            "only a Job whose UID is on record is released",
            format!("Job {name}"),
        );
    }
    Ok(())
}

/// An attempt's Job has one name, however often it is created.
pub fn an_attempt_has_one_name(task: &str, known: &str, created: &str) -> Held {
    if known == created {
        return Ok(());
    }
    broken(
        "an attempt's Job has one name",
        format!("Task {task}: {known} and {created}"),
    )
}

/// A Task is not called lost while its Job is there, has a Pod to come, and nobody has laid hands on it.
pub fn a_lost_job_is_gone(
    name: &str,
    before: Option<&Value>,
    task: &Value,
    job: Option<&Value>,
) -> Held {
    let lost = |task: &Value| task["status"]["reason"] == "JobLost";
    if !lost(task) || before.is_some_and(lost) {
        return Ok(());
    }
    match job {
        Some(job)
            if job["spec"]["suspend"] != true
                && job["spec"]["parallelism"] != 0
                && !job["metadata"]["deletionTimestamp"].is_string() =>
        {
            broken(
                "a Task whose Job is there has not lost it",
                format!("Task {name}: {}", task["status"]["message"]),
            )
        }
        _ => Ok(()),
    }
}

/// A Task has not lost its Job because an operator has deleted it.
pub fn a_lost_job_was_taken_by_others(name: &str, task: &Value, by_operator: bool) -> Held {
    if task["status"]["reason"] == "JobLost" && by_operator {
        return broken(
            "what is on record is not deleted by an operator",
            format!("Task {name}: {}", task["status"]["message"]),
        );
    }
    Ok(())
}

/// A stop that is on record stays there, and is how the Task ends, unless a timeout came first `at_node`.
pub fn a_recorded_stop_is_kept(name: &str, before: &Value, after: &Value, at_node: bool) -> Held {
    if !has_stopped(before) || is_terminal(before) {
        return Ok(());
    }
    let reason = after["status"]["reason"].as_str();
    let as_stopped = reason == Some("UserStopped") || (reason == Some("Timeout") && at_node);
    if !has_stopped(after) || (is_terminal(after) && !as_stopped) {
        return broken(
            "a Task whose stop is on record ends as stopped, or by a timeout that came first",
            format!("Task {name}: {}", after["status"]),
        );
    }
    Ok(())
}

/// How long a Task waits for what it refers to.
const REFERENCE_TIMEOUT: Duration = Duration::from_mins(5);
/// As exactly as an operator has to know the time of the API server.
const ABOUT: Duration = Duration::from_secs(10);

/// No operator gives up early, whatever its clock shows: `age` is that of the Task, by the clock of the API server.
pub fn a_wait_has_its_time(
    name: &str,
    before: Option<&Value>,
    task: &Value,
    age: Duration,
) -> Held {
    let status = &task["status"];
    if !is_terminal(task) || before.is_some_and(is_terminal) {
        return Ok(());
    }
    let message = status["message"].as_str().unwrap_or_default();
    let in_vain = [
        "cannot be pulled",
        "cannot be scheduled",
        "has no Pod",
        "starts: the Events",
    ];
    let limit = match status["reason"].as_str() {
        Some("ReferenceNotFound") => REFERENCE_TIMEOUT,
        Some("InfrastructureError") if in_vain.iter().any(|words| message.contains(words)) => {
            STALL_LIMIT
        }
        _ => return Ok(()),
    };
    if age + ABOUT >= limit {
        return Ok(());
    }
    broken(
        "a wait has its time",
        format!("Task {name}, after {} s: {message}", age.as_secs()),
    )
}

/// Whether a Pod that should be gone since then may still run, for all that anybody can know.
#[must_use]
pub fn may_still_run(deletion: Timestamp, now: Timestamp) -> bool {
    let passed = Duration::try_from(now.duration_since(deletion)).unwrap_or_default();
    passed + ABOUT < LOST_LIMIT
}

/// A Task has timed out when its agent did, as the node knows; that is no end of another kind.
pub fn a_timeout_is_told(name: &str, before: Option<&Value>, task: &Value, at_node: bool) -> Held {
    let status = &task["status"];
    if !is_terminal(task) || before.is_some_and(is_terminal) {
        return Ok(());
    }
    let message = status["message"].as_str().unwrap_or_default();
    let held = match status["reason"].as_str() {
        Some("Timeout") => at_node || !message.starts_with("it ran longer"),
        Some("Succeeded" | "AgentExitNonZero") => !at_node,
        // Its report was read: whoever wanted it to end during its grace came too late.
        Some("UserStopped" | "InfrastructureError") => status["result"]["exitCode"] != TIMED_OUT,
        _ => true,
    };
    if held {
        return Ok(());
    }
    broken(
        "a Task has timed out when its agent did",
        format!("Task {name}: {status}"),
    )
}

/// An operator that has ended as it was told to, and whose requests got through, does not have the Lease any more.
pub fn a_lease_is_given_back(lease: &Value, identity: &str) -> Held {
    if lease["spec"]["holderIdentity"] != identity {
        return Ok(());
    }
    broken(
        "an operator that was told to end gives back its Lease",
        format!("{identity}: {}", lease["spec"]),
    )
}

/// No operator gives a slot to a Task that has not started, unless there is room. Those that started when there was no
/// limit are put in the list whatever the limit is now.
pub fn a_limit_is_kept(
    name: &str,
    before: Option<&Value>,
    after: &Value,
    started: &BTreeSet<String>,
) -> Held {
    let limit = limit(after);
    let (was, is) = (before.map(holders).unwrap_or_default(), holders(after));
    let new = is.difference(&was).filter(|uid| !started.contains(*uid));
    if limit > 0 && new.count() > 0 && u64::try_from(is.len()).unwrap_or(u64::MAX) > limit {
        return broken(
            "an Agent's slots are never filled beyond its limit",
            format!(
                "Agent {name}: {} holders became {}, with a limit of {limit}",
                was.len(),
                is.len()
            ),
        );
    }
    Ok(())
}

/// No operator gives a slot back while the API server itself shows that the agent of the Task works.
pub fn a_slot_is_given_back_late(
    name: &str,
    before: &Value,
    after: &Value,
    at_work: &BTreeSet<String>,
) -> Held {
    let (was, is) = (holders(before), holders(after));
    match was.difference(&is).find(|uid| at_work.contains(*uid)) {
        Some(uid) => broken(
            "a slot is given back when nothing of its Task can run any more",
            format!("Agent {name}: Task {uid} is at work"),
        ),
        None => Ok(()),
    }
}

/// An agent starts only while its Task holds a slot, if its Agent has had its limit since before the Task was created.
pub fn an_agent_starts_with_a_slot(start: &Start, agent: &Value) -> Held {
    if limit(agent) == 0 || holders(agent).contains(&start.task) {
        return Ok(());
    }
    broken(
        "an agent starts only while its Task holds a slot",
        format!("Task {}: {}", start.name, agent["status"]),
    )
}

/// How many Tasks of an Agent may run at once; 0 is no limit.
#[must_use]
pub fn limit(agent: &Value) -> u64 {
    agent["spec"]["maxConcurrentTasks"].as_u64().unwrap_or(0)
}

/// UIDs of those who hold a slot.
#[must_use]
pub fn holders(agent: &Value) -> BTreeSet<String> {
    let slots = agent["status"]["slots"].as_array();
    let uids = slots.into_iter().flatten().map(|slot| slot["uid"].as_str());
    uids.flatten().map(str::to_owned).collect()
}

/// When everything has come to rest, every Task has ended.
pub fn every_task_has_ended(name: &str, task: &Value) -> Held {
    if is_terminal(task) {
        return Ok(());
    }
    broken(
        "every Task ends within bounded time once faults have stopped",
        format!("Task {name}: {}", task["status"]),
    )
}

/// When everything has come to rest, no Agent has a holder.
pub fn no_slot_is_held(name: &str, agent: &Value) -> Held {
    let held = &agent["status"]["slots"];
    if held.as_array().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    broken(
        "no slot is held at the end",
        format!("Agent {name}: {held}"),
    )
}

/// How long nothing may come of what an operator could do at once, in calm: until it has a leader again, and no longer.
const AT_ONCE: Duration = Duration::from_mins(5);

/// In calm, a stop is on record soon after somebody has asked for it.
pub fn a_stop_is_heard(name: &str, unheard: Duration) -> Held {
    at_once("a stop is heard", name, unheard)
}

/// In calm, nobody is queued while there is room.
pub fn a_free_slot_is_taken(name: &str, queued: Duration) -> Held {
    at_once("nobody is queued beside a free slot", name, queued)
}

fn at_once(rule: &'static str, name: &str, since: Duration) -> Held {
    if since <= AT_ONCE {
        return Ok(());
    }
    broken(rule, format!("Task {name}: {since:?}"))
}

/// How often operators may ask for one write within a minute of the API server's time. An Agent is written once for each
/// Task that gets or gives back a slot, a Task and its Job a dozen times in all.
const PACE: usize = 60;

/// No operator asks for the same again and again, whoever works against it.
pub fn nothing_is_asked_without_pause(write: &str, within_a_minute: usize) -> Held {
    if within_a_minute <= PACE {
        return Ok(());
    }
    broken(
        "no write is asked for again and again",
        format!("{write}: {within_a_minute} times within a minute"),
    )
}

/// When everything has come to rest, operators change nothing.
pub fn nothing_is_changed_at_rest(changes: u64) -> Held {
    if changes == 0 {
        return Ok(());
    }
    broken(
        "an operator at rest changes nothing",
        format!("{changes} changes"),
    )
}

/// Whether somebody has asked for a stop that is not on record.
#[must_use]
pub fn has_an_unheard_stop(task: &Value) -> bool {
    task["metadata"]["annotations"][names::ANNOTATION_STOP] == "true"
        && task["metadata"]["deletionTimestamp"].is_null()
        && !is_terminal(task)
        && !has_stopped(task)
}

/// Whether the Task waits for a slot although its Agent has one.
#[must_use]
pub fn waits_beside_a_free_slot(task: &Value, agent: &Value) -> bool {
    let limit = usize::try_from(limit(agent)).unwrap_or(usize::MAX);
    is_queued(task)
        && task["metadata"]["deletionTimestamp"].is_null()
        && (limit == 0 || holders(agent).len() < limit)
}

/// Whether a Task waits for a slot.
#[must_use]
pub fn is_queued(task: &Value) -> bool {
    task["status"]["phase"] == "Queued"
}

/// Whether the stop of a Task is on record.
fn has_stopped(task: &Value) -> bool {
    let conditions = task["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Stopped")
}

/// When everything has come to rest, nothing belongs to an owner that is gone.
pub fn nothing_is_left_behind(key: &str, object: &Value, alive: &BTreeSet<String>) -> Held {
    let owners = object["metadata"]["ownerReferences"].as_array();
    for owner in owners.into_iter().flatten() {
        let uid = owner["uid"].as_str().unwrap_or_default();
        if !alive.contains(uid) {
            return broken(
                "nothing is left of what was deleted",
                format!(
                    "{key} belongs to {} {}, which is gone",
                    owner["kind"], owner["name"]
                ),
            );
        }
    }
    Ok(())
}

/// Whether a Job has not ended, and may have a Pod.
#[must_use]
pub fn is_active(job: &Value) -> bool {
    !is_over(job) && job["spec"]["suspend"] != true
}

/// Whether a Job has ended, and makes no Pod any more.
fn is_over(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed"))
            && condition["status"] == "True"
    })
}

/// When everything has come to rest, no Job is left that was never released: whoever resumed it would start an agent. Of one
/// that has ended somebody may have taken the annotation off.
pub fn no_job_waits_for_its_release(key: &str, job: &Value) -> Held {
    let annotations = &job["metadata"]["annotations"];
    let waits = job["spec"]["suspend"] == true
        && annotations[names::ANNOTATION_RELEASED].is_null()
        && !is_over(job)
        && job["metadata"]["deletionTimestamp"].is_null();
    if !waits {
        return Ok(());
    }
    broken(
        "no Job that was never released is left at the end",
        key.to_owned(),
    )
}

/// When everything has come to rest, no Job could still make a Pod.
pub fn no_job_is_active(key: &str, job: &Value) -> Held {
    if !is_active(job) {
        return Ok(());
    }
    broken(
        "no Job is left unsuspended and unended",
        format!("{key}: {}", job["status"]),
    )
}

/// When everything has come to rest, no agent runs at the node.
pub fn no_agent_runs(pods: &BTreeSet<String>) -> Held {
    if pods.is_empty() {
        return Ok(());
    }
    broken("no agent is left running", format!("Pods {pods:?}"))
}

/// When everything has come to rest, no Job of a Task that has ended still has a Pod that has not.
pub fn no_pod_is_active(key: &str, pod: &Value) -> Held {
    if has_ended(pod) {
        return Ok(());
    }
    broken(
        "no Pod is left that has not ended",
        format!("{key}: {}", pod["status"]),
    )
}

/// Whether a Pod has ended, by its status.
#[must_use]
pub fn has_ended(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str();
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a Task has ended.
#[must_use]
pub fn is_terminal(task: &Value) -> bool {
    matches!(
        task["status"]["phase"].as_str(),
        Some("Completed" | "Failed")
    )
}
