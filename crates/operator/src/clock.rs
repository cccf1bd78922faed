//! Time and randomness as the operator takes them: from outside, so that a simulation can drive both.

use std::sync::Arc;

use jiff::Timestamp;

/// Says what time it is. What the operator waits for runs on tokio's timers; this is what it writes down and compares.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Gives 128 random bits; used to spread retries.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// The clock of the machine.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// The random numbers of the machine.
#[must_use]
pub fn system_entropy() -> Entropy {
    Arc::new(|| uuid::Uuid::new_v4().as_u128())
}
