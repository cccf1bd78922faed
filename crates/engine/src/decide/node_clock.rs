//! Times that a node wrote: when its kubelet took a Pod, and when a container ended. They are from the clock of its machine,
//! and everything that they are compared with is from the API server's.
//!
//! What a node says is believed where it does not contradict the API server, which wrote when the Pod was given to that
//! node, and knows what time it is. Where it does, what counts is how long after taking the Pod it was, by that same clock.

use jiff::{SignedDuration, Timestamp};

use super::STALL_LIMIT;
use crate::observe::PodView;

/// How far ahead of the API server's clock a node's may be without a word. A kubelet takes a Pod a moment after it was given
/// to it, or, after it was away, much later; to count from before that for the sake of a few seconds would be worse.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// A time that the node of this Pod told, by the API server's clock.
pub fn by_the_api_server(pod: &PodView, told: Timestamp, now: Timestamp) -> Timestamp {
    let (Some(bound), Some(taken)) = (pod.bound_at, pod.started) else {
        return told;
    };
    let contradicts = taken < bound || told.duration_since(now) > AHEAD;
    let since_taken = told.duration_since(taken);
    match bound.checked_add(since_taken) {
        // What comes out later than now was told after somebody had set the node's clock right.
        Ok(counted) if contradicts && counted <= now => counted,
        _ => told,
    }
}

/// When the kubelet took the Pod: not before it was given to its node, and at most so long after as a Pod that nobody takes
/// is waited for.
pub fn taken(pod: &PodView) -> Option<Timestamp> {
    let taken = pod.started?;
    let Some(bound) = pod.bound_at else {
        return Some(taken);
    };
    let latest = bound.checked_add(STALL_LIMIT).unwrap_or(bound);
    Some(taken.clamp(bound, latest))
}
