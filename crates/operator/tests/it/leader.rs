//! Of two operators one leads; the other watches, and takes over.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kubeopencode_operator::{Mandate, OperatorOptions};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World, task},
};

/// Leads until it is told otherwise.
fn held() -> Mandate {
    let mandate = Mandate::default();
    hold(&mandate);
    mandate
}

fn hold(mandate: &Mandate) {
    mandate.hold_until(Instant::now() + super::world::GUARD * 2);
}

fn led_by(mandate: &Mandate) -> OperatorOptions {
    OperatorOptions {
        leadership: mandate.leadership(),
        ..OperatorOptions::default()
    }
}

#[tokio::test]
async fn one_that_does_not_lead_writes_nothing_and_takes_over_when_it_does() {
    let mut world = World::new(Play::Works).await;
    let (first, second) = (held(), Mandate::default());
    let (by_first, by_second) = (Faults::none(), Faults::none());
    world.operate_with(&by_first, &led_by(&first));
    world.operate_with(&by_second, &led_by(&second));
    world.is_at_work().await;
    first.give_up();
    let so_far = by_first.calls().len();
    hold(&second);
    world.kubelet.now(Play::Ends(0));
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.create(&task("next")).await;
    assert_eq!(
        world.ends("next").await.reason.as_deref(),
        Some("Succeeded")
    );
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
    let writes = |call: &&Call| call.writes() && call.resource != "events";
    let calls = by_first.calls();
    assert_eq!(calls.iter().skip(so_far).find(writes), None);
    let successes = by_second.successes();
    let count = successes.iter().filter(writes).count();
    assert_eq!(count, 1 + 5, "the end of one Task and the life of another");
}

#[tokio::test]
async fn one_that_loses_its_election_for_good_ends_when_told_to() {
    let mut world = World::new(Play::Ends(0)).await;
    let faults = Faults::none();
    let leads = held();
    world.operate_with(&faults, &led_by(&leads));
    drop(leads);
    world.create(AGENT).await;
    world.create(TASK).await;
    let other = Faults::none();
    world.operate(&other);
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
    assert!(!faults.calls().iter().any(Call::writes));
}

/// Its cache shows the Job as it was before the other one released it.
#[tokio::test]
async fn one_that_takes_over_with_an_old_cache_still_reads_the_result() {
    let mut world = World::new(Play::Ends(0)).await;
    let (first, second) = (held(), Mandate::default());
    let of_jobs = |call: &Call, verb| call.verb == verb && call.resource == "jobs";
    let releases_nothing = Faults::new(move |_, call| {
        if of_jobs(call, "patch") {
            Fault::Refused
        } else {
            Fault::None
        }
    });
    world.operate_with(&releases_nothing, &led_by(&first));
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    first.give_up();

    let listed = watch::Sender::new(false);
    let mut has_listed = listed.subscribe();
    let sees_no_more = Faults::new(move |_, call| {
        if of_jobs(call, "watch") {
            listed.send_replace(true);
            Fault::Late(super::world::GUARD * 2)
        } else {
            Fault::None
        }
    });
    world.operate_with(&sees_no_more, &led_by(&second));
    has_listed.wait_for(|listed| *listed).await.unwrap();
    let released = json!({
        "metadata": {"annotations": {"kubeopencode.io/released": "true"}},
        "spec": {"suspend": false},
    });
    world
        .api::<Job>()
        .patch(&job, &PatchParams::default(), &Patch::Merge(&released))
        .await
        .unwrap();
    world
        .until::<Job>(&job, "complete", |job| {
            let status = job.and_then(|job| job.status.as_ref());
            status.is_some_and(|status| status.completion_time.is_some())
        })
        .await;
    hold(&second);
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("Succeeded"));
    let result = status.result.expect("what the Pod reported");
    assert_eq!(result.exit_code, Some(0));
    world.end().await;
}
