//! Who holds the slots of which Agent, and who waits for one: an index over what the watches show and what this operator
//! has written, so that nobody has to look at all Tasks of a long queue.
//!
//! It says when to ask and whom to wake. What is true stands in the Agent's status, and changes only there. Whatever
//! changes here may let somebody in, so each change says who has to be looked at.

mod agent_pool;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use kube::Resource;
use kubeopencode_engine::queue::{Pool, Slot, Standing, Turn, Waiter};

use self::agent_pool::{AgentPool, Wait};
use crate::memory::{Overlay, lock};

/// Namespace and name of an Agent.
pub(crate) type Key = (String, String);

/// Who has to be looked at after a change.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Woken {
    /// Agents: somebody may come next.
    pub(crate) agents: BTreeSet<Key>,
    /// Tasks, by namespace.
    pub(crate) tasks: BTreeSet<(String, Slot)>,
}

/// Where a Task stands, as its own status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It has no status.
    New,
    /// It has a status, and has not started.
    Pending,
    /// It waits for something that is not there.
    Lacking,
    /// It is queued.
    Queued,
    /// It has started and not ended.
    Running,
    /// It has ended, or is being deleted.
    Over,
}

/// What has to be known of an Agent.
#[derive(Debug, Default)]
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
    /// These holders, in turn of this version of the Agent.
    Slots(Arc<A>, Vec<Slot>),
}

/// The index. `A` is the Agent.
#[derive(Debug)]
pub(crate) struct Pools<A>(Mutex<Index<A>>);

#[derive(Debug)]
struct Index<A> {
    agents: BTreeMap<Key, AgentPool<A>>,
    /// Every Task that is not over, by UID.
    tasks: HashMap<String, Known>,
    /// The Agents whose slots a Task holds, by its UID.
    holding: HashMap<String, BTreeSet<Key>>,
}

#[derive(Debug)]
struct Known {
    agent: Key,
    turn: Turn,
    looked_at: bool,
}

