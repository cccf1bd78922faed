//! A small model of the world around the engine: an API server, the Job controller, a kubelet, people, and two operators
//! with stale views that may stop between any two writes. Whatever happens in it, in whatever order:
//!
//! - no two Pods ever run an agent for one Task,
//! - an end that is on record never changes,
//! - an agent whose time was over before anybody told it to end has timed out,
//! - where its Agent has one slot, an agent starts only while its Task holds that, and it is given back when nothing can run,
//! - what the API server refuses is not asked for again in the same round,
//! - of a Task that is being deleted nothing begins, and no Job is left that never ran,
//! - once the world is quiet, every other Task ends, nothing of it runs any more, no slot is held, and the engine rests.

use jiff::Timestamp;
use kubeopencode_engine::{
    decide::{Action, Event, Input, Step, decide, job_name},
    handover::TIMED_OUT,
    lower::{FrontEnd as _, Lowered, kubeopencode::TaskFrontEnd},
    observe::{JobView, Observation, PodView, Refusal, RefusalKind},
    queue::{SlotView, Standing},
    run::Owner,
    state::{Phase, Reason, RunState},
};
use proptest::prelude::*;

mod actors;
mod slot;

use super::fixture::{Cluster, status_of};

const MANIFESTS: &str = "
kind: Agent
metadata: {name: a}
spec: {serviceAccountName: s, command: [work]}
---
kind: Task
metadata: {name: fix}
spec: {agentRef: a, description: do it}
";

/// What an operator believes.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Default)]
struct View {
    state: RunState,
    version: u64,
    stop: bool,
    deleting: bool,
    job: Option<JobView>,
    pods: Vec<PodView>,
    /// Whether the Task is in the list of its Agent.
    holds: bool,
    /// What was refused in this round.
    refused: Option<Refusal>,
    /// Whether something was refused in the round before.
    refused_before: bool,
}

/// How much of the world an operator sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Its caches lack something.
    Part,
    /// What its caches show.
    Cached,
    /// What the API server says.
    Confirmed,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
struct World {
    owner: Owner,
    run: Lowered,
    missing: Lowered,
    agent_exists: bool,
    now: i64,
    versions: u64,
    // The Task.
    state: RunState,
    version: u64,
    stop: bool,
    deleting: bool,
    // The one slot of its Agent, if that has a limit.
    limited: bool,
    holds: bool,
    taken: bool,
    /// Whether the API server refuses every write but that of a status, as a webhook may.
    refuses: bool,
    // The rest of the cluster.
    job: Option<JobView>,
    pods: Vec<PodView>,
    /// UIDs of Pods whose agent was started.
    agents_started: Vec<String>,
    views: [View; 2],
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// An operator looks at the Task, the Job, the Pods; each from a cache of its own.
    SeesTask(usize),
    SeesJob(usize),
    SeesPods(usize),
    /// An operator decides, and does at most so many of the actions before it stops.
    Acts(usize, usize),
    JobController,
    /// The kubelet takes the next step with a Pod; the number chooses how it ends.
    Kubelet(u8),
    Stop(bool),
    AgentAppears(bool),
    DeleteJob,
    DeletePod,
    SuspendJob,
    /// Held by somebody's finalizer.
    DeleteTask,
    SeesAgent(usize),
    /// Somebody else holds the slot, or gives it back.
    SlotIsTaken(bool),
    Refuses(bool),
    Time(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let who = 0..2_usize;
    prop_oneof![
        4 => who.clone().prop_map(H::SeesTask),
        4 => who.clone().prop_map(H::SeesJob),
        4 => who.clone().prop_map(H::SeesPods),
        12 => (who, 0..4_usize).prop_map(|(who, most)| H::Acts(who, most)),
        5 => Just(H::JobController),
        7 => any::<u8>().prop_map(H::Kubelet),
        1 => any::<bool>().prop_map(H::Stop),
        2 => any::<bool>().prop_map(H::AgentAppears),
        1 => Just(H::DeleteJob),
        1 => Just(H::DeletePod),
        1 => Just(H::SuspendJob),
        1 => Just(H::DeleteTask),
        3 => (0..2_usize).prop_map(H::SeesAgent),
        2 => any::<bool>().prop_map(H::SlotIsTaken),
        2 => any::<bool>().prop_map(H::Refuses),
        1 => (0..400_i64).prop_map(H::Time),
    ]
}

impl World {
    fn new(limited: bool) -> Self {
        let manifests = if limited {
            MANIFESTS.replace("spec: {service", "spec: {maxConcurrentTasks: 1, service")
        } else {
            MANIFESTS.to_owned()
        };
        let cluster = Cluster::of(&manifests);
        let owner = TaskFrontEnd::owner(cluster.task()).expect("admitted");
        let run = cluster.lower();
        let without_agent = manifests.replace("metadata: {name: a}", "metadata: {name: b}");
        let missing = Cluster::of(&without_agent).lower();
        assert!(matches!(run, Lowered::Ready(_)), "{run:?}");
        assert!(matches!(missing, Lowered::Missing { .. }), "{missing:?}");
        Self {
            owner,
            run,
            missing,
            agent_exists: true,
            now: 1_700_000_000,
            versions: 1,
            state: RunState::default(),
            version: 1,
            stop: false,
            deleting: false,
            limited,
            holds: false,
            taken: false,
            refuses: false,
            job: None,
            pods: Vec::new(),
            agents_started: Vec::new(),
            views: [View::default(), View::default()],
        }
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).expect("a time")
    }

