//! The queue as a rule, and where a decision meets it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, LOST_LIMIT, STALL_LIMIT, Step, explain},
    lower::Lowered,
    observe::{JobEnd, JobView},
    queue::{Pool, Remains, Slot, SlotView, Standing, Turn, Waiter},
    state::{Phase, Reason},
};
use proptest::prelude::*;

use super::moment::{AGENT, Moment, TASK};

fn slot(number: usize) -> Slot {
    Slot {
        name: format!("task-{number}"),
        uid: format!("uid-{number}"),
    }
}

fn limited() -> Moment {
    let agent = AGENT.replace("spec: {", "spec: {maxConcurrentTasks: 1, ");
    Moment::of(&format!("{agent}{TASK}"))
}

fn stands(moment: &mut Moment, standing: Standing) {
    moment.observation.slot = Some(SlotView {
        agent: "a".into(),
        standing,
    });
}

/// It holds the slot, and its Job is on record and released.
fn started() -> Moment {
    let mut moment = limited();
    stands(&mut moment, Standing::Held);
    moment.create();
    moment.record();
    let job = moment.job();
    (job.suspended, job.released) = (false, true);
    moment
}

#[test]
fn nothing_is_created_without_a_slot() {
    let mut moment = limited();
    assert_eq!(moment.decide(), Step::Claim { agent: "a".into() });
    stands(&mut moment, Standing::Waits(12));
    moment.record();
    assert_eq!(moment.state.phase, Phase::Queued);
    assert_eq!(moment.decide(), Step::Rest { again: None });
    let why = explain(&moment.input()).join(" ");
    assert!(why.contains("number 12 in the queue"), "{why}");
    stands(&mut moment, Standing::Held);
    moment.create();
    moment.record();
    assert_eq!(
        (moment.state.phase, &moment.state.queue),
        (Phase::Running, &None)
    );
}

/// A Job that somebody created who lost the race for the slot is not recorded, so it never runs.
#[test]
fn a_job_without_a_slot_is_not_recorded() {
    let mut moment = limited();
    stands(&mut moment, Standing::Held);
    moment.create();
    moment.observation.slot = None;
    assert_eq!(moment.decide(), Step::Claim { agent: "a".into() });
    stands(&mut moment, Standing::Waits(1));
    moment.record();
    assert_eq!(moment.state.phase, Phase::Queued);
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// Its Job was created for an Agent that had none, by an operator that died before it was on record.
#[test]
fn a_limit_holds_for_a_job_that_was_created_before_it_was_set() {
    let mut moment = Moment::new();
    moment.create();
    let without = std::mem::replace(&mut moment.lowered, limited().lowered);
    assert_eq!(moment.decide(), Step::Claim { agent: "a".into() });
    stands(&mut moment, Standing::Waits(1));
    moment.record();
    assert_eq!(moment.state.phase, Phase::Queued);
    // And not where there is none.
    let mut moment = Moment::new();
    moment.create();
    moment.lowered = without;
    moment.record();
    assert_eq!(moment.state.phase, Phase::Running);
}

/// A Task that names no Agent, and has waited for a slot of `default`, holds one while it waits for something else, or was
/// started with it: the built-in one has no limit, and does not take its place.
#[test]
fn the_built_in_agent_takes_nobodys_place() {
    let task = TASK.replace("agentRef: a, ", "");
    let lowered = |status: &str| Moment::of(&format!("{task}\nstatus: {status}")).lowered;
    let queued = |status: &str| {
        format!(
            "{{conditions: [{{type: Queued, status: '{status}', reason: r, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}"
        )
    };
    for status in [
        &queued("True"),
        &queued("False"),
        "{agent: {name: default, generation: 3}}",
    ] {
        let lowered = lowered(status);
        assert!(
            matches!(lowered, Lowered::Missing { .. }),
            "{status}: {lowered:?}"
        );
    }
    for status in ["{}", "{agent: {name: default}}"] {
        let lowered = lowered(status);
        assert!(
            matches!(lowered, Lowered::Ready(_)),
            "{status}: {lowered:?}"
        );
    }
}

/// It was made for the Agent `default`, which is gone for good; a claim would be made in vain, again and again.
#[test]
fn a_job_that_was_made_for_a_limited_default_which_is_gone_is_made_anew() {
    let agent = AGENT.replace("name: a", "name: default");
    let agent = agent.replace("spec: {", "spec: {maxConcurrentTasks: 1, ");
    let task = TASK.replace("agentRef: a, ", "");
    let mut moment = Moment::of(&format!("{agent}{task}"));
    moment.observation.slot = Some(SlotView {
        agent: "default".into(),
        standing: Standing::Held,
    });
    moment.create();
    moment.observation.slot = None;
    moment.lowered = Moment::of(&task).lowered;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { .. }]
    ));
}

