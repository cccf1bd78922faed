//! What differs from run to run becomes a placeholder: the same value, the same placeholder.
//!
//! `<uid:N>` and `<rand:N>` count in order of appearance. Resource versions are only known in their order when all have
//! been seen, so they stand as `<rv:VALUE>` (of an object) and `<rv:VALUE+N>` (of a list or bookmark, which may be any
//! later one) until [`Placeholders::number_versions`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

static UID: LazyLock<Regex> =
    LazyLock::new(|| pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"));
static AGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d+[smhdy])+$"));
static TOKEN_VOLUME: LazyLock<Regex> =
    LazyLock::new(|| pattern("^(kube-api-access-)([a-z0-9]{5})$"));
static TOLD_VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(ResourceVersion in (?:the precondition|record) \()(\d+)\)"));
static META_VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(ResourceVersion in (?:precondition|object meta): )(\d+)"));
static PRINTED_VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(resourceVersion\\?"?: ?\\?")(\d+)"#));
static PRESENT_VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(Too large resource version: \d+, current: )(\d+)"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"<rv:(\d+)(?:\+(\d+))?>"));

#[expect(clippy::expect_used, reason = "the patterns are constants")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// What has been given a placeholder so far.
#[derive(Debug, Default)]
pub struct Placeholders {
    uids: HashMap<String, usize>,
    /// Whole generated names, and what stands for them.
    names: BTreeMap<String, String>,
    continues: BTreeMap<String, String>,
    /// `generateName`s that have been asked for.
    generated: Vec<Regex>,
    lists: usize,
}

impl Placeholders {
    /// Names may come that begin with this: it was asked for as `generateName`.
    pub fn expect_generated(&mut self, head: &str) {
        self.generated.extend(Regex::new(&format!(
            "\\b({})[a-z0-9]{{5}}\\b",
            regex::escape(head)
        )));
    }

    /// An answer with placeholders.
    pub fn answer(&mut self, body: &Value) -> Value {
        self.learn(body);
        self.value(body, "")
    }

