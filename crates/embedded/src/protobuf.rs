//! Kubernetes' protobuf form of request bodies, for the kinds that `kubectl create` sends in it.

use serde_json::Value;

/// Reads a body of type `application/vnd.kubernetes.protobuf` into the object it would be in JSON.
///
/// # Errors
/// A text for people if the bytes are not protobuf, or of a kind that has no table here.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    let _ = body;
    Err("protobuf is not read yet".to_owned())
}
