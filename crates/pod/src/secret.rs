//! The forms that a secret may be printed in: one rule for all who hide secrets.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// What stands in place of a secret.
pub const HIDDEN: &str = "***";
/// Bytes that a form has at least: hiding what is shorter would hide words.
pub const SHORTEST: usize = 8;
/// Bytes that a form has at most; what is longer is hidden in pieces of that size. Who hides secrets in a stream holds
/// back no more than that.
pub const LONGEST: usize = 4096;
/// Bytes that a word has at least to be hidden without the rest of its line: `password` is one, too.
const SHORTEST_WORD: usize = 16;

/// The forms of a value: its lines; where it is JSON the strings in it, else the long words of its lines (`.netrc` and
/// `.env` have the secret behind its name); each of them as it stands inside of JSON; whole values, strings and words in
/// base64, whatever stands around them.
#[must_use]
pub fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let value = value.trim_ascii();
    let mut parts = BTreeSet::from([value.to_vec()]);
    match serde_json::from_slice(value) {
        Ok(json) => strings(&json, &mut parts),
        Err(_) => parts.extend(value.split(|byte| *byte == b'\n').flat_map(words)),
    }
    let encoded = parts
        .iter()
        .filter(|part| (SHORTEST..=LONGEST).contains(&part.len()));
    let encoded: Vec<_> = encoded.flat_map(|part| base64(part)).collect();
    // The frame of a key in PEM is the same for all.
    let lines = parts
        .iter()
        .flat_map(|part| part.split(|byte| *byte == b'\n'))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.starts_with(b"-----"));
    lines
        .flat_map(|line| [line.to_vec(), in_json(line)])
        .chain(encoded)
        .flat_map(|form| {
            let pieces = form.chunks(LONGEST).map(<[u8]>::to_vec);
            pieces.collect::<Vec<_>>()
        })
        .filter(|form| form.len() >= SHORTEST)
        .collect()
}

fn strings(json: &Value, found: &mut BTreeSet<Vec<u8>>) {
    match json {
        Value::String(text) => {
            found.insert(text.trim().as_bytes().to_vec());
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The long words of a line that has more than one: alone it is the line.
fn words(line: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let line = line.trim_ascii();
    line.split(|byte| byte.is_ascii_whitespace() || b"\"'=".contains(byte))
        .filter(move |word| word.len() >= SHORTEST_WORD && word.len() < line.len())
        .map(<[u8]>::to_vec)
}

fn in_json(text: &[u8]) -> Vec<u8> {
    let quoted = Value::from(String::from_utf8_lossy(text)).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

/// The letters that the bytes have at each of the three places in a group where they may begin. Those that depend on what
/// stands before or behind are left out.
fn base64(bytes: &[u8]) -> [Vec<u8>; 3] {
    [0, 1, 2].map(|before| {
        let all = [&[0; 2][..before], bytes].concat();
        let (begin, end) = ([0, 2, 3][before], all.len() / 3 * 4 + all.len() % 3);
        STANDARD.encode(all).as_bytes()[begin..end].to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(value: &str, text: &str) -> String {
        let forms = forms(value.as_bytes());
        let mut forms: Vec<_> = forms
            .iter()
            .map(|form| std::str::from_utf8(form).expect("text"))
            .collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms
            .iter()
            .fold(text.to_owned(), |text, form| text.replace(form, HIDDEN))
    }

    #[test]
    fn a_key_is_hidden_whatever_file_it_is_in() {
        for file in [
            r#"{"anthropic":{"type":"api","key":"sk-ant-0123456789"}}"#,
            "machine host login me password sk-ant-0123456789\n",
            "ANTHROPIC_API_KEY=sk-ant-0123456789\n",
            "token: \"sk-ant-0123456789\"\n",
            "sk-ant-0123456789\n",
        ] {
            let text = "the key sk-ant-0123456789 is of type api and no password";
            let expected = "the key *** is of type api and no password";
            assert_eq!(hidden(file, text), expected, "{file}");
        }
    }

    #[test]
    fn base64_is_known_whatever_stands_around() {
        let secret = "hush-hush-hush";
        for around in [
            ("", ""),
            ("", "\n"),
            ("me:", ""),
            ("m:", "\n"),
            ("ab", "cd"),
        ] {
            let encoded = STANDARD.encode(format!("{}{secret}{}", around.0, around.1));
            let shown = hidden(secret, &encoded);
            let left = shown.replace(HIDDEN, "").len();
            assert!(shown.contains(HIDDEN) && left <= 8, "{around:?}: {shown}");
        }
    }

    #[test]
    fn quotes_and_backslashes_at_the_end_leave_json_whole() {
        for secret in ["password\"", "pass\"word\\"] {
            let text = Value::from(format!("a {secret} b")).to_string();
            assert_eq!(hidden(secret, &text), r#""a *** b""#);
        }
    }

    #[test]
    fn a_pem_key_is_hidden_line_by_line_without_its_frame() {
        let key = "-----BEGIN KEY-----\nfirst line\nsecond line\n-----END KEY-----\n";
        assert_eq!(
            hidden(key, "-----BEGIN KEY-----: first line, second line"),
            "-----BEGIN KEY-----: ***, ***"
        );
    }

    #[test]
    fn what_is_short_is_no_secret() {
        assert!(forms(b"true\nno").is_empty());
    }

    #[test]
    fn no_form_is_longer_than_what_may_be_held_back() {
        let forms = forms("x".repeat(3 * LONGEST).as_bytes());
        assert!(!forms.is_empty() && forms.iter().all(|form| form.len() <= LONGEST));
    }
}
