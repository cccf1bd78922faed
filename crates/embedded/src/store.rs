//! The store: every object's revisions in one `SQLite` table, with the current state kept in memory.
//!
//! One writer owns the database. For a file it is a thread: it takes what has queued up, commits it as
//! one transaction and only then publishes and answers, so that many writers share one commit. In
//! memory there is no disk to wait for: a request is performed where it is made, and a store starts no
//! thread. Reads of the current state come from memory and wait for nobody. A resource version is the number of a row, so it is
//! unique and rises over all objects; a deletion has one of its own.
//!
//! Keys are `group/plural/namespace/name`; the store knows nothing else of Kubernetes, but that it
//! writes `metadata.resourceVersion`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::{oneshot, watch};

mod object;
mod sql;
mod state;
mod watcher;
mod writer;

pub use object::{Change, Revised};
pub use watcher::Watcher;

use state::Shared;
use writer::{Request, Writer};

/// Where the revisions are kept.
#[derive(Clone, Debug)]
pub enum Location {
    /// In memory; gone with the store.
    Memory,
    /// A database file; made if absent.
    File(PathBuf),
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// At least this many revisions behind the current one can be watched and listed.
    pub revisions: u64,
    /// Changes kept in memory for watchers; those behind it read from the database.
    pub window: usize,
    /// The same in bytes of JSON.
    pub window_bytes: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            revisions: 20_000,
            window: 2_048,
            window_bytes: 32 << 20,
        }
    }
}

/// What must hold of a key at the moment of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No object is there.
    Absent,
    /// The object is at this revision.
    Revision(u64),
}

/// One conditional write.
#[derive(Debug)]
pub enum Write {
    /// Store a value.
    Put {
        /// Where.
        key: String,
        /// Condition.
        expect: Expect,
        /// The object; its `metadata.resourceVersion` is set by the store.
        value: Value,
    },
    /// Remove the object that is at `revision`.
    Delete {
        /// Where.
        key: String,
        /// Its current revision.
        revision: u64,
    },
}

/// Why the store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The condition of a write did not hold; with what is there instead.
    #[error("the object has another revision")]
    Conflict(Option<Arc<Revised>>),
    /// The revision was compacted away.
    #[error("revision {asked} is compacted, the oldest is {oldest}")]
    Compacted {
        /// The revision that was asked for.
        asked: u64,
        /// The oldest that can be read.
        oldest: u64,
    },
    /// The database failed.
    #[error("database: {0}")]
    Database(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// A handle on the store; clones share it. The database closes when [`Store::close`] returns or the
/// last handle is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    driver: Driver,
}

/// Who makes the writer work.
enum Driver {
    /// Whoever has a request; `None` once the store is closed.
    InPlace(Mutex<Option<Writer>>),
    /// A thread of its own.
    Thread {
        requests: mpsc::Sender<Request>,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
}

impl Driver {
    fn send(&self, request: Request) -> Result<(), StoreError> {
        match self {
            Self::InPlace(writer) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let open = writer.as_ref().ok_or(StoreError::Closed)?;
                if !open.perform_all(request, || None) {
                    *writer = None;
                }
                Ok(())
            }
            Self::Thread { requests, .. } => requests.send(request).map_err(|_| StoreError::Closed),
        }
    }

    /// Ends the writer; gives back the thread that has to be waited for.
    fn close(&self) -> Option<JoinHandle<()>> {
        // One that is closed already refuses.
        let _ = self.send(Request::Close);
        match self {
            Self::InPlace(_) => None,
            Self::Thread { thread, .. } => take(thread),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(thread) = self.driver.close() {
            let _ = thread.join();
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Store {
    /// Opens the database and reads the current state.
    ///
    /// # Errors
    /// The file cannot be opened or is no database of ours.
    pub fn open(location: &Location, retention: Retention) -> Result<Self, StoreError> {
        let database = sql::Database::open(match location {
            Location::Memory => None,
            Location::File(path) => Some(Path::new(path)),
        })?;
        let shared = Arc::new(Shared::load(&database, retention)?);
        let writer = Writer::new(database, shared.clone(), retention);
        let driver = match location {
            Location::Memory => Driver::InPlace(Mutex::new(Some(writer))),
            Location::File(_) => {
                let (requests, queue) = mpsc::channel();
                let thread = std::thread::Builder::new()
                    .name("store".into())
                    .spawn(move || writer.run(&queue))
                    .map_err(|error| StoreError::Database(error.to_string()))?;
                Driver::Thread {
                    requests,
                    thread: Mutex::new(Some(thread)),
                }
            }
        };
        Ok(Self {
            inner: Arc::new(Inner { shared, driver }),
        })
    }

    /// The newest revision; 0 in an empty store.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.inner.shared.revision()
    }

    /// The oldest revision that can be listed; watches may begin earlier, while memory has the changes.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.inner.shared.oldest()
    }

    /// The object now at `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Revised>> {
        self.inner.shared.get(key)
    }

    /// All objects whose key begins with `prefix`, in the order of keys, and the revision at which
    /// that is the state.
    #[must_use]
    pub fn list(&self, prefix: &str) -> (Vec<Arc<Revised>>, u64) {
        self.inner.shared.list(prefix)
    }

    /// As [`Store::list`], at an earlier revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when that revision is no longer kept.
    pub async fn list_at(
        &self,
        prefix: &str,
        revision: u64,
    ) -> Result<Vec<Arc<Revised>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::ListAt {
            prefix: prefix.to_owned(),
            revision,
            reply,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Performs one write and waits until it is committed.
    ///
    /// For a deletion the answer is the last state, with the revision of the deletion.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the condition did not hold.
    pub async fn write(&self, write: Write) -> Result<Arc<Revised>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Write { write, reply })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Changes below `prefix` after `revision`, in order.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when `revision` is no longer kept.
    pub fn watch(&self, prefix: &str, revision: u64) -> Result<Watcher, StoreError> {
        Watcher::new(self.clone(), prefix.to_owned(), revision)
    }

    /// Forgets superseded revisions up to `revision` (at most the current one).
    ///
    /// # Errors
    /// The database failed.
    pub async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Compact { revision, reply })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Ends the writer and closes the database; later writes fail, watchers end.
    pub async fn close(&self) {
        if let Some(thread) = self.inner.driver.close() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        self.inner.driver.send(request)
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.shared.subscribe()
    }

    async fn changes_from_database(
        &self,
        prefix: &str,
        after: u64,
        upto: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Changes {
            prefix: prefix.to_owned(),
            after,
            upto,
            limit,
            reply,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
