//! Pods that do not end by themselves, although everything that was to be done is done, or can never be.

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, LOST_LIMIT, STALL_LIMIT, Step},
    queue::Remains,
    state::Reason,
};

use super::moment::{Moment, RUNS};

/// The agent has ended, and a container that somebody's webhook has put into the Pod runs on.
const OUTLIVED: &str = r#"
spec: {activeDeadlineSeconds: 7200, terminationGracePeriodSeconds: 30}
status:
  phase: Running
  startTime: '2026-01-01T00:00:00Z'
  containerStatuses:
  - {name: agent, image: i, imageID: x, ready: false, restartCount: 0, state: {terminated: {exitCode: 0, finishedAt: '2026-01-01T00:00:00Z', message: '{"exitCode":0,"toldToEnd":false}'}}}
  - {name: proxy, image: i, imageID: x, ready: true, restartCount: 0, state: {running: {}}}
"#;

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("short")
}

fn ends_the_pod(moment: &Moment) -> bool {
    let actions = moment.actions();
    matches!(
        actions.as_slice(),
        [Action::SetPodDeadline { seconds: 1, .. }]
    )
}

#[test]
fn a_pod_that_outlives_its_agent_is_ended_and_the_agent_counts() {
    let mut moment = Moment::running();
    moment.pod(OUTLIVED);
    let Step::Rest { again: Some(wait) } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    moment.now += seconds(wait);
    moment.observation.confirmed = false;
    assert_eq!(
        moment.decide(),
        Step::Confirm,
        "a late cache is not believed"
    );
    moment.observation.confirmed = true;
    assert!(ends_the_pod(&moment));
    moment.pod(&OUTLIVED.replace(
        "phase: Running",
        "phase: Failed\n  reason: DeadlineExceeded",
    ));
    assert_eq!(moment.reason(), Reason::Succeeded);
}

/// Its node has died since: the agent's end is known all the same.
#[test]
fn a_pod_that_outlives_its_agent_and_its_node_is_not_waited_for_for_ever() {
    let mut moment = Moment::running();
    moment.pod(&OUTLIVED.replace("7200", "1"));
    moment.now += 90;
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.now += 30 + seconds(LOST_LIMIT);
    assert_eq!(moment.reason(), Reason::Succeeded);
}

