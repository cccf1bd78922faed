//! The Pods of a Task, found by its Job.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use kubeopencode_api::v1alpha1::Task;

/// What the Pods of a Job are found by.
pub(crate) fn label(job: &str) -> String {
    format!("batch.kubernetes.io/job-name={job}")
}

/// The Pods of a Job. There is one, unless somebody has a hand in it.
pub(crate) async fn of_job(
    client: &Client,
    namespace: &str,
    job: &str,
) -> Result<Vec<Pod>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_job = ListParams::default().labels(&label(job));
    Ok(pods.list(&of_job).await?.items)
}

/// The Pod of the Task's present attempt, if there is one yet, and still.
pub(crate) async fn of_task(client: &Client, task: &Task) -> Result<Option<Pod>, kube::Error> {
    let status = task.status.as_ref();
    let Some(job) = status.and_then(|status| status.job_name.as_ref()) else {
        return Ok(None);
    };
    let namespace = task.namespace().unwrap_or_default();
    let pods = of_job(client, &namespace, job).await?;
    Ok(pods.into_iter().next())
}
