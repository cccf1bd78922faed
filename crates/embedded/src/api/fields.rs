//! Field selectors: which fields each kind can be selected by.

use serde_json::Value;

use super::selector::{FieldTerm, LabelSelector, field_terms};
use crate::kinds::Kind;
use crate::status::Failure;

/// What a list or a watch selects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By labels.
    pub labels: LabelSelector,
    fields: Vec<FieldTerm>,
    /// The name in the path or in `metadata.name=…`.
    pub name: Option<String>,
}

impl Selection {
    /// Reads both selectors and checks that the kind knows the fields.
    ///
    /// # Errors
    /// 400.
    pub fn read(
        kind: &Kind,
        labels: &str,
        fields: &str,
        name: Option<&str>,
    ) -> Result<Self, Failure> {
        let labels = LabelSelector::parse(labels)?;
        let fields = field_terms(fields)?;
        for term in &fields {
            known(kind, &term.field)?;
        }
        let by_name = fields
            .iter()
            .find(|term| term.equal && term.field == "metadata.name")
            .map(|term| term.value.clone());
        Ok(Self {
            labels,
            fields,
            name: name.map(str::to_owned).or(by_name),
        })
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.name.is_none()
    }

    /// Whether it selects an object.
    #[must_use]
    pub fn matches(&self, kind: &Kind, object: &Value) -> bool {
        let named = self
            .name
            .as_ref()
            .is_none_or(|name| object["metadata"]["name"] == name.as_str());
        named
            && self.labels.matches(object)
            && self.fields.iter().all(|term| {
                let value = field(kind, object, &term.field);
                (value == term.value) == term.equal
            })
    }
}

const POD: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];
const EVENT: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const EVENTS_V1: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// Fields of the built-in kinds, beside name and namespace.
fn own_fields(kind: &Kind) -> &'static [&'static str] {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => POD,
        ("", "Event") => EVENT,
        ("events.k8s.io", "Event") => EVENTS_V1,
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Node") => &["spec.unschedulable"],
        ("batch", "Job") => &["status.successful"],
        _ => &[],
    }
}

fn known(kind: &Kind, field: &str) -> Result<(), Failure> {
    let common = field == "metadata.name" || field == "metadata.namespace";
    let selectable = kind
        .selectable_fields
        .iter()
        .any(|path| path.trim_start_matches('.') == field);
    if common || selectable || own_fields(kind).contains(&field) {
        return Ok(());
    }
    Err(Failure::bad_request(
        if kind.custom || !own_fields(kind).is_empty() {
            if kind.kind == "Job" {
                format!("field label \"{field}\" not supported for Job")
            } else {
                format!("field label not supported: {field}")
            }
        } else {
            format!(
                "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )
        },
    ))
}

/// The value to compare with; what is missing is empty.
fn field(kind: &Kind, object: &Value, path: &str) -> String {
    if kind.kind == "Job" && path == "status.successful" {
        return text(&object["status"]["succeeded"], "0");
    }
    if kind.kind == "Event" && path == "source" {
        let component = text(&object["source"]["component"], "");
        return if component.is_empty() {
            text(&object["reportingComponent"], "")
        } else {
            component
        };
    }
    let value = path.split('.').fold(object, |value, key| &value[key]);
    let default = match path {
        "spec.hostNetwork" | "spec.unschedulable" => "false",
        _ => "",
    };
    text(value, default)
}

fn text(value: &Value, default: &str) -> String {
    match value {
        Value::Null => default.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