    fn happens(&mut self, happening: &Happening) {
        match *happening {
            Happening::SeesTask(who) => {
                let (state, version, stop) = (self.state.clone(), self.version, self.stop);
                let deleting = self.deleting;
                let view = &mut self.views[who];
                (view.state, view.version, view.stop) = (state, version, stop);
                view.deleting = deleting;
            }
            Happening::SeesJob(who) => self.views[who].job.clone_from(&self.job),
            Happening::SeesPods(who) => self.views[who].pods.clone_from(&self.pods),
            Happening::Acts(who, most) => {
                let step = self.decide(who);
                self.perform(who, step, most);
                self.views[who].refused_before = self.views[who].refused.take().is_some();
            }
            Happening::DeleteTask => {
                if !self.deleting {
                    self.deleting = true;
                    self.version = self.version();
                }
            }
            Happening::SeesAgent(who) => self.views[who].holds = self.holds,
            Happening::SlotIsTaken(taken) => self.slot_is_taken(taken),
            Happening::Refuses(refuses) => self.refuses = refuses,
            Happening::JobController => self.job_controller(),
            Happening::Kubelet(how) => self.kubelet(how),
            Happening::Stop(stop) => {
                if self.stop != stop {
                    self.stop = stop;
                    self.version = self.version();
                }
            }
            Happening::AgentAppears(exists) => self.agent_appears(exists),
            Happening::DeleteJob => self.job = None,
            Happening::DeletePod => {
                let now = self.time();
                if let Some(pod) = self.pods.first_mut() {
                    pod.deletion.get_or_insert(now);
                    pod.deletion_requested.get_or_insert(now);
                }
            }
            Happening::SuspendJob => {
                let version = self.version().to_string();
                if let Some(job) = &mut self.job {
                    job.suspended = true;
                    job.resource_version = version;
                }
            }
            Happening::Time(seconds) => self.now += seconds,
        }
    }

    /// From what its caches show; from more, if it wants that.
    fn decide(&self, who: usize) -> Step {
        self.decide_with_slot(who, self.slot(who))
    }

    fn decide_with_slot(&self, who: usize, slot: Option<SlotView>) -> Step {
        let view = &self.views[who];
        let name = job_name(&self.owner, &view.state);
        let named = |job: &Option<JobView>| job.clone().filter(|job| job.name == name);
        let unseen = named(&view.job).is_none() || view.pods.is_empty();
        let sight = if unseen { Sight::Part } else { Sight::Cached };
        let step = self.decide_from(
            who,
            named(&view.job),
            view.pods.clone(),
            sight,
            slot.clone(),
        );
        if step != Step::Confirm {
            return step;
        }
        let job = named(&view.job).or_else(|| named(&self.job));
        self.decide_from(who, job, self.pods.clone(), Sight::Confirmed, slot)
    }

    fn decide_from(
        &self,
        who: usize,
        job: Option<JobView>,
        pods: Vec<PodView>,
        sight: Sight,
        slot: Option<SlotView>,
    ) -> Step {
        let view = &self.views[who];
        let observation = Observation {
            job,
            pods,
            superseded: Vec::new(),
            unseen: sight == Sight::Part,
            confirmed: sight == Sight::Confirmed,
            refused: view.refused.clone(),
            slot,
        };
        let lowered = if self.agent_exists {
            &self.run
        } else {
            &self.missing
        };
        decide(&Input {
            owner: &self.owner,
            state: &view.state,
            lowered: Some(lowered),
            observation: &observation,
            stop_requested: view.stop,
            deleting: view.deleting,
            now: self.time(),
        })
    }

