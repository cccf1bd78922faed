//! Looks at each revision that the store gets, and at what the node starts, and holds them against the
//! [invariants](crate::invariants).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use kubeopencode_api::names;
use kubeopencode_embedded::{
    api::Api,
    store::{Change, Store, StoreError, Watcher},
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    invariants::{self as rules, Held, Start, Violation},
    operators,
    time::Since,
    trace::Trace,
    turns::Queue,
};

const TASKS: &str = "/kubeopencode.io/tasks/";
const AGENTS: &str = "/kubeopencode.io/agents/";
const JOBS: &str = "/batch/jobs/";
const PODS: &str = "/core/pods/";
const EVENTS: &str = "/core/events/";
const LEASES: &str = "/coordination.k8s.io/leases/";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// The checker of one run. Clones are the same one.
#[derive(Clone)]
pub struct Checker {
    inner: Arc<Mutex<Inner>>,
    found: Arc<watch::Sender<Option<Violation>>>,
    store: Store,
    trace: Trace,
}

struct Inner {
    watcher: Watcher,
    /// From the UID of a Job to UID and name of its Task.
    jobs: BTreeMap<String, (String, String)>,
    /// From the UID of a Task and an attempt to the name of its Job.
    names: BTreeMap<(String, String), String>,
    /// UIDs of Jobs that were on record at any time.
    recorded: BTreeSet<String>,
    /// UIDs of Jobs that were seen released, by whomever.
    released: BTreeSet<String>,
    /// UIDs of Jobs that an operator has deleted when they were on record.
    deleted: BTreeSet<String>,
    /// UIDs of Tasks that had a Job on record at any time.
    started: BTreeSet<String>,
    /// From the UID of a Task to the revision at which it was created, and its Agent.
    tasks: BTreeMap<String, (u64, String)>,
    /// From the UID of a Task that is in a queue to when it came there.
    queued: BTreeMap<String, Timestamp>,
    /// When the first request was sent in calm.
    calm_since: Option<Timestamp>,
    /// From an Agent to the revision at which it got the limit that it has.
    limited: BTreeMap<String, u64>,
    starts: Vec<Start>,
    /// Pods whose agent runs at the node.
    running: BTreeSet<String>,
    /// Pods whose status said with which exit code their agent ended.
    told: BTreeSet<String>,
    /// UIDs of Tasks whose agent was ended by its timeout.
    timed_out: BTreeSet<String>,
    /// Pods that were made for a Job which somebody had deleted by then: its controller was just about to, and
    /// takes them away at once. Nobody else can know of them.
    too_late: BTreeSet<String>,
    /// From a write to when operators asked for it, within the last minute.
    asked: BTreeMap<String, VecDeque<Timestamp>>,
    /// How often operators have changed something in calm that is neither a Lease nor an Event.
    changes: u64,
}

