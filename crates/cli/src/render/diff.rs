//! The change of a file in a few lines.

use std::time::Duration;

use kubeopencode_agents::Change;
use similar::{ChangeTag, TextDiff};

use super::text::{cut, tame};

/// Lines that are shown of one change.
const SHOWN: usize = 12;
/// How long to look for the best way to tell it. What is found then is right too, but longer.
const PATIENCE: Duration = Duration::from_millis(100);

/// A change, for people.
pub(super) struct Diff {
    /// Lines that are new.
    pub(super) added: usize,
    /// Lines that are gone.
    pub(super) removed: usize,
    /// The first of them, each behind a sign, with one line around.
    pub(super) lines: Vec<String>,
}

/// What a call changes.
pub(super) fn of(change: &Change, width: usize) -> Diff {
    let (before, after) = (tame(&change.before), tame(&change.after));
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(&before, &after);
    let (mut added, mut removed, mut lines, mut left) = (0, 0, Vec::new(), 0_usize);
    for group in diff.grouped_ops(1) {
        for line in group
            .iter()
            .flat_map(|operation| diff.iter_changes(operation))
        {
            let sign = match line.tag() {
                ChangeTag::Insert => '+',
                ChangeTag::Delete => '-',
                ChangeTag::Equal => ' ',
            };
            added += usize::from(sign == '+');
            removed += usize::from(sign == '-');
            if lines.len() < SHOWN {
                lines.push(cut(&format!("{sign} {}", line.value().trim_end()), width));
            } else {
                left += 1;
            }
        }
    }
    if left > 0 {
        lines.push(format!("… {left} more lines"));
    }
    Diff {
        added,
        removed,
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> Diff {
        let change = Change {
            path: "a".into(),
            before: before.into(),
            after: after.into(),
        };
        of(&change, 100)
    }

    #[test]
    fn a_change_has_signs_and_a_line_around() {
        let diff = change("one\ntwo\nthree\nfour\n", "one\ntwo\n3\nfour\n");
        assert_eq!(diff.lines, ["  two", "- three", "+ 3", "  four"]);
        assert_eq!((diff.added, diff.removed), (1, 1));
    }

    #[test]
    fn a_long_one_is_cut_and_counted() {
        let diff = change("", &"line\n".repeat(100));
        assert_eq!(diff.lines.len(), SHOWN + 1);
        assert_eq!(diff.lines.last().expect("the last"), "… 88 more lines");
        assert_eq!(diff.added, 100);
    }
}
