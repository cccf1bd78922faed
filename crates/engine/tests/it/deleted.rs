//! What is deleted and does not go: a finalizer of somebody holds it.

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, Step},
    state::Reason,
};

use super::moment::{Moment, RUNS};

/// A finalizer holds the Job, and its Pod is gone.
#[test]
fn a_deleted_job_that_does_not_go_is_lost_in_the_end() {
    for stop in [false, true] {
        let mut moment = Moment::running();
        let now = Timestamp::from_second(moment.now).ok();
        moment.job().deletion = now;
        moment.stop = stop;
        if stop {
            moment.record();
        }
        assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
        moment.now += 300;
        let reason = if stop {
            Reason::UserStopped
        } else {
            Reason::JobLost
        };
        assert_eq!(moment.reason(), reason);
        assert_eq!(moment.decide(), Step::Rest { again: None });
    }
}

/// The same before it is on record.
#[test]
fn a_name_that_does_not_get_free_ends_the_task() {
    let mut moment = Moment::new();
    moment.create();
    let now = Timestamp::from_second(moment.now).ok();
    moment.job().deletion = now;
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.now += 300;
    assert_eq!(moment.reason(), Reason::InfrastructureError);
}

/// A finalizer of somebody holds the Task; its Job is none of that one's business.
#[test]
fn what_runs_is_followed_while_its_task_is_being_deleted() {
    let mut moment = Moment::running();
    moment.deleting = true;
    moment.pod(RUNS);
    assert!(matches!(moment.decide(), Step::Rest { .. }));
    moment.agent_ended("Failed", "", "{exitCode: 3}");
    assert_eq!(moment.reason(), Reason::AgentExitNonZero);

    let mut moment = Moment::new();
    moment.create();
    moment.record();
    moment.deleting = true;
    assert!(
        matches!(moment.actions().as_slice(), [Action::DeleteJob { .. }]),
        "nothing of it begins any more"
    );
    let now = Timestamp::from_second(moment.now).ok();
    moment.job().deletion = now;
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// An operator died between the creation of the Job and its record. Whoever resumed it would run the agent.
#[test]
fn a_job_that_is_not_on_record_goes_although_a_finalizer_holds_its_task() {
    let mut moment = Moment::new();
    moment.create();
    moment.deleting = true;
    moment.observation.confirmed = false;
    assert_eq!(moment.decide(), Step::Confirm, "a view of it may be old");
    moment.observation.confirmed = true;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { uid, .. }] if uid == "job-uid"
    ));
    let now = Timestamp::from_second(moment.now).ok();
    moment.job().deletion = now;
    assert_eq!(moment.decide(), Step::Rest { again: None });
    // That of somebody else, which has its name, is not ours to delete.
    moment.job().deletion = None;
    moment.job().owner_uid = Some("another".into());
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// The Task had ended before it began, and an operator that was cut off made its Job after that.
#[test]
fn a_job_that_came_after_the_end_goes_although_a_finalizer_holds_its_task() {
    let mut moment = Moment::new();
    moment.create();
    let late = moment.observation.job.take();
    moment.stop = true;
    assert_eq!(moment.reason(), Reason::UserStopped);
    moment.observation.job = late;
    moment.deleting = true;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { uid, .. }] if uid == "job-uid"
    ));
}