impl<A: Resource> Pools<A> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Index {
            agents: BTreeMap::new(),
            tasks: HashMap::new(),
            holding: HashMap::new(),
        }))
    }

    /// The watch shows a Task, or this operator has written its status.
    pub(crate) fn task(&self, agent: Key, turn: Turn, seen: Seen) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let uid = turn.slot().uid.clone();
        let before = index.tasks.get(&uid);
        let looked_at = seen != Seen::New || before.is_some_and(|known| known.looked_at);
        let waits = before
            .filter(|known| known.agent == agent)
            .and_then(|known| index.agents.get(&agent)?.waiting.get(&known.turn).copied());
        let wait = match seen {
            Seen::Queued => Some(Wait::Ready),
            // It may have claimed a slot, and its status does not show that yet.
            Seen::New | Seen::Pending if waits == Some(Wait::Ready) => waits,
            Seen::New if !looked_at => Some(Wait::Newcomer),
            Seen::New | Seen::Pending | Seen::Lacking | Seen::Running | Seen::Over => None,
        };
        if before.is_some_and(|known| known.agent != agent || known.turn != turn)
            || (waits.is_some() && wait.is_none())
            || seen == Seen::Over
        {
            index.take_out(&uid, &mut woken);
        }
        if seen == Seen::Over {
            return woken;
        }
        let pool = index.agents.entry(agent.clone()).or_default();
        if let Some(wait) = wait
            && !pool.holds(&uid)
            && pool.waiting.insert(turn.clone(), wait) != Some(wait)
        {
            woken.agents.insert(agent.clone());
        }
        if seen == Seen::Running && !pool.missed.contains(turn.slot()) {
            pool.running.insert(turn.slot().clone());
        }
        let known = Known {
            agent,
            turn,
            looked_at,
        };
        index.tasks.insert(uid, known);
        woken
    }

    /// All but these Tasks are gone.
    pub(crate) fn keep(&self, mut known: impl FnMut(&str) -> bool) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let gone: Vec<String> = index
            .tasks
            .keys()
            .filter(|uid| !known(uid))
            .cloned()
            .collect();
        for uid in gone {
            index.take_out(&uid, &mut woken);
        }
        woken.agents.extend(index.agents.keys().cloned());
        woken
    }

    /// A Task is gone, or something of one that is gone has changed.
    pub(crate) fn gone(&self, uid: &str) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        index.take_out(uid, &mut woken);
        woken.agents.extend(index.holding(uid));
        woken
    }

    /// Something of a Task has changed, of which it is not known here whether it is gone.
    pub(crate) fn may_leave(&self, uid: &str) -> Woken {
        Woken {
            agents: lock(&self.0).holding(uid).collect(),
            ..Woken::default()
        }
    }

    /// A round for a Task has ended: it keeps nobody waiting any more, unless it is in the queue.
    pub(crate) fn looked_at(&self, uid: &str) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let Index { agents, tasks, .. } = &mut *index;
        if let Some(known) = tasks.get_mut(uid) {
            known.looked_at = true;
            if let Some(pool) = agents.get_mut(&known.agent)
                && pool.waiting.get(&known.turn) == Some(&Wait::Newcomer)
            {
                pool.waiting.remove(&known.turn);
                woken.agents.insert(known.agent.clone());
            }
        }
        woken
    }

    /// A Task wants a slot of this Agent.
    pub(crate) fn wants(&self, agent: &Key, turn: &Turn) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let uid = turn.slot().uid.clone();
        if index
            .tasks
            .get(&uid)
            .is_some_and(|known| known.agent != *agent || known.turn != *turn)
        {
            index.take_out(&uid, &mut woken);
        }
        let pool = index.agents.entry(agent.clone()).or_default();
        pool.waiting.insert(turn.clone(), Wait::Ready);
        let known = Known {
            agent: agent.clone(),
            turn: turn.clone(),
            looked_at: true,
        };
        index.tasks.insert(uid, known);
        woken
    }

    /// A Task of which nothing can run any more gives its slot of this Agent back.
    pub(crate) fn leaves(&self, agent: &Key, uid: &str) {
        let mut index = lock(&self.0);
        if let Some(pool) = index.agents.get_mut(agent).filter(|it| it.holds(uid)) {
            pool.leaving.insert(uid.to_owned());
        }
    }

    /// Where a Task stands with this Agent; None: it has to claim a slot, or needs none. The place in the queue is exact
    /// where that is asked for, else as far as its record depends on it.
    pub(crate) fn standing(&self, agent: &Key, uid: &str, exact: bool) -> Option<Standing> {
        let index = lock(&self.0);
        let pool = index.agents.get(agent)?;
        if pool.holds(uid) {
            return Some(Standing::Held);
        }
        pool.facts.limit?;
        let known = index.tasks.get(uid).filter(|known| known.agent == *agent)?;
        if pool.kept_out.contains(uid) {
            return None;
        }
        let waits = pool.waiting.get(&known.turn) == Some(&Wait::Ready);
        waits.then(|| {
            Standing::Waits(if exact {
                pool.rank(&known.turn)
            } else {
                pool.rough_rank(&known.turn)
            })
        })
    }

    /// Whether it would have been let in by a write that failed.
    pub(crate) fn is_kept_out(&self, agent: &Key, uid: &str) -> bool {
        let index = lock(&self.0);
        let pool = index.agents.get(agent);
        pool.is_some_and(|it| it.kept_out.contains(uid))
    }

    /// Whether no slot is needed: it has no limit, or does not exist.
    pub(crate) fn is_unlimited(&self, agent: &Key) -> bool {
        let index = lock(&self.0);
        let pool = index.agents.get(agent);
        pool.is_none_or(|it| it.facts.limit.is_none())
    }

    /// An Agent whose slot the Task holds.
    pub(crate) fn held_by(&self, uid: &str) -> Option<Key> {
        lock(&self.0).holding.get(uid)?.first().cloned()
    }

    /// Who holds its slots.
    pub(crate) fn slots(&self, agent: &Key) -> Vec<Slot> {
        let index = lock(&self.0);
        let pool = index.agents.get(agent);
        pool.map(|it| it.facts.slots.clone()).unwrap_or_default()
    }

    /// The watch, or the API server itself, shows an Agent. Returns also whether its spec is another one than before; then
    /// all who wait for a slot have to be looked at.
    pub(crate) fn agent(
        &self,
        key: &Key,
        agent: Arc<A>,
        read: impl Fn(&A) -> Facts,
    ) -> (bool, Woken) {
        let mut index = lock(&self.0);
        let pool = index.agents.entry(key.clone()).or_default();
        let newest = pool.written.over(agent, |_, _| false);
        let generation = |agent: &Arc<A>| {
            let metadata = agent.meta();
            (metadata.uid.clone(), metadata.generation)
        };
        let changed = pool.agent.as_ref().map(generation) != Some(generation(&newest));
        let facts = read(&newest);
        let mut woken = Woken::default();
        if changed {
            woken.tasks = in_namespace(key, pool.waiting.keys().map(Turn::slot));
        }
        index.set(key, newest, facts, &mut woken);
        (changed, woken)
    }

    /// The Agent is gone, and its list with it.
    pub(crate) fn no_agent(&self, key: &Key) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        if let Some(pool) = index.agents.get_mut(key) {
            woken.tasks = in_namespace(key, pool.waiting.keys().map(Turn::slot));
            let facts = std::mem::take(&mut pool.facts);
            pool.list_changed(&facts.slots, false);
            pool.agent = None;
            pool.written = Overlay::default();
            pool.leaving.clear();
            pool.kept_out.clear();
            index.hold_no_more(key, &facts.slots);
            index.tidy(key);
        }
        woken
    }

    /// Those who ran when they were seen last, and were taken out of its list, not by this operator: whether they still run
    /// is to be asked, and [`Self::settle`] told. Until then they are as good as ended.
    pub(crate) fn missed(&self, agent: &Key) -> Vec<Slot> {
        let index = lock(&self.0);
        let pool = index.agents.get(agent);
        pool.map(|it| it.missed.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Whether one of them runs.
    pub(crate) fn settle(&self, agent: &Key, slot: &Slot, runs: bool) {
        let mut index = lock(&self.0);
        if let Some(pool) = index.agents.get_mut(agent)
            && pool.missed.remove(slot)
            && runs
        {
            pool.running.insert(slot.clone());
        }
    }

    /// The Agents that are known.
    pub(crate) fn agents(&self) -> Vec<Key> {
        let index = lock(&self.0);
        let known = index.agents.iter().filter(|(_, it)| it.agent.is_some());
        known.map(|(key, _)| key.clone()).collect()
    }

    /// Which holders its status should list.
    pub(crate) fn next(&self, key: &Key) -> Next<A> {
        let mut index = lock(&self.0);
        let Some(pool) = index.agents.get_mut(key) else {
            return Next::Unknown;
        };
        let Some(agent) = &pool.agent else {
            return Next::Unknown;
        };
        let waiting = pool.waiting.iter().map(|(turn, wait)| match wait {
            Wait::Ready => Waiter::Ready(turn),
            Wait::Newcomer => Waiter::Newcomer(turn),
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
            pool.kept_out.clear();
            Next::Nothing
        } else {
            Next::Slots(agent.clone(), next)
        }
    }

    /// This list could not be written. Whoever would be let in by it claims a slot again, to hear why.
    pub(crate) fn not_written(&self, key: &Key, slots: &[Slot]) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        if let Some(pool) = index.agents.get_mut(key) {
            let new = slots.iter().filter(|slot| !pool.holds(&slot.uid));
            let new: Vec<&Slot> = new.collect();
            let kept_out = new.iter().map(|slot| slot.uid.clone()).collect();
            let before = std::mem::replace(&mut pool.kept_out, kept_out);
            let others = new.into_iter().filter(|slot| !before.contains(&slot.uid));
            woken.tasks = in_namespace(key, others);
        }
        woken
    }

    /// This operator has written `agent` over `before`, which [`Self::next`] gave. What was shown since then is from after
    /// the write, and stays.
    pub(crate) fn wrote(
        &self,
        key: &Key,
        before: &A,
        agent: Arc<A>,
        read: impl Fn(&A) -> Facts,
    ) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        if let Some(pool) = index.agents.get_mut(key) {
            pool.kept_out.clear();
        }
        let before = before.meta().resource_version.as_deref();
        let pool = index.agents.get_mut(key).filter(|pool| {
            let shown = pool.agent.as_ref();
            shown.is_some_and(|shown| shown.meta().resource_version.as_deref() == before)
        });
        if let Some(pool) = pool {
            pool.written.knows(before, agent.clone());
            let facts = read(&agent);
            index.set(key, agent, facts, &mut woken);
        }
        woken
    }
}

