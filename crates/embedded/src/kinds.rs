//! The kinds that the API serves: what each is called, which verbs and subresources it has, and
//! how its objects are decoded, defaulted and validated.
//!
//! A [`Kind`] is one resource in one version. The [`Registry`] holds the built-in ones and those
//! that custom resource definitions add while the service runs. Everything here is a pure function
//! of the objects given; nothing reads a store or a clock.
//!
//! The order of a create is the real server's: [`Kind::decode`] (types, unknown fields, defaults), then
//! [`crate::apply::track_update`] (what is added later has no owner), then the caller fills in namespace, uid and
//! creation time, then [`Kind::prepare_create`], then [`Kind::validate`]. An update goes [`Kind::decode`] (or a patch
//! and [`Kind::decode_patched`]), `track_update`, [`Kind::prepare_update`], [`Kind::validate`].

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::{
    patch::Form,
    schema::{Document, Schema, builtin as types, rules::Rules, validate},
    status::{Cause, Failure},
};
use names::NameForm;

mod builtin;
pub mod crd;
mod custom;
mod decode;
mod event;
mod job;
mod metadata;
pub(crate) mod names;
mod pod;
mod registry;
mod simple;

pub(crate) use registry::Document as KeptDocument;
pub use registry::Registry;

/// What becomes of fields that a kind does not know and of keys given twice
/// (`fieldValidation` of a request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped without a word.
    Ignore,
    /// Dropped, and named in a warning; what a request without the parameter means.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// A column of the table that `kubectl get` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `date`, …
    pub kind: String,
    /// `name` for the column with the object's name, else mostly empty.
    pub format: String,
    /// For people.
    pub description: String,
    /// 0 is always shown, more only in the wide form.
    pub priority: i64,
    /// Where a custom resource has the value; empty for built-in kinds, which compute theirs.
    pub json_path: String,
}

/// A path below an object, such as `pods/log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Last segment of the path.
    pub name: &'static str,
    /// `group`, `version` and kind of what is sent; group and version are empty where they are the resource's.
    pub kind: (&'static str, &'static str, String),
    /// Verbs in alphabetical order.
    pub verbs: Vec<&'static str>,
}

/// An object as decoded from a request, with what was said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Known fields only, defaults filled in.
    pub object: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// Warnings that only a request that succeeds gets.
    pub advice: Vec<String>,
}

/// One resource in one version.
#[derive(Debug)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: String,
    /// Version inside the group.
    pub version: String,
    /// Name of the type.
    pub kind: String,
    /// Name of the type of its lists.
    pub list_kind: String,
    /// Name in paths.
    pub plural: String,
    /// Name of one, for `kubectl`.
    pub singular: String,
    /// Abbreviations.
    pub short_names: Vec<String>,
    /// Groups of resources such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a status subresource.
    pub has_status: bool,
    /// Whether it comes from a custom resource definition.
    pub custom: bool,
    /// Verbs of the resource, in the order discovery lists them. Review kinds have only `create`.
    pub verbs: Vec<&'static str>,
    /// Paths below an object, in alphabetical order.
    pub subresources: Vec<Subresource>,
    /// Printer columns of a custom resource; empty for built-in kinds.
    pub columns: Vec<Column>,
    /// JSON paths (`.spec.color`) that field selectors may name, of a custom resource.
    pub selectable_fields: Vec<String>,
    /// The group, version and plural under which objects are kept; differs from the own one only where two
    /// API groups show the same objects (events) or where another version is the stored one.
    pub stored_as: (String, String, String),
    schema: OnceLock<Arc<Schema>>,
    custom_parts: Option<Custom>,
}

/// What only a custom resource has.
#[derive(Debug)]
struct Custom {
    rules: Rules,
    document: Value,
}

