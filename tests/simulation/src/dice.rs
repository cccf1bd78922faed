//! Every draw of a run, from its seed.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A stream of draws. Clones draw from the same one.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<fastrand::Rng>>);

impl Dice {
    /// The draws of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A stream of its own, so that the draws of one part do not depend on how many another part makes.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.with(|rng| rng.u64(..)))
    }

    /// True in that many of a thousand cases.
    #[must_use]
    pub fn chance(&self, in_thousand: u32) -> bool {
        self.with(|rng| rng.u32(..1000) < in_thousand)
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.with(|rng| rng.usize(..of.len()))]
    }

    /// A number in this range.
    #[must_use]
    pub fn number(&self, range: Range<u64>) -> u64 {
        self.with(|rng| rng.u64(range))
    }

    /// A time between these numbers of milliseconds, each order of magnitude as likely as another.
    #[must_use]
    pub fn millis(&self, range: Range<u64>) -> Duration {
        let steps = (range.end / range.start.max(1)).max(2).ilog2();
        let scale = range.start.max(1) << self.with(|rng| rng.u32(..=steps));
        let wait = self.with(|rng| rng.u64(scale / 2..=scale));
        Duration::from_millis(wait.clamp(range.start, range.end - 1))
    }

    /// A time between these numbers of seconds, as [`Dice::millis`].
    #[must_use]
    pub fn seconds(&self, range: Range<u64>) -> Duration {
        self.millis(range.start * 1000..range.end * 1000)
    }

    /// 128 bits.
    #[must_use]
    pub fn bits(&self) -> u128 {
        self.with(|rng| rng.u128(..))
    }
}
