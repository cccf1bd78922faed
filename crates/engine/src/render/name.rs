//! Names of what is created for a Run.

use sha2::{Digest as _, Sha256};

use crate::run::Owner;

/// Longest label value, and longest name of a Job: it becomes a label value of its Pods.
const LONGEST_LABEL: usize = 63;
/// Letters that tell a re-created owner, and a later attempt, from its predecessor.
const LETTERS: usize = 6;

/// Name of the Job of an attempt, counted from 1. It follows from the owner's name, UID and the attempt, is at most 63
/// characters long (it becomes a label value) and a valid DNS label.
#[must_use]
pub fn job_name(owner: &Owner, attempt: u32) -> String {
    let seed = format!("{}/{attempt}", owner.uid);
    // A dot is allowed in the owner's name, but not in a DNS label.
    let name = owner.name.replace('.', "-");
    cut(&name, &letters(seed.as_bytes(), LETTERS))
}

/// An object's name as a label value: itself, or, when it is too long, cut and told apart by letters.
#[must_use]
pub fn label_value(name: &str) -> String {
    if name.len() <= LONGEST_LABEL {
        name.to_owned()
    } else {
        cut(name, &letters(name.as_bytes(), LETTERS))
    }
}

/// `<name>-<suffix>`, the name cut so that the whole fits into a label.
fn cut(name: &str, suffix: &str) -> String {
    let longest = LONGEST_LABEL - suffix.len() - 1;
    let mut end = name.len().min(longest);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let kept = name.get(..end).unwrap_or_default();
    let kept = kept.trim_end_matches(['-', '.', '_']);
    format!("{kept}-{suffix}")
}

/// Lower-case letters that follow from the seed.
pub(super) fn letters(seed: &[u8], count: usize) -> String {
    Sha256::digest(seed)
        .iter()
        .take(count)
        .map(|byte| char::from(b'a' + byte % 26))
        .collect()
}
