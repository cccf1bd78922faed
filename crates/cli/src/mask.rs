//! Hides secrets in what is printed, whatever pieces it comes in.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What stands in place of a secret.
const HIDDEN: &[u8] = b"***";

/// Bytes that a secret has at least: hiding what is shorter would hide words.
const SHORTEST: usize = 8;

/// Hides some secrets in one stream.
pub(crate) struct Mask {
    finder: AhoCorasick,
    secrets: Vec<Vec<u8>>,
    longest: usize,
    /// What may be the beginning of a secret.
    held: Vec<u8>,
}

impl Mask {
    /// Hides these values, each line of one by itself, also as they stand inside of JSON and in base64. None if there are
    /// none that are long enough.
    pub(crate) fn of(values: Vec<Vec<u8>>) -> Option<Self> {
        let mut secrets: Vec<Vec<u8>> = Vec::new();
        for value in values {
            for line in value.split(|byte| *byte == b'\n') {
                let line = line.trim_ascii();
                // The frame of a key in PEM is the same for all.
                if line.starts_with(b"-----") {
                    continue;
                }
                let quoted =
                    serde_json::to_string(&String::from_utf8_lossy(line)).unwrap_or_default();
                let quoted = quoted.trim_matches('"').as_bytes().to_vec();
                secrets.extend([line.to_vec(), quoted]);
            }
            if value.len() >= SHORTEST {
                secrets.push(STANDARD.encode(&value).into_bytes());
            }
        }
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_unstable();
        secrets.dedup();
        let longest = secrets.iter().map(Vec::len).max()?;
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&secrets)
            .ok()?;
        Some(Self {
            finder,
            secrets,
            longest,
            held: Vec::new(),
        })
    }

    /// The next piece; answers what can be shown by now.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(self.held.len());
        let mut done = 0;
        for found in self.finder.find_iter(&self.held) {
            shown.extend_from_slice(&self.held[done..found.start()]);
            shown.extend_from_slice(HIDDEN);
            done = found.end();
        }
        let rest = &self.held[done..];
        let begins = |tail: &[u8]| self.secrets.iter().any(|secret| secret.starts_with(tail));
        let first = rest.len().saturating_sub(self.longest.saturating_sub(1));
        let keep = (first..rest.len()).find(|&at| begins(&rest[at..]));
        let keep = keep.unwrap_or(rest.len());
        shown.extend_from_slice(&rest[..keep]);
        self.held.drain(..done + keep);
        shown
    }

    /// Nothing more comes: what was held back was no secret.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], pieces: &[&str]) -> String {
        let values = secrets.iter().map(|secret| secret.as_bytes().to_vec());
        let mut mask = Mask::of(values.collect()).expect("secrets");
        let mut shown = Vec::new();
        for piece in pieces {
            shown.extend(mask.feed(piece.as_bytes()));
        }
        shown.extend(mask.finish());
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn a_secret_is_hidden_in_each_of_its_forms() {
        let secret = "pass\"word\\1";
        for form in [
            secret.to_owned(),
            serde_json::to_string(secret).expect("JSON"),
            STANDARD.encode(secret),
        ] {
            let shown = masked(&[secret], &["a ", &form, " b"]);
            assert!(!shown.contains(&form) && shown.contains("***"), "{shown}");
        }
        let key = "-----BEGIN KEY-----\nfirst line\nsecond line\n-----END KEY-----\n";
        assert_eq!(
            masked(&[key], &["-----BEGIN KEY----- first line, second line"]),
            "-----BEGIN KEY----- ***, ***"
        );
    }

    #[test]
    fn wherever_it_is_cut() {
        let text = "say secret-secret-key twice secret-secret-key, and secret-sec";
        for at in 0..text.len() {
            for end in at..text.len() {
                let pieces = [&text[..at], &text[at..end], &text[end..]];
                assert_eq!(
                    masked(&["secret-secret-key"], &pieces),
                    "say *** twice ***, and secret-sec"
                );
            }
        }
    }

    #[test]
    fn nothing_is_held_back_but_what_may_become_a_secret() {
        let mut mask = Mask::of(vec![b"topsecret".to_vec()]).expect("secrets");
        assert_eq!(mask.feed(b"a prompt> "), b"a prompt> ");
        assert_eq!(mask.feed(b"to"), b"");
        assert_eq!(mask.feed(b"day"), b"today");
    }

    #[test]
    fn what_is_short_is_no_secret() {
        assert!(Mask::of(vec![b"true".to_vec(), b"\n".to_vec()]).is_none());
    }
}
