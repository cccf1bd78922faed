//! What readers see: the current objects, and a window of the newest changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use super::sql::Database;
use super::{Change, Retention, Revised, StoreError};

/// Written by the writer alone, after each commit.
pub(super) struct Shared {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
    retention: Retention,
}

/// What the watchers' channel carries once the store is closed.
const CLOSED: u64 = u64::MAX;

struct State {
    objects: BTreeMap<String, Arc<Revised>>,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change with a higher revision than this one is in `changes`.
    window_after: u64,
    revision: u64,
    oldest: u64,
}

/// What the window has for a watcher.
pub(super) enum Window {
    /// Changes below its prefix, and the revision up to which it has now seen everything.
    Changes(Vec<Arc<Change>>, u64),
    /// It lags: everything up to this revision is in the database alone.
    Behind(u64),
    /// What it needs was compacted; with the oldest revision.
    Compacted(u64),
}

impl Shared {
    pub(super) fn load(database: &Database, retention: Retention) -> Result<Self, StoreError> {
        let revision = database.newest()?;
        let objects = database
            .state_at("", revision)?
            .into_iter()
            .map(|object| (object.key.clone(), object))
            .collect();
        Ok(Self {
            state: RwLock::new(State {
                objects,
                changes: VecDeque::new(),
                bytes: 0,
                window_after: revision,
                revision,
                oldest: database.compacted()?,
            }),
            revision: watch::Sender::new(revision),
            retention,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// The oldest revision that can be watched from: what the window has outlives compaction.
    pub(super) fn watchable(&self) -> u64 {
        let state = self.read();
        state.oldest.min(state.window_after)
    }

    pub(super) fn oldest(&self) -> u64 {
        self.read().oldest
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Revised>> {
        self.read().objects.get(key).cloned()
    }

    pub(super) fn list(&self, prefix: &str) -> (Vec<Arc<Revised>>, u64) {
        let state = self.read();
        let objects = state
            .objects
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, object)| object.clone())
            .collect();
        (objects, state.revision)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// At most `limit` changes after `cursor` below `prefix`.
    pub(super) fn after(&self, cursor: u64, prefix: &str, limit: usize) -> Window {
        let state = self.read();
        if cursor < state.window_after {
            return if cursor < state.oldest {
                Window::Compacted(state.oldest)
            } else {
                Window::Behind(state.window_after)
            };
        }
        let start = state
            .changes
            .partition_point(|change| change.object.revision <= cursor);
        let mut found = Vec::new();
        for change in state.changes.range(start..) {
            if change.object.key.starts_with(prefix) {
                found.push(change.clone());
                if found.len() == limit {
                    return Window::Changes(found, change.object.revision);
                }
            }
        }
        Window::Changes(found, state.revision.max(cursor))
    }

    /// Makes a committed batch visible and wakes the watchers.
    pub(super) fn publish(&self, batch: Vec<Arc<Change>>) {
        let Some(newest) = batch.last().map(|change| change.object.revision) else {
            return;
        };
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for change in batch {
                if change.deleted {
                    state.objects.remove(&change.object.key);
                } else {
                    let object = change.object.clone();
                    state.objects.insert(object.key.clone(), object);
                }
                state.bytes += change.object.json().len();
                state.changes.push_back(change);
            }
            while state.changes.len() > self.retention.window
                || state.bytes > self.retention.window_bytes
            {
                state.forget_oldest();
            }
            state.revision = newest;
        }
        self.revision.send_replace(newest);
    }

    pub(super) fn compacted(&self, revision: u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.oldest = state.oldest.max(revision);
    }

    /// Ends all watchers.
    pub(super) fn close(&self) {
        self.revision.send_replace(CLOSED);
    }

    pub(super) fn is_closed(news: &watch::Receiver<u64>) -> bool {
        *news.borrow() == CLOSED
    }
}

impl State {
    fn forget_oldest(&mut self) {
        if let Some(change) = self.changes.pop_front() {
            self.bytes -= change.object.json().len();
            self.window_after = self.window_after.max(change.object.revision);
        }
    }
}
