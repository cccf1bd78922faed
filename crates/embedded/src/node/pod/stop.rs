//! How a Pod comes to its end: why, how long its containers are given, and what is then said.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::super::attempt::Control;
use super::super::status::{End, Progress, Role, State, Termination};
use super::Worker;

const DEADLINE: &str = "DeadlineExceeded";
const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// Why the containers of a Pod are being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The main containers are done; what runs beside them must end too.
    Completed,
    Deleted,
    Deadline,
    Shutdown,
    /// The object is gone: nothing to tell to anyone.
    Vanished,
}

pub(super) struct Stop {
    pub(super) cause: Cause,
    pub(super) kill_at: Instant,
    pub(super) killed: bool,
    /// The sidecar that was asked last to end.
    pub(super) sidecar: Option<usize>,
}

impl Worker {
    /// Asks the containers to end; or hastens an end that was begun.
    pub(super) fn begin_stop(&mut self, cause: Cause) {
        let grace = self.grace(cause);
        let kill_at = Instant::now() + grace;
        let first = self.stop.is_none();
        let stop = self.stop.get_or_insert(Stop {
            cause,
            kill_at,
            killed: false,
            sidecar: None,
        });
        stop.kill_at = stop.kill_at.min(kill_at);
        if cause == Cause::Vanished || (stop.cause == Cause::Completed && cause == Cause::Deleted) {
            stop.cause = cause;
        }
        if matches!(stop.cause, Cause::Deadline | Cause::Shutdown) {
            self.state.failing = true;
        }
        self.blocked = None;
        if first && cause != Cause::Completed {
            for index in 0..self.slots.len() {
                if self.state.containers[index].role != Role::Sidecar {
                    self.terminate(index);
                }
            }
        }
        self.timers();
    }

    pub(super) fn grace(&self, cause: Cause) -> Duration {
        let spec = self.pod.spec.as_ref();
        let of_spec = spec
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30);
        let seconds = match cause {
            Cause::Vanished => 0,
            Cause::Deleted => self
                .pod
                .metadata
                .deletion_grace_period_seconds
                .unwrap_or(of_spec),
            Cause::Completed | Cause::Deadline | Cause::Shutdown => of_spec,
        };
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        match cause {
            Cause::Shutdown => grace.min(self.shared.options.shutdown_grace),
            _ => grace,
        }
    }

    /// Sidecars are asked to end when the others have, each when those after it have.
    pub(super) fn stop_sidecars(&mut self) {
        let running = |container: &Progress| container.running();
        let Some(last) = self.state.containers.iter().rposition(running) else {
            return;
        };
        let others = self
            .state
            .containers
            .iter()
            .any(|container| container.role != Role::Sidecar && container.running());
        let asked = |stop: &&mut Stop| stop.sidecar == Some(last);
        let Some(stop) = self.stop.as_mut().filter(|stop| !others && !asked(stop)) else {
            return;
        };
        stop.sidecar = Some(last);
        self.terminate(last);
    }

    pub(super) fn terminate(&mut self, index: usize) {
        if let Some(control) = &self.slots[index].control {
            let _ = control.send(Control::Signal(Signal::SIGTERM));
            let message = format!("Stopping container {}", self.slots[index].spec.name);
            self.event(Some(index), true, "Killing", &message);
        }
    }

    /// When the Pod has been active for as long as it may.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        Some(self.began + Duration::from_secs(u64::try_from(seconds).ok()?))
    }

    pub(super) fn timers(&mut self) {
        let now = Instant::now();
        if let Some(stop) = &mut self.stop {
            if !stop.killed && stop.kill_at <= now {
                stop.killed = true;
                for control in self.slots.iter().filter_map(|slot| slot.control.as_ref()) {
                    let _ = control.send(Control::Kill);
                }
            }
        } else if self.deadline().is_some_and(|at| at <= now) {
            self.event(None, true, DEADLINE, DEADLINE_MESSAGE);
            self.begin_stop(Cause::Deadline);
        }
    }

    /// Sets the end of the Pod: no container runs any more.
    pub(super) fn finish(&mut self) {
        let cause = self.stop.as_ref().map(|stop| stop.cause);
        if matches!(cause, Some(Cause::Deleted | Cause::Vanished)) {
            for container in &mut self.state.containers {
                if matches!(container.state, State::Waiting { .. }) {
                    container.state = State::Terminated(Termination {
                        exit_code: 137,
                        reason: "ContainerStatusUnknown",
                        message: Some(
                            "The container could not be located when the pod was terminated"
                                .to_owned(),
                        ),
                        started: None,
                        finished: None,
                    });
                }
            }
        }
        let succeeded = self
            .state
            .containers
            .iter()
            .filter(|container| container.role != Role::Sidecar)
            .all(|container| container.termination().is_some_and(Termination::succeeded));
        let (reason, message) = match cause {
            Some(Cause::Deadline) => (Some(DEADLINE), Some(DEADLINE_MESSAGE)),
            Some(Cause::Shutdown) => (
                Some("NodeShutdown"),
                Some("Pod was terminated in response to imminent node shutdown."),
            ),
            _ => (None, None),
        };
        self.state.end.get_or_insert(End {
            succeeded: succeeded && reason.is_none(),
            reason: reason.map(str::to_owned),
            message: message.map(str::to_owned),
        });
    }
}
