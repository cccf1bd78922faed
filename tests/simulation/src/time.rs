//! Virtual time. It goes on when everybody waits, and every run begins at the same moment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// When every run begins: the first second of 2026.
const BEGINNING: i64 = 1_767_225_600;

/// The time of one run.
#[derive(Clone, Copy)]
pub struct Time(Instant);

impl Time {
    /// Begins now, on a runtime whose clock is paused.
    #[must_use]
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// How long the run has gone on.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// What the clock of the API server shows.
    #[must_use]
    pub fn now(self) -> Timestamp {
        let beginning = Timestamp::from_second(BEGINNING).unwrap_or_default();
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or_default();
        beginning.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// A clock that is wrong by some seconds.
#[derive(Clone)]
pub struct SkewedClock {
    time: Time,
    offset: Arc<AtomicI64>,
}

impl SkewedClock {
    /// A clock that is right.
    #[must_use]
    pub fn new(time: Time) -> Self {
        Self {
            time,
            offset: Arc::default(),
        }
    }

    /// From now on it is wrong by this many seconds.
    pub fn jump(&self, seconds: i64) {
        self.offset.store(seconds, Ordering::Relaxed);
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_secs(self.offset.load(Ordering::Relaxed));
        let now = self.time.now();
        now.saturating_add(offset).unwrap_or(now)
    }
}

/// Since when something has been so, without a break.
#[derive(Debug, Default)]
pub struct Since(BTreeMap<(String, &'static str), Duration>);

impl Since {
    /// How long it has been so.
    pub fn lasts(
        &mut self,
        (name, what): (&str, &'static str),
        is_so: bool,
        now: Duration,
    ) -> Duration {
        let key = (name.to_owned(), what);
        if is_so {
            now.saturating_sub(*self.0.entry(key).or_insert(now))
        } else {
            self.0.remove(&key);
            Duration::ZERO
        }
    }
}
