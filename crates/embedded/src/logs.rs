//! What containers print: kept on disk for as long as their Pod exists, and read back by the
//! `log` subresource of Pods.
//!
//! In: the two output pipes of a container ([`LogWriter::copy`]). Out: a stream of the bytes that
//! were written, unchanged, with the choices of `kubectl logs` ([`LogStore::read`]). Nothing here
//! waits by polling: a following reader sleeps until the writer has written or ended.
//! One file per container and attempt, `<directory>/<pod uid>/<container>/<attempt>.log`, in the
//! form that [`record`] describes.

mod read;
pub mod record;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use self::record::Source;

/// What to read of a log; the default is everything there is now.
/// The names are those of Kubernetes' `PodLogOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written later, until the container ends.
    pub follow: bool,
    /// The log of the attempt before the last one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only what was written at this time or later.
    pub since_time: Option<Timestamp>,
    /// Only what was written at most so many seconds ago.
    pub since_seconds: Option<u32>,
    /// At most so many bytes; cuts inside a line.
    pub limit_bytes: Option<u64>,
    /// Each line begins with its time.
    pub timestamps: bool,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The container has not been started (or its Pod is gone).
    #[error("no log of container {container:?} in pod {pod_uid}")]
    NotFound {
        /// The Pod's uid.
        pod_uid: String,
        /// The container's name.
        container: String,
    },
    /// The disk refused.
    #[error("reading the log of container {container:?}")]
    Io {
        /// The container's name.
        container: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// How far a log has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Counts the writes, so that a reader sees that there was one.
    writes: u64,
    /// No more will come.
    ended: bool,
}

/// Logs that are being written now, by Pod uid and container.
type Live = HashMap<(String, String), (u32, watch::Receiver<Progress>)>;

/// All logs of a node. Cheap to clone; clones share the same logs.
#[derive(Clone, Debug)]
pub struct LogStore {
    directory: PathBuf,
    live: Arc<Mutex<Live>>,
}

