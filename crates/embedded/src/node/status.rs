//! The status of a Pod as a kubelet writes it: conditions, phase and container statuses out of
//! what the containers are doing. Pure: the same state gives the same status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::downward::ADDRESS;

/// What a container does in its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the main ones.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not started (again) yet. Without a reason: nothing stands against it.
    Waiting {
        reason: Option<&'static str>,
        message: Option<String>,
    },
    Running {
        started: Timestamp,
    },
    Terminated(Termination),
}

/// How an attempt of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    pub(super) exit_code: i32,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
}

impl Termination {
    pub(super) fn succeeded(&self) -> bool {
        self.exit_code == 0
    }
}

/// A container of a Pod with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) role: Role,
    pub(super) state: State,
    /// How the attempt before this one ended.
    pub(super) last: Option<Termination>,
    pub(super) restarts: u32,
    /// Empty until the first attempt.
    pub(super) id: String,
}

impl Progress {
    pub(super) fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub(super) fn termination(&self) -> Option<&Termination> {
        match &self.state {
            State::Terminated(termination) => Some(termination),
            _ => None,
        }
    }

    /// An init container that is done, a sidecar that is up, a main container that runs.
    fn ready(&self) -> bool {
        match self.role {
            Role::Init => self.termination().is_some_and(Termination::succeeded),
            Role::Sidecar | Role::Main => self.running(),
        }
    }

    /// An init container that no longer stands in the way of the others.
    pub(super) fn initialized(&self) -> bool {
        match self.role {
            Role::Sidecar => self.running() || self.termination().is_some(),
            Role::Init | Role::Main => self.ready(),
        }
    }
}

/// Everything that the status of a Pod depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodState {
    pub(super) containers: Vec<Progress>,
    pub(super) started: Timestamp,
    /// Set when the Pod is over: Succeeded or Failed.
    pub(super) end: Option<End>,
    /// Its processes are being ended, and it will have failed.
    pub(super) failing: bool,
    /// The node refused it: nothing of it was ever begun.
    pub(super) refused: bool,
}

/// How a Pod ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) succeeded: bool,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

impl PodState {
    fn of(&self, roles: &[Role]) -> impl Iterator<Item = &Progress> {
        self.containers
            .iter()
            .filter(move |container| roles.contains(&container.role))
    }

    /// Once a main container was begun it stays so, whatever becomes of a sidecar.
    pub(super) fn initialized(&self) -> bool {
        self.of(&[Role::Main]).any(|main| !main.id.is_empty())
            || self
                .of(&[Role::Init, Role::Sidecar])
                .all(Progress::initialized)
    }

    /// Nothing runs and nothing will: by the containers alone.
    fn completed(&self) -> Option<bool> {
        if self.of(&[Role::Init]).any(|init| {
            init.termination()
                .is_some_and(|termination| !termination.succeeded())
        }) {
            return Some(false);
        }
        self.of(&[Role::Main])
            .map(|main| main.termination().map(Termination::succeeded))
            .collect::<Option<Vec<_>>>()
            .map(|ends| ends.into_iter().all(|succeeded| succeeded))
    }

    fn phase(&self) -> &'static str {
        match &self.end {
            Some(End {
                succeeded: true, ..
            }) => "Succeeded",
            Some(_) => "Failed",
            None if self.of(&[Role::Main]).any(|main| {
                main.running() || main.termination().is_some() || main.last.is_some()
            }) =>
            {
                "Running"
            }
            None => "Pending",
        }
    }
}

