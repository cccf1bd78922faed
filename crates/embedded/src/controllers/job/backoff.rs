//! How long a Job waits before it replaces failed Pods: 10 s, doubled with each failure in a row, at most 10 minutes.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::pods;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_secs(600);

/// Failures in a row, and when the last Pods ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
    last_failure: Option<Timestamp>,
    last_success: Option<Timestamp>,
}

impl Backoff {
    /// What a controller that has just started can still see: the ended Pods that are counted already.
    pub(crate) fn from_counted<'a>(pods: impl Iterator<Item = &'a Pod>) -> Self {
        let mut ended: Vec<(Timestamp, bool)> = pods
            .filter(|pod| !pods::is_tracked(pod))
            .filter(|pod| pods::has_succeeded(pod) || pods::has_failed(pod))
            .filter_map(|pod| Some((pods::finished_at(pod)?, pods::has_failed(pod))))
            .collect();
        ended.sort_unstable();
        let mut backoff = Self::default();
        for (at, failed) in ended {
            if failed {
                backoff.failed(at);
            } else {
                backoff.succeeded(at);
            }
        }
        backoff
    }

    /// A Pod failed at this time.
    pub(crate) fn failed(&mut self, at: Timestamp) {
        if self.last_success.is_some_and(|success| success > at) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.last_failure = self.last_failure.max(Some(at));
    }

    /// A Pod succeeded at this time: failures before it no longer count.
    pub(crate) fn succeeded(&mut self, at: Timestamp) {
        self.last_success = self.last_success.max(Some(at));
        if self.last_failure.is_none_or(|failure| failure <= at) {
            self.failures = 0;
            self.last_failure = None;
        }
    }

    /// When the next Pod may be created; `None` for at once.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let doublings = self.failures.checked_sub(1)?.min(6);
        let wait = FIRST.checked_mul(1 << doublings)?.min(LONGEST);
        self.last_failure?.checked_add(wait).ok()
    }
}
