//! Time and randomness as the embedded cluster takes them: from outside, so that a simulation can
//! drive both.

use std::sync::Arc;

use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

/// Says what time it is; used wherever a timestamp is written.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Gives 128 random bits; used for UIDs and generated names.
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

/// A `metav1.Time`: RFC 3339, UTC, in seconds.
#[must_use]
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The `Date` of an answer: every server says it, and clients may learn from it what the time is here.
#[must_use]
pub fn date(time: Timestamp) -> Option<HeaderValue> {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&time);
    HeaderValue::try_from(date.ok()?).ok()
}

/// A UID in the form of a random UUID.
#[must_use]
pub fn uid(entropy: &Entropy) -> String {
    uuid::Builder::from_random_bytes(entropy().to_be_bytes())
        .into_uuid()
        .to_string()
}

/// The five characters behind a `generateName`: no vowels and nothing that looks like another.
#[must_use]
pub fn suffix(entropy: &Entropy) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = entropy().to_le_bytes();
    bytes
        .chunks(3)
        .take(5)
        .map(|chunk| {
            let number = chunk
                .iter()
                .fold(0_usize, |n, byte| n * 256 + usize::from(*byte));
            char::from(LETTERS[number % LETTERS.len()])
        })
        .collect()
}
