//! The queue of an Agent with a limit: who holds a slot, and who gets one next.
//!
//! The holders are a list in the Agent's status, written with its resourceVersion as precondition. So of all operators
//! that compute the next list from one version, one succeeds, and the list is exact. A Run creates its Job only while it
//! is in the list.
//!
//! A slot is given back on facts that stay true: its Run has ended or is gone, and nothing of it can run any more. Of a
//! Run that may still start it is never taken away. That is why a view of the list that is old is right about a Run that
//! it shows, as long as that Run has not ended.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
    num::NonZeroUsize,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    decide::{
        Action, LOST_LIMIT, STALL_LIMIT,
        overdue::{self, Outlives},
        problem,
    },
    observe::{JobView, PodView},
};

/// A slot, by who holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Name of the resource.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Where a Run stands with a slot of an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Name of the Agent.
    pub agent: String,
    /// Whether it has one.
    pub standing: Standing,
}

/// Whether a Run has a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has.
    Held,
    /// It needs none: the Agent has no limit any more, or is gone.
    Unlimited,
    /// It waits, at this place, counted from 1.
    Waits(usize),
}

/// When a Run gets a slot, by its order among others: the higher priority first, then the older one, then the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    priority: Reverse<i32>,
    created: Option<Timestamp>,
    slot: Slot,
}

impl Turn {
    /// The turn of a resource that was created then.
    #[must_use]
    pub fn new(priority: i32, created: Option<Timestamp>, slot: Slot) -> Self {
        Self {
            priority: Reverse(priority),
            created,
            slot,
        }
    }

    /// Whose turn it is.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }
}

/// Somebody in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter<'a> {
    /// Everything that it needs is there, but a slot.
    Ready(&'a Turn),
    /// It was not looked at yet, so it may be ready. Nobody behind it gets the slot that it would get; that ends when it
    /// has been looked at.
    Newcomer(&'a Turn),
}

/// What is known of an Agent and of those who want its slots.
#[derive(Debug)]
pub struct Pool<'a, W> {
    /// How many slots there are; None is no limit.
    pub limit: Option<NonZeroUsize>,
    /// Who holds one, in the version of the Agent that is to be replaced.
    pub slots: &'a [Slot],
    /// UIDs of the holders of which nothing can run any more.
    pub leaving: &'a BTreeSet<String>,
    /// Runs of this Agent that have started, some of them perhaps when there was no limit: they count too.
    pub running: &'a BTreeSet<Slot>,
    /// Who waits, in order.
    pub waiting: W,
}

impl<'a, W: Iterator<Item = Waiter<'a>>> Pool<'a, W> {
    /// The next list: without those who leave, with those who run, and with those who come next as far as there is
    /// room. A limit that was lowered takes nothing away from anybody.
    #[must_use]
    pub fn next(self) -> Vec<Slot> {
        let stays = |slot: &&Slot| !self.leaving.contains(&slot.uid);
        let mut next: Vec<Slot> = self.slots.iter().filter(stays).cloned().collect();
        let Some(limit) = self.limit else { return next };
        let mut known: HashSet<String> = self.slots.iter().map(|slot| slot.uid.clone()).collect();
        for slot in self.running {
            if !self.leaving.contains(&slot.uid) && known.insert(slot.uid.clone()) {
                next.push(slot.clone());
            }
        }
        let mut free = limit.get().saturating_sub(next.len());
        for waiter in self.waiting {
            if free == 0 {
                break;
            }
            let (Waiter::Ready(turn) | Waiter::Newcomer(turn)) = waiter;
            if known.insert(turn.slot.uid.clone()) {
                free -= 1;
                if matches!(waiter, Waiter::Ready(_)) {
                    next.push(turn.slot.clone());
                }
            }
        }
        next
    }
}

/// What the record of a place in the queue is good for: it is written again when the place has become of another class,
/// so that a Run in a long queue costs three writes and not one for each step.
#[must_use]
pub fn class(position: usize) -> u8 {
    match position {
        0..=10 => 0,
        11..=100 => 1,
        _ => 2,
    }
}

/// The places at which a class ends.
pub const CLASSES: [usize; 2] = [10, 100];

/// What can still run of a Run that has ended or is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// A Pod, or a Job that may make one, that nobody else ends: this does.
    Act(Box<Action>),
    /// A Pod, or a Job that may make one. An event tells when that changes; at the latest it is to be asked again then.
    Something(Option<Duration>),
}

