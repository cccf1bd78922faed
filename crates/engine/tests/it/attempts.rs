//! When an attempt is followed by another one: only on the kubelet's word that the agent was never started.

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, MOST_ATTEMPTS, Step, explain, superseded_names},
    handover::BEGUN_BEFORE,
    observe::{JobEnd, JobView, Refusal, RefusalKind},
    state::{Phase, Reason},
};

use super::moment::{Moment, RUNS};

const EVICTED: &str = "
status:
  phase: Failed
  reason: Evicted
  message: no room
  startTime: '2026-01-01T00:00:00Z'
  initContainerStatuses: [{name: git-init, image: i, imageID: x, ready: false, restartCount: 0, state: {terminated: {exitCode: 137}}}]
  containerStatuses: [{name: agent, image: i, imageID: '', ready: false, restartCount: 0, state: {waiting: {reason: PodInitializing}}}]
";

fn failed_job(moment: &mut Moment) {
    moment.job().failed = 1;
    moment.job().end = Some(JobEnd::Failed {
        reason: "BackoffLimitExceeded".into(),
        message: String::new(),
    });
}

/// One that failed in this way.
fn failed(pod: &str) -> Moment {
    let mut moment = Moment::running();
    moment.pod(pod);
    moment.observation.pods[0].bound = true;
    failed_job(&mut moment);
    moment
}

fn follows(moment: &mut Moment) {
    is_spent(moment);
    // Its Pod may be gone by now.
    moment.observation.pods.clear();
    let Step::Rest { again: Some(pause) } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    moment.now += i64::try_from(pause.as_secs()).expect("short");
    moment.record();
    assert_eq!(moment.state.phase, Phase::Pending, "{:?}", moment.state);
    assert_eq!(moment.state.job, None);
    moment.observation.job = None;
}

/// What its Pod says is on record, and nothing else has changed.
fn is_spent(moment: &mut Moment) {
    moment.record();
    assert_eq!(moment.state.phase, Phase::Running, "{:?}", moment.state);
    let spent = u32::try_from(moment.state.failed_attempts.len()).expect("few");
    assert_eq!(spent, moment.state.attempts);
}

/// An operator that was cut off made it, long after that attempt was over.
#[test]
fn a_job_of_an_attempt_that_is_over_is_cleared_away_unless_somebody_has_released_it() {
    let mut moment = failed(EVICTED);
    let first = moment.observation.job.clone().expect("a Job");
    follows(&mut moment);
    moment.create();
    moment.record();
    let job = moment.job();
    (job.suspended, job.released) = (false, true);
    moment.pod(RUNS);
    assert!(matches!(moment.decide(), Step::Rest { .. }));
    let late = JobView {
        uid: "late".into(),
        suspended: true,
        released: false,
        end: None,
        ..first.clone()
    };
    let names = superseded_names(&moment.owner, &moment.state);
    assert_eq!(names.as_slice(), std::slice::from_ref(&late.name));
    moment.observation.superseded = vec![first, late.clone()];
    let actions = moment.actions();
    assert!(
        matches!(actions.as_slice(), [Action::DeleteJob { uid, .. }] if *uid == "late"),
        "{actions:?}"
    );
    for (suspended, owner) in [(false, late.owner_uid.clone()), (true, None)] {
        moment.observation.superseded = vec![JobView {
            suspended,
            owner_uid: owner,
            ..late.clone()
        }];
        assert!(matches!(moment.decide(), Step::Rest { .. }));
    }
}

/// Its node had lost the agent's container and began with the Pod anew; then the Pod was evicted, and nothing but the init
/// container tells of the agent.
#[test]
fn an_init_container_that_found_the_mark_of_the_agent_is_believed() {
    let begun = format!("exitCode: {BEGUN_BEFORE}");
    let mut moment = failed(&EVICTED.replace("exitCode: 137", &begun));
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    assert_eq!(moment.state.failed_attempts.len(), 0);
}

