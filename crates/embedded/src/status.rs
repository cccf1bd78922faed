//! What the API service answers when it refuses: an HTTP code with a Kubernetes `Status`,
//! or a line of plain text where the real server knows no resource at all.
//!
//! Every fallible function of the API returns a [`Failure`]; it is turned into a response at one
//! place. The constructors carry the server's own words, so that two callers cannot differ.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One entry of `details.causes`: which field is wrong and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// CamelCase class, such as `FieldValueInvalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is wrong, without the field's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field as in `spec.ports[0].name`; `<nil>` and `[]` occur.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Cause {
    /// A cause of any class.
    pub fn new(
        reason: impl Into<String>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
        }
    }

    /// `FieldValueInvalid`: `Invalid value: <value>: <why>`, with the value as JSON.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {value}: {}", why.as_ref());
        Self::new("FieldValueInvalid", field, message)
    }

    /// `FieldValueRequired`: `Required value`, with `why` behind a colon where there is one.
    pub fn required(field: impl Into<String>, why: impl AsRef<str>) -> Self {
        let message = with_detail("Required value", why.as_ref());
        Self::new("FieldValueRequired", field, message)
    }

    /// `FieldValueForbidden`: `Forbidden: <why>`.
    pub fn forbidden(field: impl Into<String>, why: impl AsRef<str>) -> Self {
        let message = with_detail("Forbidden", why.as_ref());
        Self::new("FieldValueForbidden", field, message)
    }

    /// `FieldValueNotSupported`: the value and the supported ones, each as JSON.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            list.join(", ")
        );
        Self::new("FieldValueNotSupported", field, message)
    }

    /// `FieldValueDuplicate`.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Duplicate value: {value}");
        Self::new("FieldValueDuplicate", field, message)
    }

    /// `FieldValueTooLong`; the limit is in bytes (or characters for schemas).
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Self::new("FieldValueTooLong", field, message)
    }
}

fn with_detail(what: &str, why: &str) -> String {
    if why.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {why}")
    }
}

/// `details` of a `Status`. `None` in a [`Status`] leaves the member out; an empty one is sent as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group, empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (plural) or, for `Invalid`, the kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One entry for each fault found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 means nothing is said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The body of a refusal: a `Status` object of `meta/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// CamelCase reason; empty for internal errors that have none.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Left out when `None`.
    pub details: Option<Details>,
    /// `metadata.continue` of an expired list: where a client may go on.
    pub continue_token: Option<String>,
}

impl Status {
    /// The object as it is sent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut metadata = serde_json::Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.clone().into());
        }
        let mut object = serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            object["reason"] = self.reason.clone().into();
        }
        if let Some(details) = &self.details {
            object["details"] = serde_json::to_value(details).unwrap_or(Value::Null);
        }
        object
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A Kubernetes `Status`.
    #[error("{} ({} {})", .0.message, .0.code, .0.reason)]
    Status(Box<Status>),
    /// Plain text: paths behind which there is no resource (404), and a few protocol errors.
    #[error("{text} ({code})")]
    Plain {
        /// HTTP code.
        code: u16,
        /// The whole body, with its final newline.
        text: String,
    },
}

/// `plural` or `plural.group`, as messages name a resource.
#[must_use]
pub fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

fn named(name: &str, group: &str, kind: &str) -> Details {
    Details {
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        ..Details::default()
    }
}

impl Failure {
    /// Any `Status`.
    pub fn status(
        code: u16,
        reason: impl Into<String>,
        message: impl Into<String>,
        details: Option<Details>,
    ) -> Self {
        Self::Status(Box::new(Status {
            code,
            reason: reason.into(),
            message: message.into(),
            details,
            continue_token: None,
        }))
    }

