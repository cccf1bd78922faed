//! The three ways of changing a part of an object: JSON Patch, JSON Merge Patch and strategic merge patch.
//!
//! Each takes the object as it is and the body of the request, and gives the object as it shall be; decoding,
//! validation and the rules about metadata come after (see [`crate::kinds`]). Server-side apply is in
//! [`crate::apply`].

use serde_json::Value;

use crate::{
    kinds::Kind,
    status::{Details, Failure},
};

mod operations;
mod strategic;

pub use operations::unknown_operation_fields;

/// Which of the three a patch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON Patch
    Json,
    /// JSON Merge Patch
    Merge,
    /// Strategic merge patch
    Strategic,
}

/// The most operations that a JSON Patch may have.
const OPERATIONS_LIMIT: usize = 10_000;

/// JSON Patch (RFC 6902) with the real server's habits: `test` of null holds on a missing key, `replace` of a missing
/// key adds it.
///
/// # Errors
/// 400 if the body is no patch, 413 if it has too many operations, 422 if an operation cannot be done.
pub fn json(object: &Value, patch: &Value) -> Result<Value, Failure> {
    let kind = match patch {
        Value::Array(operations) if operations.len() > OPERATIONS_LIMIT => {
            let message = format!(
                "The allowed maximum operations in a JSON patch is {OPERATIONS_LIMIT}, got {}",
                operations.len()
            );
            return Err(Failure::status(413, "RequestEntityTooLarge", message, None));
        }
        Value::Array(operations) => {
            let mut result = object.clone();
            operations.iter().try_for_each(expect_operation)?;
            for operation in operations {
                operations::apply(&mut result, operation).ok_or_else(unprocessable)?;
            }
            return Ok(result);
        }
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => return Ok(object.clone()),
    };
    Err(Failure::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
    )))
}

/// The texts of an operation must be texts.
fn expect_operation(operation: &Value) -> Result<(), Failure> {
    for field in ["from", "op", "path"] {
        let wrong = match &operation[field] {
            Value::Null | Value::String(_) => continue,
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        return Err(Failure::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {wrong} into Go struct field jsonPatchOp.{field} of type string"
        )));
    }
    Ok(())
}

/// What the real server says of every operation that cannot be done.
fn unprocessable() -> Failure {
    Failure::status(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        Some(Details::default()),
    )
}

/// JSON Merge Patch (RFC 7386).
///
/// # Errors
/// 400 if the body is not an object.
pub fn merge(object: &Value, patch: &Value) -> Result<Value, Failure> {
    expect_object(patch, "error decoding patch: ")?;
    let mut result = object.clone();
    json_patch::merge(&mut result, patch);
    Ok(result)
}

/// Strategic merge patch: lists with a merge key are merged by it, and directives (`$patch`, `$setElementOrder/…`,
/// `$retainKeys`, `$deleteFromPrimitiveList/…`) are followed.
///
/// # Errors
/// 400 if the body is not an object, 415 for a custom resource, 500 for a directive that cannot be followed.
pub fn strategic(kind: &Kind, object: &Value, patch: &Value) -> Result<Value, Failure> {
    if kind.custom {
        return Err(Failure::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ]));
    }
    expect_object(patch, "")?;
    strategic::merge(kind.schema(), object, patch).map_err(Failure::internal)
}

fn expect_object(patch: &Value, doing: &str) -> Result<(), Failure> {
    let kind = match patch {
        Value::Object(_) => return Ok(()),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => {
            return Err(Failure::bad_request(
                "error decoding patch: unexpected null",
            ));
        }
    };
    Err(Failure::bad_request(format!(
        "{doing}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    )))
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`.
pub(crate) fn go_map(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_map).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_map(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}
