//! Sending a script to an API and keeping what it answers.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::exchange::{CLOSED_BY_SERVER, Exchange};
use crate::placeholders::Placeholders;
use crate::script::{Answers, Request, Script, Step};
use crate::side::{Answer, Side};

/// The recording of a script, one exchange a line. The script's namespace is gone afterwards, whatever happens.
///
/// # Errors
/// The API cannot be reached, or does not do what the script waits for.
pub async fn record(side: &Side, name: &str, script: &Script) -> Result<String> {
    side.make_namespace(&script.namespace).await?;
    let mut recorder = Recorder {
        side,
        name,
        script,
        live: Answers::default(),
        kept: Answers::default(),
        placeholders: Placeholders::default(),
        exchanges: Vec::new(),
    };
    let done = recorder.steps(&script.requests).await;
    let exchanges = recorder.exchanges;
    side.delete_namespace(&script.namespace).await?;
    side.gone(&format!("/api/v1/namespaces/{}", script.namespace))
        .await?;
    done?;
    let lines: Result<Vec<String>, _> = exchanges.iter().map(serde_json::to_string).collect();
    Ok(Placeholders::number_versions(&(lines?.join("\n") + "\n")))
}

struct Recorder<'a> {
    side: &'a Side,
    name: &'a str,
    script: &'a Script,
    /// As they came.
    live: Answers,
    /// With placeholders.
    kept: Answers,
    placeholders: Placeholders,
    exchanges: Vec<Exchange>,
}

impl Recorder<'_> {
    async fn steps(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            let what = || format!("{}: {}", self.name, step.id);
            let what = what();
            self.step(step).await.context(what)?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let namespace = &self.script.namespace;
        let Some(during) = &step.during else {
            let answer = self.side.step(step, namespace, &self.live).await?;
            let until = step.until.as_ref();
            if let Some(until) = until.filter(|until| !until.holds(answer.code, &answer.body)) {
                bail!("waited {} in vain: {}", until.words(), answer.body);
            }
            let exchange = self.exchange(step, &answer)?;
            self.exchanges.push(exchange);
            return Ok(());
        };
        let open = self
            .side
            .open(&step.request(namespace, &self.live)?)
            .await?;
        let begin = self.exchanges.len();
        Box::pin(self.steps(during)).await?;
        let answer = open.events(step.through.as_deref()).await?;
        let mut exchange = self.exchange(step, &answer)?;
        let while_open = self.exchanges[begin..].iter();
        exchange.requests_while_open = while_open.map(|exchange| exchange.id.clone()).collect();
        let end = if answer.closed {
            CLOSED_BY_SERVER
        } else {
            "by recorder"
        };
        exchange.stream_closed = answer.body.is_array().then(|| end.to_owned());
        // It was asked before them.
        self.exchanges.insert(begin, exchange);
        Ok(())
    }

    fn exchange(&mut self, step: &Step, answer: &Answer) -> Result<Exchange> {
        let Request {
            method,
            path,
            headers,
            body,
            who,
        } = step.request(&self.script.namespace, &self.kept)?;
        if let Some(head) = step.body["metadata"]["generateName"].as_str() {
            self.placeholders.expect_generated(head);
        }
        let response_body = self.placeholders.answer(&answer.body);
        self.live.keep(&step.id, answer.body.clone());
        self.kept.keep(&step.id, response_body.clone());
        let mut response_headers = std::collections::BTreeMap::new();
        for (name, value) in &answer.headers {
            response_headers.insert(name.clone(), Value::from(value.as_str()));
        }
        if !answer.warnings.is_empty() {
            response_headers.insert("Warning".to_owned(), answer.warnings.clone().into());
        }
        Ok(Exchange {
            id: format!("{}/{}", self.name, step.id),
            group: self.name.to_owned(),
            note: step.note.clone().unwrap_or_default(),
            before: step.until.as_ref().map(crate::script::Until::words),
            who,
            method,
            path,
            request_headers: headers,
            request_body: match &step.body {
                Value::String(_) => body.into(),
                Value::Null => Value::Null,
                _ => serde_json::from_str(&body)?,
            },
            status: answer.code,
            response_headers,
            response_body,
            requests_while_open: Vec::new(),
            stream_closed: None,
            body: String::new(),
        })
    }
}