    /// Generated names and continue tokens, which may stand before the field that tells of them.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(fields) => {
                let text = |key: &str| fields.get(key).and_then(Value::as_str);
                if let (Some(head), Some(name)) = (text("generateName"), text("name"))
                    && name.strip_prefix(head).is_some_and(|tail| tail.len() == 5)
                {
                    self.random(name, head);
                }
                if let Some(token) = text("continue").filter(|token| !token.is_empty()) {
                    let number = self.continues.len() + 1;
                    let entry = self.continues.entry(token.to_owned());
                    entry.or_insert_with(|| format!("<continue:{number}>"));
                }
                fields.values().for_each(|field| self.learn(field));
            }
            _ => {}
        }
    }

    fn random(&mut self, name: &str, head: &str) {
        let number = self.names.len() + 1;
        let entry = self.names.entry(name.to_owned());
        entry.or_insert_with(|| format!("{head}<rand:{number}>"));
    }

    fn value(&mut self, value: &Value, key: &str) -> Value {
        match value {
            Value::String(text) => self.text(text, key).into(),
            Value::Array(items) => {
                let items: Vec<Value> = items.iter().map(|item| self.value(item, key)).collect();
                in_order(key, items).into()
            }
            Value::Object(fields) => Value::Object(self.object(fields)),
            other => other.clone(),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>) -> Map<String, Value> {
        let is_list = !fields.contains_key("uid") && !fields.contains_key("name");
        let mut out = Map::new();
        for (key, value) in fields {
            let value = match value {
                Value::String(version) if key == "resourceVersion" && is_number(version) => {
                    if is_list {
                        self.lists += 1;
                        format!("<rv:{version}+{}>", self.lists).into()
                    } else {
                        format!("<rv:{version}>").into()
                    }
                }
                value => self.value(value, key),
            };
            out.insert(self.text(key, ""), value);
        }
        out
    }

    /// A text with placeholders.
    pub fn text(&mut self, text: &str, key: &str) -> String {
        if text.starts_with("-----BEGIN ") {
            return "<pem>".to_owned();
        }
        if key == "cells" && AGE.is_match(text) {
            return "<age>".to_owned();
        }
        for pattern in self.generated.clone() {
            for found in pattern.captures_iter(text) {
                self.random(&found[0], &found[1]);
            }
        }
        if let Some(found) = TOKEN_VOLUME.captures(text) {
            let head = found[1].to_owned();
            self.random(text, &head);
        }
        if key == "description" && !text.starts_with("Custom resource definition column") {
            // Kubernetes' own words, as far as they are answered: those of columns.
            return "<description>".to_owned();
        }
        let text = list_in_order(text);
        let text = TOLD_VERSION.replace_all(&text, "$1<rv:$2>)");
        let text = PRINTED_VERSION.replace_all(&text, "$1<rv:$2>");
        let text = META_VERSION.replace_all(&text, "$1<rv:$2>");
        let text = PRESENT_VERSION.replace_all(&text, |found: &Captures| {
            self.lists += 1;
            format!("{}<rv:{}+{}>", &found[1], &found[2], self.lists)
        });
        let text = UID.replace_all(&text, |found: &Captures| self.uid(&found[0]));
        let text = TIME.replace_all(&text, |found: &Captures| time(&found[0]));
        let mut text = text.into_owned();
        for (known, placeholder) in self.continues.iter().chain(&self.names) {
            if text.contains(known.as_str()) {
                text = text.replace(known.as_str(), placeholder);
            }
        }
        text
    }

    fn uid(&mut self, uid: &str) -> String {
        // Constants of a script stay as they are.
        if uid
            .bytes()
            .filter(|byte| *byte != b'-')
            .all(|byte| byte == uid.as_bytes()[0])
        {
            return uid.to_owned();
        }
        let next = self.uids.len() + 1;
        let number = self.uids.entry(uid.to_owned()).or_insert(next);
        format!("<uid:{number}>")
    }

    /// Numbers the resource versions of a whole recording in their order, so that a later one has a higher number.
    #[must_use]
    pub fn number_versions(recording: &str) -> String {
        let read = |found: &Captures| -> (u64, usize) {
            let list = found.get(2).map_or(Ok(0), |list| list.as_str().parse());
            (found[1].parse().unwrap_or(0), list.unwrap_or(0))
        };
        let all: BTreeSet<(u64, usize)> = VERSION
            .captures_iter(recording)
            .map(|found| read(&found))
            .collect();
        let numbers: HashMap<(u64, usize), usize> = all.into_iter().zip(1..).collect();
        let number = |found: &Captures| format!("<rv:{}>", numbers[&read(found)]);
        VERSION.replace_all(recording, number).into_owned()
    }
}

fn is_number(text: &str) -> bool {
    // 1, 2 and 999999999 are constants of scripts.
    text.len() > 1 && text != "999999999" && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Times of January 2026 are constants of scripts, that of January 2006 is how Go writes down a form of times.
fn time(text: &str) -> String {
    if text.starts_with("2026-01-") || text.starts_with("2006-01-02T15:04:05") {
        return text.to_owned();
    }
    let fraction = text.find('.').map_or(0, |dot| {
        text[dot + 1..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count()
    });
    let class = match fraction {
        0 => "<time>",
        6 => "<microtime>",
        _ => "<nanotime>",
    };
    class.to_owned()
}

/// Lists whose order says nothing come in one order: the faults of an object and the resources of a group, which the
/// real server finds in the order of a Go map; managers, which it sorts by the second in which they wrote; what a user
/// may do, by the order in which the server heard of it.
#[must_use]
pub fn in_order(list: &str, mut items: Vec<Value>) -> Vec<Value> {
    let keys: &[&str] = match list {
        "causes" => &["field", "reason", "message"],
        "managedFields" => &["operation", "manager", "subresource", "apiVersion"],
        "resources" => &["name"],
        "resourceRules" | "nonResourceRules" => &["verbs", "resources", "nonResourceURLs"],
        _ => return items,
    };
    items.sort_by_key(|item| {
        keys.iter()
            .map(|key| item[*key].to_string())
            .collect::<Vec<_>>()
    });
    items
}

/// The list of faults in a message, likewise.
#[must_use]
pub fn list_in_order(message: &str) -> String {
    match message.split_once(" is invalid: [") {
        Some((head, list)) if list.ends_with(']') => {
            let mut faults: Vec<&str> = list.trim_end_matches(']').split(", ").collect();
            faults.sort_unstable();
            format!("{head} is invalid: [{}]", faults.join(", "))
        }
        _ => message.to_owned(),
    }
}
