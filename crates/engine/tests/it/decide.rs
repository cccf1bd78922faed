//! Single decisions: what was observed, and what comes next.

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, STALL_LIMIT, Step, explain},
    observe::JobEnd,
    state::{Phase, Reason},
};

use super::moment::{AGENT, Moment, RUNS, TASK};

#[test]
fn the_job_is_created_suspended_recorded_and_only_then_released() {
    let mut moment = Moment::new();
    let kinds: Vec<bool> = moment
        .actions()
        .iter()
        .map(|action| matches!(action, Action::CreateJob(_)))
        .collect();
    assert_eq!(kinds, [false, true], "the files first");
    moment.create();
    moment.record();
    assert_eq!(moment.state.phase, Phase::Running);
    assert_eq!(moment.state.attempts, 1);
    let agent = moment.state.agent.clone().expect("the Agent");
    assert_eq!((agent.name.as_str(), agent.generation), ("a", Some(1)));
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::ReleaseJob { uid, annotated: true, .. }] if uid == "job-uid"
    ));
}

#[test]
fn a_job_of_another_uid_is_never_released_and_is_deleted() {
    let mut moment = Moment::new();
    moment.create();
    moment.record();
    moment.job().uid = "another".into();
    assert_eq!(moment.reason(), Reason::JobLost);
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { uid, .. }] if uid == "another"
    ));
}

#[test]
fn a_name_that_somebody_else_has_is_an_error_and_their_job_is_left_alone() {
    let mut moment = Moment::new();
    moment.create();
    moment.job().owner_uid = Some("somebody".into());
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

#[test]
fn what_is_missing_is_waited_for_visibly_and_not_for_ever() {
    let mut moment = Moment::of(TASK);
    moment.record();
    assert_eq!(moment.state.phase, Phase::Pending);
    assert_eq!(
        moment.state.message.as_deref(),
        Some("waits for Agent team-a/a")
    );
    moment.now += 299;
    assert!(matches!(moment.decide(), Step::Rest { again: Some(left) } if left.as_secs() == 1));
    let why = explain(&moment.input()).join(" ");
    assert!(why.contains("Agent team-a/a does not exist"), "{why}");
    moment.now += 1;
    let (phase, reason, message) = moment.end();
    assert_eq!((phase, reason), (Phase::Failed, Reason::ReferenceNotFound));
    assert_eq!(message, "waited 300 s in vain for Agent team-a/a");
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

#[test]
fn what_appears_is_said_and_then_it_goes_on() {
    let mut moment = Moment::of(TASK);
    moment.record();
    moment.lowered = Moment::new().lowered;
    moment.record();
    assert_eq!(
        (moment.state.phase, &moment.state.message),
        (Phase::Pending, &None)
    );
    assert!(matches!(moment.decide(), Step::Act(_)));
}

#[test]
fn what_can_never_run_fails_at_once() {
    let task = TASK.replace("description: x", "timeout: never");
    assert_eq!(
        Moment::of(&format!("{AGENT}{task}")).reason(),
        Reason::InvalidSpec
    );
    let big = TASK.replace(
        "description: x",
        &format!("description: {}", "x".repeat(1 << 21)),
    );
    let (_, reason, message) = Moment::of(&format!("{AGENT}{big}")).end();
    assert_eq!(reason, Reason::InvalidSpec);
    assert!(
        message.starts_with("/workspace/task.md is 2097153 bytes"),
        "{message}"
    );
}

#[test]
fn a_deleted_pod_tells_nothing_by_its_exit_code() {
    let mut moment = Moment::running();
    moment.agent_ended(
        "Succeeded",
        "",
        "{exitCode: 0, finishedAt: '2026-01-01T00:00:05Z'}",
    );
    let asked = |second: i64| Timestamp::from_second(1_767_225_600 + second).ok();
    moment.observation.pods[0].deletion = asked(40);
    moment.observation.pods[0].deletion_requested = asked(4);
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    // With its Job it is the Job that is lost; and what ended before is a result.
    let mut moment = Moment::running();
    moment.agent_ended(
        "Succeeded",
        "",
        "{exitCode: 0, finishedAt: '2026-01-01T00:00:05Z'}",
    );
    moment.observation.pods[0].deletion_requested = asked(4);
    moment.observation.job = None;
    assert_eq!(moment.reason(), Reason::JobLost);
    let mut moment = Moment::running();
    moment.agent_ended(
        "Succeeded",
        "",
        "{exitCode: 0, finishedAt: '2026-01-01T00:00:05Z'}",
    );
    moment.observation.pods[0].deletion_requested = asked(6);
    moment.observation.job = None;
    assert_eq!(moment.reason(), Reason::Succeeded);
}

#[test]
fn a_problem_is_told_once_although_the_kubelet_changes_its_words() {
    let mut moment = Moment::running();
    let waiting = |reason: &str, message: &str| {
        format!(
            "status: {{phase: Pending, startTime: '2026-01-01T00:00:00Z', containerStatuses: [{{name: agent, image: i, imageID: '', ready: false, restartCount: 0, state: {{waiting: {{reason: {reason}, message: {message}}}}}}}]}}"
        )
    };
    moment.pod(&waiting("ErrImagePull", "not found"));
    moment.record();
    let expected = "the image i of agent cannot be pulled: not found";
    assert_eq!(moment.state.message.as_deref(), Some(expected));
    assert_eq!(moment.state.phase, Phase::Running);
    moment.pod(&waiting("ImagePullBackOff", "back-off 20s"));
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    // It passes, or it does not.
    moment.pod(&waiting("ContainerCreating", "''"));
    moment.record();
    assert_eq!(moment.state.message, None);
    moment.pod(&waiting("ImagePullBackOff", "back-off 5m"));
    moment.now += i64::try_from(STALL_LIMIT.as_secs()).expect("short");
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    // Nothing of it goes on afterwards.
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::SetPodDeadline { seconds: 1, .. }]
    ));
}

