//! Who holds the slots of which Agent, and who waits for one: an index over what the watches show and what this operator
//! has written, so that nobody has to look at all Tasks of a long queue.
//!
//! It says when to ask and whom to wake. What is true stands in the Agent's status, and changes only there. Whatever
//! changes here may let somebody in, so each change says who has to be looked at.

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
    /// These holders, in place of this version of the Agent.
    Slots(Arc<A>, Vec<Slot>),
}

/// The index. `A` is the Agent.
#[derive(Debug)]
pub(crate) struct Pools<A>(Mutex<Index<A>>);

#[derive(Debug)]
struct Index<A> {
    agents: BTreeMap<Key, OfAgent<A>>,
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

/// Why somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// It needs nothing but a slot.
    Ready,
    /// It was not looked at yet.
    Newcomer,
}

/// What is known of one Agent.
#[derive(Debug)]
struct OfAgent<A> {
    written: Overlay<A>,
    agent: Option<Arc<A>>,
    facts: Facts,
    waiting: BTreeMap<Place, Wait>,
    running: BTreeSet<Slot>,
    leaving: BTreeSet<String>,
}

impl<A> Default for OfAgent<A> {
    fn default() -> Self {
        Self {
            written: Overlay::default(),
            agent: None,
            facts: Facts::default(),
            waiting: BTreeMap::new(),
            running: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }
}

impl<A> OfAgent<A> {
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

    /// Exact as far as the record of a place depends on it, so that it costs the same in a queue of any length.
    fn rough_rank(&self, place: &Place) -> usize {
        let [.., far] = CLASSES;
        let before = self.waiting.keys().take(far + 1);
        let before = before.take_while(|other| *other < place);
        before.count() + 1
    }

    /// Those whose place is of another class since so many before them have left.
    fn moved_up(&self, steps: usize) -> impl Iterator<Item = &Slot> {
        CLASSES.into_iter().flat_map(move |end| {
            let reached = self.waiting.keys().skip(end.saturating_sub(steps));
            reached.take(steps.min(end)).map(Place::slot)
        })
    }

    fn is_empty(&self) -> bool {
        self.agent.is_none() && self.waiting.is_empty() && self.running.is_empty()
    }
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
    pub(crate) fn task(&self, agent: Key, place: Place, seen: Seen) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let uid = place.slot().uid.clone();
        let before = index.tasks.get(&uid);
        let looked_at = seen != Seen::New || before.is_some_and(|known| known.looked_at);
        let waits = before
            .filter(|known| known.agent == agent)
            .and_then(|known| index.agents.get(&agent)?.waiting.get(&known.place).copied());
        let wait = match seen {
            Seen::Queued => Some(Wait::Ready),
            // It may have claimed a slot, and its status does not show that yet.
            Seen::New | Seen::Pending if waits == Some(Wait::Ready) => waits,
            Seen::New if !looked_at => Some(Wait::Newcomer),
            Seen::New | Seen::Pending | Seen::Lacking | Seen::Running | Seen::Over => None,
        };
        if before.is_some_and(|known| known.agent != agent || known.place != place)
            || (waits.is_some() && wait.is_none())
            || seen == Seen::Over
        {
            index.take_out(&uid, &mut woken);
        }
        if seen == Seen::Over {
            return woken;
        }
        let of_agent = index.agents.entry(agent.clone()).or_default();
        if let Some(wait) = wait
            && !of_agent.holds(&uid)
            && of_agent.waiting.insert(place.clone(), wait) != Some(wait)
        {
            woken.agents.insert(agent.clone());
        }
        if seen == Seen::Running {
            of_agent.running.insert(place.slot().clone());
        }
        let known = Known {
            agent,
            place,
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
        let holding = index.holding.get(uid);
        woken.agents.extend(holding.into_iter().flatten().cloned());
        woken
    }

    /// A round for a Task has ended: it keeps nobody waiting any more, unless it is in the queue.
    pub(crate) fn looked_at(&self, uid: &str) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let Index { agents, tasks, .. } = &mut *index;
        if let Some(known) = tasks.get_mut(uid) {
            known.looked_at = true;
            if let Some(of_agent) = agents.get_mut(&known.agent)
                && of_agent.waiting.get(&known.place) == Some(&Wait::Newcomer)
            {
                of_agent.waiting.remove(&known.place);
                woken.agents.insert(known.agent.clone());
            }
        }
        woken
    }

