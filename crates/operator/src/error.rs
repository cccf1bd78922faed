//! What can go wrong in a round, by step, and what follows from it: when to look again.

use std::{sync::Arc, time::Duration};

use kube::Error as KubeError;
use kubeopencode_engine::lower::Reference;

use crate::clock::Entropy;

/// What kind of failure it is: stable, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    /// The world is not as our caches said. The event that says so is on its way.
    Conflict,
    /// The API server or the way to it: the same may work later.
    TryAgain,
    /// The API server refuses for good: a person has to change something (rights, quota, an object).
    Refused,
}

impl Category {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::TryAgain => "try-again",
            Self::Refused => "refused",
        }
    }

    fn of(error: &KubeError) -> Self {
        match error {
            KubeError::Api(status) if status.is_already_exists() => Self::Conflict,
            KubeError::Api(status) if status.is_conflict() || status.is_not_found() => {
                Self::Conflict
            }
            KubeError::Api(status) if matches!(status.code, 400 | 401 | 403 | 405 | 413 | 422) => {
                Self::Refused
            }
            _ => Self::TryAgain,
        }
    }
}

/// Observing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    #[error("cannot get Job {name}")]
    GetJob {
        name: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot get {name} itself")]
    GetOwner {
        name: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot list the Pods of Job {job}")]
    ListPods {
        job: String,
        #[source]
        source: Box<KubeError>,
    },
}

/// Looking up what a resource refers to failed, for all who shared the request.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LookUpError {
    #[error("cannot get {reference}")]
    Get {
        reference: Reference,
        #[source]
        source: Arc<KubeError>,
    },
    #[error("cannot get {reference}: no answer from the API server in {}s", .after.as_secs())]
    NoAnswer {
        reference: Reference,
        after: Duration,
    },
    #[error("its references lead to ever more references")]
    Endless,
}

