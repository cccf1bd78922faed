//! Where a Task stands in the queue of its Agent, right now: its status says so only now and then.

use kube::{Api, api::ListParams};
use kubeopencode_api::v1alpha1::{Agent, Task};
use kubeopencode_engine::{
    lower::{FrontEnd as _, kubeopencode::TaskFrontEnd},
    queue::{Slot, SlotView, Standing},
    state::Phase,
};

use crate::{failure::Failure, target::Target};

/// A Task and the slots of its Agent.
pub(super) struct Place {
    /// Where it stands.
    pub(super) slot: SlotView,
    /// Names of the Tasks that hold the slots.
    pub(super) holders: Vec<String>,
}

/// None where its Agent has no limit, or it is not in the queue.
pub(super) async fn place(target: &Target, task: &Task) -> Result<Option<Place>, Failure> {
    let name = TaskFrontEnd::agent(task);
    let agents: Api<Agent> = Api::namespaced(target.client.clone(), &target.namespace);
    let Some(agent) = agents.get_opt(name).await? else {
        return Ok(None);
    };
    let holds = |slot: &Slot| Some(&slot.uid) == task.metadata.uid.as_ref();
    let slots = TaskFrontEnd::slots(&agent);
    let standing = if slots.iter().any(holds) {
        Standing::Held
    } else if TaskFrontEnd::state(task).phase == Phase::Queued {
        let tasks: Api<Task> = Api::namespaced(target.client.clone(), &target.namespace);
        let mine = TaskFrontEnd::turn(task);
        let tasks = tasks.list(&ListParams::default()).await?;
        let before = tasks.iter().filter(|other| {
            TaskFrontEnd::state(other).phase == Phase::Queued
                && TaskFrontEnd::agent(other) == name
                && TaskFrontEnd::turn(other) < mine
        });
        Standing::Waits(before.count() + 1)
    } else {
        return Ok(None);
    };
    Ok(Some(Place {
        slot: SlotView {
            agent: name.to_owned(),
            standing,
        },
        holders: slots.iter().map(|slot| slot.name.clone()).collect(),
    }))
}
