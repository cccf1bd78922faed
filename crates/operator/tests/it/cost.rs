//! What a Task costs the API server, and that the operator needs no right beyond its rules.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use kubeopencode_api::{
    names,
    v1alpha1::{Task, TaskPhase},
};
use kubeopencode_engine::observe::JobView;
use kubeopencode_operator::{OperatorOptions, access::ACCESS};
use serde_json::json;

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    queue::is,
    time::virtual_time,
    world::{AGENT, TASK, World, limited, task},
};

/// Writes that are no Events.
fn writes(calls: &[Call]) -> Vec<String> {
    calls
        .iter()
        .filter(|call| call.writes() && call.resource != "events")
        .map(|call| format!("{} {}", call.verb, call.resource))
        .collect()
}

async fn cost_of_a_life(faults: Faults) {
    let mut world = World::new(Play::Ends(0)).await;
    world.operate(&faults);
    world.create(AGENT).await;
    world.create(TASK).await;
    world.ends("it").await;
    assert_eq!(world.events("it", 2).await.len(), 2);
    world.end().await;
    let calls = faults.calls();
    assert_eq!(
        writes(&faults.successes()),
        [
            "create configmaps",
            "create jobs",
            "update tasks/status",
            "patch jobs",
            "update tasks/status",
        ],
    );
    // The Job controller writes a new Job at once, and is not in the way.
    assert_eq!(writes(&calls).len(), 5, "{:?}", writes(&calls));
    let events = calls
        .iter()
        .filter(|call| call.resource == "events")
        .count();
    assert_eq!(events, 2);
    let mut reads: Vec<&str> = calls
        .iter()
        .filter(|call| call.verb == "get")
        .map(|call| call.resource.as_str())
        .collect();
    reads.sort_unstable();
    assert_eq!(
        reads,
        ["agents", "kubeopencodeconfigs", "kubeopencodeconfigs"]
    );
    let lists = |resource: &str| {
        let is_one = |call: &&Call| call.verb == "list" && call.resource == resource;
        calls.iter().filter(is_one).count()
    };
    assert_eq!((lists("jobs"), lists("pods")), (1, 1), "to begin with");
}

#[tokio::test]
async fn a_life_costs_five_writes_two_events_and_a_few_reads() {
    cost_of_a_life(Faults::none()).await;
}

/// What the operator has just written is not begun again because its caches do not show it yet.
#[tokio::test]
async fn a_life_costs_the_same_when_all_watches_are_late() {
    let late = |_, call: &Call| match call.verb {
        "watch" => Fault::Late(Duration::from_millis(150)),
        _ => Fault::None,
    };
    cost_of_a_life(Faults::new(late)).await;
}

/// Their number of requests follows from how long an answer takes, not from how many Tasks there are.
#[tokio::test]
async fn tasks_that_begin_together_share_their_look_ups() {
    const TASKS: usize = 30;
    let mut world = World::new(Play::Ends(0)).await;
    world.create(AGENT).await;
    for number in 0..TASKS {
        world.create(&task(&format!("it-{number}"))).await;
    }
    let looks_up = |call: &Call| {
        let kinds = ["agents", "kubeopencodeconfigs"];
        call.verb == "get" && kinds.contains(&call.resource.as_str())
    };
    let faults = Faults::new(move |_, call: &Call| {
        if looks_up(call) {
            Fault::Slow(Duration::from_millis(300))
        } else {
            Fault::None
        }
    });
    world.operate(&faults);
    for number in 0..TASKS {
        let status = world.ends(&format!("it-{number}")).await;
        assert_eq!(status.reason.as_deref(), Some("Succeeded"));
    }
    world.end().await;
    let requests = faults.calls().iter().filter(|call| looks_up(call)).count();
    assert!(requests < TASKS, "{requests} requests for {TASKS} Tasks");
}

/// In the operator's own namespace there is one configuration, not two.
#[tokio::test]
async fn the_same_configuration_is_asked_for_once() {
    let mut world = World::new(Play::Ends(0)).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let mut options = OperatorOptions::default();
    options.settings.system_namespace = "default".to_owned();
    let faults = Faults::none();
    world.operate_with(&faults, &options);
    world.ends("it").await;
    world.end().await;
    let calls = faults.calls();
    let gets: Vec<&str> = calls
        .iter()
        .filter(|call| call.verb == "get")
        .map(|call| call.resource.as_str())
        .collect();
    assert_eq!(gets, ["kubeopencodeconfigs", "agents"]);
}

#[tokio::test]
async fn every_call_is_covered_by_an_access_rule() {
    let mut world = World::new(Play::Works).await;
    let faults = Faults::none();
    world.operate(&faults);
    world.is_at_work().await;
    world.stop("it").await;
    world.ends("it").await;
    world.end().await;
    let calls = faults.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.verb == "patch" && call.resource == "pods")
    );
    for call in calls {
        let allowed = ACCESS.iter().any(|rule| {
            rule.group == call.group
                && rule.resource == call.resource
                && rule.verbs.contains(&call.verb)
        });
        assert!(allowed, "no access rule covers {call:?}");
    }
}

#[tokio::test]
async fn a_slot_costs_two_writes_more() {
    let mut world = World::new(Play::Ends(0)).await;
    let faults = Faults::none();
    world.operate(&faults);
    world.create(&limited(1)).await;
    world.create(TASK).await;
    world.ends("it").await;
    world.all_slots_are_free().await;
    world.end().await;
    assert_eq!(
        writes(&faults.calls()),
        [
            "update agents/status",
            "create configmaps",
            "create jobs",
            "update tasks/status",
            "patch jobs",
            "update tasks/status",
            "update agents/status",
        ],
    );
}

