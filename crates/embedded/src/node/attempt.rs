//! Attends to one attempt of a container while it runs: its output, signals to it, its end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container as Spec;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::Shared;
use super::container::{self, Workspace};
use super::sandbox::{self, Container, Ended, Running};
use super::status::Termination;

/// What the worker of the Pod asks of a running attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Control {
    Signal(Signal),
    Kill,
}

/// The end of an attempt: everything in its container has ended, and its log is complete.
#[derive(Debug)]
pub(super) struct Finished {
    /// Which container of the Pod.
    pub(super) index: usize,
    pub(super) termination: Termination,
}

/// An attempt that is about to start.
pub(super) struct Attempt {
    pub(super) index: usize,
    pub(super) pod_uid: String,
    pub(super) spec: Spec,
    pub(super) restarts: u32,
    pub(super) container: Container,
    pub(super) workspace: Workspace,
}

/// Starts an attempt; its end is sent to `finished`. An error is why it never ran.
pub(super) async fn start(
    shared: &Shared,
    attempt: Attempt,
    finished: mpsc::UnboundedSender<Finished>,
) -> Result<(Timestamp, mpsc::UnboundedSender<Control>), String> {
    let options = &shared.options;
    let log = options
        .logs
        .create(&attempt.pod_uid, &attempt.spec.name, attempt.restarts)
        .await
        .map_err(|error| error.to_string())?;
    let started = sandbox::start(&options.helper, &attempt.container)
        .await
        .map_err(|error| error.to_string())?;
    let (clock, logs) = (options.clock.clone(), options.logs.clone());
    let begun = clock();
    let (control, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let copy = log.copy(started.stdout, started.stderr, || clock());
        let (ended, ()) = tokio::join!(attend(started.running, requests), copy);
        let mut message = attempt.workspace.message().unwrap_or_default();
        attempt.workspace.clear();
        let exit_code = ended.exit_code();
        if let (None, true, Some((lines, bytes))) = (
            &message,
            exit_code != 0,
            container::falls_back(&attempt.spec),
        ) {
            let tail = logs
                .tail(&attempt.pod_uid, &attempt.spec.name, lines, bytes)
                .await;
            message = (!tail.is_empty()).then(|| String::from_utf8_lossy(&tail).into_owned());
        }
        let termination = Termination {
            exit_code,
            reason: if exit_code == 0 { "Completed" } else { "Error" },
            message,
            started: Some(begun),
            finished: Some(clock()),
        };
        // A worker that is gone ended with the node.
        let _ = finished.send(Finished {
            index: attempt.index,
            termination,
        });
    });
    Ok((begun, control))
}

/// Passes on what is asked until the end. A worker that is gone takes the container with it.
async fn attend(mut running: Running, mut requests: mpsc::UnboundedReceiver<Control>) -> Ended {
    loop {
        tokio::select! {
            ended = running.wait() => return ended,
            request = requests.recv() => match request {
                Some(Control::Signal(signal)) => running.signal(signal).await,
                Some(Control::Kill) => running.kill(),
                None => {
                    running.kill();
                    return running.wait().await;
                }
            },
        }
    }
}