/// Performing an action failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    #[error("cannot create {what}")]
    Create {
        what: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot look at {what}, whose name is taken")]
    LookAtTaken {
        what: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot release Job {name}")]
    ReleaseJob {
        name: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot change Job {name}")]
    ChangeJob {
        name: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot delete {what}")]
    Delete {
        what: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot set the deadline of Pod {name}")]
    SetPodDeadline {
        name: String,
        #[source]
        source: Box<KubeError>,
    },
}

impl ActError {
    /// The answer.
    pub(crate) fn answer(&self) -> &KubeError {
        match self {
            Self::Create { source, .. }
            | Self::LookAtTaken { source, .. }
            | Self::ReleaseJob { source, .. }
            | Self::ChangeJob { source, .. }
            | Self::Delete { source, .. }
            | Self::SetPodDeadline { source, .. } => source,
        }
    }
}

/// Changing who holds the slots of an Agent failed, for all who shared it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("cannot write the slots of Agent {agent}")]
    Write {
        agent: String,
        #[source]
        source: Arc<KubeError>,
    },
    #[error("cannot see whether {name}, which holds a slot, is gone")]
    LookAtHolder {
        name: String,
        #[source]
        source: Arc<KubeError>,
    },
    #[error("cannot write the slots of Agent {agent}: no answer from the API server in {}s", .after.as_secs())]
    NoAnswer { agent: String, after: Duration },
    #[error("Agent {0} was changed again and again")]
    AgentChanged(String),
    #[error("this operator does not lead any more")]
    NotLeading,
}

/// Writing the status failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status")]
pub(crate) struct RecordError(#[source] pub(crate) Box<KubeError>);

/// A round failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error("observing failed")]
    Observe(#[from] ObserveError),
    #[error("looking up references failed")]
    LookUp(#[from] LookUpError),
    #[error("acting failed")]
    Act(#[from] ActError),
    #[error("recording failed")]
    Record(#[from] RecordError),
    #[error("admitting failed")]
    Admit(#[from] AdmitError),
    #[error("this operator does not lead any more")]
    NotLeading,
    #[error("no rest after {0} steps: this is a defect of the engine")]
    Restless(usize),
    #[error("no answer from the API server in {}s", .0.as_secs())]
    NoAnswer(Duration),
}

impl RoundError {
    /// What the API server said, if it was that.
    fn answer(&self) -> Option<&KubeError> {
        match self {
            Self::Observe(
                ObserveError::GetJob { source, .. }
                | ObserveError::GetOwner { source, .. }
                | ObserveError::ListPods { source, .. },
            )
            | Self::Act(
                ActError::Create { source, .. }
                | ActError::LookAtTaken { source, .. }
                | ActError::ReleaseJob { source, .. }
                | ActError::ChangeJob { source, .. }
                | ActError::Delete { source, .. }
                | ActError::SetPodDeadline { source, .. },
            )
            | Self::Record(RecordError(source)) => Some(source),
            Self::LookUp(LookUpError::Get { source, .. })
            | Self::Admit(
                AdmitError::Write { source, .. } | AdmitError::LookAtHolder { source, .. },
            ) => Some(source),
            Self::LookUp(LookUpError::NoAnswer { .. } | LookUpError::Endless)
            | Self::Admit(
                AdmitError::AgentChanged(_) | AdmitError::NotLeading | AdmitError::NoAnswer { .. },
            )
            | Self::NotLeading
            | Self::Restless(_)
            | Self::NoAnswer(_) => None,
        }
    }

    /// Whether the API server was there, and answered.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self.answer(), Some(KubeError::Api(_)))
    }

    /// The outcome of a round that did what it could.
    pub(crate) const DONE: &str = "done";

    /// All outcomes of a round, for metrics.
    pub(crate) const OUTCOMES: [&str; 5] = [
        Self::DONE,
        Self::CUT_OFF,
        Category::Conflict.as_str(),
        Category::TryAgain.as_str(),
        Category::Refused.as_str(),
    ];

    const CUT_OFF: &str = "cut-off";

    /// Whether it was cut off because another operator may lead by now.
    pub(crate) fn is_not_leading(&self) -> bool {
        matches!(self, Self::NotLeading | Self::Admit(AdmitError::NotLeading))
    }

    /// One of [`Self::OUTCOMES`].
    pub(crate) fn outcome(&self) -> &'static str {
        if self.is_not_leading() {
            Self::CUT_OFF
        } else {
            self.category().as_str()
        }
    }

    pub(crate) fn category(&self) -> Category {
        match (self.answer(), self) {
            (Some(answer), _) => Category::of(answer),
            (None, Self::Admit(AdmitError::NoAnswer { .. })) => Category::TryAgain,
            (None, Self::NotLeading | Self::Admit(_)) => Category::Conflict,
            (None, Self::NoAnswer(_) | Self::LookUp(LookUpError::NoAnswer { .. })) => {
                Category::TryAgain
            }
            (None, _) => Category::Refused,
        }
    }

    /// When to look again if nothing happens before; `failures` counts this one.
    ///
    /// Doubling from a quarter of a second to half a minute, up to a quarter longer so that many do not come back at
    /// once; never before the `retryAfterSeconds` of the API server's answer. (A Retry-After without a Status is that of
    /// Priority and Fairness: a second.)
    pub(crate) fn again(&self, failures: u32, entropy: &Entropy) -> Duration {
        const FIRST: Duration = Duration::from_millis(250);
        const LONGEST: Duration = Duration::from_secs(30);
        let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let wait = doubled.min(LONGEST);
        let spread = u32::try_from(entropy() % 256).unwrap_or_default();
        let asked = match self.answer() {
            Some(KubeError::Api(status)) => status.details.as_ref().map(|d| d.retry_after_seconds),
            _ => None,
        };
        let asked = Duration::from_secs(asked.unwrap_or_default().into());
        (wait + wait * spread / 1024).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn answered(status: serde_json::Value) -> RoundError {
        let status: Status = serde_json::from_value(status).unwrap();
        RecordError(Box::new(KubeError::Api(Box::new(status)))).into()
    }

    #[test]
    fn the_wait_doubles_up_to_half_a_minute() {
        let none: Entropy = Arc::new(|| 0);
        let error = RoundError::NoAnswer(Duration::from_mins(1));
        let waits = [1, 2, 3, 8, 1000].map(|failures| error.again(failures, &none).as_millis());
        assert_eq!(waits, [250, 500, 1000, 30_000, 30_000]);
    }

    #[test]
    fn retry_after_is_respected() {
        let none: Entropy = Arc::new(|| 0);
        let error = answered(json!({
            "status": "Failure", "reason": "TooManyRequests", "code": 429,
            "details": {"retryAfterSeconds": 7},
        }));
        assert_eq!(error.category(), Category::TryAgain);
        assert_eq!(error.again(1, &none), Duration::from_secs(7));
    }

    #[test]
    fn what_a_person_must_change_is_told_apart_from_what_may_pass() {
        let of = |reason: &str, code: u16| {
            answered(json!({"status": "Failure", "reason": reason, "code": code})).category()
        };
        assert_eq!(of("Conflict", 409), Category::Conflict);
        assert_eq!(of("NotFound", 404), Category::Conflict);
        assert_eq!(of("Forbidden", 403), Category::Refused);
        assert_eq!(of("InternalError", 500), Category::TryAgain);
    }
}