#[tokio::test]
async fn a_stop_costs_three_writes_more() {
    let mut world = World::new(Play::Works).await;
    let faults = Faults::none();
    world.operate(&faults);
    let job = world.is_at_work().await;
    world.stop("it").await;
    world.ends("it").await;
    let suspended = |job: Option<&Job>| job.is_some_and(|job| JobView::of(job).suspended);
    world.until::<Job>(&job, "suspended", suspended).await;
    world.end().await;
    assert_eq!(
        writes(&faults.calls()),
        [
            "create configmaps",
            "create jobs",
            "update tasks/status",
            "patch jobs",
            "update tasks/status",
            "patch pods",
            "update tasks/status",
            "patch jobs",
        ],
    );
}

/// Each Task of a queue costs one write when it is queued, and nothing while others move: no list is longer than a
/// hundred here. All of it together stays within eight writes for a Task.
#[tokio::test]
async fn those_who_wait_are_written_once() {
    const TASKS: usize = 24;
    let mut world = World::new(Play::Works).await;
    let (faults, options) = (Faults::none(), OperatorOptions::default());
    world.operate_with(&faults, &options);
    world.create(&limited(1)).await;
    for number in 0..TASKS {
        let name = format!("t{number:02}");
        world.create(&task(&name)).await;
        let status = world
            .status(&name, "looked at", |status| status.phase.is_some())
            .await;
        assert_eq!(status.phase == Some(TaskPhase::Queued), number > 0);
    }
    let of_tasks = |calls: &[Call]| {
        let writes = writes(calls);
        writes
            .iter()
            .filter(|write| *write == "update tasks/status")
            .count()
    };
    assert_eq!(of_tasks(&faults.calls()), TASKS, "one for each");
    world.kubelet.now(Play::Ends(0));
    for number in 0..TASKS {
        world.ends(&format!("t{number:02}")).await;
    }
    world.all_slots_are_free().await;
    world.end().await;
    let calls = faults.calls();
    // Queued, started, ended; at place 10 those who came later are told once more.
    let told_again = TASKS - 1 - 10;
    assert_eq!(of_tasks(&calls), 3 * TASKS - 1 + told_again);
    let all = writes(&calls).len() - told_again;
    assert!(all <= 8 * TASKS, "{all} writes");
    assert!(
        (1..=8 * TASKS).contains(&rounds(&options)),
        "{} rounds",
        rounds(&options)
    );
}

fn rounds(options: &OperatorOptions) -> usize {
    let text = options.metrics.text();
    let counts = text.lines().filter_map(|line| {
        let count = line.strip_prefix("kubeopencode_round_duration_seconds_count{")?;
        count.rsplit(' ').next()?.parse::<usize>().ok()
    });
    counts.sum()
}

#[tokio::test]
async fn a_life_takes_at_most_eight_rounds() {
    let mut world = World::new(Play::Ends(0)).await;
    let options = OperatorOptions::default();
    world.operate_with(&Faults::none(), &options);
    world.create(AGENT).await;
    world.create(TASK).await;
    world.ends("it").await;
    world.end().await;
    assert!(
        (1..=8).contains(&rounds(&options)),
        "{} rounds",
        rounds(&options)
    );
}

/// Its operator hears nothing of Tasks any more: one that was deleted in the queue gets its turn. Each Job that is made of it
/// goes with its owner, and that is an event.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_gone_and_seems_to_be_there_costs_little() {
    let (world, deaf) = b_waits_and_tasks_are_not_watched().await;
    let background = DeleteParams::background();
    world.api::<Task>().delete("b", &background).await.unwrap();
    world.kubelet.now(Play::Ends(0));
    world.ends("a").await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    let of_jobs = |call: &&Call| (call.verb, call.resource.as_str()) == ("create", "jobs");
    let made = deaf.successes().iter().filter(of_jobs).count() - 1;
    assert!((1..=8).contains(&made), "{made} Jobs within two minutes");
    world.end().await;
}

/// A conflict says that a Task is not as it seems: it is asked for, before the same is tried again.
#[tokio::test(start_paused = true)]
async fn a_task_that_was_changed_while_the_watch_is_late_goes_on() {
    let (world, deaf) = b_waits_and_tasks_are_not_watched().await;
    let edit = Patch::Merge(json!({"spec": {"description": "another thing"}}));
    let by = PatchParams::default();
    world.api::<Task>().patch("b", &by, &edit).await.unwrap();
    world.kubelet.now(Play::Ends(0));
    let job = world.ends("b").await.job_name.expect("a Job");
    let job = world.api::<Job>().get(&job).await.unwrap();
    let made_of = &job.annotations()[names::ANNOTATION_GENERATION];
    assert_eq!(made_of, "2", "what it says, not what it said");
    let calls = deaf.calls();
    let of_b = |call: &&Call| call.resource == "tasks/status" && call.name == "b";
    let written = calls.iter().filter(of_b).count();
    assert!(written <= 6, "{written} writes of its status");
    world.end().await;
}

/// Of two Tasks one works, and the other waits for its slot; what becomes of them by others, no watch shows.
async fn b_waits_and_tasks_are_not_watched() -> (World, Faults) {
    let mut world = World::new(Play::Works).await;
    world.guard = Duration::from_hours(24);
    world.create(&limited(1)).await;
    for name in ["a", "b"] {
        world.create(&task(name)).await;
    }
    let deaf = Faults::without_watching("tasks");
    world.operate_with(&deaf, &virtual_time());
    is(&world, "a", TaskPhase::Running).await;
    is(&world, "b", TaskPhase::Queued).await;
    (world, deaf)
}