#[test]
fn there_are_three_of_them_and_each_is_on_record() {
    let mut moment = failed(EVICTED);
    let first = moment.state.job.clone().expect("a Job").name;
    for attempt in 1..MOST_ATTEMPTS {
        assert_eq!(moment.state.attempts, attempt);
        follows(&mut moment);
        let why = explain(&moment.input()).join(" ");
        assert!(
            why.contains(&format!("attempt {} follows", attempt + 1)),
            "{why}"
        );
        moment.create();
        moment.record();
        let job = moment.job();
        (job.suspended, job.released) = (false, true);
        moment.pod(EVICTED);
        moment.observation.pods[0].bound = true;
        failed_job(&mut moment);
    }
    let (_, reason, message) = moment.end();
    assert_eq!(reason, Reason::RetriesExhausted);
    assert_eq!(message, "after 3 attempts: Evicted: no room");
    let jobs: Vec<_> = moment
        .state
        .failed_attempts
        .iter()
        .map(|it| it.job.clone())
        .collect();
    assert_eq!(jobs.len(), 2);
    for failed in &moment.state.failed_attempts {
        assert_eq!(failed.message, "Evicted: no room");
    }
    assert_eq!(jobs[0], first);
    assert_ne!(jobs[1], first);
}

/// Whatever it was has to have time to pass.
#[test]
fn there_is_a_pause_before_each_and_it_says_how_long() {
    let mut moment = failed(EVICTED);
    is_spent(&mut moment);
    let message = moment.state.message.clone().expect("a message");
    assert_eq!(
        message,
        "attempt 1 ended before the agent was started, another one begins 5 s later: Evicted: no room"
    );
    moment.now += 4;
    let Step::Rest { again } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    assert_eq!(again.expect("a pause").as_secs(), 1);
    let why = explain(&moment.input()).join(" ");
    assert!(why.contains("attempt 2 begins in 1 s"), "{why}");
    moment.now += 1;
    moment.record();
    assert_eq!(moment.state.phase, Phase::Pending);
}

#[test]
fn a_stop_in_the_pause_is_heard_although_the_pod_is_gone() {
    let mut moment = failed(EVICTED);
    is_spent(&mut moment);
    moment.observation.pods.clear();
    moment.stop = true;
    moment.record();
    assert_eq!(moment.reason(), Reason::UserStopped);
}

#[test]
fn it_waits_until_the_job_has_ended() {
    let mut moment = failed(EVICTED);
    moment.job().end = None;
    is_spent(&mut moment);
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.observation.pods.clear();
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.now += 1800;
    assert_eq!(moment.reason(), Reason::InfrastructureError);
}

/// One that nobody saw, because it was deleted at once, may have run the agent.
#[test]
fn it_is_the_end_when_the_job_counts_another_pod() {
    let mut moment = failed(EVICTED);
    is_spent(&mut moment);
    moment.observation.pods.clear();
    moment.job().failed = 2;
    let (_, reason, message) = moment.end();
    assert_eq!(reason, Reason::InfrastructureError);
    assert!(message.contains("had 2 Pods"), "{message}");
}

/// And of one that is seen at work, the end is waited for.
#[test]
fn another_pod_that_worked_says_how_it_ended() {
    let mut moment = failed(EVICTED);
    is_spent(&mut moment);
    moment.agent_ended("Succeeded", "", "{exitCode: 0}");
    assert_eq!(moment.reason(), Reason::Succeeded);
}

/// Another Pod of the same Job may be at work.
#[test]
fn it_waits_until_every_pod_has_ended() {
    let mut moment = failed(EVICTED);
    let mut other = moment.observation.pods[0].clone();
    other.uid = "other".into();
    other.phase = kubeopencode_engine::observe::PodPhase::Running;
    moment.observation.pods.push(other);
    assert!(matches!(moment.decide(), Step::Rest { .. }));
}

#[test]
fn an_init_container_says_what_may_pass() {
    let init = |code: i32| {
        format!(
            "status: {{phase: Failed, startTime: '2026-01-01T00:00:00Z', containerStatuses: [{{name: agent, image: i, imageID: '', ready: false, restartCount: 0, state: {{waiting: {{reason: PodInitializing}}}}}}], initContainerStatuses: [{{name: git-init, image: i, imageID: x, ready: false, restartCount: 0, state: {{terminated: {{exitCode: {code}, message: why}}}}}}]}}"
        )
    };
    follows(&mut failed(&init(75)));
    assert_eq!(failed(&init(1)).reason(), Reason::InfrastructureError);
}