impl Checker {
    /// Looks at everything from now on.
    ///
    /// # Errors
    /// The store is closed.
    pub fn new(api: &Api, trace: &Trace) -> Result<Self, StoreError> {
        let store = api.store().clone();
        let inner = Inner {
            watcher: store.watch("", store.revision())?,
            jobs: BTreeMap::new(),
            names: BTreeMap::new(),
            recorded: BTreeSet::new(),
            released: BTreeSet::new(),
            deleted: BTreeSet::new(),
            started: BTreeSet::new(),
            tasks: BTreeMap::new(),
            queued: BTreeMap::new(),
            calm_since: None,
            limited: BTreeMap::new(),
            starts: Vec::new(),
            running: BTreeSet::new(),
            told: BTreeSet::new(),
            timed_out: BTreeSet::new(),
            too_late: BTreeSet::new(),
            asked: BTreeMap::new(),
            changes: 0,
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            found: Arc::new(watch::Sender::new(None)),
            store,
            trace: trace.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when a rule did not hold.
    pub async fn finds(&self) -> Violation {
        let mut found = self.found.subscribe();
        loop {
            if let Some(violation) = found.borrow_and_update().clone() {
                return violation;
            }
            // The sender lives as long as this checker.
            let _ = found.changed().await;
        }
    }

    /// Something went wrong that no rule speaks of.
    pub fn report(&self, held: Held) {
        if let Err(violation) = held {
            self.trace.say(
                "invariants",
                format_args!("BROKEN: {}: {}", violation.rule, violation.what),
            );
            self.found.send_if_modified(|found| {
                let first = found.is_none();
                found.get_or_insert(violation);
                first
            });
        }
    }

    /// `who` has just been answered: looks at what has changed. A request that was sent before calm may have come late.
    pub fn look(&self, who: &str, sent_in_calm: bool) {
        if sent_in_calm {
            let now = self.trace.time().now();
            self.lock().calm_since.get_or_insert(now);
        }
        loop {
            let ready = self.lock().watcher.ready().now_or_never();
            match ready {
                Some(Ok(changes)) if !changes.is_empty() => {
                    for change in changes {
                        self.count(who, &change, sent_in_calm);
                        self.report(self.judge(who, &change));
                    }
                }
                _ => return,
            }
        }
    }

    fn count(&self, who: &str, change: &Change, sent_in_calm: bool) {
        let key = change.object.key.as_str();
        let counts = !key.starts_with(LEASES) && !key.starts_with(EVENTS);
        if sent_in_calm && operators::is_one(who) && counts {
            self.lock().changes += 1;
        }
    }

    fn judge(&self, who: &str, change: &Change) -> Held {
        let key = change.object.key.as_str();
        let after = &change.object.value;
        let before = change.previous.as_ref().map(|previous| &previous.value);
        let is_going = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        let was_going = before.is_some_and(is_going);
        let goes = !was_going && (change.deleted || is_going(after));
        if key.starts_with(JOBS) && operators::is_one(who) && goes {
            let uid = text(&after["metadata"]["uid"]);
            let mut inner = self.lock();
            // Of two that act at once, one may delete what the other is about to put on record.
            if inner.recorded.contains(&uid) {
                inner.deleted.insert(uid);
            }
        }
        if change.deleted {
            self.trace.say(who, format_args!("  - {key}"));
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(TASKS) {
            self.judge_task(who, name, before, after, change.object.created)
        } else if let Some(name) = key.strip_prefix(AGENTS) {
            self.judge_agent(who, name, before, after, change.object.revision)
        } else if let Some(name) = key.strip_prefix(JOBS) {
            self.judge_job(who, name, before, after)
        } else {
            if let Some(name) = key.strip_prefix(PODS) {
                self.note_pod(who, name, before, after);
            }
            Ok(())
        }
    }

    /// An operator asks for this write, whatever comes of it.
    pub fn asks(&self, write: &str) {
        let now = self.trace.time().now();
        let within_a_minute = {
            let mut inner = self.lock();
            let asked = inner.asked.entry(write.to_owned()).or_default();
            asked.push_back(now);
            let is_old = |asked: &Timestamp| now.duration_since(*asked) > MINUTE;
            while asked.front().is_some_and(is_old) {
                asked.pop_front();
            }
            asked.len()
        };
        self.report(rules::nothing_is_asked_without_pause(
            write,
            within_a_minute,
        ));
    }

    /// How often operators have changed something in calm that is neither a Lease nor an Event.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    fn judge_task(
        &self,
        who: &str,
        name: &str,
        before: Option<&Value>,
        after: &Value,
        created_at: u64,
    ) -> Held {
        self.trace
            .say(who, format_args!("  = Task {name}: {}", told(after)));
        rules::an_end_is_told(name, after)?;
        let recorded = text(&after["status"]["jobUID"]);
        let uid = text(&after["metadata"]["uid"]);
        let timed_out = self.lock().timed_out.contains(&uid);
        if let Some(before) = before {
            rules::an_end_is_final(name, before, after)?;
            rules::an_attempt_has_one_job(name, before, after)?;
            rules::a_recorded_stop_is_kept(name, before, after, timed_out)?;
        }
        let created = moment(&after["metadata"]["creationTimestamp"]);
        let age = self.trace.time().now().duration_since(created);
        let age = Duration::try_from(age).unwrap_or_default();
        rules::a_wait_has_its_time(name, before, after, age)?;
        rules::a_timeout_is_told(name, before, after, timed_out)?;
        if before.is_none() {
            let (namespace, _) = name.split_once('/').unwrap_or_default();
            let agent = after["spec"]["agentRef"].as_str().unwrap_or(names::DEFAULT);
            let known = (created_at, format!("{namespace}/{agent}"));
            self.lock().tasks.insert(uid.clone(), known);
        }
        if rules::is_queued(after) {
            let now = self.trace.time().now();
            self.lock().queued.entry(uid.clone()).or_insert(now);
        } else {
            self.lock().queued.remove(&uid);
        }
        if !recorded.is_empty() {
            self.lock().started.insert(uid);
        }
        self.lock().recorded.insert(recorded.clone());
        let owner = self
            .lock()
            .jobs
            .get(&recorded)
            .map(|(task, _)| task.clone());
        rules::a_recorded_job_is_its_own(name, after, owner.as_deref())?;
        let place = name.split_once('/').map_or("", |(namespace, _)| namespace);
        let job = format!("{JOBS}{place}/{}", text(&after["status"]["jobName"]));
        let job = self
            .store
            .get(&job)
            .filter(|job| job.value["metadata"]["uid"] == *recorded);
        let job = job.as_ref().map(|job| &job.value);
        rules::a_lost_job_is_gone(name, before, after, job)?;
        let by_operator = self.lock().deleted.contains(&recorded);
        rules::a_lost_job_was_taken_by_others(name, after, by_operator)?;
        let by_hand = self.lock().released.contains(&recorded);
        rules::a_recorded_job_is_of_this_spec(name, before, after, job.filter(|_| !by_hand))?;
        Ok(())
    }

    fn judge_agent(
        &self,
        who: &str,
        name: &str,
        before: Option<&Value>,
        after: &Value,
        revision: u64,
    ) -> Held {
        let slots = after["status"]["slots"].as_array().into_iter().flatten();
        let slots: Vec<_> = slots.map(|slot| text(&slot["task"])).collect();
        let limit = &after["spec"]["maxConcurrentTasks"];
        self.trace
            .say(who, format_args!("  = Agent {name}: {slots:?} of {limit}"));
        if before.is_none_or(|before| rules::limit(before) != rules::limit(after)) {
            self.lock().limited.insert(name.to_owned(), revision);
        }
        if operators::is_one(who) {
            rules::a_limit_is_kept(name, before, after, &self.lock().started)?;
            self.judge_turns(name, before, after)?;
            if let Some(before) = before {
                rules::a_slot_is_given_back_late(name, before, after, &self.at_work())?;
            }
        }
        Ok(())
    }

    /// Who gets a slot, among those who wait for one.
    fn judge_turns(&self, name: &str, before: Option<&Value>, after: &Value) -> Held {
        let (namespace, _) = name.split_once('/').unwrap_or_default();
        let (tasks, _) = self.store.list(&format!("{TASKS}{namespace}/"));
        let tasks = tasks.iter().map(|task| &task.value);
        let inner = self.lock();
        let queue = Queue {
            since: &inner.queued,
            started: &inner.started,
            now: self.trace.time().now(),
            calm_since: inner.calm_since,
        };
        queue.judge(name, before, after, tasks)
    }

    fn judge_job(&self, who: &str, name: &str, before: Option<&Value>, after: &Value) -> Held {
        let suspended = &after["spec"]["suspend"];
        self.trace
            .say(who, format_args!("  = Job {name}: suspend {suspended}"));
        if let Some(before) = before.filter(|_| operators::is_one(who)) {
            let uid = text(&after["metadata"]["uid"]);
            let recorded = self.lock().recorded.contains(&uid);
            rules::a_released_job_is_on_record(name, before, after, recorded)?;
        }
        if *suspended != true {
            let uid = text(&after["metadata"]["uid"]);
            self.lock().released.insert(uid);
        }
        let owner = &after["metadata"]["ownerReferences"][0];
        if before.is_none() && owner["kind"] == "Task" {
            let (uid, task) = (text(&owner["uid"]), text(&owner["name"]));
            let created = text(&after["metadata"]["name"]);
            let attempt = text(&after["metadata"]["annotations"][names::ANNOTATION_ATTEMPT]);
            let mut inner = self.lock();
            let job = text(&after["metadata"]["uid"]);
            inner.jobs.insert(job, (uid.clone(), task.clone()));
            let known = inner.names.entry((uid, attempt));
            let known = known.or_insert_with(|| created.clone());
            rules::an_attempt_has_one_name(&task, known, &created)?;
        }
        Ok(())
    }

    fn note_pod(&self, who: &str, name: &str, before: Option<&Value>, after: &Value) {
        let phase = &after["status"]["phase"];
        self.trace.say(who, format_args!("  = Pod {name}: {phase}"));
        let agent = &after["status"]["containerStatuses"][0]["state"];
        if agent["terminated"].is_object() {
            let name = text(&after["metadata"]["name"]);
            self.lock().told.insert(name);
        }
        if before.is_none() && !self.has_a_job(after) {
            let name = text(&after["metadata"]["name"]);
            self.lock().too_late.insert(name);
        }
    }

    /// The node starts the agent of this Pod.
    pub fn agent_starts(&self, pod: &Value) {
        let job = job_of(pod);
        let known = self.lock().jobs.get(&job).cloned();
        let Some((task, name)) = known else {
            return;
        };
        let start = Start {
            task,
            name,
            attempt: text(&pod["metadata"]["annotations"][names::ANNOTATION_ATTEMPT]),
            job,
            pod: text(&pod["metadata"]["name"]),
        };
        let held = {
            let inner = self.lock();
            let (jobs, _) = self.store.list(JOBS);
            let job = |uid: &str| {
                let mut jobs = jobs.iter();
                jobs.find(|job| job.value["metadata"]["uid"] == *uid)
            };
            let known = |other: &&Start| {
                let there = job(&other.job);
                // What somebody released before it was on record, and took away before that was seen, nobody can know of.
                let unseen = there.is_none() && !inner.recorded.contains(&other.job);
                // A raised limit holds for a Pod that is marked as failed without an exit code, as one that is lost.
                let raised = there.is_some_and(|job| job.value["spec"]["backoffLimit"] != 0)
                    && other.job == start.job
                    && !inner.told.contains(&other.pod);
                !unseen && !raised
            };
            let before: Vec<Start> = inner.starts.iter().filter(known).cloned().collect();
            rules::an_agent_starts_once(&before, &start)
        };
        self.report(self.has_a_slot(&start));
        self.lock().running.insert(start.pod.clone());
        self.lock().starts.push(start);
        self.report(held);
    }

    fn has_a_job(&self, pod: &Value) -> bool {
        let (jobs, _) = self.store.list(JOBS);
        let uid = job_of(pod);
        jobs.iter().any(|job| job.value["metadata"]["uid"] == *uid)
    }

    /// Of a Task that was created after its Agent had got its limit; others may have been on their way. A Pod may have been
    /// left without its Job before it started.
    fn has_a_slot(&self, start: &Start) -> Held {
        let (jobs, _) = self.store.list(JOBS);
        let is_there = |job: &Value| job["metadata"]["uid"] == *start.job;
        if self.lock().too_late.contains(&start.pod) || !jobs.iter().any(|job| is_there(&job.value))
        {
            return Ok(());
        }
        let (created, agent) = match self.lock().tasks.get(&start.task) {
            Some(known) => known.clone(),
            None => return Ok(()),
        };
        let limited = self.lock().limited.get(&agent).copied();
        match self.store.get(&format!("{AGENTS}{agent}")) {
            Some(agent) if limited.is_some_and(|limited| limited < created) => {
                rules::an_agent_starts_with_a_slot(start, &agent.value)
            }
            _ => Ok(()),
        }
    }

    /// UIDs of the Tasks of which there is a Pod whose agent runs at the node, whatever its status says so far, and that is
    /// not given up as lost.
    fn at_work(&self) -> BTreeSet<String> {
        let (pods, _) = self.store.list(PODS);
        let inner = self.lock();
        let now = self.trace.time().now();
        let working = pods.iter().filter(|pod| {
            let metadata = &pod.value["metadata"];
            let deletion = &metadata["deletionTimestamp"];
            !rules::has_ended(&pod.value)
                && (deletion.is_null() || rules::may_still_run(moment(deletion), now))
                && inner.running.contains(&text(&metadata["name"]))
                && !inner.too_late.contains(&text(&metadata["name"]))
        });
        let tasks = working.filter_map(|pod| inner.jobs.get(&job_of(&pod.value)));
        tasks.map(|(task, _)| task.clone()).collect()
    }

    /// The agent of this Pod has ended, in whatever way.
    pub fn agent_ended(&self, pod: &str) {
        self.lock().running.remove(pod);
    }

    /// The agent of this Pod is ended by its timeout.
    pub fn agent_timed_out(&self, pod: &Value) {
        let job = job_of(pod);
        let mut inner = self.lock();
        if let Some((task, _)) = inner.jobs.get(&job).cloned() {
            inner.timed_out.insert(task);
        }
    }

    /// All agents have ended, with their node.
    pub fn agents_ended(&self) {
        self.lock().running.clear();
    }

    /// This operator has ended as it was told to, and nothing was in its way.
    pub fn handed_over(&self, namespace: &str, identity: &str) {
        let (leases, _) = self.store.list(&format!("{LEASES}{namespace}/"));
        for lease in leases {
            self.report(rules::a_lease_is_given_back(&lease.value, identity));
        }
    }

    /// How many agents were started.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.lock().starts.len()
    }

    /// How many Tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.store.list(TASKS).0.len()
    }