impl Remains {
    /// Of these Jobs and Pods, which are all that there are. A Pod that should be gone for [`LOST_LIMIT`] counts as lost
    /// with its node: nobody will ever say that it ended.
    #[must_use]
    pub fn of<'a>(
        jobs: impl IntoIterator<Item = &'a JobView>,
        pods: impl IntoIterator<Item = &'a PodView>,
        now: Timestamp,
    ) -> Self {
        let pods: Vec<&PodView> = pods.into_iter().collect();
        let jobs: Vec<&JobView> = jobs.into_iter().collect();
        let has_job = |pod: &PodView| {
            jobs.iter()
                .any(|job| pod.job_uid.as_ref() == Some(&job.uid))
        };
        let left =
            |pod: &&&PodView| !pod.bound && !pod.ended() && pod.deletion.is_none() && !has_job(pod);
        // It was left without its Job before it had a node.
        if let Some(pod) = pods.iter().find(left) {
            return Self::Act(Box::new(Action::delete_pod(pod)));
        }
        let mut something = false;
        let mut again: Option<Duration> = None;
        for pod in &pods {
            let job = jobs
                .iter()
                .find(|job| pod.job_uid.as_ref() == Some(&job.uid));
            let left = match Life::of_pod(pod, job.copied(), now) {
                Life::Over => continue,
                Life::Lasts(left) => left,
                Life::Overdue => match end(pod, job.copied(), now) {
                    Some(action) => return Self::Act(Box::new(action)),
                    None => None,
                },
            };
            something = true;
            again = [again, left].into_iter().flatten().min();
        }
        for job in jobs {
            let left = match Life::of_job(job, &pods, now) {
                Life::Over => continue,
                Life::Lasts(left) => left,
                // Whoever resumes it, or is late to release it, could be under way.
                Life::Overdue if job.released => {
                    return Self::Act(Box::new(Action::close_job(job)));
                }
                Life::Overdue => return Self::Act(Box::new(Action::delete_job(job))),
            };
            something = true;
            again = [again, left].into_iter().flatten().min();
        }
        if something {
            Self::Something(again)
        } else {
            Self::Nothing
        }
    }
}

/// What can be expected of a Pod or Job of a Run that has ended or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nothing of it runs, or it is lost with its node.
    Over,
    /// It may run, for so long at most where that is known.
    Lasts(Option<Duration>),
    /// It does not begin or end by itself, or should have long ago.
    Overdue,
}

impl Life {
    /// For so long at most, and then that.
    fn until(left: Option<Duration>, then: Self) -> Self {
        left.map_or(then, |left| Self::Lasts(Some(left)))
    }

    fn of_pod(pod: &PodView, job: Option<&JobView>, now: Timestamp) -> Self {
        if pod.ended() {
            return Self::Over;
        }
        if let Some(deletion) = pod.deletion {
            return Self::until(time_left(deletion, LOST_LIMIT, now), Self::Over);
        }
        if let Some(outlives) = Outlives::of(pod, now) {
            let since = outlives.since.unwrap_or(now);
            let limit = if pod.active_deadline_seconds == Some(1) {
                outlives.lost
            } else {
                outlives.limit
            };
            return Self::until(time_left(since, limit, now), Self::Overdue);
        }
        let has_to_end = job.and_then(|job| overdue::has_to_end(pod, job));
        let stalled = problem::stalled_since(pod, now).map(|since| (since, STALL_LIMIT));
        let limits = [has_to_end, stalled].into_iter().flatten();
        let lefts = limits.map(|(since, limit)| time_left(since, limit, now));
        // The shortest; none is left of one that is over.
        lefts
            .min()
            .map_or(Self::Lasts(None), |left| Self::until(left, Self::Overdue))
    }

    fn of_job(job: &JobView, pods: &[&PodView], now: Timestamp) -> Self {
        let its_pods = || {
            pods.iter()
                .filter(|pod| pod.job_uid.as_deref() == Some(&job.uid))
        };
        // With one completion and no second try, the Pod that ended was its last. Its controller takes a second to say so,
        // and that second would be one in which nobody uses the slot.
        let had_its_pod = its_pods().any(|pod| Self::of_pod(pod, Some(job), now) == Self::Over);
        // Somebody has raised its backoffLimit.
        let makes_another = job.retries && !job.closed;
        if job.end.is_some() || (had_its_pod && !makes_another) {
            Self::Over
        } else if let Some(deletion) = job.deletion {
            // A finalizer may hold it for ever; its controller makes no Pod for it.
            Self::until(time_left(deletion, LOST_LIMIT, now), Self::Over)
        } else if job.suspended || had_its_pod {
            Self::Overdue
        } else if let Some(released) = job.released_at.filter(|_| {
            // It gets no Pod, for want of a ServiceAccount or of quota. Whoever lifts that in a month must not start it.
            job.active == 0 && !job.closed && its_pods().next().is_none()
        }) {
            Self::until(time_left(released, STALL_LIMIT, now), Self::Overdue)
        } else {
            Self::Lasts(None)
        }
    }
}

/// None when it is over.
fn time_left(since: Timestamp, limit: Duration, now: Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    limit.checked_sub(passed).filter(|left| !left.is_zero())
}

/// Of a Run that has ended or is gone, with its Job left behind, nobody else ends a Pod that does not start or end. One
/// whose agent has run keeps its log, if its node does as it is told.
fn end(pod: &PodView, job: Option<&JobView>, now: Timestamp) -> Option<Action> {
    let deadline = || (pod.active_deadline_seconds != Some(1)).then(|| Action::end_pod(pod));
    match job {
        // A finalizer may hold it.
        Some(job) if job.deleting() && pod.started.is_none() => Some(Action::delete_pod(pod)),
        Some(job) if !job.deleting() => {
            let keeps_its_log = Outlives::of(pod, now).and_then(|_| deadline());
            keeps_its_log.or_else(|| (!job.closed).then(|| Action::close_job(job)))
        }
        _ => deadline(),
    }
}
