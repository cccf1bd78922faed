//! What the API server refuses: it is told, tried again, and has an end.

use kubeopencode_engine::{
    decide::{Action, REFUSED_AGAIN, STALL_LIMIT, Step},
    observe::{JobEnd, Refusal, RefusalKind},
    queue::{SlotView, Standing},
    state::{Phase, Reason},
};

use super::moment::{Moment, RUNS};

#[test]
fn a_refusal_ends_it_or_is_waited_for() {
    let refused = |kind| {
        let mut moment = Moment::new();
        moment.observation.refused = Some(Refusal {
            what: "Job fix-abcdef".into(),
            kind,
            message: "exceeded quota".into(),
            change: None,
            again: false,
        });
        moment
    };
    assert_eq!(refused(RefusalKind::Invalid).reason(), Reason::InvalidSpec);
    assert_eq!(
        refused(RefusalKind::NameTaken).reason(),
        Reason::InfrastructureError
    );
    for kind in [RefusalKind::Forbidden, RefusalKind::Broken] {
        let mut moment = refused(kind);
        moment.record();
        assert_eq!(moment.state.phase, Phase::Pending);
        assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
        moment.now += i64::try_from(STALL_LIMIT.as_secs()).expect("short");
        assert_eq!(moment.reason(), Reason::InfrastructureError);
    }
}

#[test]
fn a_refusal_in_ever_other_words_is_told_once() {
    let mut moment = Moment::new();
    let refused = |number: u32| Refusal {
        what: "Job fix-abcdef".into(),
        kind: RefusalKind::Forbidden,
        message: format!("denied the request {number}"),
        change: None,
        again: false,
    };
    moment.observation.refused = Some(refused(1));
    moment.record();
    moment.observation.refused = Some(refused(2));
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
}

/// As by an admission webhook, or by rights that were taken away.
#[test]
fn what_is_refused_after_the_record_is_told_and_ends() {
    let mut moment = Moment::new();
    moment.create();
    moment.record();
    refuse(&mut moment, "not on Sundays");
    moment.record();
    let told = moment.state.message.clone().expect("words");
    assert!(told.starts_with("the release of Job fix-"), "{told}");
    assert!(told.ends_with(" is refused: not on Sundays"), "{told}");
    is_tried_again_later(&moment);
    moment.observation.refused = None;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::ReleaseJob { .. }]
    ));
    moment.now += i64::try_from(STALL_LIMIT.as_secs()).expect("short");
    refuse(&mut moment, "not on Sundays");
    moment.observation.refused.as_mut().expect("refused").again = true;
    assert_eq!(moment.reason(), Reason::InfrastructureError);
}

/// The operator was away for an hour, and its first attempt is a mishap.
#[test]
fn one_refusal_long_after_the_record_is_no_end() {
    let mut moment = Moment::new();
    moment.create();
    moment.record();
    moment.now += 3600;
    refuse(&mut moment, "not now");
    moment.record();
    assert!(!moment.state.phase.is_terminal());
    is_tried_again_later(&moment);
}

/// What is to be done is refused.
fn refuse(moment: &mut Moment, message: &str) {
    let change = moment.actions().remove(0);
    moment.observation.refused = Some(Refusal {
        what: change.what().expect("a change"),
        kind: RefusalKind::Forbidden,
        message: message.to_owned(),
        change: Some(Box::new(change)),
        again: false,
    });
}

/// A Pod whose deadline cannot be set is ended by the Job, after the time that it would have had.
#[test]
fn a_stop_does_not_hang_on_a_deadline_that_is_refused() {
    let mut moment = Moment::running();
    moment.pod(RUNS);
    moment.stop = true;
    moment.record();
    refuse(&mut moment, "no");
    assert!(matches!(moment.decide(), Step::Rest { again: Some(_) }));
    moment.now += 3600;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::CloseJob { .. }]
    ));
}

/// What is refused is tried again after a while, and nothing is done until then.
fn is_tried_again_later(moment: &Moment) {
    let later = Step::Rest {
        again: Some(REFUSED_AGAIN),
    };
    assert_eq!(moment.decide(), later);
}

/// Its Agent has a limit, and it is in the list.
fn hold_a_slot(moment: &mut Moment) {
    moment.observation.slot = Some(SlotView {
        agent: "a".into(),
        standing: Standing::Held,
    });
}

