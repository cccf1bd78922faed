//! Comparing an answer with a recorded one, in which what differs from run to run is a placeholder.
//!
//! The same placeholder stands for the same text everywhere; those of resource versions rise with
//! their number.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::placeholders::{in_order, list_in_order};

/// Which text and which version each placeholder stands for.
#[derive(Clone, Default)]
pub struct Bindings {
    named: HashMap<String, String>,
    versions: BTreeMap<u64, u64>,
}

/// One part of a recorded text.
enum Part<'a> {
    Text(&'a str),
    Placeholder {
        class: &'a str,
        number: Option<u64>,
        all: &'a str,
    },
}

const CLASSES: [&str; 15] = [
    "hex16",
    "uid",
    "rv",
    "rand",
    "continue",
    "ip",
    "hex",
    "etag",
    "time",
    "microtime",
    "nanotime",
    "age",
    "pem",
    "description",
    "port",
];

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut plain = 0;
    while let Some(open) = rest[plain..].find('<').map(|at| at + plain) {
        let close = rest[open..].find('>').map(|at| at + open);
        let inner = close.map(|close| &rest[open + 1..close]);
        let split = inner.map(|inner| inner.split_once(':').unwrap_or((inner, "")));
        match (close, split) {
            (Some(close), Some((class, number))) if CLASSES.contains(&class) => {
                if open > 0 {
                    parts.push(Part::Text(&rest[..open]));
                }
                parts.push(Part::Placeholder {
                    class,
                    number: number.parse().ok(),
                    all: &rest[open..=close],
                });
                rest = &rest[close + 1..];
                plain = 0;
            }
            _ => plain = open + 1,
        }
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

/// How much of `text` a placeholder of this class takes.
fn length(class: &str, text: &str, next: &str) -> Option<usize> {
    let span = |allowed: &dyn Fn(char) -> bool| -> Option<usize> {
        let end = text.find(|c| !allowed(c)).unwrap_or(text.len());
        (end > 0).then_some(end)
    };
    let exactly = |count: usize| (text.len() >= count).then_some(count);
    match class {
        "uid" => exactly(36),
        "rv" | "port" => span(&|c| c.is_ascii_digit()),
        "rand" => exactly(5),
        "continue" => span(&|c| c.is_ascii_alphanumeric() || "-_=".contains(c)),
        "ip" => span(&|c| c.is_ascii_digit() || c == '.'),
        "hex" | "hex16" => span(&|c| c.is_ascii_hexdigit()),
        "etag" => span(&|c| c.is_ascii_hexdigit()),
        "time" => exactly("2026-01-01T00:00:00Z".len()),
        "microtime" => exactly("2026-01-01T00:00:00.000000Z".len()),
        "nanotime" => span(&|c| c.is_ascii_digit() || "-:.TZ".contains(c)),
        "age" => span(&|c| c.is_ascii_alphanumeric() || "<>".contains(c)),
        _ if next.is_empty() => Some(text.len()),
        _ => text.find(next),
    }
}

/// A value for a placeholder that no answer has shown yet.
fn invented(class: &str, number: u64, all: &str) -> String {
    match class {
        "ip" => format!("10.0.0.{number}"),
        "hex" => format!("{number:064x}"),
        _ => all.to_owned(),
    }
}

impl Bindings {
    /// A recorded request with our own values in it. What was never answered becomes the nearest
    /// thing that makes sense.
    #[must_use]
    pub fn fill(&self, text: &str, newest: u64) -> String {
        let mut out = String::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder {
                    class: "rv",
                    number: Some(number),
                    ..
                } => {
                    let known = self.versions.get(&number).copied();
                    let later = self.versions.range(number..).next().is_some();
                    let before = self.versions.range(..number).next_back().map(|(_, v)| *v);
                    let value = known.or(if later { before } else { Some(newest) });
                    out.push_str(&value.unwrap_or(newest).to_string());
                }
                Part::Placeholder { class: "time", .. } => out.push_str("2026-01-01T00:00:00Z"),
                Part::Placeholder {
                    class: "microtime", ..
                } => {
                    out.push_str("2026-01-01T00:00:00.000000Z");
                }
                Part::Placeholder { class, number, all } => match self.named.get(all) {
                    Some(known) => out.push_str(known),
                    None => out.push_str(&invented(class, number.unwrap_or(0), all)),
                },
            }
        }
        out
    }

    /// Whether a text is what was recorded; learns its placeholders if it is.
    fn text(&mut self, recorded: &str, actual: &str) -> Result<(), String> {
        if let Some((head, tail)) = recorded.split_once("…\n") {
            return if actual.starts_with(head) && actual.ends_with(tail) {
                Ok(())
            } else {
                Err(format!("expected {recorded:?}, got {actual:?}"))
            };
        }
        let parts = parts(recorded);
        let mut rest = actual;
        let mut learned = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => {
                    rest = rest
                        .strip_prefix(text)
                        .ok_or_else(|| format!("expected {recorded:?}, got {actual:?}"))?;
                }
                Part::Placeholder { class, number, all } => {
                    let next = match parts.get(index + 1) {
                        Some(Part::Text(text)) => text,
                        _ => "",
                    };
                    let end = length(class, rest, next)
                        .ok_or_else(|| format!("expected {recorded:?}, got {actual:?}"))?;
                    let Some((value, after)) = rest.split_at_checked(end) else {
                        return Err(format!("expected {recorded:?}, got {actual:?}"));
                    };
                    if number.is_some() {
                        learned.push((*class, *number, *all, value));
                    }
                    rest = after;
                }
            }
        }
        if !rest.is_empty() {
            return Err(format!("expected {recorded:?}, got {actual:?}"));
        }
        for (class, number, all, value) in learned {
            if class == "rv" {
                self.version(number.unwrap_or(0), value)?;
            } else {
                let known = self
                    .named
                    .entry(all.to_owned())
                    .or_insert_with(|| value.to_owned());
                if known != value {
                    return Err(format!("{all} was {known:?}, now {value:?}"));
                }
            }
        }
        Ok(())
    }

    fn version(&mut self, number: u64, value: &str) -> Result<(), String> {
        let value: u64 = value
            .parse()
            .map_err(|_| format!("no version: {value:?}"))?;
        if let Some(known) = self.versions.get(&number) {
            return if *known == value {
                Ok(())
            } else {
                Err(format!("<rv:{number}> was {known}, now {value}"))
            };
        }
        let before = self.versions.range(..number).next_back();
        let after = self.versions.range(number..).next();
        if before.is_some_and(|(_, v)| *v > value) || after.is_some_and(|(_, v)| *v < value) {
            return Err(format!(
                "<rv:{number}> = {value} is out of order: {before:?} {after:?}"
            ));
        }
        self.versions.insert(number, value);
        Ok(())
    }

    /// Every difference between a recorded and an actual value.
    pub fn compare(&mut self, recorded: &Value, actual: &Value) -> Vec<String> {
        let mut differences = Vec::new();
        let partly = recorded.get("_recorder_kept").and_then(Value::as_str);
        self.value(
            "",
            recorded,
            actual,
            partly.unwrap_or_default(),
            &mut differences,
        );
        differences
    }

    fn value(
        &mut self,
        path: &str,
        recorded: &Value,
        actual: &Value,
        kept: &str,
        out: &mut Vec<String>,
    ) {
        match (recorded, actual) {
            (Value::Object(recorded), Value::Object(actual)) => {
                for (key, value) in recorded.iter().filter(|(key, _)| *key != "_recorder_kept") {
                    let key = &self.fill(key, 0);
                    let path = format!("{path}.{key}");
                    match actual.get(key) {
                        Some(actual) => self.value(&path, value, actual, kept, out),
                        None => out.push(format!("{path} is missing, expected {}", short(value))),
                    }
                }
                let wanted: Vec<String> = recorded.keys().map(|key| self.fill(key, 0)).collect();
                let more = actual.iter().filter(|(key, _)| !wanted.contains(key));
                let some_keys = kept.starts_with(|c: char| c.is_ascii_digit()) && path != ".paths";
                if kept.is_empty() || some_keys {
                    out.extend(
                        more.map(|(key, value)| {
                            format!("{path}.{key} is too much: {}", short(value))
                        }),
                    );
                }
            }
            (Value::Array(recorded), Value::Array(actual)) => {
                if kept.starts_with(|c: char| c.is_ascii_digit())
                    && !recorded.iter().all(Value::is_string)
                {
                    return self.some_of(path, recorded, actual, out);
                }
                let (recorded, actual) = (&ordered(path, recorded), &ordered(path, actual));
                if recorded.len() != actual.len() {
                    out.push(format!(
                        "{path} has {} items, expected {}: {}",
                        actual.len(),
                        recorded.len(),
                        short(&Value::from(actual.clone()))
                    ));
                }
                for (index, (recorded, actual)) in recorded.iter().zip(actual).enumerate() {
                    let path = format!("{path}[{index}]");
                    let actual = if recorded.is_string() && actual.is_object() {
                        &actual["metadata"]["name"]
                    } else {
                        actual
                    };
                    self.value(&path, recorded, actual, kept, out);
                }
            }
            (Value::String(recorded), Value::String(actual)) => {
                let (recorded, actual) = (&list_in_order(recorded), &list_in_order(actual));
                if let Err(why) = self.text(recorded, actual) {
                    out.push(format!("{path}: {why}"));
                }
            }
            (recorded, actual) if recorded == actual => {}
            (recorded, actual) => out.push(format!(
                "{path}: expected {}, got {}",
                short(recorded),
                short(actual)
            )),
        }
    }

    /// Each recorded item must be among the actual ones.
    fn some_of(&mut self, path: &str, recorded: &[Value], actual: &[Value], out: &mut Vec<String>) {
        for item in recorded {
            let mut fewest: Option<(Vec<String>, Self)> = None;
            for candidate in actual {
                let mut differences = Vec::new();
                let mut learned = self.clone();
                learned.value(path, item, candidate, "1 of 1", &mut differences);
                if fewest
                    .as_ref()
                    .is_none_or(|(best, _)| differences.len() < best.len())
                {
                    fewest = Some((differences, learned));
                }
            }
            match fewest {
                Some((differences, learned)) => {
                    *self = learned;
                    out.extend(differences);
                }
                None => out.push(format!("{path} is empty")),
            }
        }
    }
}

fn ordered(path: &str, items: &[Value]) -> Vec<Value> {
    in_order(path.rsplit('.').next().unwrap_or_default(), items.to_vec())
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 300 {
        format!("{}…", text.chars().take(300).collect::<String>())
    } else {
        text
    }
}