fn in_namespace<'a>(
    (namespace, _): &Key,
    slots: impl Iterator<Item = &'a Slot>,
) -> BTreeSet<(String, Slot)> {
    slots
        .map(|slot| (namespace.clone(), slot.clone()))
        .collect()
}

impl<A: Resource> Index<A> {
    /// The holders are these. Whoever of them waited is woken, by whomever it was let in: the write may have been
    /// another operator's, or one whose answer was lost.
    fn set(&mut self, key: &Key, agent: Arc<A>, facts: Facts, woken: &mut Woken) {
        let Some(pool) = self.agents.get_mut(key) else {
            return;
        };
        let admitted: Vec<Turn> = facts
            .slots
            .iter()
            .filter_map(|slot| self.tasks.get(&slot.uid))
            .filter(|known| pool.waiting.contains_key(&known.turn))
            .map(|known| known.turn.clone())
            .collect();
        for turn in &admitted {
            pool.waiting.remove(turn);
        }
        woken
            .tasks
            .extend(in_namespace(key, admitted.iter().map(Turn::slot)));
        woken
            .tasks
            .extend(in_namespace(key, pool.moved_up(admitted.len())));
        let known = pool.agent.as_ref().map(|known| known.meta().uid.as_ref());
        let is_same_agent = known == Some(agent.meta().uid.as_ref());
        let before = std::mem::replace(&mut pool.facts, facts);
        pool.list_changed(&before.slots, is_same_agent);
        pool.agent = Some(agent);
        let slots = pool.facts.slots.clone();
        pool.leaving
            .retain(|uid| slots.iter().any(|slot| slot.uid == *uid));
        self.hold_no_more(key, &before.slots);
        for slot in slots {
            let holding = self.holding.entry(slot.uid).or_default();
            holding.insert(key.clone());
        }
    }
}

impl<A> Index<A> {
    /// The Agents whose slots a Task holds.
    fn holding(&self, uid: &str) -> impl Iterator<Item = Key> {
        self.holding.get(uid).into_iter().flatten().cloned()
    }

    /// It neither waits nor runs. Whoever was behind it may come next.
    fn take_out(&mut self, uid: &str, woken: &mut Woken) {
        let Some(known) = self.tasks.remove(uid) else {
            return;
        };
        if let Some(pool) = self.agents.get_mut(&known.agent) {
            pool.running.remove(known.turn.slot());
            pool.missed.remove(known.turn.slot());
            if pool.waiting.remove(&known.turn).is_some() {
                woken.agents.insert(known.agent.clone());
                woken
                    .tasks
                    .extend(in_namespace(&known.agent, pool.moved_up(1)));
            }
        }
        self.tidy(&known.agent);
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
        if self.agents.get(key).is_some_and(AgentPool::is_empty) {
            self.agents.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