/// The status of `pod` in this state. `before` is the status last written: conditions keep the
/// time of their last transition. Conditions of others stay as they are in `pod`.
pub(super) fn build(pod: &Pod, before: &PodStatus, state: &PodState, now: Timestamp) -> PodStatus {
    let generation = pod.metadata.generation;
    let conditions = conditions(state)
        .into_iter()
        .filter(|(type_, ..)| !state.refused || *type_ == "PodScheduled")
        .map(|(type_, holds, reason, message)| {
            condition(before, generation, now, type_, holds, reason, message)
        })
        .chain(pod.status.iter().flat_map(foreign))
        .collect();
    let up = state
        .containers
        .iter()
        .any(|container| !container.id.is_empty());
    PodStatus {
        observed_generation: generation,
        phase: Some(state.phase().to_owned()),
        conditions: Some(conditions),
        message: state.end.as_ref().and_then(|end| end.message.clone()),
        reason: state.end.as_ref().and_then(|end| end.reason.clone()),
        host_ip: Some(ADDRESS.to_owned()),
        host_ips: Some(vec![HostIP {
            ip: ADDRESS.to_owned(),
        }]),
        pod_ip: up.then(|| ADDRESS.to_owned()),
        pod_ips: up.then(|| {
            vec![PodIP {
                ip: ADDRESS.to_owned(),
            }]
        }),
        start_time: Some(Time(state.started)),
        // A kubelet that rejects a Pod says nothing of its containers; statuses of containers that wait would be
        // shown in place of the reason.
        init_container_statuses: (!state.refused)
            .then(|| statuses(state, &[Role::Init, Role::Sidecar]))
            .flatten(),
        container_statuses: (!state.refused)
            .then(|| statuses(state, &[Role::Main]))
            .flatten(),
        qos_class: pod
            .status
            .as_ref()
            .and_then(|status| status.qos_class.clone()),
        ..PodStatus::default()
    }
}

type Wanted = (&'static str, bool, Option<&'static str>, Option<String>);

/// Kubernetes' own conditions, in the order in which a kubelet writes them.
fn conditions(state: &PodState) -> Vec<Wanted> {
    let completed = state.completed();
    let failed = state.failing || completed == Some(false);
    let over = state.end.is_some();
    let initialized = if state.initialized() {
        let reason = (completed == Some(true)).then_some("PodCompleted");
        ("Initialized", true, reason, None)
    } else {
        let names = names(
            state
                .of(&[Role::Init, Role::Sidecar])
                .filter(|init| !init.initialized()),
        );
        let message = format!("containers with incomplete status: [{names}]");
        (
            "Initialized",
            false,
            Some("ContainersNotInitialized"),
            Some(message),
        )
    };
    let unready: Vec<_> = state
        .of(&[Role::Sidecar, Role::Main])
        .filter(|container| !container.ready())
        .collect();
    let (ready, reason, message) = if failed {
        (false, Some("PodFailed"), None)
    } else if completed == Some(true) {
        (false, Some("PodCompleted"), None)
    } else if unready.is_empty() && state.initialized() {
        (true, None, None)
    } else {
        let message = format!(
            "containers with unready status: [{}]",
            names(unready.into_iter())
        );
        (false, Some("ContainersNotReady"), Some(message))
    };
    let begun = state
        .containers
        .iter()
        .any(|container| !container.id.is_empty());
    vec![
        ("PodReadyToStartContainers", begun && !over, None, None),
        initialized,
        ("Ready", ready, reason, message.clone()),
        ("ContainersReady", ready, reason, message),
        ("PodScheduled", true, None, None),
    ]
}

fn names<'a>(containers: impl Iterator<Item = &'a Progress>) -> String {
    let names: Vec<_> = containers
        .map(|container| container.name.as_str())
        .collect();
    names.join(" ")
}

fn condition(
    before: &PodStatus,
    generation: Option<i64>,
    now: Timestamp,
    type_: &str,
    holds: bool,
    reason: Option<&str>,
    message: Option<String>,
) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let since = before
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_ && condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        observed_generation: generation,
        last_transition_time: Some(since.unwrap_or(Time(now))),
        last_probe_time: None,
    }
}

