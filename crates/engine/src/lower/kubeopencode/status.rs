//! `TaskStatus` and [`RunState`] say the same in different words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as ApiCondition, Time};
use kubeopencode_api::v1alpha1 as api;

use super::result;
use crate::{
    run::AgentUsed,
    state::{Condition, FailedAttempt, JobRecord, Phase, QueuePlace, Reason, RunState},
};

/// What the status remembers.
pub fn to_state(status: &api::TaskStatus) -> RunState {
    RunState {
        phase: match status.phase {
            None | Some(api::TaskPhase::Pending) => Phase::Pending,
            Some(api::TaskPhase::Queued) => Phase::Queued,
            Some(api::TaskPhase::Running) => Phase::Running,
            Some(api::TaskPhase::Completed) => Phase::Completed,
            Some(api::TaskPhase::Failed) => Phase::Failed,
        },
        observed_generation: status.observed_generation,
        job: match (&status.job_name, &status.job_uid) {
            (Some(name), Some(uid)) => Some(JobRecord {
                name: name.clone(),
                uid: uid.clone(),
            }),
            _ => None,
        },
        attempts: status
            .attempts
            .and_then(|attempts| u32::try_from(attempts).ok())
            .unwrap_or_default(),
        failed_attempts: status
            .failed_attempts
            .iter()
            .map(|failed| FailedAttempt {
                job: failed.job_name.clone(),
                message: failed.message.clone(),
                time: failed.time.0,
            })
            .collect(),
        queue: status.queue.as_ref().map(|queue| QueuePlace {
            agent: queue.agent.clone(),
            position: usize::try_from(queue.position).unwrap_or_default(),
        }),
        agent: status.agent.as_ref().map(|agent| AgentUsed {
            name: agent.name.clone(),
            generation: agent.generation,
        }),
        start_time: status.start_time.as_ref().map(|time| time.0),
        completion_time: status.completion_time.as_ref().map(|time| time.0),
        reason: status.reason.as_deref().and_then(Reason::from_word),
        message: status.message.clone(),
        result: status.result.as_ref().map(result::to_report),
        conditions: status.conditions.iter().map(to_condition).collect(),
    }
}

/// The status that remembers this.
pub fn of_state(state: &RunState) -> api::TaskStatus {
    api::TaskStatus {
        observed_generation: state.observed_generation,
        phase: Some(match state.phase {
            Phase::Pending => api::TaskPhase::Pending,
            Phase::Queued => api::TaskPhase::Queued,
            Phase::Running => api::TaskPhase::Running,
            Phase::Completed => api::TaskPhase::Completed,
            Phase::Failed => api::TaskPhase::Failed,
        }),
        reason: state.reason.map(|reason| reason.as_str().to_owned()),
        message: state.message.clone(),
        job_name: state.job.as_ref().map(|job| job.name.clone()),
        job_uid: state.job.as_ref().map(|job| job.uid.clone()),
        attempts: (state.attempts > 0).then(|| i32::try_from(state.attempts).unwrap_or(i32::MAX)),
        failed_attempts: state
            .failed_attempts
            .iter()
            .map(|failed| api::FailedAttempt {
                job_name: failed.job.clone(),
                message: failed.message.clone(),
                time: Time(failed.time),
            })
            .collect(),
        queue: state.queue.as_ref().map(|queue| api::QueueStatus {
            agent: queue.agent.clone(),
            position: i32::try_from(queue.position).unwrap_or(i32::MAX),
        }),
        agent: state.agent.as_ref().map(|agent| api::AgentUsed {
            name: agent.name.clone(),
            generation: agent.generation,
        }),
        start_time: state.start_time.map(Time),
        completion_time: state.completion_time.map(Time),
        result: state
            .result
            .as_ref()
            .map(|report| result::of_report(report, state.reason)),
        conditions: state.conditions.iter().map(of_condition).collect(),
    }
}

fn to_condition(condition: &ApiCondition) -> Condition {
    Condition {
        type_: condition.type_.clone(),
        status: condition.status == "True",
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_transition: condition.last_transition_time.0,
        observed_generation: condition.observed_generation,
    }
}

fn of_condition(condition: &Condition) -> ApiCondition {
    ApiCondition {
        type_: condition.type_.clone(),
        status: if condition.status { "True" } else { "False" }.to_owned(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_transition_time: Time(condition.last_transition),
        observed_generation: condition.observed_generation,
    }
}
