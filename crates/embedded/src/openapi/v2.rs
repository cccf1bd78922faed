//! `GET /openapi/v2`: an empty document, valid in both forms.
//!
//! Clients that know `OpenAPI` v3 come here only with a kind that v3 does not have, to learn that v2 does not have it
//! either. Without a document `kubectl apply` of such a kind would say that a download failed, not that there is no
//! such kind.

use serde_json::{Value, json};

const SWAGGER: &str = "2.0";
const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.36.3";

/// The document as JSON.
#[must_use]
pub fn document() -> Value {
    json!({
        "swagger": SWAGGER,
        "info": {"title": TITLE, "version": VERSION},
        "paths": {},
        "definitions": {},
    })
}

/// The document as the protobuf message `openapi.v2.Document` of gnostic: `swagger` is its field 1, `info` 2 (with
/// `title` 1 and `version` 2), `paths` 8, `definitions` 9.
#[must_use]
pub fn protobuf() -> Vec<u8> {
    let mut info = Vec::new();
    put(&mut info, 1, TITLE.as_bytes());
    put(&mut info, 2, VERSION.as_bytes());
    let mut document = Vec::new();
    put(&mut document, 1, SWAGGER.as_bytes());
    put(&mut document, 2, &info);
    put(&mut document, 8, &[]);
    put(&mut document, 9, &[]);
    document
}

/// A field with a length and bytes. Both its number and its length fit into one byte: the number is below 16, and
/// nothing here has 128 bytes.
fn put(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    message.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    message.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_document() {
        assert_eq!(
            protobuf(),
            b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.36.3\x42\x00\x4a\x00"
        );
    }
}
