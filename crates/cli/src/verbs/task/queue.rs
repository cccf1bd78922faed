//! Where a Task stands in the queue of its Agent, right now: its status says so only now and then, and nobody says it
//! while no operator runs.

use std::collections::BTreeSet;

use kube::{Api, ResourceExt as _, api::ListParams};
use kubeopencode_api::v1alpha1::{Agent, Task};
use kubeopencode_engine::{
    lower::{FrontEnd as _, kubeopencode::TaskFrontEnd},
    queue::{SlotView, Standing},
    state::Phase,
};

use crate::{failure::Failure, target::Target};

/// A Task and the slots of its Agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it stands.
    pub(super) slot: SlotView,
    /// How many slots there are.
    limit: usize,
    /// Names of the Tasks that use them.
    users: Vec<String>,
}

/// None where nothing of slots matters to it.
pub(super) async fn place(target: &Target, task: &Task) -> Result<Option<Place>, Failure> {
    let agents: Api<Agent> = Api::namespaced(target.client.clone(), &target.namespace);
    let Some(agent) = agents.get_opt(TaskFrontEnd::agent(task)).await? else {
        return Ok(None);
    };
    let tasks = if waits(task) {
        let tasks: Api<Task> = Api::namespaced(target.client.clone(), &target.namespace);
        tasks.list(&ListParams::default()).await?.items
    } else {
        Vec::new()
    };
    Ok(of(task, &agent, &tasks))
}

/// Whether a Task is in the queue, as the operator counts: one that is being deleted is not.
pub(super) fn waits(task: &Task) -> bool {
    TaskFrontEnd::state(task).phase == Phase::Queued && task.metadata.deletion_timestamp.is_none()
}

/// Whether it has started, whoever holds slots: those from before there was a limit count too.
fn runs(task: &Task) -> bool {
    let state = TaskFrontEnd::state(task);
    state.job.is_some() && !state.phase.is_terminal() && task.metadata.deletion_timestamp.is_none()
}

fn of(task: &Task, agent: &Agent, tasks: &[Task]) -> Option<Place> {
    let slots = TaskFrontEnd::slots(agent);
    let holding: BTreeSet<&str> = slots.iter().map(|slot| slot.uid.as_str()).collect();
    let holds = |task: &Task| {
        let uid = task.metadata.uid.as_deref();
        uid.is_some_and(|uid| holding.contains(uid))
    };
    let limit = TaskFrontEnd::limit(agent);
    let of_agent = || {
        let name = agent.metadata.name.as_deref();
        let others = tasks
            .iter()
            .filter(move |it| Some(TaskFrontEnd::agent(it)) == name);
        others.filter(|it| !holds(it))
    };
    let standing = if holds(task) {
        Standing::Held
    } else if !waits(task) {
        return None;
    } else if limit.is_none() {
        Standing::Unlimited
    } else {
        let mine = TaskFrontEnd::turn(task);
        let before = of_agent().filter(|it| waits(it) && TaskFrontEnd::turn(it) < mine);
        Standing::Waits(before.count() + 1)
    };
    let users = slots.iter().map(|slot| slot.name.clone());
    let users = users.chain(
        of_agent()
            .filter(|it| runs(it))
            .map(kube::ResourceExt::name_any),
    );
    Some(Place {
        slot: SlotView {
            agent: agent.name_any(),
            standing,
        },
        limit: limit.map_or(0, Into::into),
        users: users.collect(),
    })
}