/// What was edited while it waits is seen, and its record says so.
#[test]
fn a_place_is_written_again_when_the_task_was_edited() {
    let mut moment = limited();
    stands(&mut moment, Standing::Waits(12));
    moment.record();
    assert_eq!(moment.decide(), Step::Rest { again: None });
    moment.owner.generation += 1;
    moment.record();
    assert_eq!(
        moment.state.observed_generation,
        Some(moment.owner.generation)
    );
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// Ten thousand in a queue cost three records each, not one for each step.
#[test]
fn a_place_is_written_again_when_it_is_of_another_class() {
    let mut moment = limited();
    let mut records = 0;
    for position in (1..=10_000).rev() {
        stands(&mut moment, Standing::Waits(position));
        if let Step::Record { state, .. } = moment.decide() {
            moment.state = *state;
            records += 1;
        }
    }
    assert_eq!(records, 3);
}

#[test]
fn a_slot_is_given_back_when_nothing_can_run_any_more() {
    let mut moment = started();
    moment.pod("status: {phase: Running, startTime: '2026-01-01T00:00:00Z'}");
    // It is being deleted for so long that the Task has ended.
    moment.observation.pods[0].deletion = Timestamp::from_second(moment.now).ok();
    moment.now += i64::try_from(LOST_LIMIT.as_secs()).expect("short") - 1;
    moment.deleting = true;
    assert!(matches!(moment.decide(), Step::Rest { again: Some(left) } if left.as_secs() == 1));
    moment.job().end = Some(JobEnd::Complete);
    assert!(
        matches!(moment.decide(), Step::Rest { again: Some(_) }),
        "its Pod is still there"
    );
    moment.observation.unseen = true;
    moment.observation.pods.clear();
    assert_eq!(moment.decide(), Step::Confirm, "its Pod is only not seen");
    moment.observation.unseen = false;
    // A finalizer may keep the Task for long.
    moment.record();
    assert_eq!(moment.decide(), Step::GiveBack { agent: "a".into() });
}

#[test]
fn a_slot_is_kept_while_an_orphaned_job_runs() {
    let mut moment = limited();
    stands(&mut moment, Standing::Held);
    moment.create();
    moment.record();
    let job = moment.job();
    (job.suspended, job.released, job.owner_uid) = (false, true, None);
    moment.pod("status: {phase: Running, startTime: '2026-01-01T00:00:00Z'}");
    moment.deleting = true;
    assert_eq!(moment.decide(), Step::Rest { again: None });
}

/// The name of its Job was taken. What that Job does is nobody's business, and its end would not be heard of.
#[test]
fn a_slot_is_given_back_whatever_somebody_elses_job_does() {
    let mut moment = limited();
    stands(&mut moment, Standing::Held);
    moment.create();
    let job = moment.job();
    job.owner_uid = None;
    (job.suspended, job.released) = (false, false);
    moment.record();
    assert_eq!(moment.state.phase, Phase::Failed);
    moment.pod("status: {phase: Running, startTime: '2026-01-01T00:00:00Z'}");
    let foreign = moment.job().uid.clone();
    moment.observation.pods[0].job_uid = Some(foreign);
    assert_eq!(moment.decide(), Step::GiveBack { agent: "a".into() });
}

proptest! {
    /// Whatever is asked for, in whatever order: never more than the limit, unless more ran already; nobody loses a slot
    /// but those who leave; nobody gets one before somebody who came before.
    #[test]
    fn the_next_list_is_exact_and_fair(
        limit in 1..6_usize,
        held in prop::collection::btree_set(0..20_usize, 0..8),
        leaving in prop::collection::btree_set(0..20_usize, 0..8),
        running in prop::collection::btree_set(0..20_usize, 0..4),
        waiting in prop::collection::btree_map(0..40_usize, (-1..2_i32, any::<bool>()), 0..12),
    ) {
        let slots: Vec<Slot> = held.iter().copied().map(slot).collect();
        let leaving: BTreeSet<String> = leaving.iter().map(|number| slot(*number).uid).collect();
        let running: BTreeSet<Slot> = running.iter().copied().map(slot).collect();
        let mut turns: Vec<(Turn, bool)> = waiting
            .iter()
            .map(|(number, (priority, ready))| (Turn::new(*priority, None, slot(*number)), *ready))
            .collect();
        turns.sort();
        let waiters = turns.iter().map(|(place, ready)| {
            if *ready { Waiter::Ready(place) } else { Waiter::Newcomer(place) }
        });
        let next = Pool {
            limit: std::num::NonZeroUsize::new(limit),
            slots: &slots,
            leaving: &leaving,
            running: &running,
            waiting: waiters,
        }
        .next();
        let has = |slot: &Slot| next.contains(slot);
        let unique: BTreeSet<&Slot> = next.iter().collect();
        prop_assert_eq!(unique.len(), next.len(), "somebody holds two");
        for slot in &slots {
            prop_assert_eq!(has(slot), !leaving.contains(&slot.uid));
        }
        let were = |slot: &Slot| slots.contains(slot) || running.contains(slot);
        let stayed = next.iter().filter(|slot| were(slot)).count();
        prop_assert!(next.len() <= limit.max(stayed));
        let admitted: Vec<&Turn> = turns.iter().map(|(place, _)| place).filter(|place| has(place.slot()) && !were(place.slot())).collect();
        if let Some(last) = admitted.last() {
            for (place, ready) in &turns {
                let passed = *ready && place < *last && !were(place.slot());
                prop_assert!(!passed || has(place.slot()), "{:?} was passed over", place);
            }
        }
        for (place, ready) in &turns {
            prop_assert!(*ready || !has(place.slot()) || were(place.slot()), "a newcomer was let in");
        }
    }
}

/// The Job controller takes a second to say that a Job is over whose Pod is.
#[test]
fn a_slot_is_free_as_soon_as_the_pod_has_ended() {
    let mut moment = started();
    moment.job().active = 1;
    moment.agent_ended("Succeeded", "", "{exitCode: 0}");
    moment.record();
    assert!(moment.state.phase.is_terminal());
    assert_eq!(moment.decide(), Step::GiveBack { agent: "a".into() });
}

/// Its Job was deleted with `--cascade=orphan` before the Pod had a node: no deadline ends such a Pod, and one day it may
/// get a node.
#[test]
fn a_pod_that_lost_its_job_before_it_had_a_node_is_deleted() {
    let mut moment = started();
    moment.pod("status: {phase: Pending}");
    moment.observation.job = None;
    moment.record();
    assert_eq!(moment.state.reason, Some(Reason::JobLost));
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeletePod { uid, .. }] if uid == "pod-uid"
    ));
    // One that has a node is its kubelet's to end.
    moment.observation.pods[0].bound = true;
    assert!(matches!(moment.decide(), Step::Rest { .. }));
    moment.observation.pods.clear();
    assert_eq!(moment.decide(), Step::GiveBack { agent: "a".into() });
}

