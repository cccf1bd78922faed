//! Bodies of requests and answers.

use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use serde_json::Value;

use crate::protobuf;
use crate::schema::Document;
use crate::status::Failure;

/// Body of an answer; watches and logs stream theirs.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Largest body that is read, in bytes.
const LIMIT: usize = 3_145_728;

/// A body that is there as a whole.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that comes piece by piece.
pub fn stream<S>(pieces: S) -> Body
where
    S: futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    use futures::TryStreamExt;
    StreamBody::new(pieces.map_ok(http_body::Frame::data)).boxed_unsync()
}

/// Reads a request's body.
///
/// # Errors
/// 413 over the limit, 400 when the connection fails.
pub async fn read<B>(body: B) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::status(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {LIMIT}"),
            None,
        )),
        Err(error) => Err(Failure::bad_request(format!(
            "unable to read the request body: {error}"
        ))),
    }
}

/// The media type of a body, without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// An object as it came, still undecoded. `kind` is what it must be, for messages.
///
/// # Errors
/// 415 for a media type that is not read, 400 for a body that is not an object.
pub fn document(media: &str, bytes: &Bytes, kind: &str, custom: bool) -> Result<Document, Failure> {
    let unrecognized = |why: String, shown: String| {
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
        ))
    };
    let document = match media {
        "" | "application/json" => Document::parse(bytes).map_err(|error| {
            let why = format!(
                "couldn't get version/kind; json parse error: {}",
                go_error(&error, bytes)
            );
            unrecognized(why, excerpt(bytes))
        })?,
        "application/yaml" => yaml(bytes).map(Document::from).map_err(|error| {
            unrecognized(
                format!("couldn't get version/kind; yaml: {error}"),
                excerpt(bytes),
            )
        })?,
        "application/vnd.kubernetes.protobuf" if !custom => {
            let value = protobuf::decode(bytes)
                .map_err(|error| unrecognized(error, format!("{} bytes", bytes.len())))?;
            Document::from(value)
        }
        _ => {
            let accepted: &[&str] = if custom {
                &["application/json", "application/yaml"]
            } else {
                &[
                    "application/json",
                    "application/yaml",
                    "application/vnd.kubernetes.protobuf",
                ]
            };
            return Err(Failure::unsupported_media_type(accepted));
        }
    };
    if document.value.is_array() {
        let hex = hex(bytes.get(..30).unwrap_or(bytes));
        return Err(unrecognized(
            "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }".into(),
            hex,
        ));
    }
    for key in ["apiVersion", "kind"] {
        let wrong = match &document.value[key] {
            Value::Null | Value::String(_) => continue,
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let why =
            format!("json: cannot unmarshal {wrong} into Go struct field .{key} of type string");
        return Err(unrecognized(
            format!("couldn't get version/kind; json parse error: {why}"),
            excerpt(bytes),
        ));
    }
    if custom && document.value["kind"].as_str().is_none_or(str::is_empty) {
        let text = String::from_utf8_lossy(bytes);
        return Err(unrecognized(
            format!("Object 'Kind' is missing in '{text}'"),
            excerpt(bytes),
        ));
    }
    Ok(document)
}

/// The options in the body of a DELETE, whose faults are told without naming the type.
///
/// # Errors
/// As [`document`].
pub fn delete_options(media: &str, bytes: &Bytes) -> Result<Value, Failure> {
    if matches!(media, "" | "application/json")
        && let Err(error) = serde_json::from_slice::<Value>(bytes)
    {
        let why = go_error(&error, bytes);
        return Err(Failure::bad_request(format!(
            "couldn't get version/kind; json parse error: {why}"
        )));
    }
    Ok(document(media, bytes, "DeleteOptions", false)?.value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// YAML, of which JSON is a part.
///
/// # Errors
/// Where the text is not YAML.
pub fn yaml(bytes: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(bytes);
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(&text)
    {
        return Ok(value);
    }
    // YAML 1.1, as the real server reads it: 0755 is octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| error.to_string())
}

/// As [`yaml`], but a key given twice is no fault: the last one counts, and what the real server warns of is told.
pub fn lenient_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let error = match yaml(bytes) {
        Ok(value) => return Ok((value, Vec::new())),
        Err(error) => error,
    };
    let Some((place, key)) = error.split_once(": duplicate mapping key: ") else {
        return Err(error);
    };
    let line = place
        .split("line ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let key = key.split(',').next().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    let options =
        serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let value =
        serde_saphyr::from_str_with_options(&text, options).map_err(|error| error.to_string())?;
    let warning = format!(
        "line {}: key {key:?} already set in map",
        line.unwrap_or_default()
    );
    Ok((value, vec![warning]))
}

/// The first 30 bytes, as the real server quotes a body that it cannot read.
fn excerpt(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let head = String::from_utf8_lossy(bytes.get(..30).unwrap_or(bytes));
    if bytes.len() > 30 {
        format!("{head} ...")
    } else {
        head.into_owned()
    }
}

/// A JSON fault in the words that clients of the real server know.
#[must_use]
pub fn go_error(error: &serde_json::Error, bytes: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let line = bytes
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    match line.get(error.column().saturating_sub(1)) {
        Some(byte) => {
            let wanted = if error.to_string().starts_with("key must be a string") {
                "object key string"
            } else {
                "value"
            };
            let shown = match char::from(*byte) {
                control if control.is_control() => format!("\\u{:04x}", u32::from(control)),
                other => other.to_string(),
            };
            format!("invalid character '{shown}' looking for beginning of {wanted}")
        }
        None => error.to_string(),
    }
}