/// A volume that cannot be mounted is told of in Events of the Pod alone.
#[test]
fn a_pod_whose_containers_do_not_start_without_a_word_is_told_of_after_a_while() {
    let waits = |reason: &str| {
        let state = format!("{{waiting: {{reason: {reason}}}}}");
        format!(
            "status: {{phase: Pending, startTime: '2026-01-01T00:00:00Z', containerStatuses: [{{name: agent, image: i, imageID: '', ready: false, restartCount: 0, state: {state}}}]}}"
        )
    };
    let mut moment = Moment::running();
    moment.pod(&waits("PodInitializing"));
    let Step::Rest { again: Some(again) } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    assert_eq!(again.as_secs(), 120);
    moment.now += 120;
    moment.record();
    let message = moment.state.message.clone().expect("a message");
    assert!(
        message.starts_with("no container of its Pod p starts: the Events"),
        "{message}"
    );
    let Step::Rest { again: Some(again) } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    assert_eq!(again.as_secs(), STALL_LIMIT.as_secs() - 120);
    // It passes, or it does not.
    let mut passed = Moment::running();
    passed.state = moment.state.clone();
    passed.pod(RUNS);
    passed.record();
    assert_eq!(passed.state.message, None);
    moment.now += i64::try_from(again.as_secs()).expect("short");
    assert_eq!(
        moment.end(),
        (Phase::Failed, Reason::InfrastructureError, message)
    );
}