    /// A minute of calm has passed: what has to hold then. `since` keeps how long that is about to break has been so.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn in_calm(&self, now: Duration, since: &mut Since) -> Held {
        let (tasks, _) = self.store.list(TASKS);
        for task in &tasks {
            let name = task.key.trim_start_matches(TASKS);
            let task = &task.value;
            let unheard = rules::has_an_unheard_stop(task);
            rules::a_stop_is_heard(name, since.lasts((name, "stop"), unheard, now))?;
            let place = name.split_once('/').map_or("", |(namespace, _)| namespace);
            let agent = task["spec"]["agentRef"].as_str().unwrap_or(names::DEFAULT);
            let agent = self.store.get(&format!("{AGENTS}{place}/{agent}"));
            let waits = agent.is_some_and(|it| rules::waits_beside_a_free_slot(task, &it.value));
            rules::a_free_slot_is_taken(name, since.lasts((name, "slot"), waits, now))?;
        }
        Ok(())
    }

    /// Whether everything has come to rest: what has to hold at the end.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn at_rest(&self) -> Held {
        let list = |prefix: &'static str| {
            let (objects, _) = self.store.list(prefix);
            objects
                .into_iter()
                .map(move |object| (object.key.trim_start_matches(prefix).to_owned(), object))
        };
        for (name, task) in list(TASKS) {
            rules::every_task_has_ended(&name, &task.value)?;
        }
        for (name, agent) in list(AGENTS) {
            rules::no_slot_is_held(&name, &agent.value)?;
        }
        // Of the Jobs that a Task has now: one that somebody orphaned is nobody's.
        let mut ours = BTreeSet::new();
        for (name, job) in list(JOBS) {
            if job.value["metadata"]["ownerReferences"][0]["kind"] == "Task" {
                ours.insert(text(&job.value["metadata"]["uid"]));
                rules::no_job_is_active(&name, &job.value)?;
                rules::no_job_waits_for_its_release(&name, &job.value)?;
            }
        }
        for (name, pod) in list(PODS) {
            if ours.contains(&text(&pod.value["metadata"]["ownerReferences"][0]["uid"])) {
                rules::no_pod_is_active(&name, &pod.value)?;
            }
        }
        rules::no_agent_runs(&self.lock().running)?;
        let (all, _) = self.store.list("");
        let alive = all
            .iter()
            .map(|object| text(&object.value["metadata"]["uid"]));
        let alive = alive.collect();
        for object in &all {
            rules::nothing_is_left_behind(&object.key, &object.value, &alive)?;
        }
        Ok(())
    }
}

/// A Task's status in a line.
fn told(task: &Value) -> String {
    let status = &task["status"];
    let deleting = task["metadata"]["deletionTimestamp"].is_string();
    let word = |field: &str| text(&status[field]);
    format!(
        "{} {} job {} attempts {}{}",
        word("phase"),
        word("reason"),
        word("jobName"),
        status["attempts"],
        if deleting { " deleting" } else { "" }
    )
}

/// UID of the Job that made the Pod, which may have been orphaned since.
fn job_of(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    let owner = &metadata["ownerReferences"][0]["uid"];
    let label = &metadata["labels"]["batch.kubernetes.io/controller-uid"];
    text(if owner.is_string() { owner } else { label })
}

/// A time as the API writes it.
fn moment(value: &Value) -> Timestamp {
    text(value).parse().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
