//! Cases of [`super::sync`] that the recording does not have.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};

use super::{
    backoff::Backoff,
    sync::{Step, sync},
};

const NOW: &str = "2026-01-01T00:01:00Z";

fn job(spec: &Value, status: &Value) -> Job {
    let mut spec = spec.clone();
    spec["template"] = json!({"spec": {"containers": []}});
    serde_json::from_value(json!({
        "metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec, "status": status,
    }))
    .unwrap()
}

/// A Pod of the Job, tracked.
fn pod(name: &str, phase: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "n", "uid": name,
            "finalizers": ["batch.kubernetes.io/job-tracking"],
        },
        "spec": {"nodeName": if phase == "Pending" { "" } else { "node" }, "containers": []},
        "status": {"phase": phase, "containerStatuses": [{
            "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": if phase == "Failed" {
                json!({"terminated": {"exitCode": 42, "finishedAt": "2026-01-01T00:00:55Z"}})
            } else {
                json!({"running": {}})
            },
        }]},
    }))
    .unwrap()
}

fn next(job: &Job, pods: &[Pod]) -> Step {
    sync(
        job,
        pods,
        &Backoff::default(),
        NOW.parse::<Timestamp>().unwrap(),
    )
}

fn conditions(step: &Step) -> Vec<(String, String)> {
    let status = step.status.as_ref().expect("a new status");
    let conditions = status.conditions.iter().flatten();
    conditions
        .map(|condition| {
            (
                condition.type_.clone(),
                condition.reason.clone().unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn parallelism_is_filled_and_never_exceeded() {
    let wide = job(&json!({"parallelism": 3, "completions": 10}), &json!({}));
    assert_eq!(next(&wide, &[pod("a", "Running")]).create, 2);
    let nearly_done = job(
        &json!({"parallelism": 3, "completions": 10}),
        &json!({"succeeded": 9}),
    );
    assert_eq!(next(&nearly_done, &[]).create, 1);
    assert_eq!(next(&nearly_done, &[pod("a", "Running")]).create, 0);
}

#[test]
fn fewer_wanted_pods_take_the_cheapest_away_and_do_not_count_it_as_failed() {
    let narrow = job(&json!({"parallelism": 1, "completions": 10}), &json!({}));
    let step = next(&narrow, &[pod("runs", "Running"), pod("waits", "Pending")]);
    assert_eq!(
        (&step.release[..], &step.delete[..]),
        (&["waits".to_owned()][..], &["waits".to_owned()][..])
    );
    let status = step.status.unwrap();
    assert_eq!(
        (status.active, status.terminating, status.failed),
        (Some(1), Some(1), None)
    );
}

#[test]
fn a_work_queue_is_complete_when_one_has_succeeded_and_all_have_ended() {
    let queue = job(&json!({"parallelism": 2}), &json!({}));
    let step = next(&queue, &[pod("a", "Succeeded"), pod("b", "Running")]);
    assert_eq!((step.create, conditions(&step).len()), (0, 0));
    let step = next(&queue, &[pod("a", "Succeeded"), pod("b", "Succeeded")]);
    assert_eq!(
        conditions(&step),
        [(
            "SuccessCriteriaMet".to_owned(),
            "CompletionsReached".to_owned()
        )]
    );
}

#[test]
fn the_first_rule_that_matches_a_failed_pod_decides() {
    let rule = |action: &str, code: i32| json!({"action": action, "onExitCodes": {"operator": "In", "values": [code]}});
    let spec = |rules: Value| json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "podFailurePolicy": {"rules": rules}});
    let failed = [pod("a", "Failed")];
    let fails = job(
        &spec(json!([rule("Ignore", 7), rule("FailJob", 42)])),
        &json!({}),
    );
    let step = next(&fails, &failed);
    assert_eq!(
        conditions(&step),
        [("FailureTarget".to_owned(), "PodFailurePolicy".to_owned())]
    );
    let ignores = job(
        &spec(json!([rule("Ignore", 42), rule("FailJob", 42)])),
        &json!({}),
    );
    let step = next(&ignores, &failed);
    assert_eq!(step.release, ["a"]);
    assert_eq!(step.create, 1);
    assert_eq!(
        step.status
            .unwrap()
            .uncounted_terminated_pods
            .unwrap()
            .failed,
        None
    );
}

#[test]
fn a_failed_pod_is_replaced_after_ten_seconds() {
    let retried = job(
        &json!({"parallelism": 1, "completions": 1, "backoffLimit": 6}),
        &json!({}),
    );
    let step = next(&retried, &[pod("a", "Failed")]);
    assert_eq!(step.create, 0);
    assert_eq!(step.wake, Some("2026-01-01T00:01:05Z".parse().unwrap()));
}

#[test]
fn what_is_not_served_is_said_and_not_run() {
    let indexed = job(
        &json!({"parallelism": 1, "completions": 1, "completionMode": "Indexed"}),
        &json!({}),
    );
    let step = next(&indexed, &[]);
    assert_eq!(step.create, 0);
    assert_eq!(
        conditions(&step),
        [(
            "FailureTarget".to_owned(),
            "UnsupportedCompletionMode".to_owned()
        )]
    );
}

#[test]
fn a_finished_job_goes_when_its_time_is_over_and_not_before() {
    let finished = |ttl: i32| {
        let ended = json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:50Z"}]);
        job(
            &json!({"ttlSecondsAfterFinished": ttl}),
            &json!({"conditions": ended}),
        )
    };
    assert!(next(&finished(10), &[]).expired);
    let step = next(&finished(20), &[]);
    assert!(step.is_settled());
    assert_eq!(step.wake, Some("2026-01-01T00:01:10Z".parse().unwrap()));
}

/// Its Pod failed while the Job was suspended, so it has no time of start; then somebody resumes it.
#[test]
fn a_job_that_ends_after_it_was_resumed_has_a_time_of_start() {
    let spec = json!({"suspend": false, "parallelism": 0, "backoffLimit": 0, "completions": 1});
    let failing = json!({
        "conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}],
        "uncountedTerminatedPods": {"failed": ["gone"]},
    });
    let step = next(&job(&spec, &failing), &[]);
    let status = step.status.as_ref().expect("a new status");
    assert_eq!(conditions(&step).last().unwrap().0, "Failed");
    assert!(status.start_time.is_some());
}
