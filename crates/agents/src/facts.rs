//! What a stream of events comes down to.

use crate::{Ended, Event, Failure, Profile, ToolOutcome, Usage};

/// The longest message that is kept, in bytes; the rest is in the log.
const LONGEST_MESSAGE: usize = 4096;

/// Where an agent stands whose step has begun and not ended.
const MIDDLE: &str = "in the middle of a step";
/// Where one stands that has called a tool and asked no more.
const AFTER_A_TOOL: &str = "after a tool call";
/// Where one stands that has begun a session, and would have told of its end.
const NO_END: &str = "before it told of its end";

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
    /// What the last of those answered.
    pub refusal: Option<String>,
    /// What the models were used for; `None` when it told nothing of that.
    pub usage: Option<Usage>,
    /// The last thing that it said.
    pub message: Option<String>,
    /// Why it gave up.
    pub failure: Option<Failure>,
    /// How the last step ended, or all of it.
    pub ended: Option<Ended>,
    /// Whether something after that could not be read: then nobody knows how it went on.
    pub unread: bool,
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
            Event::Session(id) => {
                self.session = Some(id.clone());
                // How another one ended before does not matter to this one.
                self.ends(None);
            }
            Event::StepBegan => {
                self.steps = self.steps.saturating_add(1);
                self.ends(Some(Ended::Because(MIDDLE.to_owned())));
            }
            Event::Message(text) => self.message = Some(cut(text, LONGEST_MESSAGE)),
            Event::ToolCalled { .. } => self.tools = self.tools.saturating_add(1),
            Event::ToolEnded {
                outcome: ToolOutcome::Refused,
                output,
                ..
            } => {
                self.refused = self.refused.saturating_add(1);
                self.refusal = Some(cut(output, LONGEST_MESSAGE));
            }
            Event::StepEnded { ended, usage } => {
                self.usage = Some(self.usage.unwrap_or_default().plus(usage));
                self.ends(Some(ended.clone()));
            }
            Event::Finished { ended, usage } => {
                if usage.is_some() {
                    self.usage = *usage;
                }
                self.ends(Some(ended.clone()));
            }
            Event::Failed(failure) => {
                self.failure = Some(Failure {
                    class: failure.class,
                    message: cut(&failure.message, LONGEST_MESSAGE),
                });
            }
            Event::Unread => self.unread = true,
            Event::ToolEnded { .. } | Event::Thought(_) | Event::Notice(_) => {}
        }
    }

    fn ends(&mut self, ended: Option<Ended>) {
        self.ended = ended;
        self.unread = false;
    }

    /// What the agent told, if anything.
    #[must_use]
    pub fn told(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// Why the work is not done, although the agent's exit code may say so; `None` where it is done, or nothing is known.
    #[must_use]
    pub fn unfinished(&self, profile: &Profile) -> Option<Half> {
        let stopped = |place: &str| Some(Half::Stopped(place.to_owned()));
        match (&self.failure, &self.ended) {
            (Some(_), _) => Some(Half::Failed),
            (None, _) if self.unread => None,
            (None, None) if self.session.is_some() && profile.tells_its_end => stopped(NO_END),
            (None, None | Some(Ended::ByItself)) => None,
            (None, Some(Ended::ForATool)) if self.refused > 0 => Some(Half::Refused),
            (None, Some(Ended::ForATool)) => stopped(AFTER_A_TOOL),
            (None, Some(Ended::Because(why))) if why == MIDDLE => stopped(MIDDLE),
            (None, Some(Ended::Because(why))) => stopped(&format!("for the reason {why}")),
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

/// At most so many bytes of a text, cut at a character, with an ellipsis that says so.
#[must_use]
pub fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let fits = text.floor_char_boundary(longest.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..fits])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished(profile: &str, events: &[Event]) -> Option<Half> {
        let mut facts = Facts::default();
        for event in events {
            facts.note(event);
        }
        facts.unfinished(Profile::named(profile)?)
    }

    #[test]
    fn after_a_line_that_could_not_be_read_nobody_knows_how_it_ended() {
        let session = Event::Session("s".to_owned());
        let ended = Event::StepEnded {
            ended: Ended::ForATool,
            usage: Usage::default(),
        };
        let step = [session.clone(), Event::StepBegan, ended];
        let unread = [&step[..], &[Event::Unread]].concat();
        let stopped = Some(Half::Stopped(AFTER_A_TOOL.to_owned()));
        for profile in Profile::ALL {
            assert_eq!(unfinished(profile.name, &step), stopped);
            assert_eq!(unfinished(profile.name, &unread), None);
            // It went on, and what it told then was read.
            let went_on = [&unread[..], &step[1..]].concat();
            assert_eq!(unfinished(profile.name, &went_on), stopped);
            assert_eq!(
                unfinished(profile.name, &[session.clone(), Event::Unread]),
                None
            );
        }
    }

    #[test]
    fn a_session_without_the_end_that_its_agent_tells_of_is_not_done() {
        let session = [Event::Session("s".to_owned())];
        let no_end = Some(Half::Stopped(NO_END.to_owned()));
        assert_eq!(unfinished("ClaudeCode", &session), no_end);
        assert_eq!(unfinished("Codex", &session), no_end);
        assert_eq!(unfinished("OpenCode", &session), None);
        assert_eq!(unfinished("ClaudeCode", &[]), None);
        let finished = Event::Finished {
            ended: Ended::ByItself,
            usage: None,
        };
        let two = [&session[..], &[finished], &session[..]].concat();
        assert_eq!(unfinished("ClaudeCode", &two[..2]), None);
        assert_eq!(unfinished("ClaudeCode", &two), no_end);
    }
}
