//! A watcher: a place in the sequence of revisions, and nothing that grows.
//!
//! It keeps no queue. It takes the next changes from the window in memory, or, where it lags behind
//! that, from the database; a watcher that lags behind compaction gets [`StoreError::Compacted`].

use std::sync::Arc;

use tokio::sync::watch;

use super::state::{Shared, Window};
use super::{Change, Store, StoreError};

/// Changes taken at once; bounds what a slow reader holds in memory.
const STEP: usize = 256;

/// Reads the changes below one prefix, each once and in order.
pub struct Watcher {
    store: Store,
    prefix: String,
    cursor: u64,
    news: watch::Receiver<u64>,
}

impl Watcher {
    pub(super) fn new(store: Store, prefix: String, revision: u64) -> Result<Self, StoreError> {
        let oldest = store.shared().watchable();
        if revision < oldest {
            return Err(StoreError::Compacted {
                asked: revision,
                oldest: store.oldest(),
            });
        }
        Ok(Self {
            news: store.subscribe(),
            store,
            prefix,
            cursor: revision,
        })
    }

    /// The revision up to which everything was delivered.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.cursor
    }

    /// The next changes, at least one; waits for them. Safe to drop while it waits.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the watcher lags behind what is kept,
    /// [`StoreError::Closed`] when the store was closed.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, StoreError> {
        loop {
            let changes = self.ready().await?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if Shared::is_closed(&self.news) {
                return Err(StoreError::Closed);
            }
            self.news.changed().await.map_err(|_| StoreError::Closed)?;
        }
    }

    /// The changes that are there already, possibly none.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn ready(&mut self) -> Result<Vec<Arc<Change>>, StoreError> {
        loop {
            self.news.borrow_and_update();
            match self.store.shared().after(self.cursor, &self.prefix, STEP) {
                Window::Changes(changes, upto) => {
                    self.cursor = upto;
                    return Ok(changes);
                }
                Window::Compacted(oldest) => {
                    return Err(StoreError::Compacted {
                        asked: self.cursor,
                        oldest,
                    });
                }
                Window::Behind(upto) => {
                    let changes = self
                        .store
                        .changes_from_database(&self.prefix, self.cursor, upto, STEP)
                        .await?;
                    self.cursor = match changes.last() {
                        Some(last) if changes.len() == STEP => last.object.revision,
                        _ => upto,
                    };
                    if !changes.is_empty() {
                        return Ok(changes);
                    }
                }
            }
        }
    }
}
