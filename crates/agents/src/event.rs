//! What agents tell, in words that are the same for all of them.

use crate::{Dollars, Failure};

/// Something that an agent told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The session has this id.
    Session(String),
    /// The model is asked once more.
    StepBegan,
    /// The agent said something.
    Message(String),
    /// What the model thought, where the agent tells that.
    Thought(String),
    /// A tool was called.
    ToolCalled {
        /// Its id, to which [`Event::ToolEnded`] refers.
        id: String,
        /// Its name, as the agent has it: `bash`, `Write`.
        tool: String,
        /// What it is about, in one line: the command, the path.
        about: String,
        /// What it changes in a file, where the call itself says that.
        change: Option<Change>,
    },
    /// A tool has answered.
    ToolEnded {
        /// The id of the call.
        id: String,
        /// How.
        outcome: ToolOutcome,
        /// What it put out.
        output: String,
    },
    /// The model's answer is over.
    StepEnded {
        /// How.
        ended: Ended,
        /// What this step used.
        usage: Usage,
    },
    /// The agent has ended its work. The totals are its own, and replace the sum of the steps where they are given.
    Finished {
        /// How.
        ended: Ended,
        /// What all steps used.
        usage: Option<Usage>,
    },
    /// Something that the agent can go on after: a request is made again, a hint.
    Notice(String),
    /// The work failed.
    Failed(Failure),
    /// Something that could not be read: a line that is too long, or has too many parts.
    Unread,
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolOutcome {
    /// Well, or with the exit code that its command ended with.
    Done(Option<i64>),
    /// It could not do what it was called for.
    Failed,
    /// The agent was not allowed to use it.
    Refused,
}

/// Why a model's answer, or a whole session, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The model had said all that it wanted to say.
    ByItself,
    /// To call a tool.
    ForATool,
    /// Of something else, in the agent's own word: `length`, `max_turns`.
    Because(String),
}

/// What models were used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that went in, those from a cache not among them.
    pub input: u64,
    /// Tokens that came out, thoughts among them.
    pub output: u64,
    /// Tokens that went in from a cache.
    pub cached: u64,
    /// What it cost, where the agent knows.
    pub cost: Option<Dollars>,
}

impl Usage {
    /// All tokens: in, out, and from a cache.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.input
            .saturating_add(self.output)
            .saturating_add(self.cached)
    }

    /// Both together. What it cost is known where it is known of both: a part of it would be taken for all of it.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached: self.cached.saturating_add(other.cached),
            cost: match (self.cost, other.cost) {
                (Some(one), Some(other)) => Some(one.plus(other)),
                (Some(cost), None) if other.tokens() == 0 => Some(cost),
                (None, Some(cost)) if self.tokens() == 0 => Some(cost),
                _ => None,
            },
        }
    }
}

/// A change of a file, as far as a call tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path of the file.
    pub path: String,
    /// What was there; empty for a new file.
    pub before: String,
    /// What is there now.
    pub after: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_of_it_cost_is_not_what_all_of_it_cost() {
        let used = |input, cost: Option<&str>| Usage {
            input,
            cost: cost.and_then(|cost| cost.parse().ok()),
            ..Usage::default()
        };
        let cost = |one: Usage, other: Usage| {
            let sums = [one.plus(&other).cost, other.plus(&one).cost];
            assert_eq!(sums[0], sums[1]);
            sums[0].map(|cost| cost.to_string())
        };
        let half = || used(10, Some("0.5"));
        assert_eq!(cost(half(), half()).as_deref(), Some("1"));
        assert_eq!(cost(half(), used(1, None)), None);
        // Where nothing was used, nothing is missing.
        assert_eq!(cost(half(), used(0, None)).as_deref(), Some("0.5"));
    }
}
