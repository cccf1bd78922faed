//! The database: schema and statements. Nothing here knows of threads or watchers.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Change, Revised, StoreError};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS revisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,
    prev INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS revisions_by_key ON revisions (key, id);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Marks the file as ours; a database with another number is left alone.
const APPLICATION_ID: i32 = 0x6b6f_6331;

pub(super) struct Database {
    connection: Connection,
}

/// A row to be appended.
pub(super) struct NewRow<'a> {
    pub(super) key: &'a str,
    pub(super) revision: u64,
    pub(super) created: u64,
    pub(super) previous: u64,
    pub(super) deleted: bool,
    pub(super) json: &'a [u8],
}

impl Database {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let connection = match path {
            Some(path) => {
                make_private(path)?;
                Connection::open(path)?
            }
            None => Connection::open_in_memory()?,
        };
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let mark: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if mark != APPLICATION_ID && tables > 0 {
            return Err(StoreError::Database(
                "the file is a database of another program".into(),
            ));
        }
        // One process owns the file, so the write-ahead log needs no shared-memory index;
        // NORMAL survives the death of the process at any moment.
        connection.execute_batch(&format!(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; \
             PRAGMA application_id={APPLICATION_ID}; {SCHEMA}"
        ))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection })
    }

    pub(super) fn begin(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    pub(super) fn rollback(&self) {
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    pub(super) fn append(&self, row: &NewRow<'_>) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO revisions (id, key, created, prev, deleted, value) VALUES (?,?,?,?,?,?)",
            )?
            .execute(params![
                signed(row.revision),
                row.key,
                signed(row.created),
                signed(row.previous),
                row.deleted,
                row.json
            ])?;
        Ok(())
    }

    /// The newest revision ever given out, also when its row was compacted.
    pub(super) fn newest(&self) -> Result<u64, StoreError> {
        let id: Option<i64> = self
            .connection
            .query_row(
                "SELECT seq FROM sqlite_sequence WHERE name = 'revisions'",
                [],
                |row| row.get(0),
            )
            .optional()?;
        Ok(unsigned(id.unwrap_or(0)))
    }

    pub(super) fn compacted(&self) -> Result<u64, StoreError> {
        let value: Option<i64> = self
            .connection
            .query_row(
                "SELECT value FROM facts WHERE name = 'compacted'",
                [],
                |row| row.get(0),
            )
            .optional()?;
        Ok(unsigned(value.unwrap_or(0)))
    }

    /// The state at `revision` below `prefix`, in the order of keys.
    pub(super) fn state_at(
        &self,
        prefix: &str,
        revision: u64,
    ) -> Result<Vec<Arc<Revised>>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT r.id, r.key, r.created, r.value FROM revisions r
             WHERE r.key >= ?1 AND r.key < ?2 AND r.id <= ?3 AND r.deleted = 0
               AND NOT EXISTS (SELECT 1 FROM revisions n
                               WHERE n.key = r.key AND n.id > r.id AND n.id <= ?3)
             ORDER BY r.key",
        )?;
        let rows = statement
            .query_and_then(params![prefix, end_of(prefix), signed(revision)], |row| {
                read(row, 0)
            })?;
        rows.map(|row| Ok(Arc::new(row?))).collect()
    }

    /// At most `limit` changes below `prefix` with `after < revision <= upto`.
    pub(super) fn changes(
        &self,
        prefix: &str,
        after: u64,
        upto: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change>>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT r.id, r.key, r.created, r.value, r.deleted,
                    p.id, p.key, p.created, p.value
             FROM revisions r LEFT JOIN revisions p ON p.id = r.prev AND p.deleted = 0
             WHERE r.id > ?1 AND r.id <= ?2 AND r.key >= ?3 AND r.key < ?4
             ORDER BY r.id LIMIT ?5",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_and_then(
            params![signed(after), signed(upto), prefix, end_of(prefix), limit],
            |row| -> Result<Arc<Change>, StoreError> {
                let previous = match row.get::<_, Option<i64>>(5)? {
                    Some(_) => Some(Arc::new(read(row, 5)?)),
                    None => None,
                };
                Ok(Arc::new(Change {
                    object: Arc::new(read(row, 0)?),
                    deleted: row.get(4)?,
                    previous,
                }))
            },
        )?;
        rows.collect()
    }

    /// Removes what no state at or after `revision` needs.
    pub(super) fn compact(&self, from: u64, revision: u64) -> Result<(), StoreError> {
        self.begin()?;
        let done = (|| -> Result<(), StoreError> {
            self.connection
                .prepare_cached(
                    "DELETE FROM revisions WHERE id IN
                     (SELECT prev FROM revisions WHERE id > ?1 AND id <= ?2 AND prev != 0)",
                )?
                .execute(params![signed(from), signed(revision)])?;
            self.connection
                .prepare_cached("DELETE FROM revisions WHERE deleted = 1 AND id > ?1 AND id <= ?2")?
                .execute(params![signed(from), signed(revision)])?;
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO facts (name, value) VALUES ('compacted', ?)",
                )?
                .execute(params![signed(revision)])?;
            self.commit()
        })();
        if done.is_err() {
            self.rollback();
        }
        done
    }
}

/// Makes the file before `SQLite` does, which would let everybody read it. Its log files get the same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
        .map_err(|error| StoreError::Database(format!("{}: {error}", path.display())))
}

fn read(row: &Row<'_>, at: usize) -> Result<Revised, StoreError> {
    let bytes = row
        .get_ref(at + 3)?
        .as_blob()
        .map_err(|error| StoreError::Database(error.to_string()))?;
    let value =
        serde_json::from_slice(bytes).map_err(|error| StoreError::Database(error.to_string()))?;
    Ok(Revised::new(
        row.get(at + 1)?,
        unsigned(row.get(at)?),
        unsigned(row.get(at + 2)?),
        value,
    ))
}

/// The first text behind every text that begins with `prefix`. Keys hold no character above `~`.
fn end_of(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn unsigned(id: i64) -> u64 {
    u64::try_from(id).unwrap_or(0)
}
