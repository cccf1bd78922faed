//! The queue of an Agent with a limit.

use std::{sync::mpsc, time::Duration};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use kubeopencode_api::v1alpha1::{Agent, Task, TaskPhase};
use serde_json::json;

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    world::{AGENT, World, condition, limited, task},
};

/// Wait until a Task is in this phase.
pub async fn is(world: &World, name: &str, phase: TaskPhase) {
    world
        .status(name, "in its phase", |status| status.phase == Some(phase))
        .await;
}

async fn holders(world: &World, expected: &[&str]) {
    world
        .until::<Agent>("default", "with these holders", |agent| {
            let slots = agent.and_then(|agent| agent.status.as_ref());
            let slots = slots.map(|status| status.slots.iter().map(|slot| slot.task.as_str()));
            slots.is_some_and(|slots| slots.eq(expected.iter().copied()))
        })
        .await;
}

/// An Agent with one slot: `a` has it, and the others wait.
async fn a_runs_before(waiting: &[&str]) -> World {
    let world = World::start(Play::Works).await;
    world.create(&limited(1)).await;
    world.create(&task("a")).await;
    is(&world, "a", TaskPhase::Running).await;
    for name in waiting {
        world.create(&task(name)).await;
        is(&world, name, TaskPhase::Queued).await;
    }
    world
}