    fn perform(&mut self, who: usize, step: Step, most: usize) {
        match step {
            Step::Lower => panic!("asks to lower although it was given the outcome"),
            Step::Confirm => panic!("asks for more although it was given all"),
            Step::Claim { .. } => self.claim(who, most),
            Step::GiveBack { .. } => self.give_back(who),
            Step::Rest { .. } => {}
            Step::Record { state, events } => {
                self.is_told(&self.views[who].state, &state, &events);
                self.record(who, &state);
            }
            Step::Act(actions) => {
                for action in actions.into_iter().take(most) {
                    if self.refuses {
                        self.refuse(who, &action, most);
                        break;
                    }
                    if !self.act(action) {
                        break;
                    }
                }
            }
        }
    }

    /// Each change of phase is an Event with a reason of its own, and conditions say since when and of which generation.
    fn is_told(&self, before: &RunState, after: &RunState, events: &[Event]) {
        let word = match after.phase {
            phase if phase == before.phase => None,
            Phase::Completed | Phase::Failed => after.reason.map(Reason::as_str),
            Phase::Running => Some("Running"),
            // It waits again, and the word for that is what for.
            Phase::Pending if before.phase == Phase::Queued => None,
            Phase::Pending => Some("NewAttempt"),
            Phase::Queued => Some("Queued"),
        };
        assert_eq!(after.phase.is_terminal(), after.reason.is_some());
        assert!(after.phase == before.phase || !events.is_empty());
        // Whoever waits for an Event with the reason of an end hears it with the end, and once.
        let ends = events
            .iter()
            .filter(|event| Reason::from_word(&event.reason).is_some());
        assert_eq!(
            ends.count(),
            usize::from(after.phase.is_terminal()),
            "{events:?}"
        );
        if let Some(word) = word {
            let told = events.iter().any(|event| event.reason == word);
            assert!(told, "no Event says {word}: {events:?}");
        }
        let generation = Some(self.owner.generation);
        assert_eq!(after.observed_generation, generation);
        for condition in &after.conditions {
            let known = before.condition(&condition.type_);
            if known == Some(condition) {
                continue;
            }
            assert_eq!(condition.observed_generation, generation, "{condition:?}");
            let since = match known {
                Some(known) if known.status == condition.status => known.last_transition,
                _ => self.time(),
            };
            assert_eq!(
                condition.last_transition, since,
                "{condition:?} after {known:?}"
            );
        }
    }

    /// With the resourceVersion as precondition, and through the words of the API and back.
    fn record(&mut self, who: usize, state: &RunState) {
        if self.views[who].version != self.version {
            return;
        }
        assert!(
            !self.state.phase.is_terminal(),
            "an end on record was changed: {:?} to {state:?}",
            self.state
        );
        let object = serde_json::json!({"metadata": {}, "spec": {}, "status": status_of(state)});
        let read = TaskFrontEnd::state(&serde_json::from_value(object).expect("a Task"));
        assert_eq!(&read, state, "the status forgets something");
        self.state = read;
        self.version = self.version();
    }

