//! Hides secrets in what is printed, whatever pieces it comes in.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use kubeopencode_pod::secret::{HIDDEN, forms};

/// Bytes of all forms up to which memory does not matter.
const SMALL: usize = 16 * 1024;

/// Hides some secrets in one stream.
pub(crate) struct Mask {
    finder: AhoCorasick,
    /// Sorted, none twice.
    forms: Vec<Vec<u8>>,
    longest: usize,
    /// What may be the beginning of a secret. Shorter than the longest form.
    held: Vec<u8>,
}

impl Mask {
    /// Hides these values in their [`forms`]. None if they have none.
    pub(crate) fn of(values: &[Vec<u8>]) -> Option<Self> {
        let mut all: Vec<Vec<u8>> = values.iter().flat_map(|value| forms(value)).collect();
        all.sort_unstable();
        all.dedup();
        let longest = all.iter().map(Vec::len).max()?;
        let total: usize = all.iter().map(Vec::len).sum();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // What is faster needs hundreds of MiB for a large Secret.
            .kind((total > SMALL).then_some(AhoCorasickKind::ContiguousNFA))
            .build(&all)
            .ok()?;
        Some(Self {
            finder,
            forms: all,
            longest,
            held: Vec::new(),
        })
    }

    /// The next piece; answers what can be shown by now.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(self.held.len());
        let mut done = 0;
        let mut keep = None;
        for found in self.finder.find_iter(&self.held) {
            // A longer one may have begun, here or before: it decides what is hidden, and it has not ended yet.
            keep = self.begun(done..found.start() + 1);
            if keep.is_some() {
                break;
            }
            shown.extend_from_slice(&self.held[done..found.start()]);
            shown.extend_from_slice(HIDDEN.as_bytes());
            done = found.end();
        }
        let keep = keep
            .or_else(|| self.begun(done..self.held.len()))
            .unwrap_or(self.held.len());
        shown.extend_from_slice(&self.held[done..keep]);
        self.held.drain(..keep);
        shown
    }

    /// Nothing more comes: what was begun does not end.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.hide(&held)
    }

    /// Something whole, apart from the stream.
    pub(crate) fn hide(&self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        self.finder
            .replace_all_with_bytes(bytes, &mut shown, |_, _, shown| {
                shown.extend_from_slice(HIDDEN.as_bytes());
                true
            });
        shown
    }

    /// The first of these places in what is held where something begins that has not ended.
    fn begun(&self, places: std::ops::Range<usize>) -> Option<usize> {
        let first = self.held.len().saturating_sub(self.longest - 1);
        (places.start.max(first)..places.end).find(|&at| {
            let tail = &self.held[at..];
            let next = self.forms.partition_point(|form| form.as_slice() <= tail);
            let longer = self.forms.get(next);
            longer.is_some_and(|form| form.starts_with(tail))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        let values: Vec<Vec<u8>> = secrets
            .iter()
            .map(|secret| secret.as_bytes().to_vec())
            .collect();
        Mask::of(&values).expect("secrets")
    }

    fn masked(secrets: &[&str], pieces: &[&str]) -> String {
        let mut mask = mask(secrets);
        let mut shown = Vec::new();
        for piece in pieces {
            shown.extend(mask.feed(piece.as_bytes()));
        }
        shown.extend(mask.finish());
        String::from_utf8(shown).expect("text")
    }

    /// Also where one is the beginning of another, or stands in its middle.
    #[test]
    fn wherever_it_is_cut() {
        let secrets = ["secret-key", "secret-key-and-more", "ret-key-and"];
        let text = "a secret-key, secret-key-and-more, ret-key-and, secret-key-and-mo, secret-ke";
        let expected = "a ***, ***, ***, ***-and-mo, secret-ke";
        for at in 0..=text.len() {
            for end in at..=text.len() {
                let pieces = [&text[..at], &text[at..end], &text[end..]];
                assert_eq!(masked(&secrets, &pieces), expected, "{pieces:?}");
            }
        }
    }

    #[test]
    fn nothing_is_held_back_but_what_may_become_a_secret() {
        let mut mask = mask(&["topsecret"]);
        assert_eq!(mask.feed(b"a prompt> "), b"a prompt> ");
        assert_eq!(mask.feed(b"to"), b"");
        assert_eq!(mask.feed(b"day"), b"today");
    }

    #[test]
    fn what_is_short_is_no_secret() {
        assert!(Mask::of(&[b"true".to_vec(), b"\n".to_vec()]).is_none());
    }
}
