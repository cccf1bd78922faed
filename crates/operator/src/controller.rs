//! The controller: one for each front end, the same code for all.
//!
//! [`Controller::run`] turns events into the question "which object has to be looked at", and [`round`] answers
//! what has to be done about it. Every wake-up is an event or a timer that the engine asked for:
//!
//! | what changed | who is looked at |
//! |---|---|
//! | the object | itself |
//! | a Job or Pod that this system created | the owner that its annotation names; its Agent, if there is no such owner |
//! | an Agent's spec, a KubeOpenCodeConfig or ConfigMap (of these only metadata is watched) | those that refer to it and have not started |
//! | an Agent | itself: who holds its slots, and who gets one next ([`admit`]) |
//! | the slots of an Agent | those who got one |
//! | this operator becomes the leader | all |

mod act;
mod admit;
mod look_up;
mod observe;
mod record;
mod round;
mod wake;
mod when_woken;

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Client, Resource, ResourceExt as _,
    core::NamespaceResourceScope,
    runtime::{
        controller::{self, Action, applier},
        reflector::{self, ObjectRef, Store, store::Writer},
    },
};
use kubeopencode_api::v1alpha1::KubeOpenCodeConfig;
use kubeopencode_engine::{
    lower::{FrontEnd, Reference, ReferenceKind, Settings},
    state::Phase,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        watch,
    },
    time::Instant,
};
use tracing::{debug, info, warn};

use self::{round::Rested, when_woken::when_woken};
use crate::{
    cache::Cache,
    clock::Clock,
    clock::Entropy,
    combine::Combiner,
    error::{AdmitError, Category, RoundError},
    events::Events,
    health::Health,
    leadership::Leadership,
    memory::{Memory, Remembered},
    metrics::{Metrics, Phases},
    operator::Scope,
    pools::{Key, Pools},
    waiting::Waiting,
};

/// Objects that are looked at at the same time. Where many Tasks begin at once, some of them wait for what they refer to.
const CONCURRENCY: u16 = 48;
/// How long a round may take: then a request of it got lost. A round may be cut off anywhere, which also happens when
/// leadership ends.
const LONGEST_ROUND: Duration = Duration::from_mins(2);

/// How often looking at a Task may fail before those who came later need not wait any more: about two seconds.
const KEEPS_ITS_PLACE: u32 = 4;

/// After a round for an Agent failed, it is looked at again as if it had failed so many times: after four seconds or so.
const AGENT_PATIENCE: u32 = 5;

/// What a resource of a front end has to be, so that a controller can watch it and write its status.
pub(crate) trait Owning:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + PartialEq
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl<K> Owning for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + PartialEq
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// Namespace and name of an object that waits for others.
type Waiter = (String, String);

fn waiter(object: &impl Resource) -> Waiter {
    let metadata = object.meta();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    (namespace, metadata.name.clone().unwrap_or_default())
}

fn received<T>(receiver: UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}

/// What a controller is made of.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) settings: Settings,
    pub(crate) scope: Scope,
    pub(crate) leadership: Leadership,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) events: Events,
}

