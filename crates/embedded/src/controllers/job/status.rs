//! Conditions and counters of a Job's status, as values.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::batch::v1::{JobCondition, JobStatus, UncountedTerminatedPods},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// Condition of a Job that succeeded.
pub(crate) const COMPLETE: &str = "Complete";
/// Condition of a Job that failed.
pub(crate) const FAILED: &str = "Failed";
/// Condition of a Job that will be Complete once its Pods have ended.
pub(crate) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// Condition of a Job that will be Failed once its Pods have ended.
pub(crate) const FAILURE_TARGET: &str = "FailureTarget";
/// Condition of a Job that is to have no Pods for now.
pub(crate) const SUSPENDED: &str = "Suspended";

/// The condition of this type if it is True.
pub(crate) fn holds<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The condition that says that the Job is over, if it is.
pub(crate) fn finished(status: &JobStatus) -> Option<&JobCondition> {
    holds(status, COMPLETE).or_else(|| holds(status, FAILED))
}

/// `now` as the API keeps it, in whole seconds.
pub(crate) fn time(now: Timestamp) -> Time {
    let subsec = SignedDuration::from_nanos(i64::from(now.subsec_nanosecond()));
    Time(now.checked_sub(subsec).unwrap_or(now))
}

/// Sets a condition in its place, or adds it at the end. One that already says so keeps its times.
pub(crate) fn set_condition(
    status: &mut JobStatus,
    type_: &str,
    value: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let value = if value { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let at = conditions
        .iter()
        .position(|condition| condition.type_ == type_);
    if let Some(at) = at
        && conditions[at].status == value
        && conditions[at].reason.as_deref() == Some(reason)
        && conditions[at].message.as_deref() == Some(message)
    {
        return;
    }
    let condition = JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        last_probe_time: Some(time(now)),
        last_transition_time: Some(time(now)),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Ended Pods that are neither in a counter nor free of their finalizer yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uncounted {
    /// Uids of those that succeeded.
    pub(crate) succeeded: Vec<String>,
    /// Uids of those that failed.
    pub(crate) failed: Vec<String>,
}

impl Uncounted {
    /// Reads `uncountedTerminatedPods`.
    pub(crate) fn of(status: &JobStatus) -> Self {
        let pods = status.uncounted_terminated_pods.clone().unwrap_or_default();
        Self {
            succeeded: pods.succeeded.unwrap_or_default(),
            failed: pods.failed.unwrap_or_default(),
        }
    }

    /// Whether every ended Pod is counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.succeeded.is_empty() && self.failed.is_empty()
    }

    /// Whether the Pod with this uid waits to be counted.
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.succeeded
            .iter()
            .chain(&self.failed)
            .any(|other| other == uid)
    }

    /// Writes `uncountedTerminatedPods`.
    pub(crate) fn write(self, status: &mut JobStatus) {
        let some = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: some(self.succeeded),
            failed: some(self.failed),
        });
    }
}

/// A counter as the status keeps it: zero is left out.
pub(crate) fn counter(number: usize) -> Option<i32> {
    Some(i32::try_from(number).unwrap_or(i32::MAX)).filter(|number| *number != 0)
}

/// A counter of the status as a number.
pub(crate) fn number(counter: Option<i32>) -> usize {
    counter
        .and_then(|counter| usize::try_from(counter).ok())
        .unwrap_or_default()
}
