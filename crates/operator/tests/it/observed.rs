//! What a kubelet and Prometheus see of an operator.

use std::{collections::BTreeSet, time::Duration};

use kubeopencode_operator::{Health, Mandate, Metrics, OperatorOptions};
use tokio::time::sleep;

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World},
};

/// The value of a sample, by its name and labels as they are printed.
#[track_caller]
fn value(text: &str, sample: &str) -> f64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{sample} ")));
    let line = line.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
    line[sample.len() + 1..].parse().unwrap()
}

/// The first watch of Jobs fails.
fn one_watch_fails() -> Faults {
    let mut failed = false;
    Faults::new(move |_, call| {
        if !failed && call.verb == "watch" && call.resource == "jobs" {
            failed = true;
            Fault::Expired
        } else {
            Fault::None
        }
    })
}

async fn a_life_of(options: &OperatorOptions) -> World {
    let mut world = World::new(Play::Ends(0)).await;
    world.operate_with(&one_watch_fails(), options);
    world.create(AGENT).await;
    world.create(TASK).await;
    world.ends("it").await;
    world
        .create(
            &TASK
                .replace("{name: it}", "{name: waits}")
                .replace("spec: {", "spec: {agentRef: never, "),
        )
        .await;
    world
        .status("waits", "waiting", |status| !status.conditions.is_empty())
        .await;
    world
}

#[tokio::test]
async fn a_life_is_counted() {
    let options = OperatorOptions::default();
    let world = a_life_of(&options).await;
    let text = options.metrics.text();
    world.end().await;
    for (sample, expected) in [
        (r#"kubeopencode_tasks{phase="Completed"}"#, 1.0),
        (r#"kubeopencode_tasks{phase="Pending"}"#, 1.0),
        (r#"kubeopencode_tasks{phase="Running"}"#, 0.0),
        (r#"kubeopencode_tasks_ended_total{reason="Succeeded"}"#, 1.0),
        (r#"kubeopencode_tasks_ended_total{reason="JobLost"}"#, 0.0),
        (
            r#"kubeopencode_round_duration_seconds_count{outcome="refused"}"#,
            0.0,
        ),
        (
            r#"kubeopencode_api_requests_total{verb="create",resource="jobs",code="201"}"#,
            1.0,
        ),
        (r#"kubeopencode_watch_restarts_total{resource="jobs"}"#, 1.0),
        (r#"kubeopencode_watch_restarts_total{resource="pods"}"#, 0.0),
        ("kubeopencode_leader", 1.0),
    ] {
        assert!(
            (value(&text, sample) - expected).abs() < 0.5,
            "{sample} in\n{text}"
        );
    }
    assert!(
        value(
            &text,
            r#"kubeopencode_round_duration_seconds_count{outcome="done"}"#
        ) >= 2.0
    );
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn every_metric_stands_in_the_documentation_and_no_other() {
    let options = OperatorOptions::default();
    let world = a_life_of(&options).await;
    let text = options.metrics.text();
    world.end().await;
    let mut counted = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        counted.insert(match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        });
    }
    let page = include_str!("../../../../docs/operations.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `kubeopencode_"));
    let told: BTreeSet<String> = rows
        .map(|row| format!("kubeopencode_{}", row.split('`').next().unwrap()))
        .collect();
    assert_eq!(counted, told);
}

/// Waits until a probe says what it should.
async fn until(is: impl Fn() -> bool) {
    while !is() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_ready_and_shows_that_it_does_not_lead() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(10_000);
    let mandate = Mandate::default();
    let options = OperatorOptions {
        leadership: mandate.leadership(),
        ..OperatorOptions::default()
    };
    assert!(options.health.ready().is_err(), "before it began");
    world.operate_with(&Faults::none(), &options);
    until(|| options.health.ready().is_ok()).await;
    assert!(value(&options.metrics.text(), "kubeopencode_leader") < 0.5);
    world.end().await;
    assert!(options.health.ready().is_err(), "after its end");
}

#[tokio::test(start_paused = true)]
async fn one_whose_caches_are_not_complete_is_alive_and_not_ready() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(10_000);
    let options = OperatorOptions::default();
    let of_pods = |call: &Call| call.resource == "pods";
    let late = Faults::timed(move |_, call| {
        if of_pods(call) {
            Fault::Slow(Duration::from_mins(5))
        } else {
            Fault::None
        }
    });
    world.operate_with(&late, &options);
    until(|| late.calls().iter().any(of_pods)).await;
    sleep(Duration::from_mins(4)).await;
    assert_eq!(options.health.stuck(), Ok(()));
    assert!(options.health.ready().is_err());
    until(|| options.health.ready().is_ok()).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_whose_cluster_is_away_stays_alive() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(10_000);
    let (health, metrics) = (Health::default(), Metrics::default());
    let options = OperatorOptions {
        health: health.clone(),
        metrics: metrics.clone(),
        ..OperatorOptions::default()
    };
    world.operate_with(&Faults::new(|_, _| Fault::Hangs), &options);
    sleep(Duration::from_mins(30)).await;
    assert_eq!(health.stuck(), Ok(()));
    assert!(health.ready().is_err());
    let text = metrics.text();
    let unanswered =
        r#"kubeopencode_api_requests_total{verb="list",resource="tasks",code="dropped"}"#;
    assert!(value(&text, unanswered) >= 1.0);
    world.end().await;
}
