//! What a request to the API server is, in the words of RBAC: for whoever counts requests on their way.

use http::{Method, Uri};

/// Verb and resource of a request; the resource with its subresource, as in `tasks/status`. What is no resource has its
/// path in place of one.
#[must_use]
pub fn words_of(method: &Method, uri: &Uri) -> (&'static str, String) {
    let path = uri.path().trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    // /api/v1/… or /apis/GROUP/VERSION/…
    let mut rest = match parts.first() {
        Some(&"api") => parts.get(2..),
        Some(&"apis") => parts.get(3..),
        _ => None,
    }
    .unwrap_or_default();
    if rest.len() > 2 && rest.first() == Some(&"namespaces") {
        rest = &rest[2..];
    }
    let resource = match rest {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => path.to_owned(),
    };
    // As the API server reads a boolean: it is true unless it says that it is not.
    let query = uri.query().unwrap_or_default();
    let mut watch = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("watch="));
    let watches = watch.any(|value| !matches!(value, "0" | "false"));
    let verb = match *method {
        Method::GET if watches => "watch",
        Method::GET if rest.len() > 1 => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rules_are() {
        let named = |method: Method, uri: &str, verb, resource: &str| {
            let words = words_of(&method, &uri.parse().expect("a URI"));
            assert_eq!(words, (verb, resource.to_owned()), "{uri}");
        };
        let tasks = "/apis/kubeopencode.io/v1alpha1/namespaces/a/tasks";
        named(Method::GET, tasks, "list", "tasks");
        for watch in ["watch=true&x=y", "x=y&watch=1"] {
            named(Method::GET, &format!("{tasks}?{watch}"), "watch", "tasks");
        }
        for list in ["watch=false", "watch=0", "x=watch=true"] {
            named(Method::GET, &format!("{tasks}?{list}"), "list", "tasks");
        }
        let status = format!("{tasks}/it/status?");
        named(Method::PUT, &status, "update", "tasks/status");
        named(Method::GET, "/api/v1/pods?limit=1", "list", "pods");
        named(Method::GET, "/api/v1/namespaces/a", "get", "namespaces");
        let files = "/api/v1/namespaces/a/configmaps";
        named(Method::POST, files, "create", "configmaps");
        named(Method::GET, &format!("{files}/b"), "get", "configmaps");
        named(Method::GET, "/version", "list", "version");
    }
}
