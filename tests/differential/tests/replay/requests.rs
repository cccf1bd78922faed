//! `requests.jsonl`, the first recording: made by another recorder, which did not keep every request's body as it was
//! sent.

use kubeopencode_differential::exchange::Exchange;
use serde_json::Value;

pub(super) fn load(lines: &str) -> Vec<Exchange> {
    lines
        .lines()
        .map(|line| {
            let mut exchange: Exchange = serde_json::from_str(line).expect("a recorded exchange");
            exchange.body = request_body(&exchange.id, line);
            exchange
        })
        .collect()
}

/// The body as it was sent: objects in the order of the recording, with a space after commas and
/// colons, and what the recording only describes made up again.
fn request_body(id: &str, line: &str) -> String {
    let (_, rest) = line
        .split_once(",\"request_body\":")
        .expect("a request body");
    let end = rest
        .match_indices(",\"status\":")
        .map(|(at, _)| at)
        .find(|at| rest[*at..].contains("\"response_headers\"") && is_code(&rest[*at + 10..]))
        .expect("a status behind the body");
    let raw = &rest[..end];
    if raw == "null" {
        return String::new();
    }
    if let Ok(Value::String(text)) = serde_json::from_str(raw) {
        return described(&text).unwrap_or(text);
    }
    let text = spaced(raw);
    match id {
        "fv-strict-dup" | "fv-warn-dup" => {
            text.replacen("\"data\":", "\"data\": {\"k\": \"one\"}, \"data\":", 1)
        }
        // The recorder left this one number as it was.
        "jp-test-rv" => text.replacen("892", "<rv:36>", 1),
        "fv-cr-strict-dup" => text.replacen("\"size\":", "\"size\": 1, \"size\":", 1),
        _ => text,
    }
}

fn is_code(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|head| head.ends_with(',') && head[..3].bytes().all(|b| b.is_ascii_digit()))
}

fn described(text: &str) -> Option<String> {
    let words: Vec<&str> = text.strip_prefix("(ConfigMap ")?.split(' ').collect();
    let name = words.first()?;
    let count: usize = words.iter().find_map(|word| word.parse().ok())?;
    let big = "x".repeat(count);
    let head = format!(
        "\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"{name}\""
    );
    Some(if text.contains("annotation") {
        format!("{{{head}, \"annotations\": {{\"a\": \"{big}\"}}}}}}")
    } else {
        format!("{{{head}}}, \"data\": {{\"k\": \"{big}\"}}}}")
    })
}

fn spaced(json: &str) -> String {
    let mut out = String::new();
    let (mut inside, mut escaped) = (false, false);
    for c in json.chars() {
        out.push(c);
        if inside {
            inside = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c == '"' {
            inside = true;
        } else if c == ',' || c == ':' {
            out.push(' ');
        }
    }
    out
}
