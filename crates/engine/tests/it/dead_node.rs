//! A node that never answers again, with nobody's event to come: by timers alone every Run ends, and its slot is given back.

use std::time::Duration;

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, LOST_LIMIT, Step},
    observe::JobEnd,
    queue::{Remains, SlotView, Standing},
};

use super::moment::{AGENT, Moment, RUNS, TASK};

/// The agent has ended, and a container beside it has not.
const OUTLIVED: &str = "status: {phase: Running, startTime: '2026-01-01T00:00:00Z', containerStatuses: [{name: agent, image: i, imageID: x, ready: false, restartCount: 0, state: {terminated: {exitCode: 0, finishedAt: '2026-01-01T00:00:00Z'}}}]}";
/// An image that cannot be pulled.
const TYPO: &str = "status: {phase: Pending, startTime: '2026-01-01T00:00:00Z', containerStatuses: [{name: agent, image: typo, imageID: '', ready: false, restartCount: 0, state: {waiting: {reason: ImagePullBackOff}}}]}";

/// It holds a slot, and its Job is on record and released.
fn started() -> Moment {
    let agent = AGENT.replace("spec: {", "spec: {maxConcurrentTasks: 1, ");
    let mut moment = Moment::of(&format!("{agent}{TASK}"));
    moment.observation.slot = Some(SlotView {
        agent: "a".into(),
        standing: Standing::Held,
    });
    moment.create();
    moment.record();
    let now = Timestamp::from_second(moment.now).ok();
    let job = moment.job();
    (job.suspended, job.released, job.released_at) = (false, true, now);
    job.pod_deadline_seconds = Some(7200);
    moment
}

/// What an API server makes of it, and Kubernetes with a node that does not answer.
fn perform(moment: &mut Moment, action: &Action) {
    let observation = &mut moment.observation;
    let gone = Timestamp::from_second(moment.now + 30).ok();
    match action {
        Action::SetPodDeadline { seconds, .. } => {
            observation.pods[0].active_deadline_seconds = Some(*seconds);
        }
        Action::CloseJob { .. } => {
            let job = observation.job.as_mut().expect("a Job");
            (job.closed, job.suspended) = (true, false);
            for pod in &mut observation.pods {
                pod.deletion = pod.deletion.or(gone);
            }
            // Its controller waits for Pods that are going.
            job.end = observation.pods.is_empty().then(|| JobEnd::Failed {
                reason: "DeadlineExceeded".to_owned(),
                message: String::new(),
            });
        }
        Action::DeletePod { .. } => observation.pods.clear(),
        Action::DeleteJob { .. } => observation.job = None,
        other => panic!("not in this state: {other:?}"),
    }
}

fn wait(moment: &mut Moment, wait: Option<Duration>) {
    let wait = wait.unwrap_or_else(|| panic!("it waits for ever: {:?}", moment.observation));
    moment.now += i64::try_from(wait.as_secs()).expect("short") + 1;
    // Something happened elsewhere, and caches are asked again.
    moment.observation.confirmed = false;
}

/// Steps until the slot is given back. No event comes.
fn gives_back(mut moment: Moment) -> Moment {
    for _ in 0..50 {
        match moment.decide() {
            Step::Act(actions) => perform(&mut moment, &actions[0]),
            Step::Record { state, .. } => moment.state = *state,
            Step::Confirm => moment.observation.confirmed = true,
            Step::Rest { again } => wait(&mut moment, again),
            Step::GiveBack { .. } => return moment,
            other => panic!("not in this state: {other:?}"),
        }
    }
    panic!("no end: {:?}", moment.observation);
}

/// The same of a Task that is gone, whose Job and Pod were left behind.
fn is_left_by_all(mut moment: Moment) {
    for _ in 0..50 {
        let now = Timestamp::from_second(moment.now).expect("a time");
        match Remains::of(&moment.observation.job, &moment.observation.pods, now) {
            Remains::Act(action) => perform(&mut moment, &action),
            Remains::Something(again) => wait(&mut moment, again),
            Remains::Nothing => return,
        }
    }
    panic!("no end: {:?}", moment.observation);
}

fn each(test: impl Fn(Moment)) {
    for pod in [RUNS, OUTLIVED, TYPO] {
        let mut moment = started();
        moment.pod(pod);
        test(moment);
    }
    // No ServiceAccount: no Pod.
    test(started());
}

#[test]
fn a_task_ends_and_gives_its_slot_back() {
    each(|moment| {
        let ended = gives_back(moment);
        assert!(ended.state.phase.is_terminal());
    });
}

#[test]
fn a_task_that_is_stopped_gives_its_slot_back() {
    each(|mut moment| {
        moment.stop = true;
        let ended = gives_back(moment);
        assert!(ended.state.phase.is_terminal());
    });
}

#[test]
fn a_task_that_a_finalizer_holds_gives_its_slot_back() {
    each(|mut moment| {
        moment.deleting = true;
        gives_back(moment);
    });
}

#[test]
fn of_a_task_that_is_gone_the_slot_is_given_back() {
    each(is_left_by_all);
}

/// Whoever lowers the deadline of a Pod that has run for long makes it be over at once: the kubelet has to have its time.
#[test]
fn a_deadline_that_somebody_has_lowered_is_the_kubelets() {
    let mut moment = started();
    moment.pod(&format!("spec: {{activeDeadlineSeconds: 60}}\n{RUNS}"));
    moment.now += 3600;
    let Step::Rest { again: Some(left) } = moment.decide() else {
        panic!("{:?}", moment.decide());
    };
    assert_eq!(left, Duration::from_secs(7200 + 30 - 3600) + LOST_LIMIT);
}