#[test]
fn a_stop_while_running_keeps_pod_and_logs_and_suspends_the_job_afterwards() {
    let mut moment = Moment::running();
    moment.pod(RUNS);
    moment.stop = true;
    moment.record();
    assert!(moment.state.stop_is_recorded() && !moment.state.is_true("Stopped"));
    // Taken back too late.
    moment.stop = false;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::SetPodDeadline { seconds: 1, .. }]
    ));
    moment.observation.pods[0].active_deadline_seconds = Some(1);
    assert!(
        matches!(moment.decide(), Step::Rest { again: Some(_) }),
        "its node may be lost"
    );
    moment.agent_ended("Failed", "reason: DeadlineExceeded", "{exitCode: 143}");
    let (phase, reason, _) = moment.end();
    assert_eq!((phase, reason), (Phase::Completed, Reason::UserStopped));
    assert!(moment.state.is_true("Stopped"));
    assert_eq!(
        moment
            .state
            .result
            .as_ref()
            .and_then(|result| result.exit_code),
        Some(143)
    );
    assert_eq!(
        moment.decide(),
        Step::Rest { again: None },
        "suspended now, a Job controller that is late would delete the Pod and its logs"
    );
    moment.job().end = Some(JobEnd::Failed {
        reason: "BackoffLimitExceeded".to_owned(),
        message: String::new(),
    });
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::SuspendJob { .. }]
    ));
    moment.job().suspended = true;
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// Its Job would wait for the Pod for ever, and the slot with it.
#[test]
fn a_job_whose_pod_is_lost_with_its_node_is_closed() {
    let mut moment = Moment::running();
    moment.pod(RUNS);
    let gone = moment.input().now;
    moment.observation.pods[0].deletion = Some(gone);
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.now += 300;
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::CloseJob { .. }]
    ));
    moment.job().closed = true;
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

#[test]
fn a_stop_that_comes_after_the_end_changes_nothing() {
    let mut moment = Moment::running();
    moment.agent_ended("Failed", "", "{exitCode: 3}");
    moment.stop = true;
    assert_eq!(moment.reason(), Reason::AgentExitNonZero);
}

#[test]
fn a_stop_before_the_job_and_before_its_release() {
    let mut moment = Moment::new();
    moment.stop = true;
    assert_eq!(moment.reason(), Reason::UserStopped);
    assert_eq!(moment.state.job, None);

    let mut moment = Moment::new();
    moment.create();
    moment.record();
    moment.stop = true;
    moment.record();
    assert!(
        matches!(moment.actions().as_slice(), [Action::DeleteJob { uid, resource_version, .. }] if uid == "job-uid" && resource_version == "7")
    );
    moment.observation.job = None;
    assert_eq!(moment.reason(), Reason::UserStopped);
}

#[test]
fn a_stop_of_a_pod_without_a_node_closes_the_job() {
    let mut moment = Moment::running();
    moment.pod("status: {phase: Pending}");
    moment.stop = true;
    moment.record();
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::CloseJob { .. }]
    ));
    moment.job().closed = true;
    assert_eq!(moment.decide(), Step::Rest { again: None });
    moment.observation.pods.clear();
    assert_eq!(
        moment.decide(),
        Step::Rest { again: None },
        "the Job controller may be about to make another one, until it says that it is not"
    );
    moment.job().end = Some(JobEnd::Failed {
        reason: "DeadlineExceeded".to_owned(),
        message: String::new(),
    });
    assert_eq!(moment.reason(), Reason::UserStopped);
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// An operator that was cut off for long has its old view of a Pod when it comes back, and a clock that went on.
#[test]
fn what_follows_from_time_is_asked_of_the_api_server_first() {
    let pending = "status: {phase: Pending}";
    let deleted = |moment: &mut Moment| {
        moment.agent_ended("Running", "", "{exitCode: 0}");
        let pod = &mut moment.observation.pods[0];
        pod.phase = kubeopencode_engine::observe::PodPhase::Running;
        pod.deletion = Timestamp::from_second(moment.now).ok();
        pod.deletion_requested = pod.deletion;
    };
    let mut late = Moment::running();
    late.pod(pending);
    late.now += 3600;
    let mut lost = Moment::running();
    deleted(&mut lost);
    lost.now += 3600;
    let mut stopped = Moment::running();
    stopped.pod(pending);
    stopped.stop = true;
    stopped.record();
    for mut moment in [late, lost, stopped] {
        moment.observation.confirmed = false;
        assert_eq!(moment.decide(), Step::Confirm);
        moment.observation.confirmed = true;
        assert_ne!(moment.decide(), Step::Confirm);
    }
}

