//! Holds [`super::sync`] against what a real Job controller wrote: `tests/data/job-lifecycle.jsonl` has the
//! watch events of 27 scenarios. For every status in the recording, the Job and Pods as they stood just before
//! are given to `sync`, which must want to write that status.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Map, Value, json};

use super::{
    backoff::Backoff,
    pods,
    sync::{Step, sync},
};

const RECORDING: &str = include_str!("../../../tests/data/job-lifecycle.jsonl");

/// The clock of the recording's machine stood this far past a full second when the scenario began, where
/// that shows: deadlines count from a start time in whole seconds.
const SECOND_FRACTIONS: [(&str, f64); 4] = [
    ("job-deadline", 0.8),
    ("pod-deleted-b1", 0.8),
    ("retry", 0.4),
    ("term-ignored", 0.2),
];

struct Replay {
    scenario: String,
    fraction: f64,
    job: Option<Job>,
    pods: BTreeMap<String, Value>,
    changed: BTreeMap<String, f64>,
    backoff: Backoff,
    statuses: usize,
    notes: Vec<(String, String, String)>,
    deleted: BTreeSet<String>,
    /// A step whose Pod deletions are in the recording already, and its status not yet.
    begun: Option<Step>,
}

impl Replay {
    fn new(scenario: &str) -> Self {
        let fraction = SECOND_FRACTIONS.iter().find(|(name, _)| *name == scenario);
        Self {
            scenario: scenario.to_owned(),
            fraction: fraction.map_or(0.5, |(_, fraction)| *fraction),
            job: None,
            pods: BTreeMap::new(),
            changed: BTreeMap::new(),
            backoff: Backoff::default(),
            statuses: 0,
            notes: Vec::new(),
            deleted: BTreeSet::new(),
            begun: None,
        }
    }

    fn time(&self, t: f64) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        start + SignedDuration::from_secs_f64(t + self.fraction)
    }

    fn step(&mut self, t: f64) -> Step {
        let job = self.job.as_ref().expect("the Job is there");
        let pods: Vec<Pod> = self
            .pods
            .values()
            .map(|pod| serde_json::from_value(pod.clone()).expect("a Pod"))
            .collect();
        sync(job, &pods, &self.backoff, self.time(t))
    }

    /// Takes a step's effects on the Job over, as the driver would.
    fn take(&mut self, step: Step) {
        self.backoff = step.backoff;
        self.notes.extend(step.notes.into_iter().map(|note| {
            let kind = if note.warning { "Warning" } else { "Normal" };
            (kind.to_owned(), note.reason, note.message)
        }));
        self.deleted.extend(step.delete);
        if let Some(status) = step.status {
            self.job.as_mut().expect("the Job is there").status = Some(status);
        }
    }

    fn job_event(&mut self, event: &Value, base: &Value) {
        let t = event["t"].as_f64().unwrap();
        if event["type"] == "ADDED" {
            let mut job = base.clone();
            job["metadata"]["uid"] = json!("uid-of-job");
            job["metadata"]["namespace"] = json!("life");
            merge(&mut job["spec"], &event["spec"]);
            self.job = Some(serde_json::from_value(job).unwrap());
            return;
        }
        let current = self.job.as_ref().map(|job| {
            normal(&serde_json::to_value(job.status.clone().unwrap_or_default()).unwrap())
        });
        let recorded = normal(&event["status"]);
        let grew = event.get("spec").is_some() || event["metadata"].get("generation").is_some();
        if event["type"] == "MODIFIED" && (current.as_ref() != Some(&recorded) || !grew) {
            let step = self.begun.take().unwrap_or_else(|| self.step(t));
            let ours = step
                .status
                .as_ref()
                .map(|status| normal(&serde_json::to_value(status).unwrap()));
            assert_eq!(
                ours.as_ref(),
                Some(&recorded),
                "{} step {}: status\nJob: {:?}\nPods: {:#?}",
                self.scenario,
                event["step"],
                self.job,
                self.pods
            );
            self.statuses += 1;
            self.take(step);
        }
        let mut job = serde_json::to_value(self.job.as_ref().unwrap()).unwrap();
        if let Some(spec) = event.get("spec") {
            merge(&mut job["spec"], spec);
        }
        let mut metadata = event["metadata"].clone();
        times(&mut metadata, self.time(t));
        merge(&mut job["metadata"], &metadata);
        self.job = (event["type"] != "DELETED").then(|| serde_json::from_value(job).unwrap());
    }

    fn pod_event(&mut self, event: &Value) {
        let t = event["t"].as_f64().unwrap();
        let name = event["metadata"]["name"].as_str().unwrap().to_owned();
        if event["type"] == "DELETED" {
            self.pods.remove(&name);
            return;
        }
        if event["type"] == "ADDED" {
            let step = self.step(t);
            assert_eq!(
                step.create, 1,
                "{} step {}: a Pod",
                self.scenario, event["step"]
            );
            let template = pods::from_template(self.job.as_ref().unwrap(), name.clone());
            let template = serde_json::to_value(template).unwrap();
            for field in ["finalizers", "ownerReferences", "labels"] {
                let ours = uids(&template["metadata"][field]);
                assert_eq!(
                    ours,
                    uids(&event["metadata"][field]),
                    "{} {field}",
                    self.scenario
                );
            }
        }
        if self.begun.is_none() && self.job.is_some() {
            self.begun = Some(self.step(t)).filter(|step| step.delete.contains(&name));
        }
        let now = self.time(t);
        let mut change = event.clone();
        // A container has ended some time before that was seen.
        let ended = self.changed.insert(name.clone(), t).unwrap_or(t);
        times(&mut change, self.time(ended));
        let pod = self
            .pods
            .entry(name.clone())
            .or_insert_with(|| json!({"metadata": {"uid": name}}));
        let earlier = finished_at(&pod["status"]);
        merge(&mut pod["metadata"], &change["metadata"]);
        for owner in pod["metadata"]["ownerReferences"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            owner["uid"] = json!("uid-of-job");
        }
        pod["status"] = change["status"].clone();
        if let Some(earlier) = earlier {
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = earlier;
        }
        if event["metadata"]
            .get("deletionTimestamp")
            .is_some_and(Value::is_string)
        {
            let grace = event["metadata"]["deletionGracePeriodSeconds"]
                .as_i64()
                .unwrap_or_default();
            let due = now + SignedDuration::from_secs(grace);
            pod["metadata"]["deletionTimestamp"] =
                json!(due.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
    }
}

fn finished_at(status: &Value) -> Option<Value> {
    let at = &status["containerStatuses"][0]["state"]["terminated"]["finishedAt"];
    at.is_string().then(|| at.clone())
}

fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

fn times(value: &mut Value, now: Timestamp) {
    match value {
        Value::String(text) if text == "<time>" => {
            *text = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| times(item, now)),
        Value::Object(fields) => fields.values_mut().for_each(|field| times(field, now)),
        _ => {}
    }
}

/// Without what differs from run to run: times and uids.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| {
                let field = match key.as_str() {
                    "lastProbeTime" | "lastTransitionTime" | "startTime" | "completionTime" => {
                        json!("<time>")
                    }
                    "succeeded" | "failed" if field.is_array() => {
                        json!(field.as_array().unwrap().len())
                    }
                    _ => normal(field),
                };
                (key.clone(), field)
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(normal).collect(),
        other => other.clone(),
    }
}

