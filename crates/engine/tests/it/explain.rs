//! What is said of where a Task stands: it has to agree with what is done next, also while nobody does it.

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::explain,
    observe::JobEnd,
    queue::{SlotView, Standing},
    state::{FailedAttempt, Reason},
};

use super::moment::{Moment, RUNS};

fn why(moment: &Moment) -> String {
    explain(&moment.input()).join(" ")
}

#[track_caller]
fn says(moment: &Moment, words: &str) {
    let why = why(moment);
    assert!(why.contains(words), "{words}: {why}");
}

#[track_caller]
fn says_not(moment: &Moment, words: &str) {
    let why = why(moment);
    assert!(!why.contains(words), "{words}: {why}");
}

fn now(moment: &Moment) -> Option<Timestamp> {
    Timestamp::from_second(moment.now).ok()
}

/// A Task whose Job exists, and is not on record yet.
fn created() -> Moment {
    let mut moment = Moment::new();
    moment.create();
    moment
}

#[test]
fn a_job_that_is_not_on_record_is_told_by_whose_it_is_and_what_becomes_of_it() {
    let mut moment = created();
    says(&moment, "exists and waits to be recorded and released");
    moment.job().generation = Some(7);
    says(&moment, "was made before the Task was changed");
    moment.job().generation = Some(1);
    moment.job().suspended = false;
    says(
        &moment,
        "was released by somebody, and waits to be recorded",
    );
    moment.job().suspended = true;
    moment.job().deletion = now(&moment);
    says(
        &moment,
        "is being deleted; another one is made when it is gone",
    );
    says_not(&moment, "waits to be recorded");
    let mut moment = created();
    moment.job().owner_uid = Some("somebody".into());
    says(&moment, "belongs to somebody else; the Task fails");
    says_not(&moment, "waits to be recorded");
    assert_eq!(moment.reason(), Reason::InfrastructureError);
}

#[test]
fn a_place_in_the_queue_says_nothing_of_slots_that_were_not_counted() {
    let mut moment = Moment::new();
    moment.observation.slot = Some(SlotView {
        agent: "a".into(),
        standing: Standing::Waits(3),
    });
    says(&moment, "It is number 3 in the queue of Agent a");
    says_not(&moment, "in use");
    moment.observation.slot = Some(SlotView {
        agent: "a".into(),
        standing: Standing::Unlimited,
    });
    says(&moment, "It needs no slot any more");
    says(&moment, "the operator creates it");
}

#[test]
fn a_stop_before_the_start_waits_for_no_pod() {
    let mut moment = Moment::new();
    moment.stop = true;
    says(&moment, "asked for it to stop; it ends without having run");
    for words in ["Pod", "the operator creates it"] {
        says_not(&moment, words);
    }
    assert_eq!(moment.reason(), Reason::UserStopped);
    // Somebody has released its Job by hand.
    let mut moment = created();
    moment.job().suspended = false;
    moment.stop = true;
    says(&moment, "it ends as soon as its Pod has");
}

#[test]
fn what_is_deleted_before_its_start_does_not_start() {
    let mut moment = Moment::new();
    moment.deleting = true;
    moment.observation.slot = Some(SlotView {
        agent: "a".into(),
        standing: Standing::Waits(3),
    });
    for words in ["the operator creates it", "number 3"] {
        says_not(&moment, words);
    }
}

#[test]
fn a_stop_waits_for_a_pod_where_there_is_one() {
    let mut moment = Moment::running();
    moment.stop = true;
    says(&moment, "it has no Pod, so it ends with its Job");
    says_not(&moment, "as soon as its Pod has");
    moment.pod(RUNS);
    says(&moment, "it ends as soon as its Pod has");
}

#[test]
fn a_job_that_is_gone_is_lost_unless_somebody_wanted_a_stop() {
    let mut moment = Moment::running();
    moment.observation.job = None;
    says(&moment, "does not exist any more; the Task fails as lost");
    moment.stop = true;
    says(
        &moment,
        "does not exist any more; the Task is Completed, as stopped",
    );
    for words in ["lost", "as soon as its Pod has"] {
        says_not(&moment, words);
    }
    assert_eq!(moment.reason(), Reason::UserStopped);
}

