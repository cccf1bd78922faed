//! What was seen of the Lease, and what follows: whether it may be taken, and what to write into it. No I/O.
//!
//! Whether another one's Lease has expired is judged by how long *this* process has seen it unchanged, on its own
//! monotonic clock. The times that stand in it are another machine's, and are for people.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::api::ObjectMeta;
use tokio::time::Instant;

/// The Lease as it was seen last.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// Its newest version; None where it was deleted.
    pub(super) lease: Option<Lease>,
    record: LeaseSpec,
    /// Since when the record is what it is.
    since: Instant,
}

impl Sight {
    /// It is `lease` now. What changes of it beside the record (labels, say) does not count as a sign of life.
    pub(super) fn of(lease: Lease, before: Option<Self>, now: Instant) -> Self {
        let record = lease.spec.clone().unwrap_or_default();
        let since = match before {
            Some(before) if before.record == record => before.since,
            _ => now,
        };
        Self {
            lease: Some(lease),
            record,
            since,
        }
    }

    /// It is gone. Its holder may not know yet, so what it said goes on to count.
    pub(super) fn vanished(self) -> Self {
        Self {
            lease: None,
            ..self
        }
    }

    /// Who holds it; nobody after a release.
    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self.record.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// When anybody else may take it: now, if nobody holds it.
    pub(super) fn expires(&self, usual: Duration) -> Instant {
        let stated = self.record.lease_duration_seconds;
        let stated = stated.and_then(|seconds| u64::try_from(seconds).ok());
        match self.holder() {
            None => self.since,
            Some(_) => self.since + stated.map_or(usual, Duration::from_secs),
        }
    }

    /// Whether `identity` may write itself into it.
    pub(super) fn is_for(&self, identity: &str, usual: Duration, now: Instant) -> bool {
        self.holder() == Some(identity) || self.expires(usual) <= now
    }
}

/// The Lease in which `identity` is the holder. Sent with the resourceVersion of what was seen, so that of all who try,
/// one succeeds.
pub(super) fn held(
    name: &str,
    identity: &str,
    duration: Duration,
    before: Option<&Sight>,
    now: Timestamp,
) -> Lease {
    let record = before.map(|before| &before.record);
    let goes_on = before.and_then(Sight::holder) == Some(identity);
    let acquired = record.and_then(|record| record.acquire_time.clone());
    let transitions = record.and_then(|record| record.lease_transitions);
    let changes_hands = i32::from(before.is_some() && !goes_on);
    Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: acquired.filter(|_| goes_on).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions.unwrap_or(0).saturating_add(changes_hands)),
            ..LeaseSpec::default()
        }),
        ..seen_or_new(name, before)
    }
}

/// The Lease without a holder, as client-go writes it: an empty name, and a second, for those who look at nothing else.
pub(super) fn released(name: &str, before: &Sight, now: Timestamp) -> Lease {
    Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: before.record.lease_transitions,
            ..LeaseSpec::default()
        }),
        ..seen_or_new(name, Some(before))
    }
}

fn seen_or_new(name: &str, before: Option<&Sight>) -> Lease {
    let seen = before.and_then(|before| before.lease.clone());
    seen.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(15);

    fn lease(holder: &str, seconds: i32) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(seconds),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn it_expires_when_it_was_seen_unchanged_for_the_duration_that_stands_in_it() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let sight = Sight::of(lease("other", 20), None, begin);
        let mut labelled = lease("other", 20);
        labelled.metadata.resource_version = Some("2".to_owned());
        let sight = Sight::of(labelled, Some(sight), after(19));
        assert!(!sight.is_for("me", USUAL, after(19)));
        assert!(sight.is_for("me", USUAL, after(20)));
        let renewed = Sight::of(lease("other", 21), Some(sight), after(20));
        assert!(!renewed.is_for("me", USUAL, after(40)));
        assert!(renewed.is_for("other", USUAL, after(20)));
    }

    #[test]
    fn one_that_was_released_is_free_and_one_that_was_deleted_is_not() {
        let begin = Instant::now();
        let held = Sight::of(lease("other", 15), None, begin);
        assert!(!held.clone().vanished().is_for("me", USUAL, begin));
        let free = released("it", &held, Timestamp::UNIX_EPOCH);
        let free = Sight::of(free, Some(held), begin);
        assert!(free.is_for("me", USUAL, begin));
    }

    #[test]
    fn a_change_of_hands_is_counted_and_a_renewal_keeps_the_time_of_the_acquisition() {
        let begin = Instant::now();
        let at = |second| Timestamp::from_second(second).expect("a time");
        let first = Sight::of(held("it", "a", USUAL, None, at(1)), None, begin);
        let renewed = held("it", "a", USUAL, Some(&first), at(2));
        let spec = renewed.spec.clone().expect("a record");
        assert_eq!(spec.acquire_time, Some(MicroTime(at(1))));
        assert_eq!(spec.renew_time, Some(MicroTime(at(2))));
        assert_eq!(spec.lease_transitions, Some(0));
        let renewed = Sight::of(renewed, Some(first), begin);
        let taken = held("it", "b", USUAL, Some(&renewed), at(3));
        let spec = taken.spec.expect("a record");
        assert_eq!(spec.acquire_time, Some(MicroTime(at(3))));
        assert_eq!(spec.lease_transitions, Some(1));
    }
}
