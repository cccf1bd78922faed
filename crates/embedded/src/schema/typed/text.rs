//! Values that Go's types read from text in their own way: times, quantities, bytes, numbers that may be text.

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::{Schema, format};

/// The value as written again, or the text of the fault; `None` if the type is an ordinary one.
pub(super) fn special(schema: &Schema, value: &Value) -> Option<Result<Value, String>> {
    let result = match (schema.format.as_str(), value) {
        ("date-time" | "micro-time", Value::String(text)) => {
            time(text, schema.format == "micro-time")
        }
        ("date-time" | "micro-time", other) => Err(format!(
            "json: cannot unmarshal {} into Go value of type string",
            json_kind(other)
        )),
        ("quantity", Value::String(text)) => quantity(text),
        ("quantity", Value::Number(number)) => quantity(&number.to_string()),
        ("quantity", _) => quantity("x"),
        ("byte", Value::String(text)) => bytes(text),
        _ if schema.int_or_string => match value {
            Value::String(_) => Ok(value.clone()),
            Value::Number(number) if number.is_i64() => Ok(value.clone()),
            Value::Number(number) => Err(format!(
                "json: cannot unmarshal number {number} into Go value of type int32"
            )),
            other => Err(format!(
                "json: cannot unmarshal {} into Go value of type int32",
                json_kind(other)
            )),
        },
        _ => return None,
    };
    Some(result)
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn quantity(text: &str) -> Result<Value, String> {
    match format::canonical_quantity(text) {
        Some(quantity) => Ok(quantity.into()),
        None => Err(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned(),
        ),
    }
}

fn bytes(text: &str) -> Result<Value, String> {
    use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD};
    let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    match STANDARD.decode(&text) {
        Ok(_) => Ok(text.into()),
        Err(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!(
            "illegal base64 data at input byte {}",
            text.len() / 4 * 4
        )),
    }
}

/// A time as Go's API types write it: UTC, in seconds or with six digits of a second.
fn time(text: &str, micro: bool) -> Result<Value, String> {
    layout(text, micro)?;
    let Ok(timestamp) = text.parse::<Timestamp>() else {
        return Err(format!("parsing time \"{text}\": day out of range"));
    };
    let pattern = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(timestamp.strftime(pattern).to_string().into())
}

/// Checks the form of a time piece by piece, and tells the first piece that does not fit as Go does.
fn layout(text: &str, micro: bool) -> Result<(), String> {
    let whole = if micro {
        "2006-01-02T15:04:05.000000Z07:00"
    } else {
        "2006-01-02T15:04:05Z07:00"
    };
    let digits =
        |text: &str, n: usize| text.len() >= n && text.bytes().take(n).all(|b| b.is_ascii_digit());
    let mut rest = text;
    let pieces: &[&str] = &[
        "2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05",
    ];
    for piece in pieces {
        let fits = if piece.len() == 1 {
            rest.starts_with(piece)
        } else {
            digits(rest, piece.len())
        };
        if !fits {
            return Err(format!(
                "parsing time \"{text}\" as \"{whole}\": cannot parse \"{rest}\" as \"{piece}\""
            ));
        }
        rest = &rest[piece.len()..];
    }
    if micro {
        if !(rest.starts_with('.') && digits(&rest[1..], 6)) {
            return Err(format!(
                "parsing time \"{text}\" as \"{whole}\": cannot parse \"{rest}\" as \".000000\""
            ));
        }
        rest = &rest[7..];
    } else if rest.starts_with('.') && digits(&rest[1..], 1) {
        rest = rest[1..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone = |rest: &str| {
        rest.len() == 6
            && rest.starts_with(['+', '-'])
            && digits(&rest[1..], 2)
            && rest.as_bytes().get(3) == Some(&b':')
            && digits(&rest[4..], 2)
    };
    if rest == "Z" || (rest.is_char_boundary(1) && rest.is_char_boundary(4) && zone(rest)) {
        return Ok(());
    }
    Err(format!(
        "parsing time \"{text}\" as \"{whole}\": cannot parse \"{rest}\" as \"Z07:00\""
    ))
}
