//! Whose turn it is: nobody gets a slot before somebody who is in the queue and comes first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use kubeopencode_api::names;
use serde_json::Value;

use crate::invariants::{Held, broken, holders};

/// How long a Task is in the queue before nobody may come past it: a request that was on its way before may arrive as late
/// as this, and the watch of another operator be as late.
const KNOWN_TO_ALL: Duration = Duration::from_mins(15);
/// The same in calm, once that has lasted for as long: nothing is late any more.
const KNOWN_IN_CALM: Duration = Duration::from_mins(5);

/// A Task that waits in a queue.
#[derive(Debug)]
pub struct Waits<'a> {
    /// Its name, for people.
    pub name: &'a str,
    /// What it says.
    pub task: &'a Value,
    /// How long it has been in the queue.
    pub queued: Duration,
}

/// Whoever gets a slot does not come past somebody whose turn is before: the higher priority first, then the older one,
/// then the name, and who has been in the queue so long that everybody knows. `waiting` is everybody in the queue of this Agent
/// as it is then, `new` who gets a slot.
fn nobody_is_passed_over(
    agent: &str,
    new: &Waits,
    waiting: &[Waits],
    known_after: Duration,
) -> Held {
    let is_before = |other: &&Waits| {
        other.queued >= known_after && turn(other.task) < turn(new.task) && asks(other.task)
    };
    match waiting.iter().find(is_before) {
        Some(passed) => broken(
            "nobody gets a slot before somebody whose turn is before",
            format!(
                "Agent {agent}: Task {} gets a slot, and Task {} is queued for {:?}",
                new.name, passed.name, passed.queued
            ),
        ),
        None => Ok(()),
    }
}

/// Whether a Task that is queued still wants to run.
fn asks(task: &Value) -> bool {
    let metadata = &task["metadata"];
    metadata["deletionTimestamp"].is_null()
        && metadata["annotations"][names::ANNOTATION_STOP] != "true"
}

/// When a Task's turn is, among others.
fn turn(task: &Value) -> (Reverse<i64>, &str, &str) {
    let metadata = &task["metadata"];
    (
        Reverse(task["spec"]["priority"].as_i64().unwrap_or(0)),
        metadata["creationTimestamp"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default(),
    )
}

/// What is known of those who wait.
pub struct Queue<'a> {
    /// From the UID of a Task that is in a queue to when it came there.
    pub since: &'a BTreeMap<String, Timestamp>,
    /// UIDs of Tasks that had a Job on record: they are put in the list whatever the queue is.
    pub started: &'a BTreeSet<String>,
    /// The time of the API server.
    pub now: Timestamp,
    /// Since when nothing fails any more.
    pub calm_since: Option<Timestamp>,
}

impl Queue<'_> {
    /// An operator has written the list of this Agent, given as namespace and name; `tasks` are those of its namespace.
    ///
    /// # Errors
    /// Somebody was passed over.
    pub fn judge<'t>(
        &self,
        agent: &str,
        before: Option<&Value>,
        after: &Value,
        tasks: impl Iterator<Item = &'t Value>,
    ) -> Held {
        let (was, is) = (before.map(holders).unwrap_or_default(), holders(after));
        let (_, name) = agent.split_once('/').unwrap_or_default();
        let lasts = |since: Timestamp| Duration::try_from(self.now.duration_since(since)).ok();
        let calm = self.calm_since.and_then(lasts);
        let known_after = match calm {
            Some(calm) if calm >= KNOWN_IN_CALM => KNOWN_IN_CALM,
            _ => KNOWN_TO_ALL,
        };
        let (mut new, mut waiting) = (Vec::new(), Vec::new());
        for task in tasks {
            let uid = task["metadata"]["uid"].as_str().unwrap_or_default();
            if task["spec"]["agentRef"].as_str().unwrap_or(names::DEFAULT) != name {
                continue;
            }
            let since = self.since.get(uid);
            let waits = Waits {
                name: task["metadata"]["name"].as_str().unwrap_or_default(),
                task,
                queued: since.and_then(|since| lasts(*since)).unwrap_or_default(),
            };
            if !is.contains(uid) {
                if since.is_some() {
                    waiting.push(waits);
                }
            } else if !was.contains(uid) && !self.started.contains(uid) {
                new.push(waits);
            }
        }
        new.iter()
            .try_for_each(|new| nobody_is_passed_over(agent, new, &waiting, known_after))
    }
}
