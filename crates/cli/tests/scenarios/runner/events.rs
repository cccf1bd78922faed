//! What a Task's Events tell, of a Task that has ended: each reason, in order, and its end once and last.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_engine::state::Reason;

use super::Stage;

/// Reasons of Events that say that all is well; the others are warnings.
const NORMAL: [&str; 6] = [
    "Queued",
    "Resolved",
    "Running",
    "Stopping",
    "Succeeded",
    "UserStopped",
];

impl Stage {
    /// Watches the Events of a Task until all that is expected is told, and compares it.
    pub(super) async fn events(&self, task: &str, reasons: &[String]) -> Result<()> {
        let found = self.tasks().get(task).await?;
        let status = &found.data["status"];
        let end = status["reason"].as_str().context("it has not ended")?;
        let message = status["message"].as_str().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let uid = found.uid().unwrap_or_default();
        let of_task = format!("involvedObject.uid={uid}");
        let config = watcher::Config::default().fields(&of_task);
        let mut stream = watcher(events.clone(), config).applied_objects().boxed();
        let mut seen = BTreeMap::new();
        while let Some(event) = stream.try_next().await? {
            seen.insert(event.name_any(), event);
            let told = |reason: &str| seen.values().any(|event| reason_of(event) == reason);
            let says = |event: &Event| {
                reason_of(event) == end && event.message.as_deref() == Some(message)
            };
            if reasons.iter().all(|reason| told(reason)) && seen.values().any(says) {
                // The watch begins with those that are there, one by one, in no order: the others may not have come yet.
                let all = events.list(&ListParams::default().fields(&of_task)).await?;
                return compare(all.items, reasons, end);
            }
        }
        bail!("the watch ended; seen: {:?}", seen.values())
    }
}

fn reason_of(event: &Event) -> &str {
    event.reason.as_deref().unwrap_or_default()
}

fn time_of(event: &Event) -> Option<Timestamp> {
    event.first_timestamp.as_ref().map(|time| time.0)
}

/// Those of one second have no order. A cluster that is slow may make a Task say that it waits, which another does not.
fn compare(mut seen: Vec<Event>, reasons: &[String], end: &str) -> Result<()> {
    seen.sort_by_key(time_of);
    let told: Vec<(&str, Option<Timestamp>)> = seen
        .iter()
        .map(|event| (reason_of(event), time_of(event)))
        .collect();
    for event in &seen {
        let type_ = if NORMAL.contains(&reason_of(event)) {
            "Normal"
        } else {
            "Warning"
        };
        let reason = reason_of(event);
        ensure!(
            event.type_.as_deref() == Some(type_),
            "not {type_}: {event:?}"
        );
        ensure!(
            reason == "Waiting" || reasons.iter().any(|expected| expected == reason),
            "{reason} is not expected: {told:?}"
        );
    }
    let first = |reason: &String| told.iter().find(|(told, _)| told == reason);
    let times: Vec<_> = reasons.iter().filter_map(first).map(|(_, at)| at).collect();
    ensure!(
        times.is_sorted(),
        "in another order than {reasons:?}: {told:?}"
    );
    let ends: Vec<_> = told
        .iter()
        .filter(|(reason, _)| Reason::from_word(reason).is_some())
        .collect();
    ensure!(
        matches!(ends.as_slice(), [(reason, at)] if *reason == end && told.iter().all(|(_, other)| other <= at)),
        "not once, and last, {end}: {told:?}"
    );
    Ok(())
}