/// A Pod that went with its Job tells nothing of how its agent would have ended.
#[test]
fn a_pod_that_was_deleted_with_its_job_is_no_result() {
    let mut moment = Moment::running();
    moment.agent_ended(
        "Succeeded",
        "",
        "{exitCode: 0, finishedAt: '2026-01-01T00:00:05Z'}",
    );
    moment.observation.job = None;
    says(&moment, "the result is being recorded");
    moment.observation.pods[0].deletion_requested = now(&moment);
    says(&moment, "the Task fails as lost");
    says_not(&moment, "the result is being recorded");
    assert_eq!(moment.reason(), Reason::JobLost);
}

#[test]
fn a_job_that_somebody_takes_away_has_no_pod_any_more() {
    for (suspend, says_so) in [
        (true, "The Job was suspended by somebody"),
        (false, "The Job is being deleted"),
    ] {
        let mut moment = Moment::running();
        let now = now(&moment);
        let job = moment.job();
        job.suspended = suspend;
        job.deletion = now.filter(|_| !suspend);
        says(
            &moment,
            &format!("{says_so}, and has no Pod; the Task fails as lost"),
        );
        says_not(&moment, "no Pod yet");
        moment.pod(RUNS);
        says(&moment, "In its Pod p the container agent runs");
        says(&moment, &format!("{says_so}, and its Pod goes with that"));
        moment.observation.pods.clear();
        moment.stop = true;
        says(
            &moment,
            &format!("{says_so}, and has no Pod; the Task is Completed, as stopped"),
        );
    }
}

#[test]
fn a_job_that_has_ended_gets_no_pod_any_more() {
    let mut moment = Moment::running();
    says(&moment, "The Job has no Pod yet");
    moment.job().end = Some(JobEnd::Complete);
    says(
        &moment,
        "The Job has ended, and its Pod is gone; that is being recorded",
    );
    says_not(&moment, "no Pod yet");
}

#[test]
fn what_is_not_released_is_released_unless_somebody_wants_an_end() {
    let mut moment = created();
    moment.record();
    says(&moment, "not released yet; the operator does that next");
    says_not(&moment, "no Pod yet");
    moment.stop = true;
    says_not(&moment, "the operator does that next");
    says(&moment, "it ends with its Job");
    moment.stop = false;
    moment.deleting = true;
    says_not(&moment, "the operator does that next");
    moment.deleting = false;
    moment.job().deletion = now(&moment);
    says_not(&moment, "the operator does that next");
    says(&moment, "the Task fails as lost");
}

/// Its status was edited.
#[test]
fn what_was_begun_is_not_said_to_have_not_started() {
    let mut moment = Moment::running();
    moment.state.job = None;
    says(
        &moment,
        "The record of its Job is gone from its status; the Task fails as lost",
    );
    says_not(&moment, "It has not started");
    assert_eq!(moment.reason(), Reason::JobLost);
}

#[test]
fn another_attempt_is_announced_only_where_there_will_be_one() {
    let mut moment = Moment::running();
    moment.state.failed_attempts.push(FailedAttempt {
        job: "j".into(),
        message: "no room".into(),
        time: Timestamp::from_second(moment.now).expect("a time"),
    });
    says(&moment, "attempt 2 begins when its Job has ended");
    let now = now(&moment);
    moment.job().deletion = now;
    says(
        &moment,
        "the Job is being deleted, so no other follows; the Task fails as lost",
    );
    moment.job().deletion = None;
    moment.job().end = Some(JobEnd::Complete);
    says(&moment, "attempt 2 begins in 5 s");
    moment.stop = true;
    says(&moment, "no other follows");
    says_not(&moment, "attempt 2");
    // The Job of it is not there yet.
    moment.state.job = None;
    moment.observation.job = None;
    says(&moment, "no other follows");
    moment.stop = false;
    says(&moment, "attempt 2 follows");
}