/// An agent that nobody supervises, or whose report was lost with its `supervise`: the deadline that ended what was beside it
/// was set by us when it had ended.
#[test]
fn a_pod_that_outlives_an_agent_without_a_report_is_ended_and_the_agent_counts() {
    for (terminated, reason, words) in [
        ("{exitCode: 0, ENDED}", Reason::Succeeded, "exit code 0"),
        (
            "{exitCode: 3, reason: Error, ENDED}",
            Reason::AgentExitNonZero,
            "exit code 3",
        ),
        (
            "{exitCode: 137, reason: OOMKilled, ENDED}",
            Reason::AgentExitNonZero,
            "more memory than its limit",
        ),
    ] {
        let mut moment = Moment::running();
        moment.job().pod_deadline_seconds = Some(7200);
        let terminated = terminated.replace("ENDED", "finishedAt: '2026-01-01T00:00:00Z'");
        moment.agent_ended("Running", "", &terminated);
        moment.now += 90;
        assert!(ends_the_pod(&moment), "{:?}", moment.decide());
        moment.agent_ended("Failed", "reason: DeadlineExceeded", &terminated);
        moment.observation.pods[0].active_deadline_seconds = Some(1);
        let (_, ended, message) = moment.end();
        assert_eq!(ended, reason, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

/// The same deadline of 1, where it is the one that the Pod was made with, or before the agent had ended, is nobody's word of
/// how the agent ended.
#[test]
fn a_deadline_that_the_pod_was_made_with_is_its_timeout() {
    let mut moment = Moment::running();
    moment.job().pod_deadline_seconds = Some(1);
    moment.agent_ended("Failed", "reason: DeadlineExceeded", "{exitCode: 143}");
    moment.observation.pods[0].active_deadline_seconds = Some(1);
    assert_eq!(moment.reason(), Reason::Timeout);
}

/// An agent that was told to end by the deadline itself did not end in time.
#[test]
fn an_agent_that_the_deadline_ended_is_out_of_time() {
    let mut moment = Moment::running();
    let told = OUTLIVED.replace("\"toldToEnd\":false", "\"toldToEnd\":true");
    moment.pod(&told.replace(
        "phase: Running",
        "phase: Failed\n  reason: DeadlineExceeded",
    ));
    assert_eq!(moment.reason(), Reason::Timeout);
}

/// A Pod that tolerates everything is not deleted when its node is lost.
#[test]
fn a_pod_that_has_not_ended_long_after_its_deadline_is_lost_with_its_node() {
    let mut moment = Moment::running();
    moment.job().pod_deadline_seconds = Some(7200);
    moment.pod(&format!("spec: {{activeDeadlineSeconds: 7200}}\n{RUNS}"));
    moment.now += 7200;
    let Step::Rest { again: Some(wait) } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    moment.now += seconds(wait);
    moment.observation.confirmed = false;
    assert_eq!(moment.decide(), Step::Confirm);
    moment.observation.confirmed = true;
    let (_, reason, message) = moment.end();
    assert_eq!(reason, Reason::InfrastructureError);
    assert!(message.contains("its node does not answer"), "{message}");
}

/// A finalizer of somebody holds the Job that somebody has deleted: nobody makes its Pod go, and it never starts.
#[test]
fn a_pod_that_cannot_start_and_whose_job_does_not_go_is_not_waited_for_for_ever() {
    const TYPO: &str = "status: {phase: Pending, STARTED containerStatuses: [{name: agent, image: typo, imageID: '', ready: false, restartCount: 0, state: {waiting: {reason: ImagePullBackOff}}}]}";
    for taken in [true, false] {
        let mut moment = Moment::running();
        let started = if taken {
            "startTime: '2026-01-01T00:00:00Z',"
        } else {
            ""
        };
        moment.pod(&TYPO.replace("STARTED", started));
        moment.job().deletion = Timestamp::from_second(moment.now).ok();
        moment.record();
        let message = moment.state.message.clone().unwrap_or_default();
        assert!(message.contains("cannot be pulled"), "{message}");
        moment.now += seconds(STALL_LIMIT);
        assert_eq!(moment.reason(), Reason::InfrastructureError);
        // And nothing of it stays, nor its slot.
        let now = Timestamp::from_second(moment.now).expect("a time");
        let rest = Remains::of(&moment.observation.job, &moment.observation.pods, now);
        if taken {
            assert!(ends_the_pod(&moment));
            assert!(
                matches!(rest, Remains::Act(action) if matches!(*action, Action::SetPodDeadline { .. }))
            );
        } else {
            assert!(matches!(
                moment.actions().as_slice(),
                [Action::DeletePod { .. }]
            ));
            assert!(
                matches!(rest, Remains::Act(action) if matches!(*action, Action::DeletePod { .. }))
            );
        }
    }
}

/// Somebody has raised `backoffLimit`.
#[test]
fn a_job_that_would_make_another_pod_is_closed_when_its_task_has_ended() {
    for raised in [false, true] {
        let mut moment = Moment::running();
        moment.job().retries = raised;
        moment.agent_ended("Failed", "", "{exitCode: 1}");
        moment.record();
        match moment.decide() {
            Step::Act(actions) if raised => {
                assert!(matches!(actions.as_slice(), [Action::CloseJob { .. }]));
            }
            step => assert!(!raised && step == Step::Rest { again: None }, "{step:?}"),
        }
    }
}

/// The same, and the Task is gone: its Job was left behind.
#[test]
fn a_job_that_was_left_behind_and_would_make_another_pod_is_closed_before_its_slot_is_free() {
    let mut moment = Moment::running();
    moment.job().retries = true;
    moment.agent_ended("Failed", "", "{exitCode: 1}");
    let now = Timestamp::from_second(moment.now).expect("a time");
    let rest =
        |moment: &Moment| Remains::of(&moment.observation.job, &moment.observation.pods, now);
    let closes =
        |rest| matches!(rest, Remains::Act(action) if matches!(*action, Action::CloseJob { .. }));
    assert!(closes(rest(&moment)));
    moment.job().closed = true;
    assert_eq!(rest(&moment), Remains::Nothing);
}
