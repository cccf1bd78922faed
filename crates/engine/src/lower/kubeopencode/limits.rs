//! How much an agent may do: what its Agent says and what the Task says, the stricter one field by field.

use kubeopencode_agents::{Dollars, Profile};
use kubeopencode_api::v1alpha1 as api;

use super::agent;
use crate::{
    handover::Limits,
    lower::{LowerError, Reference, Setting, Source, setting::Sourced},
};

/// The limits of a Task, with who set each.
#[derive(Default)]
pub struct Chosen {
    limits: Limits,
    settings: Vec<Setting>,
}

/// What one of the two says, with the words for where it says so.
struct Said<'a> {
    limits: &'a api::Limits,
    by: String,
    source: Source,
}

impl Chosen {
    /// Those of the Task and of its Agent.
    ///
    /// # Errors
    /// A value cannot be read.
    pub fn of(
        (task, of_task): (&str, Option<&api::Limits>),
        (agent, of_agent): (&Reference, Option<&api::Limits>),
    ) -> Result<Self, LowerError> {
        let said = [
            of_task.map(|limits| Said {
                limits,
                by: format!("Task {task}"),
                source: Source::Own,
            }),
            of_agent.map(|limits| Said {
                limits,
                by: format!("Agent {}", agent.name),
                source: Source::Object(agent.clone()),
            }),
        ];
        let mut chosen = Self::default();
        for said in said.into_iter().flatten() {
            chosen.seconds(&said)?;
            chosen.number(&said, "limits.steps", said.limits.steps, |limits| {
                &mut limits.steps
            })?;
            chosen.number(&said, "limits.tokens", said.limits.tokens, |limits| {
                &mut limits.tokens
            })?;
            chosen.cost(&said)?;
        }
        Ok(chosen)
    }

    /// The limits, if an agent of this profile that is started by this command tells of what they limit while it works.
    ///
    /// # Errors
    /// It does not: a limit that does not hold would only seem to protect.
    pub fn held_by(
        self,
        (task, agent): (&str, &str),
        profile: Option<&'static Profile>,
        command: &[String],
    ) -> Result<Limits, LowerError> {
        let limits = &self.limits;
        let asked = [
            ("steps", limits.steps.is_some()),
            ("tokens", limits.tokens.is_some()),
            ("cost", limits.cost.is_some()),
        ];
        for (limit, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            let name = format!("limits.{limit}");
            let bad = |problem: String| LowerError::BadField {
                field: match self.source(&name) {
                    Some(Source::Own) => format!("Task {task}: {name}"),
                    _ => format!("Agent {agent}: {name}"),
                },
                problem,
            };
            let Some(profile) = profile else {
                return Err(bad(format!(
                    "cannot be held: nothing is known of what Agent {agent} runs; its profile has to be one that tells of its {limit}, or the limit has to go"
                )));
            };
            if !profile.holds.contains(&limit) {
                let (name, held) = (profile.name, profile.holds.join(", "));
                return Err(bad(format!(
                    "cannot be held: {name} does not tell of its {limit} while it works. It can be limited by duration, {held}"
                )));
            }
            if !profile.is_asked_for_events(command) {
                let arguments = profile.arguments.join(" ");
                return Err(bad(format!(
                    "cannot be held: the command of Agent {agent} does not make {} print its events as JSON, as in `{} {arguments}`",
                    profile.name, profile.program
                )));
            }
        }
        Ok(self.limits)
    }

    /// Who set the limit that holds.
    fn source(&self, name: &str) -> Option<&Source> {
        let mut settings = self.settings.iter();
        let setting = settings.find(|setting| setting.name == name)?;
        Some(&setting.source)
    }

    /// Who set what.
    pub fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    fn seconds(&mut self, said: &Said<'_>) -> Result<(), LowerError> {
        let Some(text) = &said.limits.duration else {
            return Ok(());
        };
        let seconds = agent::duration(&format!("{}: limits.duration", said.by), text)?.as_secs();
        if self.limits.seconds.is_none_or(|known| seconds < known) {
            self.limits.seconds = Some(seconds);
            self.tell("limits.duration", text, &said.source);
        }
        Ok(())
    }

    fn number(
        &mut self,
        said: &Said<'_>,
        name: &'static str,
        number: Option<i64>,
        field: impl Fn(&mut Limits) -> &mut Option<u64>,
    ) -> Result<(), LowerError> {
        let Some(number) = number else { return Ok(()) };
        let number = u64::try_from(number).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| LowerError::BadField {
            field: format!("{}: {name}", said.by),
            problem: "has to be at least 1".to_owned(),
        })?;
        let known = field(&mut self.limits);
        if known.is_none_or(|known| number < known) {
            *known = Some(number);
            self.tell(name, &number.to_string(), &said.source);
        }
        Ok(())
    }

    fn cost(&mut self, said: &Said<'_>) -> Result<(), LowerError> {
        let Some(text) = &said.limits.cost else {
            return Ok(());
        };
        let dollars: Dollars = text.parse().map_err(|problem| LowerError::BadField {
            field: format!("{}: limits.cost", said.by),
            problem: format!("{text:?} {problem}"),
        })?;
        let known = self
            .limits
            .cost
            .as_ref()
            .and_then(|known| known.parse::<Dollars>().ok());
        if known.is_none_or(|known| dollars < known) {
            self.limits.cost = Some(dollars.to_string());
            self.tell("limits.cost", &dollars.to_string(), &said.source);
        }
        Ok(())
    }

    fn tell(&mut self, name: &'static str, value: &str, source: &Source) {
        // The Task has been asked first: what is known is its own, and laxer.
        let known = self.settings.iter().position(|known| known.name == name);
        let laxer = known.map(|at| self.settings.remove(at).value);
        let said = Sourced {
            value: laxer.map_or_else(
                || value.to_owned(),
                |laxer| format!("{value} (its own spec says {laxer}, which is laxer)"),
            ),
            source: source.clone(),
        };
        self.settings.push(said.setting(name, String::clone));
    }
}
