//! What an agent has used, in the same words wherever it is said.

use std::fmt::Write as _;

use kubeopencode_agents::Facts;
use kubeopencode_api::v1alpha1::TaskResult;

/// What an agent that tells of it has used.
#[derive(Debug, Default)]
pub(crate) struct Used {
    steps: u64,
    tools: u64,
    refused: u64,
    tokens: Option<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    /// Those from a cache among them.
    input: u64,
    cached: u64,
    output: u64,
    cost: Option<String>,
}

impl Used {
    /// As the result of a Task has it; nothing where the agent told nothing.
    pub(crate) fn of_result(result: &TaskResult) -> Option<Self> {
        let number = |number: Option<i64>| {
            number
                .and_then(|number| u64::try_from(number).ok())
                .unwrap_or_default()
        };
        let told = [result.steps, result.tool_calls].map(number);
        result.steps?;
        if told == [0, 0] && result.usage.is_none() {
            return None;
        }
        Some(Self {
            steps: number(result.steps),
            tools: number(result.tool_calls),
            refused: number(result.refused_tool_calls),
            tokens: result.usage.as_ref().map(|usage| Tokens {
                input: number(Some(usage.input_tokens.saturating_add(usage.cached_tokens))),
                cached: number(Some(usage.cached_tokens)),
                output: number(Some(usage.output_tokens)),
                cost: usage.cost.clone(),
            }),
        })
    }

    /// As its events tell; nothing where they do not.
    pub(crate) fn of_facts(facts: &Facts) -> Option<Self> {
        if facts.steps == 0 && facts.usage.is_none() {
            return None;
        }
        Some(Self {
            steps: facts.steps,
            tools: facts.tools,
            refused: facts.refused,
            tokens: facts.usage.map(|usage| Tokens {
                input: usage.input.saturating_add(usage.cached),
                cached: usage.cached,
                output: usage.output,
                cost: usage.cost.map(|cost| cost.to_string()),
            }),
        })
    }

    /// All of it in one line.
    pub(crate) fn line(&self) -> String {
        let mut line = count(self.steps, "step");
        let _ = write!(line, ", {}", count(self.tools, "tool call"));
        if self.refused > 0 {
            let _ = write!(line, " ({} refused)", self.refused);
        }
        if let Some(tokens) = &self.tokens {
            let Tokens {
                input,
                cached,
                output,
                cost,
            } = tokens;
            let _ = write!(
                line,
                ", {} in ({cached} from a cache), {output} out",
                count(*input, "token")
            );
            if let Some(cost) = cost {
                let _ = write!(line, ", {cost} dollars");
            }
        }
        line
    }
}

/// So many of something.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
