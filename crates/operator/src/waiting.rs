//! Who waits for what: from an Agent, a configuration or a ConfigMap to the objects that refer to it and have not
//! started.
//!
//! An object is entered *before* its references are looked up. A reference that appears between the look-up and the
//! entry would otherwise wake nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use kubeopencode_engine::lower::Reference;

use crate::memory::lock;

/// Both directions of who waits for what. `W` names an object that waits; those who are woken together are woken in
/// its order.
#[derive(Debug)]
pub(crate) struct Waiting<W>(Mutex<Both<W>>);

#[derive(Debug)]
struct Both<W> {
    waiters: BTreeMap<Reference, BTreeSet<W>>,
    references: BTreeMap<W, BTreeSet<Reference>>,
}

impl<W: Clone + Ord> Waiting<W> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Both {
            waiters: BTreeMap::new(),
            references: BTreeMap::new(),
        }))
    }

    /// From now on it waits for these too.
    pub(crate) fn enter(&self, waiter: &W, references: impl IntoIterator<Item = Reference>) {
        let mut both = lock(&self.0);
        for reference in references {
            let entry = both.waiters.entry(reference.clone()).or_default();
            entry.insert(waiter.clone());
            let entry = both.references.entry(waiter.clone()).or_default();
            entry.insert(reference);
        }
    }

    /// It waits for nothing any more.
    pub(crate) fn leave(&self, waiter: &W) {
        lock(&self.0).remove(waiter);
    }

    /// All but these wait for nothing any more.
    pub(crate) fn keep(&self, mut known: impl FnMut(&W) -> bool) {
        let mut both = lock(&self.0);
        let gone: Vec<W> = both
            .references
            .keys()
            .filter(|waiter| !known(waiter))
            .cloned()
            .collect();
        for waiter in gone {
            both.remove(&waiter);
        }
    }

    /// Everyone who waits for this.
    pub(crate) fn of(&self, reference: &Reference) -> Vec<W> {
        let both = lock(&self.0);
        let waiters = both.waiters.get(reference);
        waiters.into_iter().flatten().cloned().collect()
    }
}

impl<W: Ord> Both<W> {
    fn remove(&mut self, waiter: &W) {
        for reference in self.references.remove(waiter).unwrap_or_default() {
            if let Some(waiters) = self.waiters.get_mut(&reference) {
                waiters.remove(waiter);
                if waiters.is_empty() {
                    self.waiters.remove(&reference);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_left_is_not_woken() {
        let waiting = Waiting::new();
        let agent = Reference::agent("ns", "a");
        waiting.enter(&"one", [agent.clone(), Reference::config_map("ns", "c")]);
        waiting.enter(&"two", [agent.clone()]);
        waiting.leave(&"one");
        assert_eq!(waiting.of(&agent), ["two"]);
        assert!(waiting.of(&Reference::config_map("ns", "c")).is_empty());
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let waiting = Waiting::new();
        waiting.enter(&"one", [Reference::agent("ns", "a")]);
        waiting.leave(&"one");
        let both = lock(&waiting.0);
        assert!(both.waiters.is_empty() && both.references.is_empty());
    }
}
