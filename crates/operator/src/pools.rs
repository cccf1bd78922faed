//! Who holds the slots of which Agent, and who waits for one: an index over what the watches show and what this operator
//! has written, so that nobody has to look at all Tasks of a long queue.
//!
//! It says when to ask and whom to wake. What is true stands in the Agent's status, and changes only there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    ops::Bound,
    sync::{Arc, Mutex},
};

use kube::Resource;
use kubeopencode_engine::queue::{CLASSES, Place, Pool, Slot, Standing, Waiter};

use crate::memory::{Overlay, lock};

/// Namespace and name of an Agent.
pub(crate) type Key = (String, String);

/// Where a Task stands, as its own status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It has no status.
    New,
    /// It has a status, and has not started.
    Pending,
    /// It is queued.
    Queued,
    /// It has started and not ended.
    Running,
    /// It has ended, or is being deleted.
    Over,
}

/// What has to be known of an Agent.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) limit: Option<NonZeroUsize>,
    pub(crate) slots: Vec<Slot>,
}

/// What has to be written.
#[derive(Debug)]
pub(crate) enum Next<A> {
    /// The Agent is not known.
    Unknown,
    /// Nothing.
    Nothing,
    /// These holders, in place of this version of the Agent.
    Slots(Arc<A>, Vec<Slot>),
}

/// The index. `A` is the Agent.
#[derive(Debug)]
pub(crate) struct Pools<A>(Mutex<All<A>>);

#[derive(Debug)]
struct All<A> {
    pools: BTreeMap<Key, OfAgent<A>>,
    /// Every Task that is not over, by UID.
    tasks: HashMap<String, Known>,
    /// The Agents whose slots a Task holds, by its UID.
    holding: HashMap<String, BTreeSet<Key>>,
}

#[derive(Debug)]
struct Known {
    agent: Key,
    place: Place,
    looked_at: bool,
}

#[derive(Debug)]
struct OfAgent<A> {
    written: Overlay<A>,
    agent: Option<Arc<A>>,
    facts: Facts,
    /// Who waits: true for those who need nothing but a slot, false for newcomers.
    waiting: BTreeMap<Place, bool>,
    running: BTreeSet<Slot>,
    leaving: BTreeSet<String>,
}

impl<A> Default for OfAgent<A> {
    fn default() -> Self {
        Self {
            written: Overlay::default(),
            agent: None,
            facts: Facts {
                limit: None,
                slots: Vec::new(),
            },
            waiting: BTreeMap::new(),
            running: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }
}

impl<A> OfAgent<A> {
    fn forget(&mut self, place: &Place) {
        self.waiting.remove(place);
        self.running.remove(place.slot());
    }

    fn holds(&self, uid: &str) -> bool {
        self.facts.slots.iter().any(|slot| slot.uid == uid)
    }

    /// Counted from 1; from whichever end is nearer.
    fn rank(&self, place: &Place) -> usize {
        let mut before = self.waiting.range(..place);
        let mut after = self
            .waiting
            .range((Bound::Excluded(place), Bound::Unbounded));
        let mut steps = 0;
        loop {
            match (before.next(), after.next()) {
                (None, _) => return steps + 1,
                (_, None) => return self.waiting.len() - steps,
                _ => steps += 1,
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.agent.is_none() && self.waiting.is_empty() && self.running.is_empty()
    }
}

impl<A: Resource> Pools<A> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(All {
            pools: BTreeMap::new(),
            tasks: HashMap::new(),
            holding: HashMap::new(),
        }))
    }

    /// The watch shows a Task.
    pub(crate) fn task(&self, agent: Key, place: Place, seen: Seen) {
        let mut all = lock(&self.0);
        let uid = place.slot().uid.clone();
        let before = all.tasks.remove(&uid);
        let looked_at = before.as_ref().is_some_and(|known| known.looked_at);
        // It may have claimed a slot, and its status does not show that yet.
        let waited = before.is_some_and(|known| {
            let pool = all.pools.entry(known.agent.clone()).or_default();
            let waited = known.agent == agent && pool.waiting.get(&known.place) == Some(&true);
            pool.forget(&known.place);
            waited
        });
        if seen == Seen::Over {
            all.tidy(&agent);
            return;
        }
        let pool = all.pools.entry(agent.clone()).or_default();
        match seen {
            Seen::Queued => {
                pool.waiting.insert(place.clone(), true);
            }
            Seen::Running => {
                pool.running.insert(place.slot().clone());
            }
            Seen::New | Seen::Pending if waited => {
                pool.waiting.insert(place.clone(), true);
            }
            Seen::New if !looked_at => {
                pool.waiting.insert(place.clone(), false);
            }
            Seen::New | Seen::Pending | Seen::Over => {}
        }
        let known = Known {
            agent,
            place,
            looked_at: looked_at || seen != Seen::New,
        };
        all.tasks.insert(uid, known);
    }

