//! Structural schemas: what an object of a kind may look like.
//!
//! A [`Schema`] is made once (for a custom resource definition when it is installed, for a built-in kind from its
//! type) and shared. The modules below use it: [`prune`] drops unknown fields, [`defaults`] fills in defaults,
//! [`validate`] reports every fault of a custom resource, [`typed`] reads a built-in kind as the real server's
//! typed decoder does. Faults are told in the real server's words.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Number, Value};

pub(crate) mod builtin;
mod compile;
pub(crate) mod defaults;
mod document;
pub(crate) mod format;
mod listkinds;
pub(crate) mod path;
pub(crate) mod prune;
pub(crate) mod rules;
pub(crate) mod typed;
pub(crate) mod validate;

pub use compile::CompileError;
pub use document::Document;

/// The JSON type that a schema asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// No type is given.
    #[default]
    Any,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

impl Type {
    /// The word for it in a schema.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How the items of a list belong to their owners (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// Each value stands once.
    Set,
    /// Each item is known by the values of these keys.
    Map(Vec<String>),
}

/// Bounds and forms that a value must keep.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// `enum`
    pub one_of_values: Option<Vec<Value>>,
    /// `minimum` and whether it is exclusive.
    pub minimum: Option<(Number, bool)>,
    /// `maximum` and whether it is exclusive.
    pub maximum: Option<(Number, bool)>,
    /// `multipleOf`
    pub multiple_of: Option<Number>,
    /// `minLength`, in characters.
    pub min_length: Option<u64>,
    /// `maxLength`, in characters.
    pub max_length: Option<u64>,
    /// `pattern`
    pub pattern: Option<regex::Regex>,
    /// `minItems`
    pub min_items: Option<u64>,
    /// `maxItems`
    pub max_items: Option<u64>,
    /// `uniqueItems`
    pub unique_items: bool,
    /// `minProperties`
    pub min_properties: Option<u64>,
    /// `maxProperties`
    pub max_properties: Option<u64>,
    /// `allOf`
    pub all_of: Vec<Schema>,
    /// `anyOf`
    pub any_of: Vec<Schema>,
    /// `oneOf`
    pub one_of: Vec<Schema>,
    /// `not`
    pub not: Option<Box<Schema>>,
}

/// A node of a structural schema.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a marker of its own in the schema language"
)]
pub struct Schema {
    /// Name of the type in Go's notation (`v1.PodSpec`) for built-in kinds, else empty.
    pub type_name: String,
    /// Text for `kubectl explain`.
    pub description: String,
    /// The JSON type.
    pub json_type: Type,
    /// `format`, such as `date-time` or `int32`.
    pub format: String,
    /// Known fields of an object.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Schema of the values of a map.
    pub additional: Option<Arc<Schema>>,
    /// Schema of the items of a list.
    pub items: Option<Arc<Schema>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Value of a missing field.
    pub default: Option<Value>,
    /// Whether null is a value of it.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded_resource: bool,
    /// `x-kubernetes-list-type` with its keys.
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    /// Key by which a strategic merge patch merges the list; the empty text merges a list of plain values.
    pub merge_key: Option<&'static str>,
    /// Whether a strategic merge patch follows `$retainKeys` here.
    pub retain_keys: bool,
    /// Value that Go writes for an absent field of a built-in type (a struct or a field without `omitempty`).
    pub zero: Option<Value>,
    /// Whether Go leaves the field out when it has its zero value (`false`, `0`, `""`).
    pub omit_zero: bool,
    /// Bounds and forms.
    pub limits: Limits,
}

impl Schema {
    /// The schema of a field of an object, be it a known one or a value of a map.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties
            .get(name)
            .or(self.additional.as_ref())
            .map(AsRef::as_ref)
    }

    /// Whether `name` is one of the declared fields (rather than a key of a map).
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        self.properties.contains_key(name)
    }

    /// Whether fields that are not declared are kept.
    #[must_use]
    pub fn keeps_unknown(&self) -> bool {
        self.preserve_unknown
            || (self.json_type == Type::Any && self.properties.is_empty() && !self.int_or_string)
    }
}
