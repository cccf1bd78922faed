//! Reading a log file back: where to begin, what to leave out, and waiting for more.

use std::io::{self, SeekFrom};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use jiff::{SignedDuration, Timestamp};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use super::record::{MAX_RECORD, Record};
use super::{LogOptions, Progress};

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// The bytes of the log at `path`. With `progress`, waits for what is still to be written.
pub(super) async fn open(
    path: &Path,
    options: &LogOptions,
    progress: Option<watch::Receiver<Progress>>,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail_lines {
        let start = start_of_tail(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let recent = options
        .since_seconds
        .map(|seconds| Timestamp::now() - SignedDuration::from_secs(i64::from(seconds)));
    let reader = Reader {
        file,
        progress,
        unread: BytesMut::new(),
        render: Render {
            since: recent.max(options.since_time),
            timestamps: options.timestamps,
            remaining: options.limit_bytes,
            in_line: false,
        },
    };
    Ok(futures::stream::try_unfold(
        reader,
        |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) },
    ))
}

/// The position of a reader in the file.
struct Reader {
    file: File,
    progress: Option<watch::Receiver<Progress>>,
    /// The beginning of a record whose end was not read yet; never longer than a block.
    unread: BytesMut,
    render: Render,
}

impl Reader {
    /// The next bytes of output; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.render.remaining == Some(0) {
                return Ok(None);
            }
            // Looked at before the file: what is written after this look is seen as a change.
            let ended = match &mut self.progress {
                Some(progress) => progress.borrow_and_update().ended,
                None => true,
            };
            self.unread.reserve(BLOCK);
            if self.file.read_buf(&mut self.unread).await? == 0 {
                if ended {
                    return Ok(None);
                }
                if let Some(progress) = &mut self.progress {
                    // An error says that the writer is gone: one more look, and then the end.
                    if progress.changed().await.is_err() {
                        self.progress = None;
                    }
                }
                continue;
            }
            let Some(last) = last_newline(&self.unread) else {
                if self.unread.len() > MAX_RECORD {
                    self.unread.clear();
                }
                continue;
            };
            let records = self.unread.split_to(last + 1);
            let output = self.render.render(&records);
            if !output.is_empty() {
                return Ok(Some(output));
            }
        }
    }
}

/// Turns records into what the reader asked for.
struct Render {
    since: Option<Timestamp>,
    timestamps: bool,
    /// How many bytes may still be given out.
    remaining: Option<u64>,
    /// The last record, of whichever stream, did not end its line: what follows stands in the same one.
    in_line: bool,
}

impl Render {
    fn render(&mut self, records: &[u8]) -> Bytes {
        let mut output = BytesMut::with_capacity(records.len());
        for line in records.split(|byte| *byte == b'\n') {
            if let Some(record) = Record::parse(line) {
                self.one(&record, &mut output);
            }
        }
        if let Some(remaining) = &mut self.remaining {
            output.truncate(usize::try_from(*remaining).unwrap_or(usize::MAX));
            *remaining -= output.len() as u64;
        }
        output.freeze()
    }

    fn one(&mut self, record: &Record<'_>, output: &mut BytesMut) {
        let begins = !std::mem::replace(&mut self.in_line, !record.full);
        if self.since.is_some() && record.timestamp() < self.since {
            return;
        }
        if self.timestamps && begins {
            output.extend_from_slice(record.time);
            output.extend_from_slice(b" ");
        }
        output.extend_from_slice(record.content);
        if record.full {
            output.extend_from_slice(b"\n");
        }
    }
}

/// Where the last `lines` lines begin. Reads backwards, block by block.
async fn start_of_tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0)).await?;
    let mut walk = Backwards {
        wanted: lines,
        found: 0,
        start: None,
        tail: Vec::new(),
        tail_at: end,
    };
    while end > 0 && walk.start.is_none() {
        let length = end.min(BLOCK as u64);
        end -= length;
        file.seek(SeekFrom::Start(end)).await?;
        let mut block = vec![0; usize::try_from(length).unwrap_or(BLOCK)];
        file.read_exact(&mut block).await?;
        walk.block(end, block);
    }
    walk.finish();
    Ok(walk.start.unwrap_or(0))
}

/// Counts lines from the end of the file.
struct Backwards {
    wanted: u64,
    /// Lines seen so far; the last may be one that has no newline yet.
    found: u64,
    /// Where the tail begins, once known.
    start: Option<u64>,
    /// The front of a later block, whose record began in an earlier one.
    tail: Vec<u8>,
    tail_at: u64,
}

impl Backwards {
    /// Takes the block at `at`, which ends where the one before began.
    fn block(&mut self, at: u64, mut block: Vec<u8>) {
        block.append(&mut self.tail);
        let mut end = block.len();
        while let Some(newline) = last_newline(&block[..end.saturating_sub(1)]) {
            // What follows the last newline of the file is no complete record (yet).
            if block[end - 1] == b'\n' {
                self.record(&block[newline + 1..end - 1], at + end as u64);
                if self.start.is_some() {
                    return;
                }
            }
            end = newline + 1;
        }
        block.truncate(end);
        self.tail = block;
        self.tail_at = at;
    }

    /// Takes the record that is left when the beginning of the file is reached.
    fn finish(&mut self) {
        if self.start.is_none() && self.tail.last() == Some(&b'\n') {
            let record = std::mem::take(&mut self.tail);
            self.record(
                &record[..record.len() - 1],
                self.tail_at + record.len() as u64,
            );
        }
    }

    /// Takes a record that ends at `end`, its newline included.
    fn record(&mut self, line: &[u8], end: u64) {
        let full = Record::parse(line).is_some_and(|record| record.full);
        // The last line of the file counts also when it has no newline yet.
        if full || self.found == 0 {
            if self.found == self.wanted {
                self.start = Some(end);
                return;
            }
            self.found += 1;
        }
    }
}

fn last_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|byte| *byte == b'\n')
}
