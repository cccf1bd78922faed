//! A node whose clock is wrong: what it says of times is believed only as far as the API server's own times allow.

use std::time::Duration;

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, LOST_LIMIT, STALL_LIMIT, Step},
    queue::Remains,
    state::Reason,
};

use super::moment::Moment;

/// When the Pod was given to its node, and taken by it: a moment later.
const BOUND: i64 = 1_767_225_600;
/// What its Job's template allows.
const DEADLINE: i64 = 900;
/// How wrong the clocks are: a time zone, and a few minutes.
const WRONG: [i64; 4] = [-7200, -180, 180, 7200];

fn text(seconds: i64) -> String {
    Timestamp::from_second(seconds).expect("a time").to_string()
}

fn limit(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("short")
}

/// A Pod of a node whose clock is wrong by so much.
fn on_a_node(wrong: i64, phase: &str, statuses: &str) -> Moment {
    let mut moment = Moment::running();
    moment.job().pod_deadline_seconds = Some(DEADLINE);
    let (bound, taken) = (text(BOUND), text(BOUND + wrong));
    moment.pod(&format!(
        "spec: {{nodeName: node-1, activeDeadlineSeconds: {DEADLINE}, terminationGracePeriodSeconds: 30}}\n\
         status:\n  phase: {phase}\n  startTime: '{taken}'\n  \
         conditions: [{{type: PodScheduled, status: 'True', lastTransitionTime: '{bound}'}}]\n  {statuses}"
    ));
    moment
}

/// What its agent's container says, by the node's clock.
fn agent(state: &str) -> String {
    format!(
        "containerStatuses: [{{name: agent, image: i, imageID: x, ready: false, restartCount: 0, state: {state}}}]"
    )
}

fn rests(moment: &Moment) -> bool {
    let now = Timestamp::from_second(moment.now).expect("a time");
    let observation = &moment.observation;
    let remains = Remains::of(&observation.job, &observation.pods, now);
    matches!(moment.decide(), Step::Rest { .. }) && matches!(remains, Remains::Something(_))
}

#[test]
fn an_agent_at_work_is_not_taken_for_lost() {
    for wrong in WRONG {
        let mut moment = on_a_node(wrong, "Running", &agent("{running: {}}"));
        for passed in [1, 600, DEADLINE + 30] {
            moment.now = BOUND + passed;
            assert!(
                rests(&moment),
                "{wrong} s, {passed} s: {:?}",
                moment.decide()
            );
        }
    }
}

#[test]
fn a_node_that_does_not_answer_is_found_out_whatever_its_clock_was() {
    for wrong in WRONG {
        let mut moment = on_a_node(wrong, "Running", &agent("{running: {}}"));
        moment.now = BOUND + DEADLINE + 30 + limit(LOST_LIMIT) + limit(STALL_LIMIT);
        let (_, reason, message) = moment.end();
        assert_eq!(reason, Reason::InfrastructureError, "{wrong} s");
        assert!(message.contains("its node does not answer"), "{message}");
    }
}

/// Somebody else was long in giving it a node, and no operator has looked meanwhile.
#[test]
fn a_deadline_counts_from_when_the_pod_had_a_node() {
    let mut moment = on_a_node(-7200, "Running", &agent("{running: {}}"));
    let created = Timestamp::from_second(BOUND - 7200).ok();
    moment.observation.pods[0].created = created;
    moment.now = BOUND + DEADLINE;
    assert!(rests(&moment), "{:?}", moment.decide());
}

/// A sidecar that pushes has its time after the agent, and not more.
#[test]
fn what_outlives_its_agent_has_a_minute_besides_its_grace() {
    for wrong in WRONG {
        let ended = BOUND + 600;
        let terminated = format!(
            "{{terminated: {{exitCode: 0, finishedAt: '{}'}}}}",
            text(ended + wrong)
        );
        let mut moment = on_a_node(wrong, "Running", &agent(&terminated));
        for passed in [1, 89] {
            moment.now = ended + passed;
            assert!(
                rests(&moment),
                "{wrong} s, {passed} s: {:?}",
                moment.decide()
            );
        }
        moment.now = ended + 90;
        assert!(
            matches!(
                moment.actions().as_slice(),
                [Action::SetPodDeadline { seconds: 1, .. }]
            ),
            "{wrong} s: {:?}",
            moment.decide()
        );
    }
}

/// What is waited for then is not the init container that has ended: its end counts, and not the Pod's creation.
#[test]
fn an_image_has_half_an_hour_after_the_init_containers() {
    for wrong in WRONG {
        let ended = BOUND + 1700;
        let statuses = format!(
            "initContainerStatuses: [{{name: git-init, image: i, imageID: x, ready: false, restartCount: 0, state: {{terminated: {{exitCode: 0, finishedAt: '{}'}}}}}}]\n  {}",
            text(ended + wrong),
            agent("{waiting: {reason: ImagePullBackOff}}")
        );
        let mut moment = on_a_node(wrong, "Pending", &statuses);
        moment.job().pod_deadline_seconds = Some(7200);
        moment.now = ended + 200;
        moment.record();
        assert!(
            !moment.state.phase.is_terminal(),
            "{wrong} s: {:?}",
            moment.state
        );
        moment.now = ended + limit(STALL_LIMIT) - 1;
        assert!(rests(&moment), "{wrong} s: {:?}", moment.decide());
        // That a node is ahead shows as long as its time has not come: by less than the limit, it makes it longer by that.
        let late = if wrong < limit(STALL_LIMIT) {
            wrong.max(0)
        } else {
            0
        };
        moment.now = ended + limit(STALL_LIMIT) + late;
        assert_eq!(moment.reason(), Reason::InfrastructureError, "{wrong} s");
    }
}

/// A new machine takes a Pod, and then asks for the time.
#[test]
fn a_clock_that_is_set_right_meanwhile_makes_nothing_longer() {
    for wrong in WRONG {
        let ended = BOUND + 600;
        let terminated = format!(
            "{{terminated: {{exitCode: 0, finishedAt: '{}'}}}}",
            text(ended)
        );
        let mut moment = on_a_node(wrong, "Running", &agent(&terminated));
        moment.now = ended + 1;
        assert!(rests(&moment), "{wrong} s: {:?}", moment.decide());
        moment.now = ended + 90;
        assert!(
            matches!(moment.decide(), Step::Act(_)),
            "{wrong} s: {:?}",
            moment.decide()
        );
    }
}

/// A kubelet that was away took the Pod late; that its clock is a little ahead is no reason to count from before.
#[test]
fn a_pod_that_was_taken_late_is_not_ended_early() {
    let ended = BOUND + 1200;
    let terminated = format!(
        "{{terminated: {{exitCode: 0, finishedAt: '{}'}}}}",
        text(ended + 3)
    );
    let mut moment = on_a_node(900, "Running", &agent(&terminated));
    moment.now = ended;
    assert!(rests(&moment), "{:?}", moment.decide());
}
