//! What is known of one Agent: its newest version, who waits for a slot of it, who runs, who leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use kubeopencode_engine::queue::{CLASSES, Slot, Turn};

use super::Facts;
use crate::memory::Overlay;

/// Why somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It needs nothing but a slot.
    Ready,
    /// It was not looked at yet.
    Newcomer,
}

/// What is known of one Agent.
#[derive(Debug)]
pub(super) struct AgentPool<A> {
    pub(super) written: Overlay<A>,
    pub(super) agent: Option<Arc<A>>,
    pub(super) facts: Facts,
    pub(super) waiting: BTreeMap<Turn, Wait>,
    pub(super) running: BTreeSet<Slot>,
    /// Of those who run, as far as is known here, those who were taken out of its list, and not by this operator.
    pub(super) missed: BTreeSet<Slot>,
    pub(super) leaving: BTreeSet<String>,
    /// Who would have been let in by the last write, which failed: they do not wait for a slot, but for that.
    pub(super) kept_out: BTreeSet<String>,
}

impl<A> Default for AgentPool<A> {
    fn default() -> Self {
        Self {
            written: Overlay::default(),
            agent: None,
            facts: Facts::default(),
            waiting: BTreeMap::new(),
            running: BTreeSet::new(),
            missed: BTreeSet::new(),
            leaving: BTreeSet::new(),
            kept_out: BTreeSet::new(),
        }
    }
}

impl<A> AgentPool<A> {
    pub(super) fn holds(&self, uid: &str) -> bool {
        self.facts.slots.iter().any(|slot| slot.uid == uid)
    }

    /// Counted from 1; from whichever end is nearer.
    pub(super) fn rank(&self, turn: &Turn) -> usize {
        let mut before = self.waiting.range(..turn);
        let mut after = self
            .waiting
            .range((Bound::Excluded(turn), Bound::Unbounded));
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
    pub(super) fn rough_rank(&self, turn: &Turn) -> usize {
        let [.., far] = CLASSES;
        let before = self.waiting.keys().take(far + 1);
        let before = before.take_while(|other| *other < turn);
        before.count() + 1
    }

    /// Those whose place is of another class since so many before them have left.
    pub(super) fn moved_up(&self, steps: usize) -> impl Iterator<Item = &Slot> {
        CLASSES.into_iter().flat_map(move |end| {
            let reached = self.waiting.keys().skip(end.saturating_sub(steps));
            reached.take(steps.min(end)).map(Turn::slot)
        })
    }

    /// Its list, which was `before`, is another now. A slot is given back on facts that stay true, so whoever left it has
    /// most likely ended, and that was not seen here. The list of an Agent that was made anew is another one.
    pub(super) fn list_changed(&mut self, before: &[Slot], is_same_agent: bool) {
        let Self {
            facts,
            running,
            missed,
            ..
        } = self;
        let is_listed = |slot: &Slot| facts.slots.contains(slot);
        running.extend(missed.extract_if(.., |slot| is_listed(slot) || !is_same_agent));
        let left = before.iter().filter(|slot| !is_listed(slot));
        missed.extend(
            left.filter(|_| is_same_agent)
                .filter_map(|slot| running.take(slot)),
        );
    }

    pub(super) fn is_empty(&self) -> bool {
        self.agent.is_none()
            && self.waiting.is_empty()
            && self.running.is_empty()
            && self.missed.is_empty()
    }
}