impl LogStore {
    /// The logs in `directory`, which is made if it does not exist (mode 0700).
    /// Logs of an earlier process can be read, and are complete as they are.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        make_private_directory(&directory)?;
        Ok(Self {
            directory,
            live: Arc::default(),
        })
    }

    /// Begins the log of one attempt of a container. `attempt` counts from 0, as `restartCount`.
    pub async fn create(
        &self,
        pod_uid: &str,
        container: &str,
        attempt: u32,
    ) -> Result<LogWriter, LogError> {
        let failed = |source| LogError::Io {
            container: container.to_owned(),
            source,
        };
        let directory = self.container_directory(pod_uid, container)?;
        make_private_directory(&directory).map_err(failed)?;
        let file = tokio::fs::File::create(directory.join(format!("{attempt}.log")))
            .await
            .map_err(failed)?;
        let (progress, receiver) = watch::channel(Progress::default());
        let key = (pod_uid.to_owned(), container.to_owned());
        self.live().insert(key.clone(), (attempt, receiver));
        Ok(LogWriter {
            file,
            progress,
            key,
            attempt,
            store: self.clone(),
        })
    }

    /// The bytes that the container wrote, both streams in the order in which they came.
    ///
    /// The stream ends at what is written now or, with [`LogOptions::follow`], when the container
    /// has ended. It holds one block of the file in memory, whatever the size of the log.
    pub async fn read(
        &self,
        pod_uid: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, LogError> {
        let missing = || LogError::NotFound {
            pod_uid: pod_uid.to_owned(),
            container: container.to_owned(),
        };
        let directory = self.container_directory(pod_uid, container)?;
        let live = self
            .live()
            .get(&(pod_uid.to_owned(), container.to_owned()))
            .cloned();
        let latest = last_attempt(&directory).ok_or_else(missing)?;
        let attempt = match (options.previous, latest) {
            (false, latest) => latest,
            (true, 0) => return Err(missing()),
            (true, latest) => latest - 1,
        };
        let progress = live
            .filter(|(writing, _)| *writing == attempt && options.follow)
            .map(|(_, progress)| progress);
        read::open(
            &directory.join(format!("{attempt}.log")),
            &options,
            progress,
        )
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => LogError::Io {
                container: container.to_owned(),
                source,
            },
        })
    }

    /// The last `lines` lines, at most `bytes` bytes of them, for a termination message that
    /// falls back to the log. Empty when there is no log.
    pub async fn tail(&self, pod_uid: &str, container: &str, lines: u64, bytes: usize) -> Vec<u8> {
        use futures::StreamExt as _;
        let options = LogOptions {
            tail_lines: Some(lines),
            ..LogOptions::default()
        };
        let mut tail = Vec::new();
        if let Ok(stream) = self.read(pod_uid, container, options).await {
            let mut stream = std::pin::pin!(stream);
            while let Some(Ok(piece)) = stream.next().await {
                tail.extend_from_slice(&piece);
                let excess = tail.len().saturating_sub(bytes);
                tail.drain(..excess);
            }
        }
        tail
    }

    /// Removes every log of a Pod. Readers that are at it read on to the end.
    pub fn remove(&self, pod_uid: &str) -> io::Result<()> {
        if !is_plain_name(pod_uid) {
            return Ok(());
        }
        match std::fs::remove_dir_all(self.directory.join(pod_uid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The uids of the Pods that have logs.
    pub fn pod_uids(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Where a container's attempts are; names that could leave the directory have none.
    fn container_directory(&self, pod_uid: &str, container: &str) -> Result<PathBuf, LogError> {
        if is_plain_name(pod_uid) && is_plain_name(container) {
            Ok(self.directory.join(pod_uid).join(container))
        } else {
            Err(LogError::NotFound {
                pod_uid: pod_uid.to_owned(),
                container: container.to_owned(),
            })
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one attempt of a container. The log counts as ended when this is dropped.
#[derive(Debug)]
pub struct LogWriter {
    file: tokio::fs::File,
    progress: watch::Sender<Progress>,
    key: (String, String),
    attempt: u32,
    store: LogStore,
}

impl LogWriter {
    /// Copies both outputs until both have ended. A disk that refuses loses output, never blocks
    /// the program: the pipes are drained all the same.
    pub async fn copy(
        mut self,
        mut stdout: impl AsyncRead + Unpin,
        mut stderr: impl AsyncRead + Unpin,
        now: impl Fn() -> Timestamp,
    ) {
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            let (source, bytes) = tokio::select! {
                read = stdout.read(&mut out), if out_open => {
                    let read = read.unwrap_or(0);
                    out_open = read > 0;
                    (Source::Stdout, &out[..read])
                }
                read = stderr.read(&mut err), if err_open => {
                    let read = read.unwrap_or(0);
                    err_open = read > 0;
                    (Source::Stderr, &err[..read])
                }
            };
            if let Err(error) = self.append(now(), source, bytes).await {
                tracing::error!(%error, container = self.key.1, "cannot write a container's log");
            }
        }
    }

    /// Appends what `source` wrote at `time`, and wakes the readers that follow.
    pub async fn append(
        &mut self,
        time: Timestamp,
        source: Source,
        bytes: &[u8],
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut records = Vec::with_capacity(bytes.len() + 64);
        record::encode(time, source, bytes, &mut records);
        self.file.write_all(&records).await?;
        self.file.flush().await?;
        self.progress.send_modify(|progress| progress.writes += 1);
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.progress.send_modify(|progress| progress.ended = true);
        let mut live = self.store.live();
        if live
            .get(&self.key)
            .is_some_and(|(attempt, _)| *attempt == self.attempt)
        {
            live.remove(&self.key);
        }
    }
}

/// The highest attempt that has a log in the directory of a container.
fn last_attempt(directory: &Path) -> Option<u32> {
    std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(".log")?.parse().ok()
        })
        .max()
}

/// One component of a path that stays where it is put.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Makes a directory that only this user can enter, and what is missing above it.
fn make_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