    /// 404 for an object: `pods "x" not found`.
    #[must_use]
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(plural, group));
        Self::status(404, "NotFound", message, Some(named(name, group, plural)))
    }

    /// 404 for a resource, version or subresource of a known group.
    #[must_use]
    pub fn no_such_resource() -> Self {
        Self::status(
            404,
            "NotFound",
            "the server could not find the requested resource",
            Some(Details::default()),
        )
    }

    /// 404 in plain text: nothing is served below this path.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::Plain {
            code: 404,
            text: "404 page not found\n".to_owned(),
        }
    }

    /// 409 `AlreadyExists`.
    #[must_use]
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(plural, group));
        Self::status(
            409,
            "AlreadyExists",
            message,
            Some(named(name, group, plural)),
        )
    }

    /// 409 `AlreadyExists` for an object that still waits for its finalizers.
    #[must_use]
    pub fn being_deleted(group: &str, plural: &str, name: &str) -> Self {
        let message = format!(
            "object is being deleted: {} \"{name}\" already exists",
            qualified(plural, group)
        );
        Self::status(
            409,
            "AlreadyExists",
            message,
            Some(named(name, group, plural)),
        )
    }

    /// 409 `Conflict`; `why` follows `Operation cannot be fulfilled on …: `.
    #[must_use]
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(plural, group)
        );
        Self::status(409, "Conflict", message, Some(named(name, group, plural)))
    }

    /// 409 for a stale `resourceVersion`.
    #[must_use]
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        Self::conflict(
            group,
            plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422 `Invalid`: `Kind.group "name" is invalid: …`. The message follows from the causes; the
    /// same fault twice stands in it once.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for cause in &causes {
            let text = format!("{}: {}", cause.field, cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = if texts.len() == 1 {
            texts.remove(0)
        } else {
            format!("[{}]", texts.join(", "))
        };
        let message = format!("{} \"{name}\" is invalid: {list}", qualified(kind, group));
        let details = Details {
            causes,
            ..named(name, group, kind)
        };
        Self::status(422, "Invalid", message, Some(details))
    }

    /// 400 `BadRequest`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::status(400, "BadRequest", message, None)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::status(401, "Unauthorized", "Unauthorized", None)
    }

    /// 403 about an object; `why` follows `pods "x" is forbidden: `. Without a name the resource alone is named.
    #[must_use]
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let resource = qualified(plural, group);
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Self::status(403, "Forbidden", message, Some(named(name, group, plural)))
    }

    /// 403: creating in a namespace that is going away.
    #[must_use]
    pub fn namespace_terminating(group: &str, plural: &str, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut failure = Self::forbidden(group, plural, name, &why);
        if let Self::Status(status) = &mut failure {
            status.details.get_or_insert_default().causes = vec![Cause::new(
                "NamespaceTerminating",
                "metadata.namespace",
                format!("namespace {namespace} is being terminated"),
            )];
        }
        failure
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::status(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
            Some(Details::default()),
        )
    }

    /// 406: none of the representations asked for is offered.
    #[must_use]
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!(
            "406: Not Acceptable\n\nAvailable representations: {}",
            offered.join(", ")
        );
        Self::status(406, "NotAcceptable", message, Some(Details::default()))
    }

    /// 415 for the content type of a patch.
    #[must_use]
    pub fn unknown_patch_type() -> Self {
        Self::status(
            415,
            "UnsupportedMediaType",
            "415: Unsupported Media Type",
            Some(Details::default()),
        )
    }

    /// 415 for a request body.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::status(415, "UnsupportedMediaType", message, None)
    }

    /// 410 with the given words.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::status(410, "Expired", message, None)
    }

    /// 410 for a revision that was compacted away.
    #[must_use]
    pub fn too_old_resource_version(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 504: a resource version that does not exist yet.
    #[must_use]
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let details = Details {
            causes: vec![Cause::new(
                "ResourceVersionTooLarge",
                "",
                "Too large resource version",
            )],
            retry_after_seconds: 1,
            ..Details::default()
        };
        Self::status(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
            Some(details),
        )
    }

    /// 500 without a reason, as the server sends for some faults of the request itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::status(500, "", message, None)
    }

    /// HTTP code of the answer.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Status(status) => status.code,
            Self::Plain { code, .. } => *code,
        }
    }

    /// The `Status` object, also for the plain-text form (watch streams carry errors as objects).
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Status(status) => status.to_value(),
            Self::Plain { code, text } => Status {
                code: *code,
                message: text.trim_end().to_owned(),
                ..Status::default()
            }
            .to_value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn not_found_names_the_resource_with_its_group() {
        let value = Failure::not_found("example.test", "widgets", "w1").to_value();
        assert_eq!(value["message"], "widgets.example.test \"w1\" not found");
        assert_eq!(
            value["details"],
            json!({"name": "w1", "group": "example.test", "kind": "widgets"})
        );
    }

    #[test]
    fn one_fault_stands_without_brackets_and_a_repeated_one_once() {
        let cause = Cause::forbidden("metadata.finalizers", "no");
        let value = Failure::invalid("", "Pod", "p", vec![cause.clone(), cause]).to_value();
        assert_eq!(
            value["message"],
            "Pod \"p\" is invalid: metadata.finalizers: Forbidden: no"
        );
        assert_eq!(value["details"]["causes"].as_array().map(Vec::len), Some(2));
    }
}