    /// Whether the API server accepted it.
    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::CreateConfigMap(_) => true,
            Action::CreateJob(job) => {
                let mut view = JobView::of(&job);
                // That of an attempt before has ended, and stays; this model forgets it.
                let other = self.job.as_ref().is_none_or(|job| job.name != view.name);
                if other {
                    if let Some(before) = &self.job {
                        assert!(before.end.is_some(), "two Jobs that can run");
                    }
                    let version = self.version();
                    assert!(view.suspended && !view.released, "not created suspended");
                    assert_eq!(view.owner_uid.as_deref(), Some(self.owner.uid.as_str()));
                    view.uid = format!("job-{version}");
                    view.resource_version = version.to_string();
                    self.job = Some(view);
                }
                true
            }
            Action::ReleaseJob { uid, .. } => {
                let untouched = |job: &JobView| job.suspended && !job.released;
                self.job.as_ref().is_some_and(untouched)
                    && self.change_job(&uid, None, |job| {
                        job.suspended = false;
                        job.released = true;
                    })
            }
            Action::MarkReleased { uid, .. } => {
                self.change_job(&uid, None, |job| job.released = true)
            }
            Action::CloseJob { uid, .. } => self.change_job(&uid, None, |job| {
                (job.suspended, job.closed) = (false, true);
            }),
            Action::SuspendJob { uid, .. } => {
                self.change_job(&uid, None, |job| job.suspended = true)
            }
            Action::DeleteJob {
                uid,
                resource_version,
                ..
            } => {
                let accepted = self.change_job(&uid, Some(&resource_version), |_| {});
                if accepted {
                    self.job = None;
                }
                accepted
            }
            Action::DeletePod { uid, .. } => {
                let unbound = |pod: &PodView| pod.uid == uid && !pod.bound;
                let accepted = self.pods.iter().any(unbound);
                self.pods.retain(|pod| !unbound(pod));
                accepted
            }
            Action::SetPodDeadline { uid, seconds, .. } => {
                let pod = self.pods.iter_mut().find(|pod| pod.uid == uid);
                let accepted = pod.is_some();
                if let Some(pod) = pod {
                    pod.active_deadline_seconds = Some(seconds);
                }
                accepted
            }
        }
    }

    fn change_job(
        &mut self,
        uid: &str,
        version: Option<&str>,
        change: impl FnOnce(&mut JobView),
    ) -> bool {
        let new = self.version().to_string();
        match &mut self.job {
            Some(job) if job.uid == uid && version.is_none_or(|v| v == job.resource_version) => {
                change(job);
                job.resource_version = new;
                true
            }
            _ => false,
        }
    }

    /// Nobody interferes any more; caches are fresh; time goes on. Ends when nothing more would happen.
    fn becomes_quiet(&mut self, how: u8) {
        self.refuses = false;
        self.slot_is_taken(false);
        for round in 0..200_u8 {
            self.job_controller();
            self.kubelet(how.wrapping_add(round));
            for who in 0..2 {
                // Each round of an operator ends by itself.
                let mut steps = 0;
                loop {
                    self.happens(&Happening::SeesTask(who));
                    self.happens(&Happening::SeesJob(who));
                    self.happens(&Happening::SeesPods(who));
                    self.happens(&Happening::SeesAgent(who));
                    let step = self.decide(who);
                    if let Step::Rest { again } = step {
                        if let Some(again) = again {
                            assert!(!again.is_zero(), "asks to be asked at once");
                            // Only when nothing else moves is it the clock's turn.
                            if round > 100 {
                                self.now += i64::try_from(again.as_secs()).expect("short") + 1;
                            }
                        }
                        break;
                    }
                    self.perform(who, step, usize::MAX);
                    steps += 1;
                    assert!(steps < 12, "does not come to rest: {self:?}");
                }
            }
        }
    }

    fn check(&self) {
        assert!(
            self.agents_started.len() <= 1,
            "the agent was started {} times",
            self.agents_started.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_task_ends_and_none_runs_twice(
        limited in any::<bool>(),
        happenings in prop::collection::vec(happening(), 0..80),
        how in any::<u8>(),
    ) {
        let mut world = World::new(limited);
        for happening in &happenings {
            world.happens(happening);
            world.check();
        }
        world.becomes_quiet(how);
        world.check();
        prop_assert!(!world.holds, "its slot is held: {:#?}", world);
        if world.deleting && !world.state.phase.is_terminal() {
            let waits = world.job.as_ref().is_some_and(JobView::unreleased);
            prop_assert!(!waits, "a Job that never ran stays: {:#?}", world);
        } else {
            prop_assert!(world.state.phase.is_terminal(), "never ends: {:#?}", world);
            prop_assert!(world.state.completion_time.is_some());
            prop_assert!(world.state.reason.is_some());
        }
        // What was read of a timeout is how it ended, whoever stopped it or deleted its Pod or Job meanwhile.
        let result = world.state.result.as_ref();
        let late = result.is_some_and(|result| result.exit_code == Some(i32::from(TIMED_OUT)));
        prop_assert_eq!(late, world.state.reason == Some(Reason::Timeout) && result.is_some());
        prop_assert!(
            world.pods.iter().all(PodView::ended),
            "something still runs: {:#?}",
            world
        );
        let recorded = world.state.job.as_ref().map(|job| job.uid.as_str());
        let of_attempt = |job: &&JobView| {
            let mut before = world.state.failed_attempts.iter();
            !before.any(|attempt| attempt.job == job.name)
        };
        if let Some(job) = world.job.as_ref().filter(of_attempt) {
            prop_assert_eq!(Some(job.uid.as_str()), recorded, "a Job that nobody knows stays");
        }
    }
}

/// The model can do what it is there for: with nobody interfering, the Task succeeds.
#[test]
fn undisturbed_it_succeeds() {
    for limited in [false, true] {
        let mut world = World::new(limited);
        world.becomes_quiet(1);
        assert_eq!(world.state.phase, Phase::Completed, "{world:#?}");
        assert_eq!(world.agents_started.len(), 1);
        assert_eq!(
            job_name(&world.owner, &world.state),
            world.job.expect("the Job stays").name
        );
    }
}
