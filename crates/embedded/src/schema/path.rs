//! Paths of fields as messages name them: `spec.ports[0].name`, `metadata.labels[a b]`.

/// `name` below `path`.
pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The item at `index` of the list at `path`.
pub(crate) fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The value under `key` of the map at `path`.
pub(crate) fn key(path: &str, key: &str) -> String {
    format!("{path}[{key}]")
}
