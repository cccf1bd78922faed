//! Of two operators one leads; the other watches, and takes over.

use kubeopencode_operator::{Leadership, OperatorOptions};
use tokio::sync::watch;

use super::{
    faults::{Call, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World},
};

fn led_by(leads: &watch::Sender<bool>) -> OperatorOptions {
    OperatorOptions {
        leadership: Leadership::watching(leads.subscribe()),
        ..OperatorOptions::default()
    }
}

#[tokio::test]
async fn one_that_does_not_lead_writes_nothing_and_takes_over_when_it_does() {
    let mut world = World::new(Play::Works).await;
    let (first, second) = (watch::Sender::new(true), watch::Sender::new(false));
    let (by_first, by_second) = (Faults::none(), Faults::none());
    world.operate_with(&by_first, &led_by(&first));
    world.operate_with(&by_second, &led_by(&second));
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    world
        .pod_of(&job, |pod| super::life::phase(pod) == "Running")
        .await;
    first.send_replace(false);
    let so_far = by_first.calls().len();
    second.send_replace(true);
    world.kubelet.now(Play::Ends(0));
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world
        .create(&TASK.replace("{name: it}", "{name: next}"))
        .await;
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
    let leads = watch::Sender::new(true);
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