/// The controller of one front end.
pub(crate) struct Controller<F: FrontEnd<Resource: Owning, Agent: Owning>> {
    client: Client,
    clock: Clock,
    entropy: Entropy,
    settings: Settings,
    scope: Scope,
    leadership: Leadership,
    health: Health,
    metrics: Metrics,
    events: Events,
    /// The objects themselves.
    store: Store<F::Resource>,
    jobs: Cache<Job>,
    pods: Cache<Pod>,
    memory: Memory<F::Resource>,
    waiting: Waiting<Waiter>,
    looked_up: Combiner<Reference, look_up::Answer>,
    agents: Store<F::Agent>,
    pools: Pools<F::Agent>,
    admissions: Combiner<Key, Result<(), AdmitError>>,
    woken: UnboundedSender<ObjectRef<F::Resource>>,
    agents_woken: UnboundedSender<ObjectRef<F::Agent>>,
    /// Whether all caches have been complete. Of those who wait for a [`Store`] itself, kube wakes only the last.
    complete: watch::Sender<bool>,
    ending: watch::Sender<bool>,
}

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// Runs until `shutdown`, and then to the end of the rounds that have begun.
    pub(crate) async fn run(parts: Parts, shutdown: impl Future<Output = ()> + Send + 'static) {
        let (store, writer) = reflector::store();
        let (agents, agents_writer) = reflector::store();
        let (woken, to_be_woken) = mpsc::unbounded_channel();
        let (agents_woken, agents_to_be_woken) = mpsc::unbounded_channel();
        let this = Arc::new(Self {
            client: parts.client,
            clock: parts.clock,
            entropy: parts.entropy,
            settings: parts.settings,
            scope: parts.scope,
            leadership: parts.leadership,
            health: parts.health,
            metrics: parts.metrics,
            events: parts.events,
            store,
            jobs: Cache::new(),
            pods: Cache::new(),
            memory: Memory::new(),
            waiting: Waiting::new(),
            looked_up: Combiner::new(),
            agents,
            pools: Pools::new(),
            admissions: Combiner::new(),
            woken,
            agents_woken,
            complete: watch::Sender::new(false),
            ending: watch::Sender::new(false),
        });
        let counted = Arc::downgrade(&this);
        let count = move || {
            counted
                .upgrade()
                .map_or_else(Phases::default, |this| this.phases())
        };
        this.metrics.count_phases(count);
        this.health.begins();
        let told = this.clone();
        let shutdown = async move {
            shutdown.await;
            told.health.ends();
            told.ending.send_replace(true);
        }
        .shared();
        let agent_rounds = applier(
            |agent, this: Arc<Self>| {
                when_woken(async move { this.look_at_agent(agent).await }).boxed()
            },
            |agent, error, this: Arc<Self>| this.after_agent_failure(&agent, error),
            this.clone(),
            this.agents.clone(),
            received(agents_to_be_woken)
                .take_until(shutdown.clone())
                .map(Ok::<_, Infallible>),
            controller::Config::default().concurrency(CONCURRENCY),
        )
        .for_each(|_| ready(()));
        let rounds = applier(
            |object, this: Arc<Self>| when_woken(async move { this.look_at(object).await }).boxed(),
            |object, error, this: Arc<Self>| this.after_failure(&object, error),
            this.clone(),
            this.store.clone(),
            this.clone()
                .who_is_looked_at(writer, agents_writer, to_be_woken)
                .take_until(shutdown)
                .map(Ok::<_, Infallible>),
            controller::Config::default().concurrency(CONCURRENCY),
        )
        // What became of a round is logged where it is known.
        .for_each(|_| ready(()));
        tokio::select! {
            biased;
            _ = futures::future::join(rounds, agent_rounds) => {}
            () = this.ends_unready() => {}
            never = this.becomes_ready() => match never {},
        }
    }

    /// Every event that may be a reason to look at an object.
    fn who_is_looked_at(
        self: Arc<Self>,
        writer: Writer<F::Resource>,
        agents_writer: Writer<F::Agent>,
        woken: UnboundedReceiver<ObjectRef<F::Resource>>,
    ) -> impl Stream<Item = ObjectRef<F::Resource>> {
        let this = self;
        stream::select_all([
            this.clone().owners(writer).boxed(),
            this.clone().children(|this| &this.jobs).boxed(),
            this.clone().children(|this| &this.pods).boxed(),
            this.clone().agents(agents_writer).boxed(),
            this.clone()
                .references::<KubeOpenCodeConfig>(ReferenceKind::KubeOpenCodeConfig)
                .boxed(),
            this.clone()
                .references::<ConfigMap>(ReferenceKind::ConfigMap)
                .boxed(),
            this.elected().boxed(),
            received(woken).boxed(),
        ])
    }

    /// Says when all caches are complete for the first time.
    async fn becomes_ready(&self) -> Infallible {
        // Its writer lives as long as the watches of this controller. kube's own controllers wait for it, too: in the same
        // task, so that it does not matter who of them is woken.
        let _ = self.store.wait_until_ready().await;
        self.jobs.ready().await;
        self.pods.ready().await;
        let _ = self.agents.wait_until_ready().await;
        self.complete.send_replace(true);
        self.health.is_complete();
        info!("the caches are complete");
        pending().await
    }

    /// How many objects there are in each phase.
    fn phases(&self) -> Phases {
        let mut phases = Phases::default();
        for object in self.store.state() {
            let phase = F::state(&object).phase;
            let number = Phase::ALL.iter().position(|known| *known == phase);
            phases[number.unwrap_or_default()] += 1;
        }
        phases
    }

    /// Ready when this controller has to end and its caches were never complete. No round has begun then, and none will,
    /// because the watches are not followed any more.
    async fn ends_unready(&self) {
        self.told_to_end().await;
        if *self.complete.borrow() {
            pending::<()>().await;
        }
    }

    async fn told_to_end(&self) {
        // The sender lives as long as this controller, so waiting cannot fail.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Whether the caches are complete; false if that will not happen any more.
    async fn caches_are_ready(&self) -> bool {
        let mut complete = self.complete.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as this controller, so waiting cannot fail.
            _ = complete.wait_for(|complete| *complete) => true,
            () = self.told_to_end() => false,
        }
    }

    /// One round, if this operator leads.
    async fn look_at(&self, object: Arc<F::Resource>) -> Result<Action, RoundError> {
        if !self.leadership.holds() || !self.caches_are_ready().await {
            return Ok(Action::await_change());
        }
        let begin = Instant::now();
        let result = self.in_time(self.round(object.clone())).await;
        let outcome = match &result {
            Ok(Rested { refused: true, .. }) => Category::Refused.as_str(),
            Ok(Rested { refused: false, .. }) => RoundError::DONE,
            Err(error) => error.outcome(),
        };
        self.metrics.round(outcome, begin.elapsed());
        let again = result?.again;
        self.was_looked_at(&object);
        self.remember(&object, |remembered| {
            (remembered.failures, remembered.answered) = (0, 0);
        });
        Ok(again.map_or_else(Action::await_change, Action::requeue))
    }

    /// Nobody has to wait any more for what comes of it.
    fn was_looked_at(&self, object: &F::Resource) {
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        self.wake_all(&self.pools.looked_at(uid));
    }

    /// One round for an Agent, if this operator leads.
    async fn look_at_agent(&self, agent: Arc<F::Agent>) -> Result<Action, RoundError> {
        if !self.leadership.holds() || !self.caches_are_ready().await {
            return Ok(Action::await_change());
        }
        self.in_time(self.agent_round(agent)).await
    }

    /// The work, unless leadership ends before, or it takes longer than anything can.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, RoundError>>,
    ) -> Result<T, RoundError> {
        let work = tokio::time::timeout(LONGEST_ROUND, work);
        match self.leadership.while_held(work).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(RoundError::NoAnswer(LONGEST_ROUND)),
            None => Err(RoundError::NotLeading),
        }
    }

    fn after_agent_failure(&self, agent: &F::Agent, error: &RoundError) -> Action {
        if error.is_not_leading() {
            return Action::await_change();
        }
        let again = error.again(AGENT_PATIENCE, &self.entropy);
        let cause = error as &dyn std::error::Error;
        let (name, namespace) = (agent.name_any(), agent.namespace());
        warn!(
            agent = name,
            namespace,
            error = cause,
            ?again,
            "will look again"
        );
        Action::requeue(again)
    }

    /// Look at, or change, what is remembered of an object; of one that is gone, nothing stays.
    fn remember<T>(
        &self,
        object: &F::Resource,
        look: impl FnOnce(&mut Remembered<F::Resource>) -> T,
    ) -> T {
        let uid = object.meta().uid.clone().unwrap_or_default();
        let seen = self.memory.of(&uid, look);
        let current = self.store.get(&ObjectRef::from_obj(object));
        if current.is_none_or(|current| current.meta().uid.as_ref() != Some(&uid)) {
            self.forget(object);
        }
        seen
    }

    fn forget(&self, object: &F::Resource) {
        self.waiting.leave(&waiter(object));
        if let Some(uid) = &object.meta().uid {
            self.memory.forget(uid);
            self.wake_all(&self.pools.gone(uid));
        }
    }

    fn after_failure(&self, object: &F::Resource, error: &RoundError) -> Action {
        if error.is_not_leading() {
            return Action::await_change();
        }
        let failures = self.remember(object, |remembered| {
            remembered.answered = if error.is_an_answer() {
                remembered.answered.saturating_add(1)
            } else {
                0
            };
            remembered.failures = remembered.failures.saturating_add(1);
            remembered.failures
        });
        // It keeps its place before those who came later, but one that always fails must not keep them for ever.
        if failures >= KEEPS_ITS_PLACE {
            self.was_looked_at(object);
        }
        let again = error.again(failures, &self.entropy);
        let category = error.category();
        let cause = error as &dyn std::error::Error;
        let (task, namespace) = (object.name_any(), object.namespace());
        if category == Category::Conflict {
            debug!(
                task,
                namespace,
                category = category.as_str(),
                error = cause,
                "will look again"
            );
        } else {
            warn!(
                task,
                namespace,
                category = category.as_str(),
                error = cause,
                ?again,
                "will look again"
            );
        }
        Action::requeue(again)
    }
}
