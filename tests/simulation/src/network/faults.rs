//! What can happen to a call.

use std::{fmt, time::Duration};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Line, full};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is answered.
    None,
    /// It is answered with this code, and has no effect.
    Refused(u16),
    /// The connection breaks before it arrives.
    Reset,
    /// It takes effect this much later, whoever still waits for it.
    Slow(Duration),
    /// It is a watch from a version that is not known any more.
    Expired,
    /// It takes effect, and after this time the connection breaks instead of an answer.
    AnswerLost(Duration),
    /// It takes effect, and is answered with 500.
    AnsweredWrong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::AnsweredWrong => write!(f, " [500 after its effect]"),
            Self::AnswerLost(after) => write!(f, " [answer lost after {after:?}]"),
            Self::Refused(code) => write!(f, " [{code} without effect]"),
            Self::Slow(by) => write!(f, " [late by {by:?}]"),
            Self::Reset => write!(f, " [reset without effect]"),
            Self::Expired => write!(f, " [410]"),
        }
    }
}

/// What is heard instead of an answer, and when.
pub(super) struct Lost {
    pub(super) after: Duration,
    pub(super) answer: Answer,
}

impl Line {
    /// What happens to the next call.
    pub(super) fn draw(&self, verb: &str, resource: &str) -> Fault {
        let dice = &self.network.dice;
        if self.network.is_calm() || !dice.chance(self.quality.faults) {
            return Fault::None;
        }
        let quota = verb == "create" && matches!(resource, "jobs" | "configmaps");
        match (dice.number(0..20), verb) {
            (0..=5, "watch") => Fault::Expired,
            (0..=2, "create" | "update" | "patch" | "delete") => Fault::AnswerLost(Duration::ZERO),
            (3..=4, "create" | "update" | "patch" | "delete") => Fault::AnsweredWrong,
            (5..=6, "update" | "patch") => Fault::Refused(409),
            (5, _) if quota => Fault::Refused(403),
            (7..=8, _) => Fault::AnswerLost(dice.seconds(1..300)),
            (9..=12, _) => Fault::Slow(dice.seconds(1..600)),
            (13..=14, _) => Fault::Refused(429),
            (15..=16, _) => Fault::Refused(503),
            (17, _) => Fault::Refused(500),
            _ => Fault::Reset,
        }
    }
}

impl Fault {
    /// What the caller hears although nothing took effect.
    pub(super) fn before(self) -> Option<Answer> {
        match self {
            Self::Refused(code) => Some(Ok(refusal(code))),
            Self::Reset => Some(Err("the connection was reset".into())),
            Self::Expired => {
                let event = json!({"type": "ERROR", "object": status(410)});
                Some(Ok(Response::new(full(format!("{event}\n")))))
            }
            Self::None | Self::Slow(_) | Self::AnswerLost(_) | Self::AnsweredWrong => None,
        }
    }

    /// What the caller hears although it took effect.
    pub(super) fn after(self) -> Option<Lost> {
        match self {
            Self::AnswerLost(after) => Some(Lost {
                after,
                answer: Err("the connection was reset".into()),
            }),
            Self::AnsweredWrong => Some(Lost {
                after: Duration::ZERO,
                answer: Ok(refusal(500)),
            }),
            Self::None | Self::Slow(_) | Self::Refused(_) | Self::Reset | Self::Expired => None,
        }
    }
}

fn refusal(code: u16) -> Response<super::Body> {
    let mut response = Response::new(full(status(code).to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn status(code: u16) -> Value {
    let reason = match code {
        403 => "Forbidden",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let details = if code == 429 {
        json!({"retryAfterSeconds": 2})
    } else {
        json!({})
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": "by the seed", "details": details,
    })
}