/// Suspended while the Job controller was about to make its Pod: that Pod comes, for a moment, whatever the Job says by then.
#[test]
fn a_slot_is_kept_until_the_job_controller_says_that_no_pod_follows() {
    let mut moment = started();
    moment.job().suspended = true;
    moment.record();
    assert_eq!(moment.state.reason, Some(Reason::JobLost));
    let closes = |actions: &[Action]| matches!(actions, [Action::CloseJob { .. }]);
    assert!(closes(&moment.actions()));
    // The same for one whose Task is gone, and its Job with nobody's name on it.
    let Remains::Act(action) = Remains::of([&*moment.job()], [], Timestamp::UNIX_EPOCH) else {
        panic!("nobody else ends it");
    };
    assert!(closes(&[*action]));
    let job = moment.job();
    (job.suspended, job.closed) = (false, true);
    assert_eq!(moment.decide(), Step::Rest { again: None });
    moment.job().end = Some(JobEnd::Failed {
        reason: "DeadlineExceeded".to_owned(),
        message: String::new(),
    });
    assert_eq!(moment.decide(), Step::GiveBack { agent: "a".into() });
}

/// Created in time, and then its Agent was deleted: the slot that it waits for does not exist any more.
#[test]
fn a_job_of_an_agent_that_is_gone_is_deleted_and_its_task_waits_for_the_agent() {
    let mut moment = limited();
    stands(&mut moment, Standing::Held);
    moment.create();
    moment.observation.slot = None;
    let agent_is_there = moment.lowered.clone();
    let without = Moment::of(TASK);
    moment.lowered = without.lowered;
    assert!(matches!(
        moment.actions().as_slice(),
        [Action::DeleteJob { .. }]
    ));
    moment.observation.job = None;
    moment.record();
    let waits = moment.state.message.clone().expect("words");
    assert!(waits.contains("waits for Agent"), "{waits}");
    moment.lowered = agent_is_there;
    moment.record();
    assert_eq!(moment.decide(), Step::Claim { agent: "a".into() });
}

/// Left behind by a Task that was deleted with `--cascade=orphan`: nobody else waits for it.
#[test]
fn a_pod_that_does_not_start_gives_the_slot_back_in_the_end() {
    let mut moment = started();
    moment.pod("spec: {}\nstatus:\n  phase: Pending\n  conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable}]");
    let pods = moment.observation.pods.clone();
    let job = moment.job().clone();
    let created = pods[0].created.expect("a time");
    let left = |job, passed: u64| {
        let now = created + std::time::Duration::from_secs(passed);
        Remains::of([job], &pods, now)
    };
    let limit = STALL_LIMIT.as_secs();
    assert!(matches!(left(&job, limit - 1), Remains::Something(Some(_))));
    assert!(
        matches!(left(&job, limit), Remains::Act(action) if matches!(*action, Action::CloseJob { .. }))
    );
    let closed = JobView {
        closed: true,
        ..job.clone()
    };
    assert!(matches!(left(&closed, limit), Remains::Something(None)));
}
