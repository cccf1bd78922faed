//! What a stream of events comes down to.

use crate::{Ended, Event, Failure, ToolOutcome, Usage};

/// The longest message that is kept, in bytes; the rest is in the log.
const LONGEST_MESSAGE: usize = 4096;

/// Where an agent stands whose step has begun and not ended.
const MIDDLE: &str = "in the middle of a step";

/// What is known of an agent's work from what it told. What it did not tell is absent, or 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Id of its session.
    pub session: Option<String>,
    /// How often the model was asked.
    pub steps: u64,
    /// How many tools were called.
    pub tools: u64,
    /// How many of them it was not allowed to use.
    pub refused: u64,
    /// What the models were used for; `None` when it told nothing of that.
    pub usage: Option<Usage>,
    /// The last thing that it said.
    pub message: Option<String>,
    /// Why it gave up.
    pub failure: Option<Failure>,
    /// How the last step ended, or all of it.
    pub ended: Option<Ended>,
}

impl Facts {
    /// One more event.
    pub fn note(&mut self, event: &Event) {
        // Whoever goes on had not given up.
        if matches!(
            event,
            Event::StepBegan | Event::ToolCalled { .. } | Event::Message(_)
        ) {
            self.failure = None;
        }
        match event {
            Event::Session(id) => self.session = Some(id.clone()),
            Event::StepBegan => {
                self.steps = self.steps.saturating_add(1);
                self.ended = Some(Ended::Because(MIDDLE.to_owned()));
            }
            Event::Message(text) => self.message = Some(cut(text, LONGEST_MESSAGE)),
            Event::ToolCalled { .. } => self.tools = self.tools.saturating_add(1),
            Event::ToolEnded {
                outcome: ToolOutcome::Refused,
                ..
            } => {
                self.refused = self.refused.saturating_add(1);
            }
            Event::StepEnded { ended, usage } => {
                self.usage = Some(self.usage.unwrap_or_default().plus(usage));
                self.ended = Some(ended.clone());
            }
            Event::Finished { ended, usage } => {
                if usage.is_some() {
                    self.usage = *usage;
                }
                self.ended = Some(ended.clone());
            }
            Event::Failed(failure) => {
                self.failure = Some(Failure {
                    class: failure.class,
                    message: cut(&failure.message, LONGEST_MESSAGE),
                });
            }
            Event::ToolEnded { .. } | Event::Thought(_) | Event::Notice(_) => {}
        }
    }

    /// What the agent told, if anything.
    #[must_use]
    pub fn told(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Why the work is not done, although the agent's exit code may say so; `None` where it is done, or nothing is known.
    #[must_use]
    pub fn unfinished(&self) -> Option<Half> {
        match (&self.failure, &self.ended) {
            (Some(_), _) => Some(Half::Failed),
            (None, None | Some(Ended::ByItself)) => None,
            (None, Some(Ended::ForATool)) if self.refused > 0 => Some(Half::Refused),
            (None, Some(Ended::ForATool)) => Some(Half::Stopped("after a tool call".to_owned())),
            (None, Some(Ended::Because(why))) if why == MIDDLE => Some(Half::Stopped(why.clone())),
            (None, Some(Ended::Because(why))) => {
                Some(Half::Stopped(format!("for the reason {why}")))
            }
        }
    }
}

/// Why work was left half-way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half {
    /// The agent gave up, for the [`Failure`] among the facts.
    Failed,
    /// It stopped after a tool call, and was refused at least one.
    Refused,
    /// It stopped there, as in `after a tool call` or `for the reason length`.
    Stopped(String),
}

/// Cuts at a character, and says so with an ellipsis.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let fits = (0..=longest - '…'.len_utf8())
        .rev()
        .find(|at| text.is_char_boundary(*at));
    format!("{}…", &text[..fits.unwrap_or(0)])
}
