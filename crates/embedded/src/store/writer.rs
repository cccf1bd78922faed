//! The writer: takes what has queued up, commits it in one transaction, publishes, answers.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::object::stamp;
use super::sql::{Database, NewRow};
use super::state::Shared;
use super::{Change, Expect, Retention, Revised, StoreError, Write};

/// Writes that share one commit; more would only make the first of them wait.
const BATCH: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Request {
    Write {
        write: Write,
        reply: Reply<Arc<Revised>>,
    },
    ListAt {
        prefix: String,
        revision: u64,
        reply: Reply<Vec<Arc<Revised>>>,
    },
    Changes {
        prefix: String,
        after: u64,
        upto: u64,
        limit: usize,
        reply: Reply<Vec<Arc<Change>>>,
    },
    Compact {
        revision: u64,
        reply: Reply<()>,
    },
    Close,
}

pub(super) struct Writer {
    database: Database,
    shared: Arc<Shared>,
    retention: Retention,
}

/// A batch under construction: what its writes have changed, before anybody else sees it.
struct Batch {
    revision: u64,
    changes: Vec<Arc<Change>>,
    pending: HashMap<String, Option<Arc<Revised>>>,
    replies: Vec<(Reply<Arc<Revised>>, Arc<Revised>)>,
}

impl Writer {
    pub(super) fn new(database: Database, shared: Arc<Shared>, retention: Retention) -> Self {
        Self {
            database,
            shared,
            retention,
        }
    }

    /// Performs what comes in until it is told to end, or nobody is left who could send anything.
    pub(super) fn run(self, queue: &mpsc::Receiver<Request>) {
        while let Ok(request) = queue.recv() {
            if !self.perform_all(request, || queue.try_recv().ok()) {
                return;
            }
        }
        self.shared.close();
    }

    /// Performs a request, and those that `more` has after it; false when it was told to end.
    pub(super) fn perform_all(
        &self,
        request: Request,
        mut more: impl FnMut() -> Option<Request>,
    ) -> bool {
        let mut next = Some(request);
        while let Some(request) = next.take() {
            match request {
                Request::Write { write, reply } => next = self.batch(write, reply, &mut more),
                Request::ListAt {
                    prefix,
                    revision,
                    reply,
                } => {
                    let _ = reply.send(self.list_at(&prefix, revision));
                }
                Request::Changes {
                    prefix,
                    after,
                    upto,
                    limit,
                    reply,
                } => {
                    let _ = reply.send(self.changes(&prefix, after, upto, limit));
                }
                Request::Compact { revision, reply } => {
                    let _ = reply.send(self.compact(revision));
                }
                Request::Close => {
                    self.shared.close();
                    return false;
                }
            }
        }
        true
    }

    /// Commits `first` with the writes behind it; gives back the request that ended the batch.
    fn batch(
        &self,
        first: Write,
        reply: Reply<Arc<Revised>>,
        more: &mut impl FnMut() -> Option<Request>,
    ) -> Option<Request> {
        let mut batch = Batch {
            revision: self.shared.revision(),
            changes: Vec::new(),
            pending: HashMap::new(),
            replies: Vec::new(),
        };
        if let Err(error) = self.database.begin() {
            let _ = reply.send(Err(error));
            return None;
        }
        let mut leftover = None;
        let mut failed = self.add(&mut batch, first, reply).err();
        while failed.is_none() && batch.replies.len() < BATCH {
            match more() {
                Some(Request::Write { write, reply }) => {
                    failed = self.add(&mut batch, write, reply).err();
                }
                Some(other) => {
                    leftover = Some(other);
                    break;
                }
                None => break,
            }
        }
        let committed = match failed {
            Some(error) => Err(error),
            None => self.database.commit(),
        };
        match committed {
            Ok(()) => {
                self.shared.publish(batch.changes);
                for (reply, object) in batch.replies {
                    let _ = reply.send(Ok(object));
                }
                self.retain(batch.revision);
            }
            Err(error) => {
                self.database.rollback();
                for (reply, _) in batch.replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
        leftover
    }

    /// Checks the condition and appends the row. A failed condition is answered here and fails
    /// nothing else; an error of the database fails the whole batch.
    fn add(
        &self,
        batch: &mut Batch,
        write: Write,
        reply: Reply<Arc<Revised>>,
    ) -> Result<(), StoreError> {
        let (key, expected, value) = match write {
            Write::Put { key, expect, value } => (key, expect, Some(value)),
            Write::Delete { key, revision } => (key, Expect::Revision(revision), None),
        };
        let current = match batch.pending.get(&key) {
            Some(pending) => pending.clone(),
            None => self.shared.get(&key),
        };
        let holds = match (&current, expected) {
            (None, Expect::Absent) => true,
            (Some(object), Expect::Revision(revision)) => object.revision == revision,
            _ => false,
        };
        if !holds {
            let _ = reply.send(Err(StoreError::Conflict(current)));
            return Ok(());
        }
        let revision = batch.revision + 1;
        let deleted = value.is_none();
        let mut value = match (value, &current) {
            (Some(value), _) => value,
            (None, Some(object)) => object.value.clone(),
            (None, None) => serde_json::Value::Null,
        };
        stamp(&mut value, revision);
        let created = current.as_ref().map_or(revision, |object| object.created);
        let object = Arc::new(Revised::new(key, revision, created, value));
        let appended = self.database.append(&NewRow {
            key: &object.key,
            revision,
            created,
            previous: current.as_ref().map_or(0, |object| object.revision),
            deleted,
            json: object.json(),
        });
        batch.replies.push((reply, object.clone()));
        appended?;
        batch.revision = revision;
        batch
            .pending
            .insert(object.key.clone(), (!deleted).then(|| object.clone()));
        batch.changes.push(Arc::new(Change {
            object,
            previous: current,
            deleted,
        }));
        Ok(())
    }

    fn list_at(&self, prefix: &str, revision: u64) -> Result<Vec<Arc<Revised>>, StoreError> {
        self.kept(revision)?;
        self.database.state_at(prefix, revision)
    }

    fn changes(
        &self,
        prefix: &str,
        after: u64,
        upto: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change>>, StoreError> {
        self.kept(after)?;
        self.database.changes(prefix, after, upto, limit)
    }

    fn kept(&self, revision: u64) -> Result<(), StoreError> {
        let oldest = self.shared.oldest();
        if revision < oldest {
            return Err(StoreError::Compacted {
                asked: revision,
                oldest,
            });
        }
        Ok(())
    }

    fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let revision = revision.min(self.shared.revision());
        let from = self.shared.oldest();
        if revision <= from {
            return Ok(());
        }
        self.database.compact(from, revision)?;
        self.shared.compacted(revision);
        Ok(())
    }

    /// Compacts in steps of a tenth of what is kept, so that one step is short.
    fn retain(&self, revision: u64) {
        let keep = self.retention.revisions;
        let step = (keep / 10).max(1);
        if revision.saturating_sub(self.shared.oldest()) > keep + step
            && let Err(error) = self.compact(revision - keep)
        {
            tracing::warn!(%error, "compaction failed");
        }
    }
}
