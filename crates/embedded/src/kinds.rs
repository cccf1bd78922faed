//! The kinds that the API serves: what each is called, which verbs and subresources it has, and
//! how its objects are decoded, defaulted and validated.
//!
//! A [`Kind`] is one resource in one version. The [`Registry`] holds the built-in ones and those
//! that custom resource definitions add while the service runs. Everything here is a pure function
//! of the objects given; nothing reads a store or a clock.
//!
//! The order of a create is the real server's: [`Kind::decode`] (types, unknown fields, defaults),
//! then the caller fills in namespace, uid and creation time, then [`Kind::prepare_create`], then
//! [`Kind::validate`].

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::{
    schema::{Document, Schema},
    status::{Cause, Failure},
};

mod builtin;
mod registry;

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
                ("", "Pod") | ("batch", "Job" | "CronJob") | ("apiextensions.k8s.io", _)
            )
    }

    /// The structural schema; of a built-in kind it is made on first use.
    pub fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| Arc::new(Schema::default()))
    }

    /// Turns the body of a request into an object of this kind: checks `kind` and `apiVersion`, drops unknown
    /// fields (with a warning, or refusing them, as `mode` says) and fills in defaults. The `status` of a kind
    /// whose status has a subresource is kept; [`Kind::prepare_create`] and [`Kind::prepare_update`] drop it.
    ///
    /// # Errors
    /// 400 for what cannot be this kind at all: another kind, a wrong JSON type, an unknown field under `Strict`.
    pub fn decode(&self, document: Document, mode: FieldValidation) -> Result<Decoded, Failure> {
        let _ = mode;
        let mut object = document.value;
        if !object.is_object() {
            return Err(Failure::bad_request("the object provided is unrecognized"));
        }
        object["apiVersion"] = self.api_version().into();
        object["kind"] = self.kind.clone().into();
        Ok(Decoded {
            object,
            warnings: Vec::new(),
        })
    }

    /// What the server itself sets in a new object, once `metadata` has its uid: generation, the initial status,
    /// generated selectors and labels. The object must come from [`Kind::decode`].
    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_generation() {
            object["metadata"]["generation"] = 1.into();
        }
        if self.has_status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
    }

    /// What an update through the main resource (`subresource` is `None`) or through a subresource may change: the
    /// rest is taken from `old`. Raises `metadata.generation` where the change asks for it.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        if subresource == Some("status") {
            let status = new.get("status").cloned();
            *new = old.clone();
            if let Some(status) = status {
                new["status"] = status;
            }
        }
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
        let _ = (new, old, subresource);
        Vec::new()
    }

    /// The form in which an object of this kind is kept (see [`Kind::stored_as`]).
    #[must_use]
    pub fn to_stored(&self, object: Value) -> Value {
        object
    }

    /// A kept object as this kind shows it: the reverse of [`Kind::to_stored`].
    #[must_use]
    pub fn from_stored(&self, object: Value) -> Value {
        object
    }
}