fn uids(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), uids(field)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(uids).collect(),
        Value::String(text) if text.starts_with("<uid:") || text == "uid-of-job" => json!("<uid>"),
        other => other.clone(),
    }
}

#[test]
fn every_recorded_status_follows_from_what_came_before() {
    let mut replays: BTreeMap<String, (Value, Replay)> = BTreeMap::new();
    let mut events: BTreeMap<String, Vec<(String, String, String)>> = BTreeMap::new();
    let mut deletions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in RECORDING.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let scenario = event["scenario"].as_str().unwrap();
        if event["kind"] == "scenario" {
            replays.insert(
                scenario.to_owned(),
                (event["job"].clone(), Replay::new(scenario)),
            );
            continue;
        }
        let (base, replay) = replays.get_mut(scenario).unwrap();
        match event["kind"].as_str().unwrap() {
            "Job" => replay.job_event(&event, base),
            "Pod" => replay.pod_event(&event),
            "Event" if event["component"] == "job-controller" => {
                let text = |field: &str| event[field].as_str().unwrap().to_owned();
                let message = text("message");
                match event["reason"].as_str().unwrap() {
                    "SuccessfulCreate" => {}
                    "SuccessfulDelete" => {
                        let name = message.strip_prefix("Deleted pod: ").unwrap().to_owned();
                        deletions
                            .entry(scenario.to_owned())
                            .or_default()
                            .insert(name);
                    }
                    _ => events.entry(scenario.to_owned()).or_default().push((
                        text("type"),
                        text("reason"),
                        message,
                    )),
                }
            }
            _ => {}
        }
    }
    assert_eq!(replays.len(), 27);
    let statuses: usize = replays.values().map(|(_, replay)| replay.statuses).sum();
    assert!(statuses > 100, "{statuses} statuses");
    for (scenario, (_, replay)) in &replays {
        assert_eq!(
            replay.notes,
            events.remove(scenario).unwrap_or_default(),
            "{scenario}: Events"
        );
        assert_eq!(
            replay.deleted,
            deletions.remove(scenario).unwrap_or_default(),
            "{scenario}: deletions"
        );
    }
}