impl Place {
    /// Why it waits, where it does.
    pub(super) fn why(&self) -> Option<String> {
        const SHOWN: usize = 5;
        if !matches!(self.slot.standing, Standing::Waits(_)) {
            return None;
        }
        let free = self.limit.saturating_sub(self.users.len());
        if free > 0 {
            let (limit, agent) = (self.limit, &self.slot.agent);
            let (are, them) = if free == 1 {
                ("is", "it")
            } else {
                ("are", "them")
            };
            return Some(format!(
                "Of the {limit} slots of Agent {agent} {free} {are} free; the operator has not given {them} out yet. If this \
                 stays so, it does not run or does not watch this namespace."
            ));
        }
        let (shown, rest) = self.users.split_at(self.users.len().min(SHOWN));
        let mut names = shown.to_vec();
        if !rest.is_empty() {
            names.push(format!("and {} more", rest.len()));
        }
        Some(format!("The slots are held by {}.", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(name: &str, created: u8, phase: &str) -> Task {
        let job = (phase == "Running").then_some("job");
        serde_json::from_value(json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task",
            "metadata": {
                "name": name, "uid": name, "namespace": "default",
                "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
            },
            "spec": {}, "status": {"phase": phase, "jobName": job, "jobUID": job},
        }))
        .expect("a Task")
    }

    /// With this limit; these Tasks hold slots.
    fn agent(limit: &Value, holders: &[&str]) -> Agent {
        let slots: Vec<Value> = holders
            .iter()
            .map(|name| json!({"task": name, "uid": name}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
            "spec": {"serviceAccountName": "default", "maxConcurrentTasks": limit}, "status": {"slots": slots},
        }))
        .expect("an Agent")
    }

    fn place(agent: &Agent, tasks: &[Task]) -> (Standing, Option<String>) {
        let mine = tasks.iter().find(|task| task.name_any() == "mine");
        let place = of(mine.expect("it is there"), agent, tasks).expect("a place");
        (place.slot.standing, place.why())
    }

    #[test]
    fn whoever_waits_is_told_who_has_the_slots() {
        let tasks = [task("before", 1, "Queued"), task("mine", 2, "Queued")];
        let held = agent(&json!(2), &["a", "b"]);
        let (standing, why) = place(&held, &tasks);
        assert_eq!(standing, Standing::Waits(2));
        assert_eq!(why.as_deref(), Some("The slots are held by a, b."));
        // One ran before there was a limit, and nobody has noted that yet.
        let tasks = [task("mine", 2, "Queued"), task("old", 1, "Running")];
        let (_, why) = place(&agent(&json!(1), &[]), &tasks);
        assert_eq!(why.as_deref(), Some("The slots are held by old."));
        // A limit that was lowered takes nothing away.
        let lowered = agent(&json!(1), &["a", "b", "c", "d", "e", "f", "g"]);
        let (_, why) = place(&lowered, &tasks);
        let all = "The slots are held by a, b, c, d, e, and 3 more.";
        assert_eq!(why.as_deref(), Some(all));
    }

    /// As when the limit was raised, or somebody has ended, while no operator runs.
    #[test]
    fn a_slot_that_is_free_is_not_said_to_be_in_use() {
        let tasks = [task("mine", 2, "Queued")];
        let free = "Of the 2 slots of Agent default 1 is free; the operator has not given it out yet. \
                    If this stays so, it does not run or does not watch this namespace.";
        let (standing, why) = place(&agent(&json!(2), &["a"]), &tasks);
        assert_eq!((standing, why.as_deref()), (Standing::Waits(1), Some(free)));
        for none in [json!(null), json!(0)] {
            let (standing, why) = place(&agent(&none, &["a"]), &tasks);
            assert_eq!((standing, why), (Standing::Unlimited, None));
        }
    }

    #[test]
    fn who_is_being_deleted_or_holds_a_slot_is_not_in_the_queue() {
        let mut gone = task("gone", 1, "Queued");
        gone.metadata.deletion_timestamp = gone.metadata.creation_timestamp.clone();
        let tasks = [
            gone.clone(),
            task("holds", 1, "Queued"),
            task("mine", 2, "Queued"),
        ];
        let agent = agent(&json!(1), &["holds"]);
        let (standing, why) = place(&agent, &tasks);
        assert_eq!(standing, Standing::Waits(1));
        assert_eq!(why.as_deref(), Some("The slots are held by holds."));
        assert_eq!(of(&gone, &agent, &tasks), None);
    }
}
