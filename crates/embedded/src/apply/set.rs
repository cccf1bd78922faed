//! Sets of fields, and their form in `managedFields` (`FieldsV1`).
//!
//! Path elements are kept in the form they have there: `f:name`, `k:{"name":"a"}`, `v:"x"`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::{self, Parts};
use crate::schema::{ListType, Schema};

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// Whether the path to here is a member.
    member: bool,
    children: BTreeMap<String, Set>,
}

impl Set {
    /// The fields of an applied configuration: its leaves, keys of maps and items of lists, but not the structs on
    /// the way to them.
    pub(super) fn of_configuration(schema: &Schema, value: &Value) -> Self {
        let mut set = Self::default();
        set.collect(Some(schema), value, true);
        set.tidy();
        set
    }

    fn collect(&mut self, schema: Option<&Schema>, value: &Value, root: bool) {
        // A list of items that has none names nothing.
        let of_items = schema.is_some_and(|s| s.list_type != ListType::Atomic);
        if of_items && value.as_array().is_some_and(Vec::is_empty) {
            return;
        }
        let Parts::Parts(parts) = shape::parts(schema, value, root) else {
            self.member = true;
            return;
        };
        for (element, inner, value) in parts {
            let declared = element.strip_prefix("f:").is_some_and(|name| {
                (root && name == "metadata") || schema.is_some_and(|s| s.declares(name))
            });
            let child = self.children.entry(element).or_default();
            child.collect(inner, value, false);
            child.member |= !declared;
        }
    }

    /// All paths in a value, also those of structs and lists on the way.
    pub(super) fn of_all(schema: Option<&Schema>, value: &Value, root: bool) -> Self {
        let mut set = Self {
            member: true,
            children: BTreeMap::new(),
        };
        if let Parts::Parts(parts) = shape::parts(schema, value, root) {
            for (element, inner, value) in parts {
                set.children
                    .insert(element, Self::of_all(inner, value, false));
            }
        }
        set
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    pub(super) fn child(&self, element: &str) -> Option<&Self> {
        self.children.get(element)
    }

    /// Makes the path to here a member.
    pub(super) fn insert(&mut self) {
        self.member = true;
    }

    pub(super) fn child_mut(&mut self, element: String) -> &mut Self {
        self.children.entry(element).or_default()
    }

    /// Drops branches without members.
    pub(super) fn tidy(&mut self) {
        self.children.retain(|_, child| {
            child.tidy();
            !child.is_empty()
        });
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.children
                .entry(element.clone())
                .or_default()
                .unite(child);
        }
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let child = match other.children.get(element) {
                Some(other) => child.without(other),
                None => child.clone(),
            };
            (!child.is_empty()).then(|| (element.clone(), child))
        });
        Self {
            children: children.collect(),
            member: self.member && !other.member,
        }
    }

    pub(super) fn common(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let child = child.common(other.children.get(element)?);
            (!child.is_empty()).then(|| (element.clone(), child))
        });
        Self {
            children: children.collect(),
            member: self.member && other.member,
        }
    }

    /// Drops a path and all below it.
    pub(super) fn remove_below(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.remove_below(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// Drops a path, but not what is below it.
    pub(super) fn disown(&mut self, path: &[&str]) {
        match path {
            [] => self.member = false,
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.disown(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// The members as text (`.spec.ports[name="a"].number`), in order.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member && !prefix.is_empty() {
            paths.push(prefix.to_owned());
        }
        // Fields that have none below them come first.
        let (leaves, others): (Vec<_>, Vec<_>) = self
            .children
            .iter()
            .partition(|(_, child)| child.children.is_empty());
        for (element, child) in leaves.into_iter().chain(others) {
            child.collect_paths(&format!("{prefix}{}", element_text(element)), paths);
        }
    }

    /// From `fieldsV1`.
    pub(super) fn decode(fields: &Value) -> Self {
        let mut set = Self::default();
        for (element, below) in fields.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
                continue;
            }
            let mut child = Self::decode(below);
            child.member |= below.as_object().is_some_and(Map::is_empty);
            set.children.insert(element.clone(), child);
        }
        set
    }

    /// To `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            fields.insert(element.clone(), child.encode());
        }
        Value::Object(fields)
    }
}

/// A path element as messages write it: `.name`, `[key="value"]`, `[="value"]`.
pub(super) fn element_text(element: &str) -> String {
    let (form, rest) = element.split_once(':').unwrap_or(("f", element));
    match form {
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
        "v" => format!("[={rest}]"),
        "i" => format!("[{rest}]"),
        _ => format!(".{rest}"),
    }
}