/// Three times the same refusal would only take longer.
#[test]
fn a_refusal_that_stays_is_the_end() {
    for reason in ["UnsupportedByNode", "SysctlForbidden", "DeadlineExceeded"] {
        let mut moment = failed(&EVICTED.replace("Evicted", reason));
        moment.record();
        assert!(moment.state.phase.is_terminal(), "{reason}");
        assert!(moment.state.failed_attempts.is_empty(), "{reason}");
    }
}

#[test]
fn nobody_but_the_kubelet_says_that_the_agent_was_not_started() {
    let mut moment = failed(EVICTED);
    moment.observation.pods[0].given_up = true;
    assert_eq!(
        moment.reason(),
        Reason::InfrastructureError,
        "its node is gone"
    );

    let mut moment = Moment::running();
    failed_job(&mut moment);
    assert_eq!(
        moment.reason(),
        Reason::InfrastructureError,
        "its Pod is gone"
    );
}

#[test]
fn a_pod_that_was_deleted_before_it_had_a_node_never_ran() {
    let mut moment = failed("status: {phase: Pending}");
    let pod = &mut moment.observation.pods[0];
    pod.bound = false;
    pod.deletion = Timestamp::from_second(moment.now).ok();
    pod.deletion_requested = pod.deletion;
    pod.phase = kubeopencode_engine::observe::PodPhase::Failed;
    follows(&mut moment);
}

#[test]
fn what_a_person_ended_is_not_begun_again() {
    let mut moment = failed(EVICTED);
    moment.stop = true;
    moment.record();
    assert_eq!(moment.reason(), Reason::UserStopped);
    let mut moment = failed(EVICTED);
    moment.observation.job = None;
    assert_eq!(
        moment.reason(),
        Reason::InfrastructureError,
        "its Job was deleted"
    );
}

/// A kubelet that was restarted admits every Pod once more, also those at work. Where it refuses one then (a label of the
/// node is gone, a device has not registered yet), the Pod has a reason and no containers, and the agent may have run.
#[test]
fn a_kubelet_that_says_nothing_of_the_agent_is_not_believed() {
    for reason in [
        "NodeAffinity",
        "OutOfcpu",
        "UnexpectedAdmissionError",
        "Evicted",
    ] {
        let refused = format!(
            "status: {{phase: Failed, reason: {reason}, startTime: '2026-01-01T00:00:00Z'}}"
        );
        let mut moment = failed(&refused);
        assert_eq!(moment.reason(), Reason::InfrastructureError, "{reason}");
        assert!(moment.state.failed_attempts.is_empty(), "{reason}");
    }
}

/// It removes what it ends before it has looked, so an agent that began a moment before the eviction leaves no trace.
#[test]
fn a_kubelet_that_evicts_is_not_believed_once_the_init_containers_are_through() {
    let through = EVICTED.replace("exitCode: 137", "exitCode: 0");
    for reason in ["Evicted", "Preempting"] {
        let mut moment = failed(&through.replace("Evicted", reason));
        assert_eq!(moment.reason(), Reason::InfrastructureError, "{reason}");
        assert!(moment.state.failed_attempts.is_empty(), "{reason}");
    }
}

#[test]
fn an_agent_that_has_begun_is_never_begun_again() {
    let mut moment = Moment::running();
    moment.agent_ended(
        "Failed",
        "reason: Evicted",
        "{exitCode: 137, reason: Error}",
    );
    failed_job(&mut moment);
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    // The runtime says that it could not start it. It may have got further than it knows.
    let mut moment = Moment::running();
    moment.agent_ended(
        "Failed",
        "reason: Evicted",
        "{exitCode: 128, reason: StartError}",
    );
    failed_job(&mut moment);
    assert_eq!(moment.reason(), Reason::InfrastructureError);
}

/// A quota that is full for a moment has half an hour, however long the Task had waited for something else before.
#[test]
fn a_refusal_has_its_time_in_each_attempt() {
    let mut moment = failed(EVICTED);
    follows(&mut moment);
    moment.now += 3600;
    moment.observation.refused = Some(Refusal {
        what: "Job x".into(),
        kind: RefusalKind::Forbidden,
        message: "quota".into(),
        change: None,
        again: false,
    });
    moment.record();
    moment.now += 1;
    assert!(matches!(moment.decide(), Step::Rest { .. }));
}