    /// All but these Tasks are gone. Returns the Agents that have to be looked at.
    pub(crate) fn keep(&self, mut known: impl FnMut(&str) -> bool) -> Vec<Key> {
        let gone: Vec<String> = {
            let all = lock(&self.0);
            let uids = all.tasks.keys().filter(|uid| !known(uid));
            uids.cloned().collect()
        };
        let mut agents: BTreeSet<Key> = BTreeSet::new();
        for uid in gone {
            agents.extend(self.gone(&uid));
        }
        agents.extend(lock(&self.0).pools.keys().cloned());
        agents.into_iter().collect()
    }

    /// A Task is gone. Returns the Agents that have to be looked at.
    pub(crate) fn gone(&self, uid: &str) -> Vec<Key> {
        let mut all = lock(&self.0);
        if let Some(known) = all.tasks.remove(uid)
            && let Some(pool) = all.pools.get_mut(&known.agent)
        {
            pool.forget(&known.place);
            all.tidy(&known.agent);
        }
        let holding = all.holding.get(uid);
        holding.into_iter().flatten().cloned().collect()
    }

    /// A round for a Task has ended. Returns its Agent, if somebody behind it may come next now.
    pub(crate) fn looked_at(&self, uid: &str) -> Option<Key> {
        let mut all = lock(&self.0);
        let known = all.tasks.get_mut(uid)?;
        known.looked_at = true;
        let (agent, place) = (known.agent.clone(), known.place.clone());
        let pool = all.pools.get_mut(&agent)?;
        if pool.waiting.get(&place) != Some(&false) {
            return None;
        }
        pool.waiting.remove(&place);
        let behind = pool.waiting.range(&place..).next().is_some();
        behind.then_some(agent)
    }

    /// A Task wants a slot of this Agent.
    pub(crate) fn wants(&self, agent: &Key, place: &Place) {
        let mut all = lock(&self.0);
        let uid = place.slot().uid.clone();
        if let Some(known) = all.tasks.get(&uid).filter(|known| known.agent != *agent) {
            let (before, place) = (known.agent.clone(), known.place.clone());
            if let Some(pool) = all.pools.get_mut(&before) {
                pool.forget(&place);
            }
        }
        let pool = all.pools.entry(agent.clone()).or_default();
        pool.waiting.insert(place.clone(), true);
        let known = Known {
            agent: agent.clone(),
            place: place.clone(),
            looked_at: true,
        };
        all.tasks.insert(uid, known);
    }

    /// A Task of which nothing can run any more gives its slot of this Agent back.
    pub(crate) fn leaves(&self, agent: &Key, uid: &str) {
        let mut all = lock(&self.0);
        if let Some(pool) = all.pools.get_mut(agent).filter(|pool| pool.holds(uid)) {
            pool.leaving.insert(uid.to_owned());
        }
    }

    /// Where a Task stands with this Agent; None: it has to claim a slot, or needs none.
    pub(crate) fn standing(&self, agent: &Key, uid: &str) -> Option<Standing> {
        let all = lock(&self.0);
        let pool = all.pools.get(agent)?;
        if pool.holds(uid) {
            return Some(Standing::Held);
        }
        pool.facts.limit?;
        let known = all.tasks.get(uid).filter(|known| known.agent == *agent)?;
        let waits = pool.waiting.get(&known.place) == Some(&true);
        waits.then(|| Standing::Waits(pool.rank(&known.place)))
    }

    /// An Agent whose slot the Task holds.
    pub(crate) fn held_by(&self, uid: &str) -> Option<Key> {
        lock(&self.0).holding.get(uid)?.first().cloned()
    }

    /// Who holds its slots.
    pub(crate) fn slots(&self, agent: &Key) -> Vec<Slot> {
        let all = lock(&self.0);
        let pool = all.pools.get(agent);
        pool.map(|pool| pool.facts.slots.clone())
            .unwrap_or_default()
    }

