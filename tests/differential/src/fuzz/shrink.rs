//! Making a sequence smaller while it still shows a difference: fewer requests, fewer parameters, smaller bodies.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::Worlds;
use crate::compare::Difference;
use crate::known::Known;
use crate::script::{Script, Step};

/// It takes about so long at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// The smallest script that was found, with the difference that it shows; none if it does not come again.
pub(super) async fn shrink(
    worlds: &mut Worlds,
    script: Script,
    known: &Known,
) -> Result<(Script, Option<Difference>)> {
    let Some(mut difference) = worlds.run(script.clone(), known).await?.difference else {
        return Ok((script, None));
    };
    let mut best = script;
    let begin = Instant::now();
    loop {
        let mut smaller = None;
        for candidate in candidates(&best, &difference.id) {
            if begin.elapsed() > PATIENCE {
                break;
            }
            let Ok(outcome) = worlds.run(candidate.clone(), known).await else {
                continue;
            };
            if let Some(again) = outcome.difference.filter(|again| again.id == difference.id) {
                smaller = Some((candidate, again));
                break;
            }
        }
        match smaller {
            Some((candidate, again)) => (best, difference) = (candidate, again),
            None => return Ok((best, Some(difference))),
        }
    }
}

/// Smaller scripts, the boldest first.
fn candidates(script: &Script, differs: &str) -> Vec<Script> {
    let mut all = Vec::new();
    let with = |requests: Vec<Step>| Script {
        requests,
        ..script.clone()
    };
    let steps = &script.requests;
    if let Some(at) = steps.iter().position(|step| step.id == differs)
        && at + 1 < steps.len()
    {
        all.push(with(steps[..=at].to_vec()));
    }
    let mut size = steps.len() / 2;
    while size > 0 {
        for begin in (0..steps.len()).step_by(size) {
            let end = (begin + size).min(steps.len());
            if !steps[begin..end].iter().any(|step| step.id == differs) {
                let mut fewer = steps.clone();
                fewer.drain(begin..end);
                all.push(with(fewer));
            }
        }
        size /= 2;
    }
    for (index, step) in steps.iter().enumerate() {
        for smaller in smaller_steps(step) {
            let mut changed = steps.clone();
            changed.splice(index..=index, smaller);
            all.push(with(changed));
        }
    }
    all
}

/// What may stand for a step: itself with less in it, or what it was open for.
fn smaller_steps(step: &Step) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    if let Some(during) = &step.during {
        all.push(during.clone());
        for index in 0..during.len().saturating_sub(1) {
            let mut fewer = during.clone();
            fewer.remove(index);
            all.push(vec![Step {
                during: Some(fewer),
                ..step.clone()
            }]);
        }
    }
    // What is said of all namespaces is not of this sequence alone.
    let parameters = step.request.split_once('?');
    if let Some((path, query)) = parameters.filter(|(path, _)| !path.ends_with("/namespaces")) {
        let parameters: Vec<&str> = query.split('&').collect();
        for index in 0..parameters.len() {
            let mut fewer = parameters.clone();
            fewer.remove(index);
            let query = fewer.join("&");
            let request = format!("{path}{}{query}", if query.is_empty() { "" } else { "?" });
            all.push(vec![Step {
                request,
                ..step.clone()
            }]);
        }
    }
    if step.accept.is_some() {
        all.push(vec![Step {
            accept: None,
            ..step.clone()
        }]);
    }
    all.extend(smaller_values(&step.body).into_iter().map(|body| {
        vec![Step {
            body,
            ..step.clone()
        }]
    }));
    all
}

/// The value without one of its parts.
fn smaller_values(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Object(fields) => {
            for key in fields.keys().filter(|key| *key != "managedBy") {
                let mut fewer = fields.clone();
                fewer.remove(key);
                all.push(fewer.into());
            }
            for (key, field) in fields {
                for smaller in smaller_values(field) {
                    let mut changed = fields.clone();
                    changed.insert(key.clone(), smaller);
                    all.push(changed.into());
                }
            }
        }
        Value::Array(items) => {
            for index in 0..items.len() {
                let mut fewer = items.clone();
                fewer.remove(index);
                all.push(fewer.into());
                for smaller in smaller_values(&items[index]) {
                    let mut changed = items.clone();
                    changed[index] = smaller;
                    all.push(changed.into());
                }
            }
        }
        _ => {}
    }
    all
}