async fn set_limit(world: &World, limit: Option<i32>) {
    let change = json!({"spec": {"maxConcurrentTasks": limit}});
    let agents = world.api::<Agent>();
    agents
        .patch("default", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
}

#[tokio::test]
async fn first_come_first_served() {
    let world = a_runs_before(&["b"]).await;
    world.create(&task("c")).await;
    let status = world
        .status("c", "queued", |status| {
            status.phase == Some(TaskPhase::Queued)
        })
        .await;
    assert_eq!(condition(&status, "Queued"), Some("True"));
    assert_eq!(status.queue.unwrap().position, 2);
    world.kubelet.now(Play::Ends(0));
    for name in ["a", "b", "c"] {
        let status = world.ends(name).await;
        assert_eq!(status.phase, Some(TaskPhase::Completed));
        assert!(status.queue.is_none());
    }
    holders(&world, &[]).await;
    world.end().await;
}

#[tokio::test]
async fn the_higher_priority_comes_first() {
    let world = a_runs_before(&["b"]).await;
    world
        .create(&task("c").replace("spec: {", "spec: {priority: 5, "))
        .await;
    is(&world, "c", TaskPhase::Queued).await;
    world.stop("a").await;
    is(&world, "c", TaskPhase::Running).await;
    holders(&world, &["c"]).await;
    is(&world, "b", TaskPhase::Queued).await;
    world.end().await;
}

#[tokio::test]
async fn a_limit_that_is_raised_acts_at_once_and_a_lowered_one_ends_nothing() {
    let world = a_runs_before(&["b", "c", "d"]).await;
    set_limit(&world, Some(3)).await;
    holders(&world, &["a", "b", "c"]).await;
    is(&world, "c", TaskPhase::Running).await;
    set_limit(&world, Some(1)).await;
    world.stop("a").await;
    holders(&world, &["b", "c"]).await;
    is(&world, "d", TaskPhase::Queued).await;
    set_limit(&world, None).await;
    is(&world, "d", TaskPhase::Running).await;
    holders(&world, &["b", "c"]).await;
    world.end().await;
}

/// Those that run already count against a limit that is set later.
#[tokio::test]
async fn a_limit_that_is_added_counts_what_runs() {
    let world = World::start(Play::Works).await;
    world.create(AGENT).await;
    world.create(&task("a")).await;
    is(&world, "a", TaskPhase::Running).await;
    set_limit(&world, Some(1)).await;
    holders(&world, &["a"]).await;
    world.create(&task("b")).await;
    is(&world, "b", TaskPhase::Queued).await;
    world.stop("a").await;
    is(&world, "b", TaskPhase::Running).await;
    world.end().await;
}

#[tokio::test]
async fn a_queued_task_can_be_stopped_and_deleted() {
    let world = a_runs_before(&["b", "c", "d"]).await;
    world.stop("b").await;
    let status = world.ends("b").await;
    assert_eq!(status.reason.as_deref(), Some("UserStopped"));
    assert_eq!(condition(&status, "Queued"), Some("False"));
    world
        .api::<Task>()
        .delete("c", &DeleteParams::default())
        .await
        .unwrap();
    world.stop("a").await;
    is(&world, "d", TaskPhase::Running).await;
    assert_eq!(world.kubelet.starts("b") + world.kubelet.starts("c"), 0);
    world.end().await;
}

/// However a holder goes, its slot is free when nothing of it runs any more, and not before.
#[tokio::test]
async fn a_holder_that_is_deleted_gives_its_slot_back() {
    for parameters in [
        DeleteParams::background(),
        DeleteParams::foreground(),
        DeleteParams::orphan(),
    ] {
        let world = World::start(Play::Works).await;
        world.create(&limited(1)).await;
        world.create(&task("a")).await;
        let job = world.job_of("a").await;
        let pod = world
            .pod_of(&job, |pod| super::life::phase(pod) == "Running")
            .await;
        world.create(&task("b")).await;
        is(&world, "b", TaskPhase::Queued).await;
        world.api::<Task>().delete("a", &parameters).await.unwrap();
        let orphaned = parameters == DeleteParams::orphan();
        if orphaned {
            world
                .until::<Task>("a", "gone", |task| task.is_none())
                .await;
            holders(&world, &["a"]).await;
            world.kubelet.now(Play::Ends(0));
        }
        world
            .status("b", "started", |status| status.job_name.is_some())
            .await;
        let left = world.api::<Pod>().get_opt(&pod.name_any()).await.unwrap();
        assert!(left.is_none_or(|pod| super::life::phase(&pod) != "Running"));
        world.end().await;
    }
}

/// Then its label alone says whose it was.
#[tokio::test]
async fn an_orphan_that_loses_its_annotations_gives_the_slot_back() {
    let world = World::start(Play::Works).await;
    world.create(&limited(1)).await;
    world.create(&task("a")).await;
    let job = world.job_of("a").await;
    let running = |pod: &Pod| super::life::phase(pod) == "Running";
    let pod = world.pod_of(&job, running).await.name_any();
    world.create(&task("b")).await;
    is(&world, "b", TaskPhase::Queued).await;
    let orphaned = DeleteParams::orphan();
    world.api::<Task>().delete("a", &orphaned).await.unwrap();
    world
        .until::<Task>("a", "gone", |task| task.is_none())
        .await;
    let none = Patch::Merge(json!({"metadata": {"annotations": null}}));
    let by = PatchParams::default();
    world.api::<Job>().patch(&job, &by, &none).await.unwrap();
    world.api::<Pod>().patch(&pod, &by, &none).await.unwrap();
    holders(&world, &["a"]).await;
    world.kubelet.now(Play::Ends(0));
    world
        .status("b", "started", |status| status.job_name.is_some())
        .await;
    world.end().await;
}

#[tokio::test]
async fn what_happened_while_no_operator_ran_is_made_up_for() {
    let mut world = a_runs_before(&["b"]).await;
    world.stop_operators().await;
    world
        .api::<Task>()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    world
        .until::<Task>("a", "gone", |task| task.is_none())
        .await;
    world.create(&task("c")).await;
    world.operate(&Faults::none());
    is(&world, "b", TaskPhase::Running).await;
    holders(&world, &["b"]).await;
    is(&world, "c", TaskPhase::Queued).await;
    world.end().await;
}

#[tokio::test]
async fn an_agent_that_is_deleted_is_waited_for() {
    let world = World::start(Play::Works).await;
    world
        .create(&limited(1).replace("name: default", "name: it"))
        .await;
    let of_it = |name: &str| task(name).replace("spec: {", "spec: {agentRef: it, ");
    world.create(&of_it("a")).await;
    is(&world, "a", TaskPhase::Running).await;
    world.create(&of_it("b")).await;
    is(&world, "b", TaskPhase::Queued).await;
    world
        .api::<Agent>()
        .delete("it", &DeleteParams::default())
        .await
        .unwrap();
    let status = world
        .status("b", "waiting for its Agent", |status| {
            condition(status, "Ready") == Some("False")
        })
        .await;
    assert_eq!(status.phase, Some(TaskPhase::Pending));
    assert_eq!(condition(&status, "Queued"), Some("False"));
    // What runs counts for the one that takes its place.
    world
        .create(&limited(1).replace("name: default", "name: it"))
        .await;
    is(&world, "b", TaskPhase::Queued).await;
    world.stop("a").await;
    is(&world, "b", TaskPhase::Running).await;
    world.end().await;
}

/// Those whom another process has queued hear of the Agent as well.
#[tokio::test]
async fn who_was_queued_before_a_restart_hears_of_the_agent() {
    for gone in [false, true] {
        let mut world = World::start(Play::Works).await;
        world
            .create(&limited(1).replace("name: default", "name: it"))
            .await;
        let of_it = |name: &str| task(name).replace("spec: {", "spec: {agentRef: it, ");
        world.create(&of_it("a")).await;
        is(&world, "a", TaskPhase::Running).await;
        world.create(&of_it("b")).await;
        is(&world, "b", TaskPhase::Queued).await;
        world.stop_operators().await;
        world.operate(&Faults::none());
        // The new one works when it has done something.
        world.create(&of_it("c")).await;
        is(&world, "c", TaskPhase::Queued).await;
        let agents = world.api::<Agent>();
        if gone {
            agents.delete("it", &DeleteParams::default()).await.unwrap();
            is(&world, "b", TaskPhase::Pending).await;
        } else {
            let change = json!({"spec": {"maxConcurrentTasks": null}});
            agents
                .patch("it", &PatchParams::default(), &Patch::Merge(change))
                .await
                .unwrap();
            is(&world, "b", TaskPhase::Running).await;
        }
        world.end().await;
    }
}

/// As `kubectl replace --force` does it.
#[tokio::test]
async fn a_holder_that_is_replaced_by_one_of_its_name_gives_its_slot_back() {
    let world = World::start(Play::Works).await;
    world.create(&limited(1)).await;
    world.create(&task("a")).await;
    let before = world.job_of("a").await;
    world
        .pod_of(&before, |pod| super::life::phase(pod) == "Running")
        .await;
    let uid = world.api::<Task>().get("a").await.unwrap().uid();
    world
        .api::<Task>()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    world
        .until::<Task>("a", "gone", |task| {
            task.is_none_or(|task| task.uid() != uid)
        })
        .await;
    world.create(&task("a")).await;
    world
        .status("a", "started", |status| {
            status.job_name.as_ref().is_some_and(|job| *job != before)
        })
        .await;
    world.end().await;
}

/// The answer to a write is lost, and the write has let somebody in.
#[tokio::test]
async fn who_was_let_in_by_a_write_without_an_answer_starts() {
    let mut world = World::new(Play::Works).await;
    let mut writes = 0;
    world.operate(&Faults::new(move |_, call: &Call| {
        let slots = call.verb == "update" && call.resource == "agents/status";
        writes += usize::from(slots);
        // The first lets a in, the second b in its place.
        if slots && writes == 2 {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    }));
    world.create(&limited(1)).await;
    world.create(&task("a")).await;
    is(&world, "a", TaskPhase::Running).await;
    world.create(&task("b")).await;
    is(&world, "b", TaskPhase::Queued).await;
    world.stop("a").await;
    is(&world, "b", TaskPhase::Running).await;
    holders(&world, &["b"]).await;
    world.end().await;
}

/// The older of two lacks something, so the younger one does not wait for it.
#[tokio::test]
async fn who_is_not_ready_keeps_nobody_waiting() {
    let mut world = World::new(Play::Works).await;
    world.create(&limited(1)).await;
    let lacks = "spec: {contexts: [{type: ConfigMap, configMap: {name: never}, mountPath: x}], ";
    for round in 0..6 {
        world
            .create(&task(&format!("a{round}")).replace("spec: {", lacks))
            .await;
    }
    world.create(&task("b")).await;
    world.operate(&Faults::none());
    is(&world, "b", TaskPhase::Running).await;
    world.end().await;
}

/// The look-up of a Task shows a limit that no watch has shown yet: what is counted by nobody would be one too many.
#[tokio::test]
async fn a_limit_that_only_a_look_up_shows_is_held() {
    let mut world = World::new(Play::Works).await;
    world.create(AGENT).await;
    world.operate(&Faults::without_watching("agents"));
    world.create(&task("before")).await;
    is(&world, "before", TaskPhase::Running).await;
    set_limit(&world, Some(2)).await;
    for name in ["a", "b", "c"] {
        world.create(&task(name)).await;
    }
    holders(&world, &["before", "a"]).await;
    for (name, phase) in [
        ("a", TaskPhase::Running),
        ("b", TaskPhase::Queued),
        ("c", TaskPhase::Queued),
    ] {
        is(&world, name, phase).await;
    }
    world.end().await;
}

/// Its Agent is there when it is looked up, gone when a slot is asked for, and then there again: what was made of the first
/// is void, and the Task does not run beside the queue.
#[tokio::test]
async fn an_agent_that_goes_between_look_up_and_claim_gives_no_slot_and_no_leave_to_run() {
    let mut world = World::new(Play::Works).await;
    let mut looks = 0;
    let faults = Faults::new(
        move |_, call: &Call| match (call.verb, call.resource.as_str()) {
            ("watch", "agents") => Fault::Hangs,
            ("get", "agents") if call.name == "default" => {
                looks += 1;
                if matches!(looks, 2..=4) {
                    Fault::Missing
                } else {
                    Fault::None
                }
            }
            _ => Fault::None,
        },
    );
    world.operate(&faults);
    // It asks for an Agent in vain, so by then those that there are were listed: none.
    let refers = |name, agent| task(name).replace("Do it.", &format!("Do it., agentRef: {agent}"));
    world.create(&refers("waits", "other")).await;
    is(&world, "waits", TaskPhase::Pending).await;
    world.create(&limited(1)).await;
    world.create(&refers("a", "default")).await;
    // Nobody tells it of the Agent when it is there again, but that something was changed.
    is(&world, "a", TaskPhase::Pending).await;
    world.annotate("a", &json!({"look": "again"})).await;
    is(&world, "a", TaskPhase::Running).await;
    let granted = faults.successes();
    let first = |verb, resource| {
        let call = |call: &Call| (call.verb, call.resource.as_str()) == (verb, resource);
        granted.iter().position(call)
    };
    let slot = first("update", "agents/status").expect("a slot");
    assert!(Some(slot) < first("create", "jobs"), "{granted:#?}");
    world.end().await;
}

/// The Agent appears, and another Task finds it before the watch shows it: who waited for it hears of it all the same.
#[tokio::test]
async fn who_waits_for_an_agent_hears_of_it_from_whoever_finds_it() {
    let mut world = World::new(Play::Works).await;
    world.operate(&Faults::without_watching("agents"));
    let refers = |name: &str| {
        format!(
            "apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {{name: {name}}}\nspec: {{description: Do it., agentRef: default}}"
        )
    };
    world.create(&refers("a")).await;
    is(&world, "a", TaskPhase::Pending).await;
    world.create(&limited(2)).await;
    world.create(&refers("b")).await;
    is(&world, "b", TaskPhase::Running).await;
    is(&world, "a", TaskPhase::Running).await;
    world.end().await;
}

/// The look-up of the older of two fails once: it keeps its place.
#[tokio::test]
async fn a_request_that_fails_costs_nobody_the_place() {
    let mut world = World::new(Play::Works).await;
    world.create(&limited(1)).await;
    for name in ["a", "b"] {
        world.create(&task(name)).await;
    }
    let mut refused = false;
    world.operate(&Faults::new(move |_, call: &Call| {
        let look_up = call.verb == "get" && call.resource == "agents";
        if look_up && !std::mem::replace(&mut refused, true) {
            Fault::Refused
        } else {
            Fault::None
        }
    }));
    is(&world, "a", TaskPhase::Running).await;
    is(&world, "b", TaskPhase::Queued).await;
    world.end().await;
}

/// The Task that asked for a slot finds itself in the queue when it is looked at again, so somebody else has to try again.
#[tokio::test]
async fn a_write_of_the_slots_that_fails_is_tried_again() {
    let mut world = World::new(Play::Works).await;
    world.create(&limited(1)).await;
    let mut refused = false;
    world.operate(&Faults::new(move |_, call: &Call| {
        let slots = call.verb == "update" && call.resource == "agents/status";
        if slots && !std::mem::replace(&mut refused, true) {
            Fault::Refused
        } else {
            Fault::None
        }
    }));
    world.create(&task("a")).await;
    is(&world, "a", TaskPhase::Running).await;
    world.end().await;
}

fn writes_of_slots(faults: &Faults) -> usize {
    let calls = faults.calls();
    let of_slots = |call: &&Call| call.verb == "update" && call.resource == "agents/status";
    calls.iter().filter(of_slots).count()
}

/// Two operators act at the same time, and one of them hears nothing of Tasks any more: to it, one that has ended runs.
#[tokio::test]
async fn a_slot_that_one_gave_back_is_not_taken_again_by_another_whose_watch_is_stuck() {
    let mut world = World::new(Play::Works).await;
    let other = Faults::none();
    world.operate(&other);
    world.create(&limited(1)).await;
    world.create(&task("a")).await;
    is(&world, "a", TaskPhase::Running).await;
    let (begins, begun) = mpsc::channel();
    let stuck = Faults::new(move |_, call: &Call| {
        if call.verb == "watch" && call.resource == "tasks" {
            let _ = begins.send(());
            Fault::Hangs
        } else {
            Fault::None
        }
    });
    world.operate(&stuck);
    tokio::task::spawn_blocking(move || begun.recv_timeout(Duration::from_mins(1)))
        .await
        .unwrap()
        .expect("it has listed the Tasks");
    world.kubelet.now(Play::Ends(0));
    for name in ["a", "b", "c", "d"] {
        if name != "a" {
            world.create(&task(name)).await;
        }
        world.ends(name).await;
    }
    world.all_slots_are_free().await;
    world.end().await;
    let writes = writes_of_slots(&stuck) + writes_of_slots(&other);
    assert!(writes <= 12, "{writes} writes for four Tasks");
}

/// Somebody has taken one that runs out of the list: it counts all the same.
#[tokio::test]
async fn one_that_somebody_took_out_of_the_list_comes_back_as_long_as_it_runs() {
    let world = a_runs_before(&["b"]).await;
    let change = json!({"status": {"slots": []}});
    world
        .api::<Agent>()
        .patch_status("default", &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    world
        .until::<Agent>("default", "with a holder", |agent| {
            let status = agent.and_then(|agent| agent.status.as_ref());
            status.is_some_and(|status| status.slots.iter().any(|slot| slot.task == "a"))
        })
        .await;
    world.end().await;
}

/// Two operators act at the same time: what one of them hears late of its own write is not the state of things any more.
#[tokio::test]
async fn a_task_that_has_ended_does_not_get_its_slot_back_by_an_answer_that_comes_late() {
    let mut world = World::new(Play::Ends(0)).await;
    world.create(&limited(1)).await;
    let (went_on, late_one) = mpsc::channel();
    let mut is_recorded = false;
    let late = Faults::new(move |_, call: &Call| {
        match (call.verb, call.resource.as_str()) {
            ("update", "tasks/status") if !is_recorded => {
                is_recorded = true;
                return Fault::Late(Duration::from_secs(2));
            }
            // What it does after that answer.
            ("patch", "jobs") => {
                let _ = went_on.send(());
            }
            _ => {}
        }
        Fault::None
    });
    world.operate(&late);
    // The first record is that of the late one; the other operator sees the Task to its end.
    let other = Faults::new(|_, call: &Call| {
        if call.verb == "watch" && call.resource == "tasks" {
            Fault::Late(Duration::from_millis(300))
        } else {
            Fault::None
        }
    });
    world.operate(&other);
    world.create(&task("a")).await;
    world.ends("a").await;
    world.all_slots_are_free().await;
    tokio::task::spawn_blocking(move || late_one.recv_timeout(Duration::from_mins(1)))
        .await
        .unwrap()
        .expect("the late one goes on");
    world.create(&task("b")).await;
    world.ends("b").await;
    world.all_slots_are_free().await;
    world.end().await;
    let writes = writes_of_slots(&late) + writes_of_slots(&other);
    assert!(writes <= 8, "{writes} writes for two Tasks");
}
