//! What is left of a Task that has ended: its Job, its logs, its slot.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, LogParams},
};
use serde_json::json;

use super::Stage;
use crate::{row, scenario::ObjectName};

impl Stage {
    /// What there is of a Task that has ended.
    pub(super) async fn left(
        &self,
        task: &str,
        job: row::Job,
        logs: row::Logs,
        slot: row::Slot,
    ) -> Result<()> {
        let found = self.tasks().get(task).await?;
        self.slot(&found, slot).await?;
        let name = found.data["status"]["jobName"].as_str();
        match (job, name) {
            (row::Job::Never, None) => return Ok(()),
            (row::Job::Never, Some(name)) => bail!("Job {name} is on record"),
            (_, None) => bail!("no Job is on record"),
            (row::Job::Gone, Some(name)) => {
                let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
                self.gone(&jobs, name).await.context("the Job")?;
            }
            (row::Job::Stays | row::Job::Suspended | row::Job::Closed, Some(name)) => {
                let mut expected = json!({
                    "kind": "Job", "metadata": {"name": name, "deletionTimestamp": null},
                });
                if job == row::Job::Suspended {
                    expected["spec"] = json!({"suspend": true});
                } else if job == row::Job::Closed {
                    expected["spec"] = json!({"suspend": false, "parallelism": 0});
                }
                self.until(&expected).await.context("the Job")?;
            }
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!("batch.kubernetes.io/job-name={}", name.unwrap_or_default());
        let found = pods.list(&ListParams::default().labels(&selector)).await?;
        let wanted = match logs {
            row::Logs::Agent => "agent",
            // The kubelet may answer for a container at one moment, and have removed it at the next.
            row::Logs::Perhaps => return Ok(()),
            row::Logs::Init => "init",
            row::Logs::None => {
                for pod in found.iter().filter(|pod| !readable(pod).is_empty()) {
                    self.gone(&pods, &pod.name_any()).await.context("the Pod")?;
                }
                return Ok(());
            }
        };
        let pod = found.items.first().context("there is no Pod")?;
        let readable = readable(pod);
        let is_agent = readable.iter().any(|name| name == "agent");
        ensure!(
            is_agent == (wanted == "agent") && !readable.is_empty(),
            "of {readable:?} there can be logs"
        );
        for container in readable {
            let parameters = LogParams {
                container: Some(container.clone()),
                ..Default::default()
            };
            let text = pods.logs(&pod.name_any(), &parameters).await?;
            let silent = container == "agent" && text.is_empty();
            ensure!(!silent, "the agent's log is empty");
        }
        Ok(())
    }

    /// Waits until a Task holds no slot of its Agent, if that still exists, and compares whether any was
    /// given: an Agent that gave none does not say how many are in use.
    async fn slot(&self, task: &DynamicObject, slot: row::Slot) -> Result<()> {
        let agent = ObjectName {
            kind: "Agent".to_owned(),
            name: task.data["status"]["agent"]["name"]
                .as_str()
                .unwrap_or("default")
                .to_owned(),
            propagation: None,
        };
        let (agents, name) = self.named(&agent).await?;
        let uid = task.metadata.uid.clone().context("the Task has no UID")?;
        let free = |agent: Option<&DynamicObject>| {
            let slots = agent.and_then(|agent| agent.data["status"]["slots"].as_array());
            slots.is_none_or(|slots| slots.iter().all(|slot| slot["uid"] != uid.as_str()))
        };
        let agent = kube::runtime::wait::await_condition(agents, &name, free)
            .await
            .context("its slot")?;
        let Some(agent) = agent else {
            ensure!(slot != row::Slot::Free, "its Agent is gone");
            return Ok(());
        };
        ensure!(slot != row::Slot::Gone, "its Agent is there");
        if agent.data["spec"]["maxConcurrentTasks"].is_u64() {
            let given = agent.data["status"]["slotsInUse"].is_u64();
            ensure!(
                given == (slot == row::Slot::Free),
                "its Agent gave a slot: {given}"
            );
        }
        Ok(())
    }
}

/// The containers of a Pod that have started.
fn readable(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.init_container_statuses.into_iter().flatten();
    let containers = containers.chain(status.container_statuses.into_iter().flatten());
    containers
        .filter(|container| {
            let state = container.state.clone().unwrap_or_default();
            // One that was never made has the state of one that ended, and no ID.
            (state.running.is_some() || state.terminated.is_some())
                && container.container_id.is_some()
        })
        .map(|container| container.name)
        .collect()
}