    /// The watch, or the API server itself, shows an Agent. Returns whether its spec is another one than before.
    pub(crate) fn agent(&self, key: &Key, agent: Arc<A>, read: impl Fn(&A) -> Facts) -> bool {
        let mut all = lock(&self.0);
        let pool = all.pools.entry(key.clone()).or_default();
        let newest = pool.written.over(agent, |_, _| false);
        let generation = |agent: &Arc<A>| {
            let metadata = agent.meta();
            (metadata.uid.clone(), metadata.generation)
        };
        let changed = pool.agent.as_ref().map(generation) != Some(generation(&newest));
        let facts = read(&newest);
        all.set(key, newest, facts);
        changed
    }

    /// The Agent is gone, and its list with it.
    pub(crate) fn no_agent(&self, key: &Key) {
        let mut all = lock(&self.0);
        if let Some(pool) = all.pools.get_mut(key) {
            let slots = std::mem::take(&mut pool.facts.slots);
            pool.facts.limit = None;
            pool.agent = None;
            pool.written = Overlay::default();
            pool.leaving.clear();
            all.hold_no_more(key, &slots);
            all.tidy(key);
        }
    }

    /// The Agents that are known.
    pub(crate) fn agents(&self) -> Vec<Key> {
        let all = lock(&self.0);
        let known = all.pools.iter().filter(|(_, pool)| pool.agent.is_some());
        known.map(|(key, _)| key.clone()).collect()
    }

    /// Which holders its status should list.
    pub(crate) fn next(&self, key: &Key) -> Next<A> {
        let all = lock(&self.0);
        let Some(pool) = all.pools.get(key) else {
            return Next::Unknown;
        };
        let Some(agent) = &pool.agent else {
            return Next::Unknown;
        };
        let waiting = pool.waiting.iter().map(|(place, ready)| match ready {
            true => Waiter::Ready(place),
            false => Waiter::Newcomer(place),
        });
        let next = Pool {
            limit: pool.facts.limit,
            slots: &pool.facts.slots,
            leaving: &pool.leaving,
            running: &pool.running,
            waiting,
        }
        .next();
        if next == pool.facts.slots {
            Next::Nothing
        } else {
            Next::Slots(agent.clone(), next)
        }
    }

    /// This operator has written the Agent. Returns who has to be woken: those who got a slot, and those whose place is
    /// worth a new record.
    pub(crate) fn wrote(&self, key: &Key, agent: Arc<A>, read: impl Fn(&A) -> Facts) -> Vec<Slot> {
        let mut all = lock(&self.0);
        let pool = all.pools.entry(key.clone()).or_default();
        let before = pool
            .agent
            .as_ref()
            .and_then(|agent| agent.meta().resource_version.clone());
        pool.written.wrote(before.as_deref(), agent.clone());
        let facts = read(&agent);
        let holders: BTreeSet<&String> = facts.slots.iter().map(|slot| &slot.uid).collect();
        let admitted: Vec<Place> = pool
            .waiting
            .keys()
            .filter(|place| holders.contains(&place.slot().uid))
            .take(facts.slots.len())
            .cloned()
            .collect();
        for place in &admitted {
            pool.waiting.remove(place);
        }
        let steps = admitted.len();
        let mut woken: Vec<Slot> = admitted.iter().map(|place| place.slot().clone()).collect();
        for end in CLASSES {
            let reached = pool.waiting.keys().skip(end.saturating_sub(steps));
            woken.extend(
                reached
                    .take(steps.min(end))
                    .map(|place| place.slot().clone()),
            );
        }
        all.set(key, agent, facts);
        woken
    }
}

impl<A> All<A> {
    fn set(&mut self, key: &Key, agent: Arc<A>, facts: Facts) {
        let Some(pool) = self.pools.get_mut(key) else {
            return;
        };
        pool.agent = Some(agent);
        let before = std::mem::replace(&mut pool.facts, facts);
        let slots = pool.facts.slots.clone();
        pool.leaving
            .retain(|uid| slots.iter().any(|slot| slot.uid == *uid));
        self.hold_no_more(key, &before.slots);
        for slot in slots {
            let holding = self.holding.entry(slot.uid).or_default();
            holding.insert(key.clone());
        }
    }

    fn hold_no_more(&mut self, key: &Key, slots: &[Slot]) {
        for slot in slots {
            if let Some(holding) = self.holding.get_mut(&slot.uid) {
                holding.remove(key);
                if holding.is_empty() {
                    self.holding.remove(&slot.uid);
                }
            }
        }
    }

    /// Of an Agent that is not there and that nobody wants, nothing stays.
    fn tidy(&mut self, key: &Key) {
        if self.pools.get(key).is_some_and(OfAgent::is_empty) {
            self.pools.remove(key);
        }
    }
}