    /// A Task wants a slot of this Agent.
    pub(crate) fn wants(&self, agent: &Key, place: &Place) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let uid = place.slot().uid.clone();
        if index
            .tasks
            .get(&uid)
            .is_some_and(|known| known.agent != *agent || known.place != *place)
        {
            index.take_out(&uid, &mut woken);
        }
        let of_agent = index.agents.entry(agent.clone()).or_default();
        of_agent.waiting.insert(place.clone(), Wait::Ready);
        let known = Known {
            agent: agent.clone(),
            place: place.clone(),
            looked_at: true,
        };
        index.tasks.insert(uid, known);
        woken
    }

    /// A Task of which nothing can run any more gives its slot of this Agent back.
    pub(crate) fn leaves(&self, agent: &Key, uid: &str) {
        let mut index = lock(&self.0);
        if let Some(of_agent) = index.agents.get_mut(agent).filter(|it| it.holds(uid)) {
            of_agent.leaving.insert(uid.to_owned());
        }
    }

    /// Where a Task stands with this Agent; None: it has to claim a slot, or needs none. The place in the queue is exact
    /// where that is asked for, else as far as its record depends on it.
    pub(crate) fn standing(&self, agent: &Key, uid: &str, exact: bool) -> Option<Standing> {
        let index = lock(&self.0);
        let of_agent = index.agents.get(agent)?;
        if of_agent.holds(uid) {
            return Some(Standing::Held);
        }
        of_agent.facts.limit?;
        let known = index.tasks.get(uid).filter(|known| known.agent == *agent)?;
        let waits = of_agent.waiting.get(&known.place) == Some(&Wait::Ready);
        waits.then(|| {
            Standing::Waits(if exact {
                of_agent.rank(&known.place)
            } else {
                of_agent.rough_rank(&known.place)
            })
        })
    }

    /// Whether no slot is needed: it has no limit, or does not exist.
    pub(crate) fn is_unlimited(&self, agent: &Key) -> bool {
        let index = lock(&self.0);
        let of_agent = index.agents.get(agent);
        of_agent.is_none_or(|it| it.facts.limit.is_none())
    }

    /// An Agent whose slot the Task holds.
    pub(crate) fn held_by(&self, uid: &str) -> Option<Key> {
        lock(&self.0).holding.get(uid)?.first().cloned()
    }

    /// Who holds its slots.
    pub(crate) fn slots(&self, agent: &Key) -> Vec<Slot> {
        let index = lock(&self.0);
        let of_agent = index.agents.get(agent);
        of_agent
            .map(|it| it.facts.slots.clone())
            .unwrap_or_default()
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
        let of_agent = index.agents.entry(key.clone()).or_default();
        let newest = of_agent.written.over(agent, |_, _| false);
        let generation = |agent: &Arc<A>| {
            let metadata = agent.meta();
            (metadata.uid.clone(), metadata.generation)
        };
        let changed = of_agent.agent.as_ref().map(generation) != Some(generation(&newest));
        let facts = read(&newest);
        let mut woken = Woken::default();
        if changed {
            woken.tasks = in_namespace(key, of_agent.waiting.keys().map(Place::slot));
        }
        index.set(key, newest, facts, &mut woken);
        (changed, woken)
    }

    /// The Agent is gone, and its list with it.
    pub(crate) fn no_agent(&self, key: &Key) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        if let Some(of_agent) = index.agents.get_mut(key) {
            woken.tasks = in_namespace(key, of_agent.waiting.keys().map(Place::slot));
            let facts = std::mem::take(&mut of_agent.facts);
            of_agent.agent = None;
            of_agent.written = Overlay::default();
            of_agent.leaving.clear();
            index.hold_no_more(key, &facts.slots);
            index.tidy(key);
        }
        woken
    }

    /// The Agents that are known.
    pub(crate) fn agents(&self) -> Vec<Key> {
        let index = lock(&self.0);
        let known = index.agents.iter().filter(|(_, it)| it.agent.is_some());
        known.map(|(key, _)| key.clone()).collect()
    }

    /// Which holders its status should list.
    pub(crate) fn next(&self, key: &Key) -> Next<A> {
        let index = lock(&self.0);
        let Some(of_agent) = index.agents.get(key) else {
            return Next::Unknown;
        };
        let Some(agent) = &of_agent.agent else {
            return Next::Unknown;
        };
        let waiting = of_agent.waiting.iter().map(|(place, wait)| match wait {
            Wait::Ready => Waiter::Ready(place),
            Wait::Newcomer => Waiter::Newcomer(place),
        });
        let next = Pool {
            limit: of_agent.facts.limit,
            slots: &of_agent.facts.slots,
            leaving: &of_agent.leaving,
            running: &of_agent.running,
            waiting,
        }
        .next();
        if next == of_agent.facts.slots {
            Next::Nothing
        } else {
            Next::Slots(agent.clone(), next)
        }
    }

    /// This operator has written the Agent.
    pub(crate) fn wrote(&self, key: &Key, agent: Arc<A>, read: impl Fn(&A) -> Facts) -> Woken {
        let mut woken = Woken::default();
        let mut index = lock(&self.0);
        let of_agent = index.agents.entry(key.clone()).or_default();
        let before = of_agent.agent.as_ref();
        let before = before.and_then(|agent| agent.meta().resource_version.clone());
        of_agent.written.wrote(before.as_deref(), agent.clone());
        let facts = read(&agent);
        index.set(key, agent, facts, &mut woken);
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

impl<A> Index<A> {
    /// The holders are these. Whoever of them waited is woken, by whomever it was let in: the write may have been
    /// another operator's, or one whose answer was lost.
    fn set(&mut self, key: &Key, agent: Arc<A>, facts: Facts, woken: &mut Woken) {
        let Some(of_agent) = self.agents.get_mut(key) else {
            return;
        };
        let admitted: Vec<Place> = facts
            .slots
            .iter()
            .filter_map(|slot| self.tasks.get(&slot.uid))
            .filter(|known| of_agent.waiting.contains_key(&known.place))
            .map(|known| known.place.clone())
            .collect();
        for place in &admitted {
            of_agent.waiting.remove(place);
        }
        woken
            .tasks
            .extend(in_namespace(key, admitted.iter().map(Place::slot)));
        woken
            .tasks
            .extend(in_namespace(key, of_agent.moved_up(admitted.len())));
        of_agent.agent = Some(agent);
        let before = std::mem::replace(&mut of_agent.facts, facts);
        let slots = of_agent.facts.slots.clone();
        of_agent
            .leaving
            .retain(|uid| slots.iter().any(|slot| slot.uid == *uid));
        self.hold_no_more(key, &before.slots);
        for slot in slots {
            let holding = self.holding.entry(slot.uid).or_default();
            holding.insert(key.clone());
        }
    }

    /// It neither waits nor runs. Whoever was behind it may come next.
    fn take_out(&mut self, uid: &str, woken: &mut Woken) {
        let Some(known) = self.tasks.remove(uid) else {
            return;
        };
        if let Some(of_agent) = self.agents.get_mut(&known.agent) {
            of_agent.running.remove(known.place.slot());
            if of_agent.waiting.remove(&known.place).is_some() {
                woken.agents.insert(known.agent.clone());
                woken
                    .tasks
                    .extend(in_namespace(&known.agent, of_agent.moved_up(1)));
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
        if self.agents.get(key).is_some_and(OfAgent::is_empty) {
            self.agents.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use kubeopencode_api::v1alpha1::{Agent, AgentSpec};
    use serde_json::json;

    use super::*;

    fn key() -> Key {
        ("ns".to_owned(), "a".to_owned())
    }

    fn slot(name: &str) -> Slot {
        Slot {
            name: name.to_owned(),
            uid: name.to_owned(),
        }
    }

    fn place(name: &str) -> Place {
        Place::new(0, None, slot(name))
    }

    fn agent(version: &str) -> Arc<Agent> {
        let spec: AgentSpec = serde_json::from_value(json!({"serviceAccountName": "s"})).unwrap();
        let mut agent = Agent::new("a", spec);
        agent.metadata.resource_version = Some(version.to_owned());
        Arc::new(agent)
    }

    fn facts(limit: usize, holders: &[&str]) -> impl Fn(&Agent) -> Facts {
        let slots: Vec<Slot> = holders.iter().map(|name| slot(name)).collect();
        move |_| Facts {
            limit: NonZeroUsize::new(limit),
            slots: slots.clone(),
        }
    }

    fn task(pools: &Pools<Agent>, name: &str, seen: Seen) -> Woken {
        pools.task(key(), place(name), seen)
    }

    fn next(pools: &Pools<Agent>) -> Option<Vec<String>> {
        match pools.next(&key()) {
            Next::Slots(_, slots) => Some(slots.into_iter().map(|slot| slot.name).collect()),
            Next::Nothing | Next::Unknown => None,
        }
    }

    /// However a newcomer turns out not to want the slot, the Agent is looked at for those behind it.
    #[test]
    fn a_newcomer_that_goes_wakes_those_behind_it() {
        for goes in [Seen::Lacking, Seen::Over] {
            let pools = Pools::new();
            let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
            let _ = task(&pools, "older", Seen::New);
            let _ = task(&pools, "older2", Seen::New);
            let _ = pools.wants(&key(), &place("younger"));
            assert_eq!(next(&pools), None, "it waits for the older ones");
            assert!(task(&pools, "older", goes).agents.contains(&key()));
            assert!(pools.gone("older2").agents.contains(&key()));
            assert_eq!(next(&pools), Some(vec!["younger".to_owned()]));
        }
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
        let _ = task(&pools, "older", Seen::New);
        let _ = pools.wants(&key(), &place("younger"));
        assert!(pools.looked_at("older").agents.contains(&key()));
        assert_eq!(next(&pools), Some(vec!["younger".to_owned()]));
    }

    /// The answer to the write was lost, or another operator wrote it.
    #[test]
    fn who_is_shown_as_holder_is_woken_whoever_let_it_in() {
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &["e"]));
        let _ = task(&pools, "t", Seen::Queued);
        let (changed, woken) = pools.agent(&key(), agent("2"), facts(1, &["t"]));
        assert!(!changed);
        assert!(woken.tasks.contains(&("ns".to_owned(), slot("t"))));
        assert_eq!(pools.standing(&key(), "t", true), Some(Standing::Held));
    }

    /// Also those that this process has only ever seen as queued.
    #[test]
    fn who_waits_is_woken_when_the_agent_changes_or_goes() {
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &["e"]));
        let _ = task(&pools, "t", Seen::Queued);
        let mut other = agent("2").as_ref().clone();
        other.metadata.generation = Some(2);
        let (changed, woken) = pools.agent(&key(), Arc::new(other), facts(0, &["e"]));
        assert!(changed && woken.tasks.contains(&("ns".to_owned(), slot("t"))));
        let woken = pools.no_agent(&key());
        assert!(woken.tasks.contains(&("ns".to_owned(), slot("t"))));
    }

    #[test]
    fn one_that_ended_does_not_come_back_into_the_list() {
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
        let _ = task(&pools, "t", Seen::Running);
        assert_eq!(next(&pools), Some(vec!["t".to_owned()]), "it counts");
        let _ = task(&pools, "t", Seen::Over);
        assert_eq!(next(&pools), None);
    }

    #[test]
    fn nothing_is_left_of_those_who_are_gone() {
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &["t"]));
        let _ = task(&pools, "t", Seen::Running);
        let elsewhere = ("ns".to_owned(), "b".to_owned());
        let _ = pools.task(elsewhere, place("u"), Seen::Queued);
        let _ = pools.task(key(), place("u"), Seen::Queued);
        for uid in ["t", "u"] {
            let _ = pools.gone(uid);
        }
        let _ = pools.no_agent(&key());
        let index = lock(&pools.0);
        assert!(index.agents.is_empty() && index.tasks.is_empty() && index.holding.is_empty());
    }
}
