//! What happened, line by line, with the virtual time; and a digest of all of it, by which two runs are compared.

use std::{
    collections::VecDeque,
    fmt::Display,
    hash::{DefaultHasher, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::time::Time;

/// Lines that are kept.
const KEPT: usize = 100_000;

/// The trace of one run. Clones write to the same one.
#[derive(Clone)]
pub struct Trace {
    time: Time,
    lines: Arc<Mutex<Lines>>,
}

struct Lines {
    kept: VecDeque<String>,
    count: u64,
    digest: DefaultHasher,
}

impl Trace {
    /// An empty one.
    #[must_use]
    pub fn new(time: Time) -> Self {
        let lines = Lines {
            kept: VecDeque::new(),
            count: 0,
            digest: DefaultHasher::new(),
        };
        Self {
            time,
            lines: Arc::new(Mutex::new(lines)),
        }
    }

    /// The time that it is told in.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody did something.
    pub fn say(&self, who: &str, what: impl Display) {
        let seconds = self.time.elapsed().as_secs_f64();
        let line = format!("{seconds:>10.3} {who:<12} {what}");
        let mut lines = self.lock();
        lines.digest.write(line.as_bytes());
        lines.digest.write(b"\n");
        lines.count += 1;
        lines.kept.push_back(line);
        if lines.kept.len() > KEPT {
            lines.kept.pop_front();
        }
    }

    /// The last lines.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lock();
        let skipped = lines.kept.len().saturating_sub(count);
        lines.kept.iter().skip(skipped).cloned().collect()
    }

    /// How many lines there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// 16 hexadecimal digits that stand for all lines.
    #[must_use]
    pub fn digest(&self) -> String {
        format!("{:016x}", self.lock().digest.finish())
    }
}
