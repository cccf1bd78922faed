//! The API server is gone for ten minutes, and comes back.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kubeopencode_api::v1alpha1::{TaskPhase, TaskStatus};
use kubeopencode_operator::{
    Clock, OperatorOptions,
    leadership::election::{Election, ElectionOptions, Timing},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    life::phase,
    world::{AGENT, TASK, World, task},
};

const OUTAGE: Duration = Duration::from_mins(10);

/// One Task runs meanwhile and ends unseen, another one waits for its slot; a second operator is there to take over.
#[tokio::test(start_paused = true)]
async fn what_ran_is_followed_and_what_waited_starts_when_it_is_back() {
    let (begin, start) = (Timestamp::now(), Instant::now());
    let clock: Clock = Arc::new(move || begin + start.elapsed());
    let mut world = World::by(Play::Works, &clock).await;
    world.guard = Duration::from_hours(24);
    let gone = watch::Sender::new(false);
    let line = || {
        let gone = gone.subscribe();
        Faults::timed(move |_, _| {
            if *gone.borrow() {
                Fault::Unreachable
            } else {
                Fault::None
            }
        })
    };
    let end = CancellationToken::new();
    let mut operators = Vec::new();
    for identity in ["first", "second"] {
        let (work, lease) = (line(), line());
        let election = ElectionOptions {
            namespace: "default".to_owned(),
            name: kubeopencode_api::names::LEASE.to_owned(),
            identity: identity.to_owned(),
            timing: Timing::default(),
            clock: clock.clone(),
            entropy: Arc::new(|| 0),
        };
        let (election, leadership) = Election::new(world.client_with(&lease), election);
        let stands = tokio::spawn(election.run(end.clone().cancelled_owned()));
        let options = OperatorOptions {
            leadership: leadership.clone(),
            ..OperatorOptions::default()
        };
        world.operate_by(&work, clock.clone(), options);
        operators.push((work, lease, leadership, stands));
    }
    let one_leads = || {
        operators
            .iter()
            .filter(|operator| operator.2.holds())
            .count()
            == 1
    };

    world
        .create(&AGENT.replace("spec: {", "spec: {maxConcurrentTasks: 1, "))
        .await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    world
        .pod_of(&job, |pod: &Pod| phase(pod) == "Running")
        .await;
    world.create(&task("next")).await;
    let queued = |status: &TaskStatus| status.phase == Some(TaskPhase::Queued);
    world.status("next", "queued", queued).await;

    gone.send_replace(true);
    for (work, lease, ..) in &operators {
        work.cut();
        lease.cut();
    }
    let so_far: usize = operators.iter().map(|one| one.0.calls().len()).sum();
    sleep(Timing::default().deadline).await;
    assert!(!operators.iter().any(|operator| operator.2.holds()));
    sleep(OUTAGE).await;
    assert!(!operators.iter().any(|operator| operator.2.holds()));
    let calls: usize = operators.iter().map(|one| one.0.calls().len()).sum();
    // Six watches of two operators, each tried again after at most half a minute.
    assert!(calls - so_far < 2 * 6 * 60, "{} calls", calls - so_far);

    // The kubelet, which heard nothing either, tells it now.
    world.kubelet.now(Play::Ends(0));
    gone.send_replace(false);
    let back = Instant::now();
    for task in ["it", "next"] {
        let status = world.ends(task).await;
        assert_eq!(status.reason.as_deref(), Some("Succeeded"), "{status:?}");
        assert_eq!(world.kubelet.starts(task), 1);
    }
    let took = back.elapsed();
    assert!(took < Duration::from_mins(5), "{took:?}");
    assert!(one_leads());

    world.stop_operators().await;
    end.cancel();
    for (.., stands) in operators {
        stands.await.unwrap().unwrap();
    }
    world.end().await;
}
