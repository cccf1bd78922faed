//! Why an agent could not go on, as one of few classes.

/// Why the work failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// In the agent's own words.
    pub message: String,
}

/// Kinds of failures: each asks for something else of whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The model's server did not accept the key.
    Authentication,
    /// Too many requests, or no credit.
    RateLimit,
    /// The conversation is longer than the model can take.
    ContextOverflow,
    /// The agent was not allowed to do what it had to. No message is of this class: it follows from where the agent stopped.
    PermissionRefused,
    /// The model's server could not be reached.
    Network,
    /// There is no such model.
    ModelNotFound,
    /// The model's server has a problem of its own.
    ModelServer,
    /// The agent itself is broken.
    Agent,
    /// None of these was told: the agent did not say why, or in words that nobody knows.
    Unknown,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Authentication,
        Self::RateLimit,
        Self::ContextOverflow,
        Self::PermissionRefused,
        Self::Network,
        Self::ModelNotFound,
        Self::ModelServer,
        Self::Agent,
        Self::Unknown,
    ];

    /// Its word in statuses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "Authentication",
            Self::RateLimit => "RateLimit",
            Self::ContextOverflow => "ContextOverflow",
            Self::PermissionRefused => "PermissionRefused",
            Self::Network => "Network",
            Self::ModelNotFound => "ModelNotFound",
            Self::ModelServer => "ModelServer",
            Self::Agent => "Agent",
            Self::Unknown => "Unknown",
        }
    }

    /// The class of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl Failure {
    /// From the HTTP status of the model's answer, where there was one, and the words that came with it. The words
    /// decide only where the status does not.
    #[must_use]
    pub fn of(status: Option<u64>, message: &str) -> Self {
        let class = by_status(status, message).unwrap_or_else(|| by_words(message));
        // What a server answered is no mistake in the program of the agent, whatever its words are.
        let is_of_a_server = class == FailureClass::Agent && status.is_some();
        Self {
            class: if is_of_a_server {
                FailureClass::Unknown
            } else {
                class
            },
            message: message.to_owned(),
        }
    }
}

fn by_status(status: Option<u64>, message: &str) -> Option<FailureClass> {
    Some(match status? {
        401 | 403 => FailureClass::Authentication,
        429 => FailureClass::RateLimit,
        // What the server of a model means, and a proxy before it, or one at a wrong address, may not: the words tell.
        402 => by_words_or(
            message,
            &["credit", "balance", "billing"],
            FailureClass::RateLimit,
        ),
        404 => by_words_or(message, &["model"], FailureClass::ModelNotFound),
        413 => by_words_or(
            message,
            &["token", "context", "prompt"],
            FailureClass::ContextOverflow,
        ),
        // A bad request may be too long a one, or name a model that is not there.
        400..=499 => by_words(message),
        500..=599 => FailureClass::ModelServer,
        _ => return None,
    })
}

/// The class where one of these words is there, and else what any of the others say.
fn by_words_or(message: &str, words: &[&str], class: FailureClass) -> FailureClass {
    let lower = message.to_lowercase();
    if words.iter().any(|word| lower.contains(word)) {
        class
    } else {
        by_words(message)
    }
}

/// Words that only these failures have, as the agents and the servers write them.
const WORDS: [(FailureClass, &[&str]); 7] = [
    (
        FailureClass::ContextOverflow,
        &[
            "context length",
            "context window",
            "context_length",
            "prompt is too long",
            "too many tokens",
        ],
    ),
    (
        FailureClass::Authentication,
        &[
            "unauthorized",
            // Claude Code, without a key.
            "not logged in",
            "invalid api key",
            "invalid x-api-key",
            "incorrect api key",
            "authentication",
        ],
    ),
    (
        FailureClass::RateLimit,
        &[
            "rate limit",
            "rate_limit",
            "too many requests",
            "quota",
            "insufficient credit",
        ],
    ),
    (
        FailureClass::ModelNotFound,
        &[
            "model not found",
            "modelnotfound",
            "model_not_found",
            "unknown model",
            "no such model",
        ],
    ),
    (
        FailureClass::Network,
        &[
            "econnrefused",
            "econnreset",
            "enotfound",
            "etimedout",
            "connection refused",
            "connection error",
            "unable to connect",
            "error sending request",
            "stream disconnected",
            "socket connection",
            "network error",
            "fetch failed",
        ],
    ),
    (
        FailureClass::ModelServer,
        &[
            "internal server error",
            "bad gateway",
            "service unavailable",
            "overloaded",
            // Codex, of an answer 500.
            "experiencing high demand",
        ],
    ),
    (
        FailureClass::Agent,
        &[
            // What JavaScript says of a mistake in a program, as OpenCode and Claude Code pass it on.
            "is not a function",
            "is not an object",
            "cannot read propert",
            // Rust, in Codex.
            "panicked at",
        ],
    ),
];

fn by_words(message: &str) -> FailureClass {
    let message = message.to_lowercase();
    let found = WORDS
        .iter()
        .find(|(_, words)| words.iter().any(|word| message.contains(word)));
    found.map_or(FailureClass::Unknown, |(class, _)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_others_answer_with_too_takes_words() {
        for (status, message, class) in [
            (404, "model: claude-x", FailureClass::ModelNotFound),
            (404, "404 page not found", FailureClass::Unknown),
            (413, "prompt is too large", FailureClass::ContextOverflow),
            (
                413,
                "<h1>413 Request Entity Too Large</h1>",
                FailureClass::Unknown,
            ),
            (
                402,
                "Your credit balance is too low",
                FailureClass::RateLimit,
            ),
            (402, "Payment Required", FailureClass::Unknown),
            (400, "tools[0] is not an object", FailureClass::Unknown),
        ] {
            assert_eq!(Failure::of(Some(status), message).class, class, "{message}");
        }
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        for (message, class) in [
            ("", FailureClass::Unknown),
            (
                "Unexpected server error. Check server logs for details.",
                FailureClass::Unknown,
            ),
            (
                "TypeError: undefined is not an object (evaluating 'a.b')",
                FailureClass::Agent,
            ),
            (
                "thread 'main' panicked at core/src/codex.rs:1:1",
                FailureClass::Agent,
            ),
            ("TypeError: fetch failed", FailureClass::Network),
            (
                "Not logged in · Please run /login",
                FailureClass::Authentication,
            ),
        ] {
            assert_eq!(Failure::of(None, message).class, class, "{message}");
        }
    }
}