#[test]
fn a_job_that_is_gone_or_was_suspended_by_somebody_is_lost() {
    let mut moment = Moment::running();
    moment.observation.job = None;
    assert_eq!(moment.reason(), Reason::JobLost);
    let mut moment = Moment::running();
    moment.job().suspended = true;
    assert_eq!(moment.reason(), Reason::JobLost);
    // Whoever suspended it may resume it: it makes no Pod then.
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::CloseJob { .. }]
    ));
    let job = moment.job();
    (job.suspended, job.closed) = (false, true);
    assert_eq!(moment.decide(), Step::Rest { again: None });
    // Suspended, it would never end, and never say that it makes none.
    moment.job().suspended = true;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::CloseJob { .. }]
    ));
}

#[test]
fn a_job_that_ended_without_a_pod_to_tell() {
    let mut moment = Moment::running();
    moment.job().end = Some(JobEnd::Complete);
    assert_eq!(moment.reason(), Reason::Succeeded);
    let mut moment = Moment::running();
    moment.job().end = Some(JobEnd::Failed {
        reason: "BackoffLimitExceeded".into(),
        message: "m".into(),
    });
    assert_eq!(moment.reason(), Reason::InfrastructureError);
}

#[test]
fn a_job_that_gets_no_pod_says_so_and_fails_in_the_end() {
    let mut moment = Moment::running();
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.now += 31;
    moment.record();
    let message = moment.state.message.clone().expect("a message");
    assert!(message.contains("ServiceAccount"), "{message}");
    moment.now += i64::try_from(STALL_LIMIT.as_secs()).expect("short");
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    assert!(
        matches!(moment.actions().as_slice(), [Action::CloseJob { .. }]),
        "it could still get one"
    );
}

#[test]
fn a_status_that_lost_its_job_is_not_begun_again() {
    let mut moment = Moment::running();
    moment.state.job = None;
    assert_eq!(moment.reason(), Reason::JobLost);
}

#[test]
fn what_is_being_deleted_is_left_to_its_owner_references() {
    let mut moment = Moment::new();
    moment.deleting = true;
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// By hand, or its annotations were taken off. Whoever suspends it later must not see it released by us: its agent ran.
#[test]
fn a_job_that_somebody_else_has_released_is_marked_and_never_released_again() {
    let mut moment = Moment::running();
    moment.job().released = false;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::MarkReleased { .. }]
    ));
    moment.job().released = true;
    moment.job().suspended = true;
    let (_, reason, _) = moment.end();
    assert_eq!(reason, Reason::JobLost);
}

/// The spec may be edited until the Job is on record; what runs is what the status names.
#[test]
fn a_job_of_a_spec_that_was_edited_is_made_anew() {
    let mut moment = Moment::new();
    moment.create();
    moment.owner.generation = 2;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { uid, .. }] if uid == "job-uid"
    ));
    // One that somebody has released runs, and is followed.
    moment.job().suspended = false;
    moment.record();
    assert_eq!(moment.state.phase, Phase::Running);
}

/// Nobody was there to release it for longer than a Job may be without a Pod.
#[test]
fn the_time_without_a_pod_begins_with_the_release() {
    let mut moment = Moment::new();
    moment.create();
    moment.record();
    moment.now += 31 * 60;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::ReleaseJob { .. }]
    ));
    let now = Timestamp::from_second(moment.now).ok();
    let job = moment.job();
    (job.suspended, job.released, job.released_at) = (false, true, now);
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
}

/// Its words are cut to one line, and are still the same problem.
#[test]
fn a_problem_is_told_once_whatever_is_in_its_words() {
    let mut moment = Moment::running();
    moment.pod("spec: {nodeName: node1}\nstatus:\n  phase: Pending\n  startTime: '2026-01-01T00:00:00Z'\n  containerStatuses: [{name: agent, image: \"a\\tb\", imageID: '', ready: false, restartCount: 0, state: {waiting: {reason: InvalidImageName, message: 'no'}}}]");
    moment.record();
    assert!(matches!(moment.decide(), Step::Rest { .. }));
}
