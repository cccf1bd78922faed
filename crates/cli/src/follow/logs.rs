//! Logs through the API, as `kubectl logs --follow` reads them, but to the end even when a connection breaks.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{AsyncReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::LogParams,
    runtime::{WatchStreamExt as _, wait::await_condition, watcher},
};
use kubeopencode_api::names::container::AGENT;

use super::{Output, position::Position};

/// How long the last lines may take once the Task has ended. A guard against a node that is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a broken connection the next one is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a log is not all of it.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Its Pod was deleted before the log was read to its end.
    PodGone,
    /// The cluster does not give it.
    Unread(kube::Error),
    /// Its node began another file while nobody read, and gives only that.
    Rotated,
    /// Its Task has ended long ago, and it has not.
    Late,
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodGone => {
                formatter.write_str("the logs cannot be read to their end: the Pod is gone")
            }
            Self::Unread(error) => {
                let words = crate::failure::words(error);
                write!(formatter, "the logs cannot be read to their end: {words}")
            }
            Self::Rotated => formatter.write_str(
                "a part of the logs is missing: the node rotated them while the connection was broken",
            ),
            Self::Late => formatter.write_str(
                "the logs did not end with the Task, and are not waited for any longer",
            ),
        }
    }
}

impl From<kube::Error> for Cut {
    fn from(error: kube::Error) -> Self {
        Self::Unread(error)
    }
}

/// Copies what the agent of a Job's Pod prints, from when it starts, which `begun` then says, to when it ends.
pub(super) async fn of_job(
    client: &Client,
    namespace: &str,
    job: &str,
    output: &Output,
    begun: &AtomicBool,
) -> Result<(), Cut> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels(&crate::pods::label(job));
    let mut stream = watcher(pods.clone(), config)
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        match stream.try_next().await {
            Ok(Some(pod)) if has_started(&pod) => {
                begun.store(true, Ordering::Relaxed);
                return copy(&pods, &pod.name_any(), AGENT, true, output).await;
            }
            Ok(Some(pod)) if has_ended(&pod) => return Ok(()),
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Copies the log of a container; with `follow` until the container has ended.
pub(crate) async fn copy(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    follow: bool,
    output: &Output,
) -> Result<(), Cut> {
    if let Some(pod) = look(pods, pod, follow).await? {
        output
            .begin(&pods.clone().into_client(), &pod, container)
            .await;
    }
    let mut position = Position::default();
    let mut broke = false;
    loop {
        // Asked before reading: a log that is read after its container has ended is complete.
        let ended = match look(pods, pod, follow).await? {
            None => return Err(Cut::PodGone),
            Some(pod) => {
                !follow
                    || has_ended(&pod)
                    || container_state(&pod, container)
                        .is_some_and(|state| state.terminated.is_some())
            }
        };
        let read = read(pods, pod, container, !ended, &mut position, output).await;
        match read {
            Ok(()) if ended => {
                output.write(&position.finish(broke));
                return if position.lost() {
                    Err(Cut::Rotated)
                } else {
                    Ok(())
                };
            }
            Err(error) if ended && !(follow && is_away(&error)) => return Err(error.into()),
            // The container ended, or the connection did.
            Ok(()) | Err(_) => {
                broke = read.is_err();
                let terminated = |pod: Option<&Pod>| {
                    pod.is_none_or(|pod| {
                        has_ended(pod)
                            || container_state(pod, container)
                                .is_some_and(|state| state.terminated.is_some())
                    })
                };
                let _ = tokio::time::timeout(AGAIN, await_condition(pods.clone(), pod, terminated))
                    .await;
            }
        }
    }
}

/// The Pod. Who follows waits for a cluster that is away.
async fn look(pods: &Api<Pod>, pod: &str, follow: bool) -> Result<Option<Pod>, kube::Error> {
    loop {
        match pods.get_opt(pod).await {
            Err(error) if follow && is_away(&error) => tokio::time::sleep(AGAIN).await,
            looked => return looked,
        }
    }
}

/// Whether nobody has answered, or not to the end.
fn is_away(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(_))
}

/// Reads the log once more, from where it was read to.
async fn read(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    follow: bool,
    position: &mut Position,
    output: &Output,
) -> Result<(), kube::Error> {
    let parameters = LogParams {
        container: Some(container.to_owned()),
        follow,
        timestamps: true,
        since_time: position.connect(),
        ..LogParams::default()
    };
    let mut stream = Box::pin(pods.log_stream(pod, &parameters).await?);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) => return Err(kube::Error::ReadEvents(error)),
        };
        output.write(&position.feed(&buffer[..count]));
    }
}

/// Whether the agent runs or ran.
pub(super) fn has_started(pod: &Pod) -> bool {
    container_state(pod, AGENT)
        .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// Whether nothing of the Pod runs any more.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The state of a container or init container.
pub(crate) fn container_state(pod: &Pod, container: &str) -> Option<ContainerState> {
    let status = pod.status.as_ref()?;
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    all.into_iter()
        .find(|status| status.name == container)?
        .state
        .clone()
}