impl Kind {
    /// `v1` or `group/version`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether objects of this kind are kept; review kinds are only answered.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
    }

    /// Whether `metadata.generation` counts changes of the spec.
    #[must_use]
    pub fn has_generation(&self) -> bool {
        self.custom
            || matches!(
                (self.group.as_str(), self.kind.as_str()),
                ("", "Pod") | ("batch", "Job") | ("apiextensions.k8s.io", _)
            )
    }

    /// The structural schema; of a built-in kind it is made on first use.
    pub fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| {
            let schema = types::schema(&self.group, &self.kind);
            Arc::new(schema.unwrap_or_default())
        })
    }

    /// The `openAPIV3Schema` of a custom resource.
    pub(crate) fn openapi_schema(&self) -> Option<&Value> {
        self.custom_parts.as_ref().map(|parts| &parts.document)
    }

    /// Turns the body of a request into an object of this kind: checks `kind` and `apiVersion`, drops unknown
    /// fields (with a warning, or refusing them, as `mode` says) and fills in defaults. The `status` of a kind
    /// whose status has a subresource is kept; [`Kind::prepare_create`] and [`Kind::prepare_update`] drop it.
    ///
    /// # Errors
    /// 400 for what cannot be this kind at all: another kind, a wrong JSON type, an unknown field under `Strict`.
    pub fn decode(&self, document: Document, mode: FieldValidation) -> Result<Decoded, Failure> {
        decode::decode(self, document, mode)
    }

    /// As [`Kind::decode`], for an object that `patch` made.
    ///
    /// # Errors
    /// 422 about the field `patch`, where a create would have 400.
    pub fn decode_patched(
        &self,
        object: Value,
        patch: &Value,
        form: Form,
        mode: FieldValidation,
    ) -> Result<Decoded, Failure> {
        decode::decode_patched(self, object, patch, form, mode)
    }

    /// An object in which nothing is set, as the real server's typed decoder would write it.
    #[must_use]
    pub(crate) fn empty(&self) -> Value {
        decode::empty(self)
    }

    /// What the server itself sets in a new object, once `metadata` has its uid: generation, the initial status,
    /// generated selectors and labels. The object must come from [`Kind::decode`].
    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_generation() {
            object["metadata"]["generation"] = 1.into();
        }
        match (self.group.as_str(), self.kind.as_str()) {
            ("", "Namespace") => {
                object["spec"]["finalizers"] = serde_json::json!(["kubernetes"]);
                object["status"] = serde_json::json!({"phase": "Active"});
            }
            ("", "Pod") => pod::prepare_create(object),
            ("", "PersistentVolumeClaim") => {
                object["status"] = serde_json::json!({"phase": "Pending"});
            }
            ("batch", "Job") => job::prepare_create(object),
            ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::prepare_create(object),
            _ if self.has_status && self.custom => {
                if let Some(map) = object.as_object_mut() {
                    map.remove("status");
                }
            }
            _ if self.has_status => object["status"] = serde_json::json!({}),
            _ => {}
        }
    }

    /// Fields that are empty maps in what was sent, where that is not the same as nothing: an immutable object refuses
    /// them.
    pub(crate) fn hollow(&self, sent: &Value) -> Vec<&'static str> {
        let fields: &[&str] = match (self.group.as_str(), self.kind.as_str()) {
            ("", "ConfigMap") => &["data", "binaryData"],
            ("", "Secret") => &["data"],
            _ => &[],
        };
        let hollow = |field: &&str| sent[*field].as_object().is_some_and(Map::is_empty);
        fields.iter().copied().filter(hollow).collect()
    }

    /// What is filled in from other parts of the object and belongs to whoever wrote them. Also changes an object of
    /// which a part is missing.
    pub(crate) fn fill_in(&self, object: &mut Value) {
        if self.group == "batch" && self.kind == "Job" {
            job::take_labels(object);
        }
    }

    /// What an update through the main resource (`subresource` is `None`) or through a subresource may change: the
    /// rest is taken from `old`. Raises `metadata.generation` where the change asks for it, and keeps the metadata
    /// that no request may change (uid if none is given, creation and deletion times).
    pub fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        match subresource {
            Some("status") => self.prepare_status_update(new, old),
            Some("finalize") => new["status"] = old["status"].clone(),
            _ => self.prepare_main_update(new, old),
        }
        keep_metadata(new, old);
        if subresource.is_none() && self.has_generation() && self.raises_generation(new, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
            new["metadata"]["generation"] = generation.into();
        }
    }

    fn prepare_main_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            copy_field(new, old, "status");
        }
        match (self.group.as_str(), self.kind.as_str()) {
            ("", "Namespace") => copy_field(new, old, "spec"),
            ("", "Pod") => pod::prepare_update(new),
            ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::prepare_update(new),
            _ => {}
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        if !self.custom && self.group != "apiextensions.k8s.io" {
            copy_field(new, old, "spec");
            copy_field(&mut new["metadata"], &old["metadata"], "ownerReferences");
            return;
        }
        let status = new.get("status").cloned();
        let managed = new["metadata"].get("managedFields").cloned();
        *new = old.clone();
        match status {
            Some(status) => new["status"] = status,
            None => {
                if let Some(map) = new.as_object_mut() {
                    map.remove("status");
                }
            }
        }
        match managed {
            Some(managed) => new["metadata"]["managedFields"] = managed,
            None => {
                if let Some(metadata) = new["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                }
            }
        }
    }

    fn raises_generation(&self, new: &Value, old: &Value) -> bool {
        if !self.custom {
            return new.get("spec") != old.get("spec");
        }
        let rest = |object: &Value| {
            let mut object = object.clone();
            if let Some(map) = object.as_object_mut() {
                map.remove("metadata");
                if self.has_status {
                    map.remove("status");
                }
            }
            object
        };
        rest(new) != rest(old)
    }

    /// Every fault of an object, in the order of the real server; `old` is the stored object of an update.
    /// Includes name, labels, annotations, owner references and finalizers. An empty list means valid.
    #[must_use]
    pub fn validate(
        &self,
        new: &Value,
        old: Option<&Value>,
        subresource: Option<&str>,
    ) -> Vec<Cause> {
        let mut causes = Vec::new();
        if self.custom && new["kind"] != self.kind {
            let why = format!("must be {}", self.kind);
            causes.push(Cause::invalid("kind", &new["kind"], why));
            let rules = self.custom_parts.as_ref().map(|parts| &parts.rules);
            causes.extend(rules.map_or_else(Vec::new, |rules| rules.check(new, old)));
            return causes;
        }
        self.validate_metadata(new, old, &mut causes);
        if let Some(parts) = &self.custom_parts {
            self.validate_custom(parts, new, old, subresource, &mut causes);
            return causes;
        }
        match (self.group.as_str(), self.kind.as_str()) {
            ("", "ConfigMap") => simple::check_config_map(new, old, &mut causes),
            ("", "Secret") => simple::check_secret(new, old, &mut causes),
            ("", "Event") => simple::check_event(new, false, old.is_some(), &mut causes),
            ("events.k8s.io", "Event") => {
                let core = event::to_core(new.clone());
                simple::check_event(&core, true, old.is_some(), &mut causes);
            }
            ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
                simple::check_binding(new, old, &mut causes);
            }
            ("", "Pod") => match (old, subresource) {
                (None, _) => pod::check_spec(&new["spec"], "spec", &mut causes),
                (Some(old), None) => {
                    pod::check_spec(&new["spec"], "spec", &mut causes);
                    pod::check_update(new, old, &mut causes);
                }
                (Some(_), Some(_)) => {}
            },
            ("batch", "Job") => match (old, subresource) {
                (Some(old), Some("status")) => job::check_status(new, old, &mut causes),
                _ => job::check(new, old, &mut causes),
            },
            ("coordination.k8s.io", "Lease") => simple::check_lease(new, &mut causes),
            ("apiextensions.k8s.io", "CustomResourceDefinition") if subresource.is_none() => {
                crd::check(new, old, &mut causes);
            }
            _ => {}
        }
        causes
    }

    fn validate_metadata(&self, new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
        if !self.is_stored() {
            return;
        }
        let form = match (self.group.as_str(), self.kind.as_str()) {
            ("", "Namespace") => NameForm::Label,
            ("rbac.authorization.k8s.io", _) => NameForm::PathSegment,
            _ => NameForm::Subdomain,
        };
        let mut checked = new["metadata"].clone();
        if self.group == "batch"
            && checked["labels"] == new["spec"]["template"]["metadata"]["labels"]
        {
            // Copied from the template, where they are checked.
            checked["labels"] = Value::Null;
        }
        metadata::check(&checked, form, !self.custom, causes);
        if let Some(old) = old {
            // The real server looks twice: once for every resource, once for the kind.
            metadata::check_update(new, old, causes);
            metadata::check_update(new, old, causes);
        }
    }

    fn validate_custom(
        &self,
        parts: &Custom,
        new: &Value,
        old: Option<&Value>,
        subresource: Option<&str>,
        causes: &mut Vec<Cause>,
    ) {
        let of_status = subresource == Some("status");
        let mut faults = self.schema_faults(new, of_status);
        if let Some(old) = old {
            // An unchanged value may stay as wrong as it was.
            let before = self.schema_faults(old, of_status);
            faults.retain(|fault| !before.contains(fault));
        }
        causes.extend(faults);
        match validate::blocked_rules(causes) {
            Some(cause) => causes.push(cause),
            None => causes.extend(parts.rules.check(new, old)),
        }
    }

    /// What the schema has against an object, or against its status alone, whose faults name it in their field and
    /// not in their text.
    fn schema_faults(&self, object: &Value, of_status: bool) -> Vec<Cause> {
        let mut schema = &**self.schema();
        let mut value = object;
        if of_status && let Some(status) = schema.field("status") {
            (schema, value) = (status, &object["status"]);
        } else if of_status {
            return Vec::new();
        }
        let mut faults = validate::check(schema, value, "");
        faults.extend(validate::check_lists(schema, value, ""));
        for fault in faults.iter_mut().filter(|_| of_status) {
            fault.field = match fault.field.as_str() {
                "<nil>" | "" => "status".to_owned(),
                field => format!("status.{field}"),
            };
        }
        faults
    }

    /// 422 about an object of this kind. Both API groups of events speak of the core kind.
    #[must_use]
    pub fn invalid(&self, object: &Value, causes: Vec<Cause>) -> Failure {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or(&self.kind);
        let group = if self.group == "events.k8s.io" {
            ""
        } else {
            &self.group
        };
        Failure::invalid(group, kind, name, causes)
    }

    /// The form in which an object of this kind is kept (see [`Kind::stored_as`]).
    #[must_use]
    pub fn to_stored(&self, mut object: Value) -> Value {
        if self.group == "events.k8s.io" {
            return event::to_core(object);
        }
        if self.custom && self.version != self.stored_as.1 {
            object["apiVersion"] = format!("{}/{}", self.group, self.stored_as.1).into();
        }
        object
    }

    /// A kept object as this kind shows it: the reverse of [`Kind::to_stored`].
    #[must_use]
    pub fn from_stored(&self, mut object: Value) -> Value {
        if self.group == "events.k8s.io" {
            return event::from_core(object);
        }
        if self.custom && self.version != self.stored_as.1 {
            object["apiVersion"] = self.api_version().into();
        }
        object
    }
}

/// Takes one field from `old`, also its absence.
fn copy_field(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else {
        return;
    };
    match old.get(field) {
        Some(value) => {
            map.insert(field.to_owned(), value.clone());
        }
        None => {
            map.remove(field);
        }
    }
}

/// Metadata that no update changes.
fn keep_metadata(new: &mut Value, old: &Value) {
    let metadata = &mut new["metadata"];
    if metadata["uid"].as_str().unwrap_or_default().is_empty() {
        copy_field(metadata, &old["metadata"], "uid");
    }
    copy_field(metadata, &old["metadata"], "creationTimestamp");
    copy_field(metadata, &old["metadata"], "generation");
    copy_field(metadata, &old["metadata"], "deletionTimestamp");
    copy_field(metadata, &old["metadata"], "deletionGracePeriodSeconds");
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
}
