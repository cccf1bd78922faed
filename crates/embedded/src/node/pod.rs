//! The life of one Pod on the node: one [`Worker`] for each, from its binding until the object is
//! gone. It alone starts, ends and reports the Pod's containers.
//!
//! In: changes of the Pod object, ends of containers, deadlines. Out: processes, status, Events.
//! The first status, with a start time, is written before any process is started: a Pod that has a
//! start time and no worker lost its processes, and is never run again.

mod stop;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::stop::{Cause, Stop};
use super::attempt::{self, Control, Finished};
use super::container::{self, Workspace};
use super::events::Component;
use super::references::{self, Fetched, Unresolved};
use super::status::{self, End, PodState, Progress, Role, State, Termination};
use super::volumes::{self, Place};
use super::{Shared, env, refuse, write};

/// The newest that is known of a Pod object.
#[derive(Clone)]
pub(super) struct Update {
    pub(super) pod: Arc<Pod>,
    /// The object was removed.
    pub(super) gone: bool,
}

/// A container of the Pod and what the worker holds of it.
struct Slot {
    spec: Container,
    control: Option<mpsc::UnboundedSender<Control>>,
    /// Not before this, after a crash.
    restart_at: Option<Instant>,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    updates: watch::Receiver<Update>,
    shutdown: CancellationToken,
    pod: Arc<Pod>,
    slots: Vec<Slot>,
    state: PodState,
    /// The status as it was last written.
    written: PodStatus,
    finished: (
        mpsc::UnboundedSender<Finished>,
        mpsc::UnboundedReceiver<Finished>,
    ),
    /// Something that must happen before the Pod can go on.
    blocked: Option<BoxFuture<'static, ()>>,
    volumes_made: bool,
    stop: Option<Stop>,
    /// When the Pod has been active for too long, by the node's monotonic clock.
    began: Instant,
    /// What the last Event said that stands in the Pod's way; it is not repeated.
    complaint: String,
    /// Changes of the object still come.
    attached: bool,
    /// The end of the node has been seen.
    ending: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        updates: watch::Receiver<Update>,
        shutdown: CancellationToken,
    ) -> Self {
        let pod = Arc::clone(&updates.borrow().pod);
        let (slots, containers) = containers(&pod);
        let started = (shared.options.clock)();
        Self {
            updates,
            shutdown,
            slots,
            state: PodState {
                containers,
                started,
                end: None,
                failing: false,
                refused: false,
            },
            written: pod.status.clone().unwrap_or_default(),
            pod,
            shared,
            finished: mpsc::unbounded_channel(),
            blocked: None,
            volumes_made: false,
            stop: None,
            began: Instant::now(),
            complaint: String::new(),
            attached: true,
            ending: false,
        }
    }

    /// Runs until the Pod object is gone or the node ends.
    pub(super) async fn run(mut self) {
        let status = self.pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
        } else if status.is_some_and(|status| status.start_time.is_some()) {
            let id = |name: &str, restarts: i32| {
                container_id(&self.pod, name, u32::try_from(restarts).unwrap_or_default())
            };
            let lost = status::lost(&self.pod, self.now(), id);
            let _ = write::status(&self.shared.client, &self.pod, &lost).await;
        } else {
            self.live().await;
        }
        self.retire().await;
    }

    /// From the first status to the last.
    async fn live(&mut self) {
        let offer = self.shared.offer();
        let objections = refuse::objections(&self.pod, &offer);
        if objections.is_empty() {
            // Before any process exists.
            self.write().await;
            while self.step().await {}
        } else {
            self.refuse(refuse::REASON, objections.join("; "));
        }
        self.finish();
        self.write().await;
    }

    /// One round: start what can be started, report, and wait for what happens next.
    /// False when nothing more will happen.
    async fn step(&mut self) -> bool {
        self.advance().await;
        if self.over() {
            return false;
        }
        self.write().await;
        let timer = self.next_timer();
        let shutdown = self.shutdown.clone();
        tokio::select! {
            Some(finished) = self.finished.1.recv() => self.ended(finished),
            () = async { match &mut self.blocked {
                Some(blocked) => blocked.await,
                None => std::future::pending().await,
            } } => self.blocked = None,
            changed = self.updates.changed(), if self.attached => {
                self.attached = changed.is_ok();
                self.updated();
            }
            () = shutdown.cancelled(), if !self.ending => {
                self.ending = true;
                self.begin_stop(Cause::Shutdown);
            }
            () = async { match timer {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            } } => self.timers(),
        }
        true
    }

    /// Starts whatever may run now.
    async fn advance(&mut self) {
        if self.stop.is_some() {
            self.stop_sidecars();
            return;
        }
        if self.blocked.is_some() || self.state.end.is_some() {
            return;
        }
        if !self.volumes_made && !self.make_volumes().await {
            return;
        }
        for index in 0..self.slots.len() {
            let progress = &self.state.containers[index];
            let role = progress.role;
            if role == Role::Main && !self.state.initialized() {
                return;
            }
            if matches!(progress.state, State::Waiting { .. }) && self.due(index) {
                self.start(index).await;
            }
            let progress = &self.state.containers[index];
            let blocks = match role {
                Role::Main => false,
                Role::Init | Role::Sidecar => !progress.initialized(),
            };
            if blocks || self.blocked.is_some() {
                break;
            }
        }
        if self.completed() && self.any_running() {
            self.begin_stop(Cause::Completed);
            self.stop_sidecars();
        }
    }

    fn due(&self, index: usize) -> bool {
        self.slots[index]
            .restart_at
            .is_none_or(|at| at <= Instant::now())
    }

    /// Whether the containers alone say that the Pod is done.
    fn completed(&self) -> bool {
        let failed_init = self.state.containers.iter().any(|container| {
            container.role == Role::Init
                && container.termination().is_some_and(|end| !end.succeeded())
        });
        failed_init
            || self
                .state
                .containers
                .iter()
                .filter(|container| container.role == Role::Main)
                .all(|container| container.termination().is_some())
    }

    fn any_running(&self) -> bool {
        self.state.containers.iter().any(Progress::running)
    }

    fn over(&self) -> bool {
        let ending = self.stop.is_some() || self.state.end.is_some() || self.completed();
        ending && !self.any_running()
    }

    /// Makes the Pod's volumes; false while something is missing.
    async fn make_volumes(&mut self) -> bool {
        let namespace = self.namespace();
        let wanted = volumes::references(&self.pod);
        let directory = self.directory();
        let made = match Fetched::fetch(&self.shared.client, &namespace, wanted).await {
            Ok(fetched) => volumes::make(
                &self.pod,
                &Place {
                    directory: &directory,
                },
                &fetched,
            ),
            Err(error) => Err(error),
        };
        match made {
            Ok(()) => self.volumes_made = true,
            Err(Unresolved::Invalid(message)) => {
                self.refuse("FailedMount", message);
            }
            Err(error) => {
                self.complain(
                    None,
                    "FailedMount",
                    format!("MountVolume.SetUp failed: {error}"),
                );
                self.block_on(error);
            }
        }
        self.volumes_made
    }

    /// Goes on when what was missing changes, or the API may answer again.
    fn block_on(&mut self, error: Unresolved) {
        let (client, namespace) = (self.shared.client.clone(), self.namespace());
        self.blocked = Some(match error {
            Unresolved::Missing {
                reference, seen, ..
            } => async move {
                references::changed(&client, &namespace, &reference, seen).await;
            }
            .boxed(),
            Unresolved::Invalid(_) | Unresolved::Api(_) => {
                tokio::time::sleep(Duration::from_secs(1)).boxed()
            }
        });
    }

    /// Starts an attempt of a container.
    async fn start(&mut self, index: usize) {
        let directory = self.directory();
        let spec = self.slots[index].spec.clone();
        let wanted = env::references(&spec);
        let prepared = match Fetched::fetch(&self.shared.client, &self.namespace(), wanted).await {
            Ok(fetched) => env::build(&self.pod, &spec, &self.shared.options.env, &fetched),
            Err(error) => Err(error),
        };
        let prepared = prepared.and_then(|env| {
            let workspace = Workspace::make(&directory, &spec.name).map_err(|error| {
                Unresolved::Invalid(format!("the container's directory: {error}"))
            })?;
            let place = Place {
                directory: &directory,
            };
            let options = &self.shared.options;
            container::describe(&self.pod, &spec, options, &place, &workspace, env)
                .map(|container| (container, workspace))
        });
        let (container, workspace) = match prepared {
            Ok(prepared) => prepared,
            Err(Unresolved::Invalid(message)) => return self.not_started(index, message),
            Err(error) => {
                let message = error.to_string();
                self.complain(Some(index), "Failed", format!("Error: {message}"));
                self.state.containers[index].state = State::Waiting {
                    reason: Some("CreateContainerConfigError"),
                    message: Some(message),
                };
                return self.block_on(error);
            }
        };
        let progress = &mut self.state.containers[index];
        progress.id = container_id(&self.pod, &spec.name, progress.restarts);
        let restarts = progress.restarts;
        let attempt = attempt::Attempt {
            index,
            pod_uid: self.pod.metadata.uid.clone().unwrap_or_default(),
            spec,
            restarts,
            container,
            workspace,
        };
        match attempt::start(&self.shared, attempt, self.finished.0.clone()).await {
            Ok((started, control)) => {
                self.slots[index].control = Some(control);
                self.state.containers[index].state = State::Running { started };
                self.event(Some(index), true, "Created", "Container created");
                self.event(Some(index), true, "Started", "Container started");
            }
            Err(message) => self.not_started(index, message),
        }
    }

    /// An attempt that never ran, as a kubelet reports it.
    fn not_started(&mut self, index: usize, message: String) {
        self.event(Some(index), false, "Failed", &format!("Error: {message}"));
        let termination = Termination {
            exit_code: 128,
            reason: "StartError",
            message: Some(message),
            started: Some(Timestamp::UNIX_EPOCH),
            finished: Some(self.now()),
        };
        self.terminated(index, termination);
    }

    fn ended(&mut self, finished: Finished) {
        self.slots[finished.index].control = None;
        self.terminated(finished.index, finished.termination);
    }

    /// Records the end of an attempt, and whether there will be another.
    fn terminated(&mut self, index: usize, termination: Termination) {
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.clone());
        let policy = policy.as_deref().unwrap_or("Always");
        let progress = &mut self.state.containers[index];
        let again = self.stop.is_none()
            && match progress.role {
                Role::Sidecar => true,
                Role::Init => policy != "Never" && !termination.succeeded(),
                Role::Main => {
                    policy == "Always" || (policy == "OnFailure" && !termination.succeeded())
                }
            };
        if !again {
            progress.state = State::Terminated(termination);
            return;
        }
        let pause = back_off(progress.restarts);
        progress.restarts += 1;
        progress.last = Some(termination);
        progress.state = State::Waiting {
            reason: Some("CrashLoopBackOff"),
            message: Some(format!(
                "back-off {}s restarting failed container={}",
                pause.as_secs(),
                progress.name
            )),
        };
        self.slots[index].restart_at = Some(Instant::now() + pause);
    }

    /// Takes a change of the Pod object.
    fn updated(&mut self) {
        let update = self.updates.borrow_and_update().clone();
        self.pod = update.pod;
        if update.gone {
            self.begin_stop(Cause::Vanished);
        } else if self.pod.metadata.deletion_timestamp.is_some() {
            self.begin_stop(Cause::Deleted);
        }
    }

    /// When something is to be done although nothing happens.
    fn next_timer(&self) -> Option<Instant> {
        if let Some(stop) = &self.stop {
            return (!stop.killed).then_some(stop.kill_at);
        }
        let restarts = self
            .slots
            .iter()
            .zip(&self.state.containers)
            .filter(|(_, progress)| matches!(progress.state, State::Waiting { .. }))
            .filter_map(|(slot, _)| slot.restart_at)
            // One that is due waits for something else.
            .filter(|at| *at > Instant::now());
        restarts.chain(self.deadline()).min()
    }

    fn fail(&mut self, reason: &str, message: String) {
        self.event(None, false, reason, &message);
        self.state.end = Some(End {
            succeeded: false,
            reason: Some(reason.to_owned()),
            message: Some(message),
        });
    }

    /// Fails the Pod before anything of it was begun.
    fn refuse(&mut self, reason: &str, message: String) {
        self.state.refused = true;
        self.fail(reason, message);
    }

    /// Writes the status if it says something new.
    async fn write(&mut self) {
        if self
            .stop
            .as_ref()
            .is_some_and(|stop| stop.cause == Cause::Vanished)
        {
            return;
        }
        let status = status::build(&self.pod, &self.written, &self.state, self.now());
        if status == self.written {
            return;
        }
        match write::status(&self.shared.client, &self.pod, &status).await {
            Ok(()) => self.written = status,
            Err(write::Gone) => self.begin_stop(Cause::Vanished),
        }
    }

    /// The Pod is over: waits for its deletion, and removes what is left of it.
    async fn retire(&mut self) {
        loop {
            let update = self.updates.borrow_and_update().clone();
            self.pod = update.pod;
            if update.gone {
                return self.clean_up().await;
            }
            let metadata = &self.pod.metadata;
            // With a grace period of zero only finalizers keep it.
            if metadata.deletion_timestamp.is_some()
                && metadata.deletion_grace_period_seconds != Some(0)
            {
                let removed = write::remove(&self.shared.client, &self.pod).await;
                if removed.is_err() || metadata.finalizers.iter().flatten().next().is_none() {
                    return self.clean_up().await;
                }
            }
            tokio::select! {
                changed = self.updates.changed() => if changed.is_err() { return },
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    /// Removes what is left on disk of a Pod whose object is gone.
    fn clean_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        super::leftovers::remove(self.directory(), self.shared.options.logs.clone(), uid)
    }

    fn now(&self) -> Timestamp {
        (self.shared.options.clock)()
    }

    fn namespace(&self) -> String {
        self.pod.metadata.namespace.clone().unwrap_or_default()
    }

    fn directory(&self) -> PathBuf {
        self.shared
            .pods()
            .join(self.pod.metadata.uid.as_deref().unwrap_or_default())
    }

    /// A warning that is not repeated while it stays the same.
    fn complain(&mut self, container: Option<usize>, reason: &str, message: String) {
        if self.complaint != message {
            self.event(container, false, reason, &message);
            self.complaint = message;
        }
    }

    fn event(&self, container: Option<usize>, normal: bool, reason: &str, message: &str) {
        let part = container.map(|index| {
            let list = match self.state.containers[index].role {
                Role::Main => "containers",
                Role::Init | Role::Sidecar => "initContainers",
            };
            format!("spec.{list}{{{}}}", self.state.containers[index].name)
        });
        let events = &self.shared.events;
        events.send(Component::Kubelet, &self.pod, part, normal, reason, message);
    }
}

/// How long a container that ended waits for its next attempt, as a kubelet lets it.
fn back_off(restarts: u32) -> Duration {
    match restarts {
        0 => Duration::ZERO,
        n => Duration::from_secs(10 * 2_u64.pow((n - 1).min(5))).min(Duration::from_mins(5)),
    }
}

/// A name for an attempt, unique in the world.
fn container_id(pod: &Pod, container: &str, restarts: u32) -> String {
    use std::fmt::Write as _;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{uid}/{container}/{restarts}"));
    digest.iter().fold("sandbox://".to_owned(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// The containers in the order in which they start.
fn containers(pod: &Pod) -> (Vec<Slot>, Vec<Progress>) {
    let spec = pod.spec.as_ref();
    let init = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .map(|container| match container.restart_policy.as_deref() {
            Some("Always") => (Role::Sidecar, container),
            _ => (Role::Init, container),
        });
    let main = spec
        .into_iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| (Role::Main, container));
    init.chain(main)
        .map(|(role, spec)| {
            let slot = Slot {
                spec: spec.clone(),
                control: None,
                restart_at: None,
            };
            let progress = Progress {
                name: spec.name.clone(),
                image: spec.image.clone().unwrap_or_default(),
                role,
                state: State::Waiting {
                    reason: None,
                    message: None,
                },
                last: None,
                restarts: 0,
                id: String::new(),
            };
            (slot, progress)
        })
        .unzip()
}
