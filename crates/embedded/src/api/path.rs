//! What a request's path means.

/// A resource as its path names it; whether it exists is not yet known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group, empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Resource in the plural.
    pub plural: String,
    /// Namespace, if the path has one.
    pub namespace: Option<String>,
    /// Name of an object.
    pub name: Option<String>,
    /// What follows the name.
    pub subresource: Option<String>,
    /// The old form `/api/v1/watch/…`.
    pub watch: bool,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/api` or `/apis`.
    Versions {
        /// `/api`.
        core: bool,
    },
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    GroupVersion(String, String),
    /// Anything below a group version.
    Resource(ResourcePath),
    /// Any other path.
    Other,
}

/// Reads a path. A slash at its end counts for nothing.
#[must_use]
pub fn parse(path: &str) -> Target {
    let segments: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| decode(segment, false))
        .collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["api"] => Target::Versions { core: true },
        ["apis"] => Target::Versions { core: false },
        ["apis", group] => Target::Group((*group).to_owned()),
        ["api", version] => Target::GroupVersion(String::new(), (*version).to_owned()),
        ["apis", group, version] => {
            Target::GroupVersion((*group).to_owned(), (*version).to_owned())
        }
        ["api", version, rest @ ..] => resource("", version, rest),
        ["apis", group, version, rest @ ..] => resource(group, version, rest),
        _ => Target::Other,
    }
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Target {
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let path = |namespace: Option<&str>, plural: &str, name: Option<&str>, sub: Option<String>| {
        Target::Resource(ResourcePath {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            subresource: sub,
            watch,
        })
    };
    let (namespace, rest) = match rest {
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            return path(None, "namespaces", Some(name), Some((*sub).to_owned()));
        }
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    match rest {
        [] => Target::Other,
        [plural] => path(namespace, plural, None, None),
        [plural, name] => path(namespace, plural, Some(name), None),
        [plural, name, sub @ ..] => path(namespace, plural, Some(name), Some(sub.join("/"))),
    }
}

/// Undoes percent-encoding; in a query a plus is a space. What is no escape stays as it is.
#[must_use]
pub fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = escaped {
            out.push(byte);
            at += 3;
        } else {
            out.push(if query && byte == b'+' { b' ' } else { byte });
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ResourcePath {
        match parse(text) {
            Target::Resource(path) => path,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        let object = path("/api/v1/namespaces/x");
        assert_eq!(
            (object.plural.as_str(), object.name.as_deref()),
            ("namespaces", Some("x"))
        );
        let status = path("/api/v1/namespaces/x/status");
        assert_eq!(status.subresource.as_deref(), Some("status"));
        let pods = path("/api/v1/namespaces/x/pods/");
        assert_eq!(
            (pods.plural.as_str(), pods.namespace.as_deref()),
            ("pods", Some("x"))
        );
        let log = path("/api/v1/namespaces/x/pods/a%20b/log");
        assert_eq!(log.name.as_deref(), Some("a b"));
        assert_eq!(log.subresource.as_deref(), Some("log"));
    }

    #[test]
    fn the_old_watch_paths_are_known() {
        let old = path("/api/v1/watch/namespaces/rec/configmaps/c1");
        assert!(old.watch);
        assert_eq!(old.name.as_deref(), Some("c1"));
    }
}