/// Of a stopped Task nothing is left but that its Job should look stopped.
#[test]
fn a_slot_does_not_wait_for_what_people_expect_to_see() {
    let mut moment = Moment::running();
    hold_a_slot(&mut moment);
    moment.stop = true;
    moment.record();
    moment.agent_ended("Failed", "", "{exitCode: 143}");
    assert_eq!(moment.reason(), Reason::UserStopped);
    moment.job().end = Some(JobEnd::Complete);
    assert!(matches!(moment.decide(), Step::GiveBack { .. }));
    // Given back, or while a Pod is still on its way out.
    moment.observation.slot = None;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::SuspendJob { .. }]
    ));
    refuse(&mut moment, "no");
    // Not for ever: nothing depends on it.
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// Its spec was edited before it was on record, or somebody wants the Task to stop, and a webhook lets no Job be deleted.
#[test]
fn a_deletion_that_is_refused_before_the_record_is_told_and_ends() {
    for stop in [false, true] {
        let mut moment = Moment::new();
        moment.create();
        if stop {
            moment.stop = true;
            moment.record();
        } else {
            moment.owner.generation += 1;
        }
        refuse(&mut moment, "not on Sundays");
        moment.record();
        let told = moment.state.message.clone().expect("words");
        assert!(told.starts_with("the deletion of Job fix-"), "{told}");
        is_tried_again_later(&moment);
        moment.now += i64::try_from(STALL_LIMIT.as_secs()).expect("short");
        is_tried_again_later(&moment);
        moment.observation.refused.as_mut().expect("refused").again = true;
        let expected = if stop {
            Reason::UserStopped
        } else {
            Reason::InfrastructureError
        };
        assert_eq!(moment.reason(), expected);
    }
}

/// A webhook that refuses every update lets it be deleted, and a Job that never ran leaves nothing to keep.
#[test]
fn a_job_that_was_never_released_and_cannot_be_closed_is_deleted() {
    let mut moment = Moment::new();
    moment.create();
    moment.record();
    hold_a_slot(&mut moment);
    moment.now += i64::try_from(STALL_LIMIT.as_secs()).expect("short");
    refuse(&mut moment, "no");
    moment.record();
    moment.observation.refused.as_mut().expect("refused").again = true;
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    moment.observation.refused = None;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::CloseJob { .. }]
    ));
    refuse(&mut moment, "no");
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { .. }]
    ));
    refuse(&mut moment, "no");
    is_tried_again_later(&moment);
}

/// Somebody takes the mark off again and again, or does not let us put it on.
#[test]
fn whoever_fights_about_the_mark_does_not_keep_a_task_from_its_stop_or_its_end() {
    let unmarked = |pod: &str| {
        let mut moment = Moment::running();
        moment.job().released = false;
        if !pod.is_empty() {
            moment.pod(pod);
        }
        moment
    };
    // A stop comes first.
    let mut moment = unmarked(RUNS);
    moment.stop = true;
    moment.record();
    assert!(moment.state.stop_is_recorded());
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::SetPodDeadline { .. }]
    ));
    // One that is refused is told, and tried again.
    let mut moment = unmarked(RUNS);
    refuse(&mut moment, "no");
    moment.record();
    let told = moment.state.message.clone().expect("words");
    assert!(told.ends_with(" is refused: no"), "{told}");
    is_tried_again_later(&moment);
    // So it does not flicker.
    moment.observation.refused = None;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::MarkReleased { .. }]
    ));
    moment.job().released = true;
    moment.record();
    assert_eq!(moment.state.message, None);
    // Its Job gets no Pod, its Pod does not start, or its node is lost.
    let stalled = "status: {phase: Pending}";
    let lost = format!("{RUNS}\nspec: {{nodeName: node1}}");
    for (pod, deleted) in [("", false), (stalled, false), (lost.as_str(), true)] {
        let mut moment = unmarked(pod);
        if deleted {
            moment.observation.pods[0].deletion = Some(moment.input().now);
        }
        refuse(&mut moment, "no");
        moment.now += 3600;
        assert_eq!(moment.reason(), Reason::InfrastructureError, "{pod}");
    }
}
