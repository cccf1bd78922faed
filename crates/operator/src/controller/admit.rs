//! admit: changes who holds the slots of an Agent. The only turn that writes to one.
//!
//! Whoever wants a slot, or gives one back, says so in the [`Pools`](crate::pools::Pools) and asks for an admission. Those
//! who ask while one is on its way share the next: one write lets many in and out.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Error as KubeError, Resource as _, ResourceExt as _,
    api::{ListParams, PostParams},
    runtime::{controller, reflector::ObjectRef},
};
use kubeopencode_api::names;
use kubeopencode_engine::{
    decide::{Action, REFUSED_AGAIN},
    lower::FrontEnd,
    observe::{JobView, Observation, PodView, Refusal, RefusalKind},
    queue::{Remains, Slot, SlotView, Standing},
    run::Owner,
    state::{Phase, RunState},
};
use tracing::{debug, info};

use super::{Controller, Owning};
use crate::{
    combine::LONGEST_SHARED,
    error::{AdmitError, RoundError},
    pools::{Facts, Key, Next, Seen, Woken},
};

/// Holders of one Agent that are asked for at the same time.
const AT_ONCE: usize = 8;

/// Versions of an Agent that an admission is tried on, one after the other, before its askers come back later.
const VERSIONS: usize = 4;

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// Where a Run stands with the slots of the Agent that it uses, or, after its end, of any.
    pub(super) fn slot(
        &self,
        owner: &Owner,
        object: &F::Resource,
        state: &RunState,
        observation: &Observation,
    ) -> Option<SlotView> {
        if state.phase.is_terminal() || object.meta().deletion_timestamp.is_some() {
            let (_, agent) = self.pools.held_by(&owner.uid)?;
            return Some(SlotView {
                agent,
                standing: Standing::Held,
            });
        }
        let made_for = observation.job.as_ref().filter(|_| state.job.is_none());
        let agent = match made_for.and_then(|job| job.agent.as_ref()) {
            Some(agent) => &agent.name,
            None => F::agent(object),
        };
        let key = (owner.namespace.clone(), agent.to_owned());
        // Its record says more or less where it stands.
        let exact = state.phase != Phase::Queued;
        let standing = self.pools.standing(&key, &owner.uid, exact)?;
        Some(SlotView {
            agent: key.1,
            standing,
        })
    }

    /// Ask for a slot. Returns what came of it.
    pub(super) async fn claim(
        &self,
        owner: &Owner,
        object: &F::Resource,
        agent: String,
    ) -> Result<SlotView, RoundError> {
        let key = (owner.namespace.clone(), agent);
        self.wake_all(&self.pools.wants(&key, &F::turn(object)));
        self.admission_for_one_who_waits(&key).await?;
        let mut standing = self.pools.standing(&key, &owner.uid, true);
        let mut limited = false;
        if standing.is_none() && self.pools.is_unlimited(&key) {
            // Whoever asks was told of a limit. The watch may not have shown it yet, and a slot that nobody counts is
            // one too many.
            match self.fetch(&key).await? {
                // Deleted since it was looked up: what was made of it is void.
                None => return Err(AdmitError::AgentChanged(key.1).into()),
                Some(facts) => limited = facts.limit.is_some(),
            }
            self.admission_for_one_who_waits(&key).await?;
            standing = self.pools.standing(&key, &owner.uid, true);
        }
        let standing = match standing {
            Some(standing) => standing,
            // The watch may show a version from before it meanwhile.
            None if !limited && self.pools.is_unlimited(&key) => Standing::Unlimited,
            None => return Err(AdmitError::AgentChanged(key.1).into()),
        };
        Ok(SlotView {
            agent: key.1,
            standing,
        })
    }

    /// Who would be let in by a write that is refused is not in a queue: that has to be told, and to have an end.
    pub(super) fn not_to_be_admitted(
        &self,
        owner: &Owner,
        error: RoundError,
    ) -> Result<Refusal, RoundError> {
        let refusal = match &error {
            RoundError::Admit(AdmitError::Write { agent, source }) => {
                let key = (owner.namespace.clone(), agent.clone());
                let what = format!("a slot of Agent {agent}");
                let refusal = self.refusal(owner, what, source);
                refusal.filter(|_| self.pools.is_kept_out(&key, &owner.uid))
            }
            _ => None,
        };
        let mut refusal = refusal.ok_or(error)?;
        if refusal.kind == RefusalKind::Invalid {
            // The Agent is, and somebody may mend it.
            refusal.kind = RefusalKind::Forbidden;
        }
        Ok(refusal)
    }

    /// Give a slot back.
    pub(super) async fn give_back(&self, owner: &Owner, agent: String) -> Result<(), RoundError> {
        let key = (owner.namespace.clone(), agent);
        self.pools.leaves(&key, &owner.uid);
        Ok(self.admission(&key).await?)
    }

    /// What a Task's own status says of it, for the queue.
    pub(super) fn enlist(&self, object: &F::Resource) {
        let agent = (
            object.namespace().unwrap_or_default(),
            F::agent(object).to_owned(),
        );
        // The answer to a write may come after what it led to, and the end of a Task is final.
        let shown = self.store.get(&ObjectRef::from_obj(object));
        let is_over = shown
            .is_none_or(|shown| shown.uid() != object.uid() || seen::<F>(&shown) == Seen::Over);
        let seen = if is_over {
            Seen::Over
        } else {
            seen::<F>(object)
        };
        let woken = self.pools.task(agent, F::turn(object), seen);
        self.wake_all(&woken);
    }

    /// Look at an Agent: take the slots of those who are gone, and let in who comes next.
    pub(super) async fn agent_round(
        &self,
        agent: Arc<F::Agent>,
    ) -> Result<controller::Action, RoundError> {
        let key = (agent.namespace().unwrap_or_default(), agent.name_any());
        let checked: Vec<Result<Option<Duration>, RoundError>> =
            stream::iter(self.pools.slots(&key))
                .map(|slot| self.check_holder(&key, slot))
                .buffered(AT_ONCE)
                .collect()
                .await;
        let settled = self.settle_missed(&key).await;
        // Whatever became of that, others may come next.
        self.admission(&key).await?;
        settled?;
        let waits: Result<Vec<Option<Duration>>, RoundError> = checked.into_iter().collect();
        let again = waits?.into_iter().flatten().min();
        Ok(again.map_or_else(
            controller::Action::await_change,
            controller::Action::requeue,
        ))
    }

    /// Of those whose slots others have given back, and who run as far as the watch shows: it may be late, or somebody has
    /// changed the list by hand.
    async fn settle_missed(&self, key: &Key) -> Result<(), AdmitError> {
        let tasks: Api<F::Resource> = Api::namespaced(self.client.clone(), &key.0);
        for slot in self.pools.missed(key) {
            let live = tasks.get_opt(&slot.name).await;
            let live = live.map_err(|source| look_failed(&slot, source))?;
            let runs = live.is_some_and(|live| {
                live.meta().uid.as_ref() == Some(&slot.uid) && seen::<F>(&live) == Seen::Running
            });
            self.pools.settle(key, &slot, runs);
        }
        Ok(())
    }

    /// Whether a holder is still there; if not, its slot goes when nothing of it can run any more. Returns when that has to
    /// be asked again without an event.
    async fn check_holder(&self, key: &Key, slot: Slot) -> Result<Option<Duration>, RoundError> {
        let reference = ObjectRef::new(&slot.name).within(&key.0);
        let holder = self.store.get(&reference);
        match holder.filter(|holder| holder.meta().uid.as_ref() == Some(&slot.uid)) {
            // It gives it back itself.
            Some(holder) if seen::<F>(&holder) == Seen::Over => self.wake(&key.0, &slot),
            Some(_) => {}
            None => match self.what_is_left(&key.0, &slot).await? {
                Remains::Nothing => self.pools.leaves(key, &slot.uid),
                Remains::Act(action) => return self.act_for_gone(&key.0, slot, *action).await,
                Remains::Something(wait) => return Ok(wait),
            },
        }
        Ok(None)
    }

    /// What becomes of it, an event tells. Returns when it is to be tried again, where it was refused.
    async fn act_for_gone(
        &self,
        namespace: &str,
        slot: Slot,
        action: Action,
    ) -> Result<Option<Duration>, RoundError> {
        // Only its name, namespace and UID matter: nothing is made for it any more.
        let owner = Owner {
            group: F::Resource::group(&()).into_owned(),
            version: F::Resource::version(&()).into_owned(),
            kind: F::Resource::kind(&()).into_owned(),
            plural: F::Resource::plural(&()).into_owned(),
            name: slot.name,
            namespace: namespace.to_owned(),
            uid: slot.uid,
            generation: 0,
        };
        let mut observation = Observation::default();
        let acted = self.act(&owner, vec![action], &mut observation).await;
        self.memory.forget(&owner.uid);
        acted?;
        Ok(observation.refused.map(|_| REFUSED_AGAIN))
    }

    /// All who have to be looked at after something has changed.
    pub(super) fn wake_all(&self, woken: &Woken) {
        for (namespace, slot) in &woken.tasks {
            self.wake(namespace, slot);
        }
        for agent in &woken.agents {
            self.wake_agent(agent);
        }
    }

    pub(super) fn wake(&self, namespace: &str, slot: &Slot) {
        // Its receiver lives as long as the rounds do.
        let _ = self
            .woken
            .send(ObjectRef::new(&slot.name).within(namespace));
    }

    /// An Agent has to be looked at.
    pub(super) fn wake_agent(&self, (namespace, name): &Key) {
        let _ = self
            .agents_woken
            .send(ObjectRef::new(name).within(namespace));
    }

    /// The same; if it fails, a round for the Agent tries again. Who asked is in the queue by then, and its own next round
    /// has nothing more to ask for.
    async fn admission_for_one_who_waits(&self, key: &Key) -> Result<(), AdmitError> {
        let admitted = self.admission(key).await;
        if admitted.is_err() {
            self.wake_agent(key);
        }
        admitted
    }

    async fn admission(&self, key: &Key) -> Result<(), AdmitError> {
        self.admissions.ask(key, || self.admit_in_time(key)).await
    }

    /// Others wait for it, so it must not take as long as a round may.
    async fn admit_in_time(&self, key: &Key) -> Result<(), AdmitError> {
        let admitted = tokio::time::timeout(LONGEST_SHARED, self.admit(key)).await;
        admitted.unwrap_or_else(|_| {
            Err(AdmitError::NoAnswer {
                agent: key.1.clone(),
                after: LONGEST_SHARED,
            })
        })
    }

    /// What the API server itself says of an Agent. None: there is none.
    async fn fetch(&self, key: &Key) -> Result<Option<Facts>, AdmitError> {
        let (namespace, name) = key;
        let api: Api<F::Agent> = Api::namespaced(self.client.clone(), namespace);
        let agent = api.get_opt(name).await;
        match agent.map_err(|source| write_failed(name, source))? {
            Some(agent) => {
                let now = facts::<F>(&agent);
                let (changed, woken) = self.pools.agent(key, Arc::new(agent), facts::<F>);
                self.wake_all(&woken);
                // The watch will show nothing new any more.
                for waiter in changed.then(|| self.waiters(key)).into_iter().flatten() {
                    let _ = self.woken.send(waiter);
                }
                Ok(Some(now))
            }
            None => Ok(None),
        }
    }

    async fn admit(&self, key: &Key) -> Result<(), AdmitError> {
        let (namespace, name) = key;
        let api: Api<F::Agent> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        for _ in 0..VERSIONS {
            let (agent, slots) = match self.pools.next(key) {
                Next::Nothing => return Ok(()),
                Next::Slots(agent, slots) => (agent, slots),
                Next::Unknown => {
                    if self.fetch(key).await?.is_some() {
                        continue;
                    }
                    return Ok(());
                }
            };
            if !self.leadership.holds() {
                return Err(AdmitError::NotLeading);
            }
            let next = F::with_slots(&agent, &slots);
            match api.replace_status(name, &parameters, &next).await {
                Ok(written) => {
                    info!(agent = name, in_use = slots.len(), "slots");
                    let written = Arc::new(written);
                    self.wake_all(&self.pools.wrote(key, &agent, written, facts::<F>));
                    return Ok(());
                }
                Err(KubeError::Api(status)) if status.is_conflict() || status.is_not_found() => {
                    debug!(agent = name, "was changed meanwhile");
                    if self.fetch(key).await?.is_none() {
                        self.wake_all(&self.pools.no_agent(key));
                    }
                }
                Err(error) => {
                    self.wake_all(&self.pools.not_written(key, &slots));
                    return Err(write_failed(name, error));
                }
            }
        }
        Err(AdmitError::AgentChanged(name.clone()))
    }

    /// What can still run of a Task that no cache shows: the API server itself is asked, for the Task first. A Task that
    /// is gone does not come back, so no Job of it is recorded any more.
    async fn what_is_left(&self, namespace: &str, slot: &Slot) -> Result<Remains, AdmitError> {
        let failed = |source: KubeError| look_failed(slot, source);
        let tasks: Api<F::Resource> = Api::namespaced(self.client.clone(), namespace);
        let task = tasks.get_metadata_opt(&slot.name).await.map_err(failed)?;
        if task.is_some_and(|task| task.metadata.uid.as_ref() == Some(&slot.uid)) {
            return Ok(Remains::Something(None));
        }
        let of_task = format!("{}={}", names::LABEL_OWNER_UID, slot.uid);
        let of_task = ListParams::default().labels(&of_task);
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let jobs = jobs.list(&of_task).await.map_err(failed)?;
        let jobs: Vec<JobView> = jobs.iter().map(JobView::of).collect();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = pods.list(&of_task).await.map_err(failed)?;
        let pods: Vec<PodView> = pods.iter().map(PodView::of).collect();
        Ok(Remains::of(&jobs, &pods, (self.clock)()))
    }
}

fn look_failed(slot: &Slot, source: KubeError) -> AdmitError {
    AdmitError::LookAtHolder {
        name: slot.name.clone(),
        source: Arc::new(source),
    }
}

fn write_failed(agent: &str, source: KubeError) -> AdmitError {
    AdmitError::Write {
        agent: agent.to_owned(),
        source: Arc::new(source),
    }
}

/// What the queue has to know of an Agent.
pub(super) fn facts<F: FrontEnd>(agent: &F::Agent) -> Facts {
    Facts {
        limit: F::limit(agent),
        slots: F::slots(agent),
    }
}

fn seen<F: FrontEnd<Resource: Owning>>(object: &F::Resource) -> Seen {
    let state = F::state(object);
    if state.phase.is_terminal() || object.meta().deletion_timestamp.is_some() {
        Seen::Over
    } else if state.job.is_some() {
        Seen::Running
    } else if state.phase == Phase::Queued {
        Seen::Queued
    } else if state.observed_generation.is_none() {
        Seen::New
    } else if state
        .condition(names::condition::READY)
        .is_some_and(|ready| !ready.status)
    {
        Seen::Lacking
    } else {
        Seen::Pending
    }
}
