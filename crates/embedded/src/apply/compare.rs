//! What a write changed: paths that came, went, or have another value.

use serde_json::Value;

use super::{
    set::Set,
    shape::{self, Parts},
};
use crate::schema::Schema;

/// The difference between two states of an object.
#[derive(Debug, Default)]
pub(super) struct Changes {
    added: Set,
    modified: Set,
    /// Paths that are gone.
    pub(super) removed: Set,
}

impl Changes {
    pub(super) fn between(schema: &Schema, old: &Value, new: &Value) -> Self {
        let mut changes = Self::default();
        walk(
            Some(schema),
            old,
            new,
            true,
            &mut changes.added,
            &mut changes.removed,
            &mut changes.modified,
        );
        for set in [
            &mut changes.added,
            &mut changes.removed,
            &mut changes.modified,
        ] {
            set.tidy();
        }
        changes
    }

    /// What the writer of the new state owns by it.
    pub(super) fn gained(&self) -> Set {
        let mut gained = self.added.clone();
        gained.unite(&self.modified);
        gained
    }
}

fn walk(
    schema: Option<&Schema>,
    old: &Value,
    new: &Value,
    root: bool,
    added: &mut Set,
    removed: &mut Set,
    modified: &mut Set,
) {
    let (before, after) = (
        shape::parts(schema, old, root),
        shape::parts(schema, new, root),
    );
    let (before, after) = match (before, after) {
        (Parts::Whole, Parts::Whole) => {
            if old != new {
                modified.insert();
            }
            return;
        }
        (before, after) => (list(before), list(after)),
    };
    for (element, inner, new) in &after {
        match before.iter().find(|(e, _, _)| e == element) {
            Some((_, _, old)) => walk(
                *inner,
                old,
                new,
                false,
                added.child_mut(element.clone()),
                removed.child_mut(element.clone()),
                modified.child_mut(element.clone()),
            ),
            None => added
                .child_mut(element.clone())
                .unite(&Set::of_all(*inner, new, false)),
        }
    }
    for (element, inner, old) in &before {
        if !after.iter().any(|(e, _, _)| e == element) {
            removed
                .child_mut(element.clone())
                .unite(&Set::of_all(*inner, old, false));
        }
    }
}

type Part<'a> = (String, Option<&'a Schema>, &'a Value);

fn list(parts: Parts<'_>) -> Vec<Part<'_>> {
    match parts {
        Parts::Whole => Vec::new(),
        Parts::Parts(parts) => parts,
    }
}
