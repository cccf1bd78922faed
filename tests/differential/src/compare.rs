//! Sending a script to both APIs at once; the first difference ends it.

use std::fmt;

use anyhow::Result;
use serde_json::Value;

use crate::known::Known;
use crate::matching::Bindings;
use crate::placeholders::Placeholders;
use crate::script::{Answers, Script, Step};
use crate::side::{Answer, COMPARED, Side};

/// A real API and an embedded one.
#[derive(Clone)]
pub struct Pair {
    /// The one that is right.
    pub real: Side,
    /// The one that is held against it.
    pub embedded: Side,
}

/// Two answers that are not the same.
#[derive(Debug)]
pub struct Difference {
    /// The request's name in its script.
    pub id: String,
    /// Method and path as the script has them.
    pub request: String,
    /// What differs.
    pub why: Vec<String>,
    /// With placeholders.
    pub real: Answer,
    /// As it came.
    pub embedded: Answer,
}

/// What a script has shown.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many requests were answered alike.
    pub same: usize,
    /// The first that was not.
    pub difference: Option<Difference>,
}

impl Pair {
    /// Sends the requests of a script to both. Its namespace must be there; it may be used once.
    ///
    /// # Errors
    /// One of the two cannot be reached.
    pub async fn run(&self, script: &Script, known: &Known) -> Result<Outcome> {
        let mut run = Run {
            pair: self,
            known,
            script,
            answers: [Answers::default(), Answers::default()],
            placeholders: Placeholders::default(),
            bindings: Bindings::default(),
            outcome: Outcome::default(),
        };
        run.steps(&script.requests).await?;
        Ok(run.outcome)
    }

    /// Makes a namespace on both.
    ///
    /// # Errors
    /// It is there already.
    pub async fn make_namespace(&self, name: &str) -> Result<()> {
        tokio::try_join!(
            self.real.make_namespace(name),
            self.embedded.make_namespace(name)
        )?;
        Ok(())
    }

    /// Deletes a namespace on both, without waiting.
    ///
    /// # Errors
    /// One of the two cannot be reached.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        tokio::try_join!(
            self.real.delete_namespace(name),
            self.embedded.delete_namespace(name)
        )?;
        Ok(())
    }
}

struct Run<'a> {
    pair: &'a Pair,
    known: &'a Known,
    script: &'a Script,
    answers: [Answers; 2],
    placeholders: Placeholders,
    bindings: Bindings,
    outcome: Outcome,
}

impl Run<'_> {
    /// Whether all were answered alike.
    async fn steps(&mut self, steps: &[Step]) -> Result<bool> {
        for step in steps {
            if !self.step(step).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn step(&mut self, step: &Step) -> Result<bool> {
        let namespace = &self.script.namespace;
        let (real, embedded) = (&self.pair.real, &self.pair.embedded);
        let [of_real, of_embedded] = &self.answers;
        if let Some(during) = &step.during {
            let (first, second) = tokio::try_join!(
                async { real.open(&step.request(namespace, of_real)?).await },
                async { embedded.open(&step.request(namespace, of_embedded)?).await },
            )?;
            if !Box::pin(self.steps(during)).await? {
                return Ok(false);
            }
            let through = step.through.as_deref();
            let (real, embedded) = tokio::try_join!(first.events(through), second.events(through))?;
            return Ok(self.same(step, real, embedded));
        }
        let (real, embedded) = tokio::try_join!(
            real.step(step, namespace, of_real),
            embedded.step(step, namespace, of_embedded)
        )?;
        Ok(self.same(step, real, embedded))
    }

    fn same(&mut self, step: &Step, mut real: Answer, embedded: Answer) -> bool {
        let [of_real, of_embedded] = &mut self.answers;
        of_real.keep(&step.id, real.body.clone());
        of_embedded.keep(&step.id, embedded.body.clone());
        if let Some(head) = step.body["metadata"]["generateName"].as_str() {
            self.placeholders.expect_generated(head);
        }
        real.body = self.placeholders.answer(&real.body);
        let mut why = Vec::new();
        if real.code != embedded.code {
            why.push(format!("code {} instead of {}", embedded.code, real.code));
        }
        if real.warnings != embedded.warnings {
            why.push(format!(
                "warnings {:?} instead of {:?}",
                embedded.warnings, real.warnings
            ));
        }
        for name in COMPARED {
            let (of_real, of_embedded) = (real.headers.get(name), embedded.headers.get(name));
            if of_real != of_embedded {
                why.push(format!("{name} {of_embedded:?} instead of {of_real:?}"));
            }
        }
        why.extend(self.bindings.compare(&real.body, &embedded.body));
        why.retain(|why| !self.known.contains(&step.request, why));
        if why.is_empty() {
            self.outcome.same += 1;
            return true;
        }
        self.outcome.difference = Some(Difference {
            id: step.id.clone(),
            request: step.request.clone(),
            why,
            real,
            embedded,
        });
        false
    }
}

impl Difference {
    /// What is the same for two findings of one fault: where, without the values.
    #[must_use]
    pub fn signature(&self) -> String {
        let method = self.request.split(' ').next().unwrap_or_default();
        let kind = self
            .request
            .split(['/', '?'])
            .find(|part| part.ends_with('s') && !part.contains("api"));
        let why = self.why.first().map_or("", String::as_str);
        let place = why.split([':', '"', '(']).next().unwrap_or_default();
        format!("{method} {} {place}", kind.unwrap_or_default())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.id, self.request)?;
        for why in &self.why {
            writeln!(f, "  {why}")?;
        }
        let text = |answer: &Answer| {
            let body = match &answer.body {
                Value::String(text) => text.clone(),
                body => serde_json::to_string_pretty(body).unwrap_or_default(),
            };
            let mut lines = vec![format!("{}", answer.code)];
            lines.extend(
                answer
                    .warnings
                    .iter()
                    .map(|warning| format!("Warning: {warning}")),
            );
            lines.extend(body.lines().map(str::to_owned));
            lines
        };
        let (real, embedded) = (text(&self.real), text(&self.embedded));
        writeln!(f, "  {:<70} │ embedded", "real")?;
        for index in 0..real.len().max(embedded.len()) {
            let line = |lines: &[String]| {
                let line = lines.get(index).map_or("", String::as_str);
                line.chars().take(70).collect::<String>()
            };
            writeln!(f, "  {:<70} │ {}", line(&real), line(&embedded))?;
        }
        Ok(())
    }
}