/// Conditions that others wrote.
fn foreign(before: &PodStatus) -> impl Iterator<Item = PodCondition> {
    const OWN: &[&str] = &[
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    before
        .conditions
        .iter()
        .flatten()
        .filter(|condition| !OWN.contains(&condition.type_.as_str()))
        .cloned()
}

fn statuses(state: &PodState, roles: &[Role]) -> Option<Vec<ContainerStatus>> {
    let all_initialized = state.initialized();
    let statuses: Vec<_> =
        state
            .of(roles)
            .map(|container| {
                let waits = if all_initialized && container.role == Role::Main && no_init(state) {
                    "ContainerCreating"
                } else {
                    "PodInitializing"
                };
                ContainerStatus {
                    name: container.name.clone(),
                    image: container.image.clone(),
                    image_id: String::new(),
                    container_id: (!container.id.is_empty()).then(|| container.id.clone()),
                    ready: container.ready(),
                    started: Some(container.running()),
                    restart_count: i32::try_from(container.restarts).unwrap_or(i32::MAX),
                    state: Some(api_state(&container.state, waits, &container.id)),
                    last_state: Some(container.last.as_ref().map_or_else(
                        ApiState::default,
                        |last| ApiState {
                            terminated: Some(terminated(last, &container.id)),
                            ..ApiState::default()
                        },
                    )),
                    ..ContainerStatus::default()
                }
            })
            .collect();
    (!statuses.is_empty()).then_some(statuses)
}

fn no_init(state: &PodState) -> bool {
    state.of(&[Role::Init, Role::Sidecar]).next().is_none()
}

fn api_state(state: &State, waits: &str, id: &str) -> ApiState {
    match state {
        State::Waiting { reason, message } => ApiState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.unwrap_or(waits).to_owned()),
                message: message.clone(),
            }),
            ..ApiState::default()
        },
        State::Running { started } => ApiState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*started)),
            }),
            ..ApiState::default()
        },
        State::Terminated(termination) => ApiState {
            terminated: Some(terminated(termination, id)),
            ..ApiState::default()
        },
    }
}

fn terminated(termination: &Termination, id: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: termination.exit_code,
        reason: Some(termination.reason.to_owned()),
        message: termination.message.clone(),
        started_at: termination.started.map(Time),
        finished_at: termination.finished.map(Time),
        container_id: (!id.is_empty()).then(|| id.to_owned()),
        ..ContainerStateTerminated::default()
    }
}

/// The status of a Pod whose processes ended with the node that ran them. `id` is the one that a container of this name has.
///
/// A container may have been started after the last status was written, so each that is not known to have ended has an ID:
/// without one, this would say that it was never made, and somebody might make up for it.
pub(super) fn lost(pod: &Pod, now: Timestamp, id: impl Fn(&str, i32) -> String) -> PodStatus {
    let mut status = pod.status.clone().unwrap_or_default();
    status.phase = Some("Failed".to_owned());
    status.reason = Some("NodeRestart".to_owned());
    status.message = Some(
        "the node was restarted while the Pod was on it, which ended the Pod's processes; \
         they are not started again"
            .to_owned(),
    );
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        container.ready = false;
        container.started = Some(false);
        let made = || id(&container.name, container.restart_count);
        let made = container.container_id.clone().unwrap_or_else(made);
        let state = container.state.take().unwrap_or_default();
        container.state = Some(match state {
            ApiState {
                terminated: Some(_),
                ..
            } => state,
            ApiState { running, .. } => {
                container.container_id = Some(made.clone());
                ApiState {
                    terminated: Some(ContainerStateTerminated {
                        exit_code: 137,
                        reason: Some("ContainerStatusUnknown".to_owned()),
                        message: Some("the container ended with the node".to_owned()),
                        started_at: running.and_then(|running| running.started_at),
                        container_id: Some(made),
                        ..ContainerStateTerminated::default()
                    }),
                    ..ApiState::default()
                }
            }
        });
    }
    for condition in status.conditions.iter_mut().flatten() {
        let ready = matches!(condition.type_.as_str(), "Ready" | "ContainersReady");
        if ready || condition.type_ == "PodReadyToStartContainers" {
            if condition.status != "False" {
                condition.last_transition_time = Some(Time(now));
            }
            "False".clone_into(&mut condition.status);
            condition.message = None;
            condition.reason = ready.then(|| "PodFailed".to_owned());
        }
    }
    status
}
