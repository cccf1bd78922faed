//! The logs of a Task's Pod: followed, or as they are now.

use anyhow::{Context as _, Result, bail, ensure};
use futures::{AsyncBufReadExt as _, AsyncReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};

use super::Stage;
use crate::scenario::{Logs, Look};

impl Stage {
    /// Compares them with what a scenario says.
    pub(super) async fn logs(&self, logs: &Logs) -> Result<()> {
        let pod = self.pod_of(&self.job_of(&logs.task).await?).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let container = logs.container.clone().unwrap_or_else(|| "agent".to_owned());
        let options = LogParams {
            container: Some(container),
            follow: matches!(logs.look, Look::Follow(_)),
            ..Default::default()
        };
        let (has, lacks) = match &logs.look {
            Look::Follow(wanted) => {
                let mut lines = pods.log_stream(&pod, &options).await?.lines();
                while let Some(line) = lines.try_next().await? {
                    if line.contains(wanted.as_str()) {
                        return Ok(());
                    }
                }
                bail!("the logs ended without {wanted:?}");
            }
            Look::Now { has, lacks } => (has, lacks),
        };
        let mut bytes = Vec::new();
        let mut stream = pods.log_stream(&pod, &options).await?;
        stream.read_to_end(&mut bytes).await?;
        let text = String::from_utf8_lossy(&bytes);
        let mut rest = &*text;
        for part in has {
            let at = rest.find(part.as_str()).with_context(|| {
                format!("{part:?} is not in the logs, or not in this order:\n{text}")
            })?;
            rest = &rest[at + part.len()..];
        }
        for part in lacks {
            ensure!(
                !text.contains(part.as_str()),
                "{part:?} is in the logs:\n{text}"
            );
        }
        Ok(())
    }
}
