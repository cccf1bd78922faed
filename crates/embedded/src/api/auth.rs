//! Who asks, and whether they may.
//!
//! The administrator may do everything. For anybody else the RBAC objects in the store decide, as in
//! a cluster with that authorizer alone; nobody unknown gets further than `/version` and the health
//! paths.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::path::ResourcePath;
use crate::status::Failure;
use crate::store::Store;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

const ADMINISTRATORS: &str = "system:masters";

impl User {
    /// One who may do everything.
    #[must_use]
    pub fn administrator(name: &str) -> Self {
        Self::new(name, &[ADMINISTRATORS, "system:authenticated"])
    }

    /// A user in some groups.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
        }
    }

    /// Who sends no token.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    fn is_administrator(&self) -> bool {
        self.groups.iter().any(|group| group == ADMINISTRATORS)
    }

    fn is(&self, subject: &Value) -> bool {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => name == self.name,
            Some("Group") => self.groups.iter().any(|group| group == name),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or_default();
                self.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    }
}

/// A bearer token and whose it is. Not printed.
#[derive(Clone)]
pub struct Token {
    /// The secret text.
    pub secret: String,
    /// Whose.
    pub user: User,
}

/// Finds the user behind a request's headers.
///
/// # Errors
/// 401 for a token that nobody has.
pub fn authenticate<'a>(
    tokens: impl IntoIterator<Item = &'a Token>,
    headers: &HeaderMap,
) -> Result<User, Failure> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Ok(User::anonymous());
    };
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "))
        .map(str::trim);
    let found = token.and_then(|token| {
        tokens
            .into_iter()
            .find(|known| same(known.secret.as_bytes(), token.as_bytes()))
    });
    match found {
        Some(known) => Ok(known.user.clone()),
        None => Err(Failure::unauthorized()),
    }
}

/// Compares without telling by its time how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// What somebody wants to do with a resource.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// `get`, `list`, …
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Resource, with the subresource behind a slash.
    pub resource: String,
    /// Name of the object, or empty.
    pub name: &'a str,
    /// Namespace, or empty for the cluster scope.
    pub namespace: &'a str,
}

impl<'a> Attributes<'a> {
    /// What a request asks for.
    #[must_use]
    pub fn of(verb: &'a str, path: &'a ResourcePath) -> Self {
        let resource = match &path.subresource {
            Some(sub) => format!("{}/{sub}", path.plural),
            None => path.plural.clone(),
        };
        let namespace = match (&path.namespace, path.plural.as_str()) {
            (Some(namespace), _) => namespace,
            (None, "namespaces") if path.group.is_empty() => {
                path.name.as_deref().unwrap_or_default()
            }
            _ => "",
        };
        Self {
            verb,
            group: &path.group,
            resource,
            name: path.name.as_deref().unwrap_or_default(),
            namespace,
        }
    }

    fn refusal(&self, user: &User) -> Failure {
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
            user.name, self.verb, self.resource, self.group
        );
        let plural = self.resource.split('/').next().unwrap_or_default();
        Failure::forbidden(self.group, plural, self.name, &why)
    }
}

/// A rule that allows something, with where it comes from.
struct Grant {
    rule: Value,
    reason: String,
}

fn grants(store: &Store, user: &User, namespace: &str) -> Vec<Grant> {
    const RBAC: &str = "/rbac.authorization.k8s.io";
    let (mut bindings, _) = store.list(&format!("{RBAC}/clusterrolebindings/"));
    if !namespace.is_empty() {
        bindings.extend(store.list(&format!("{RBAC}/rolebindings/{namespace}/")).0);
    }
    let mut grants = Vec::new();
    for binding in bindings {
        let object = &binding.value;
        let subjects = object["subjects"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(subject) = subjects.iter().find(|subject| user.is(subject)) else {
            continue;
        };
        let role_name = object["roleRef"]["name"].as_str().unwrap_or_default();
        let role_kind = object["roleRef"]["kind"].as_str().unwrap_or_default();
        let bound_in = object["metadata"]["namespace"].as_str();
        let key = match (role_kind, bound_in) {
            ("Role", Some(namespace)) => format!("{RBAC}/roles/{namespace}/{role_name}"),
            ("ClusterRole", _) => format!("{RBAC}/clusterroles/{role_name}"),
            _ => continue,
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let binding = match bound_in {
            Some(namespace) => format!("RoleBinding \"{name}/{namespace}\""),
            None => format!("ClusterRoleBinding \"{name}\""),
        };
        let reason = format!(
            "RBAC: allowed by {binding} of {role_kind} \"{role_name}\" to {} \"{}\"",
            subject["kind"].as_str().unwrap_or_default(),
            subject["name"].as_str().unwrap_or_default()
        );
        let rules = store.get(&key).map(|role| role.value["rules"].clone());
        for rule in rules.iter().filter_map(Value::as_array).flatten() {
            grants.push(Grant {
                rule: rule.clone(),
                reason: reason.clone(),
            });
        }
    }
    grants
}

fn lists(rule: &Value, key: &str, value: &str) -> bool {
    let values = rule[key].as_array();
    values.is_some_and(|all| all.iter().any(|one| one == "*" || one == value))
}

fn allows(rule: &Value, attributes: &Attributes<'_>) -> bool {
    let wildcard = attributes
        .resource
        .split_once('/')
        .is_some_and(|(_, sub)| lists(rule, "resources", &format!("*/{sub}")));
    let named = rule["resourceNames"]
        .as_array()
        .is_none_or(|names| names.is_empty() || names.iter().any(|name| name == attributes.name));
    lists(rule, "verbs", attributes.verb)
        && lists(rule, "apiGroups", attributes.group)
        && (wildcard || lists(rule, "resources", &attributes.resource))
        && named
}

/// Resources that every authenticated user may ask about themselves.
fn own_reviews(user: &User, attributes: &Attributes<'_>) -> bool {
    user.groups
        .iter()
        .any(|group| group == "system:authenticated")
        && attributes.verb == "create"
        && matches!(
            (attributes.group, attributes.resource.as_str()),
            (
                "authorization.k8s.io",
                "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
            ) | ("authentication.k8s.io", "selfsubjectreviews")
        )
}

/// Why a user may do something with a resource, or `None`.
pub fn allowed(store: &Store, user: &User, attributes: &Attributes<'_>) -> Option<String> {
    if user.is_administrator() || own_reviews(user, attributes) {
        return Some(String::new());
    }
    grants(store, user, attributes.namespace)
        .into_iter()
        .find(|grant| allows(&grant.rule, attributes))
        .map(|grant| grant.reason)
}

/// Refuses what a user may not do with a resource.
///
/// # Errors
/// 403.
pub fn authorize(store: &Store, user: &User, attributes: &Attributes<'_>) -> Result<(), Failure> {
    match allowed(store, user, attributes) {
        Some(_) => Ok(()),
        None => Err(attributes.refusal(user)),
    }
}

const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
const DISCOVERY: [&str; 11] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];

fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

/// Refuses a path that is no resource.
///
/// # Errors
/// 403.
pub fn authorize_path(user: &User, verb: &str, path: &str) -> Result<(), Failure> {
    let open: &[&str] = if user
        .groups
        .iter()
        .any(|group| group == "system:authenticated")
    {
        &DISCOVERY
    } else {
        &PUBLIC
    };
    if user.is_administrator()
        || (verb == "get" && open.iter().any(|pattern| covers(pattern, path)))
    {
        return Ok(());
    }
    Err(Failure::status(
        403,
        "Forbidden",
        format!(
            "forbidden: User \"{}\" cannot {verb} path \"{path}\"",
            user.name
        ),
        Some(crate::status::Details::default()),
    ))
}

/// Answers the review kinds: fills in `status`.
pub fn review(store: &Store, user: &User, kind: &str, object: &mut Value) {
    match kind {
        "SelfSubjectReview" => {
            object["status"] = json!({
                "userInfo": {"username": user.name, "uid": user.name, "groups": user.groups}
            });
        }
        "SelfSubjectRulesReview" => {
            let namespace = object["spec"]["namespace"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            object["status"] = rules(store, user, &namespace);
        }
        _ => {
            let spec = &object["spec"];
            let user = match spec["user"].as_str() {
                Some(name) => User {
                    name: name.to_owned(),
                    groups: serde_json::from_value(spec["groups"].clone()).unwrap_or_default(),
                },
                None => user.clone(),
            };
            let reason = reviewed(store, &user, spec);
            let mut status = json!({"allowed": reason.is_some()});
            if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
                status["reason"] = reason.into();
            }
            object["status"] = status;
        }
    }
}

fn reviewed(store: &Store, user: &User, spec: &Value) -> Option<String> {
    let text = |value: &'static str, from: &str| spec[from][value].as_str().unwrap_or_default();
    if spec["nonResourceAttributes"].is_object() {
        let verb = text("verb", "nonResourceAttributes");
        let path = text("path", "nonResourceAttributes");
        return authorize_path(user, verb, path)
            .ok()
            .map(|()| String::new());
    }
    let from = "resourceAttributes";
    let resource = match text("subresource", from) {
        "" => text("resource", from).to_owned(),
        sub => format!("{}/{sub}", text("resource", from)),
    };
    allowed(
        store,
        user,
        &Attributes {
            verb: text("verb", from),
            group: text("group", from),
            resource,
            name: text("name", from),
            namespace: text("namespace", from),
        },
    )
}

fn rules(store: &Store, user: &User, namespace: &str) -> Value {
    let mut resources = vec![
        json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]}),
        json!({"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]}),
    ];
    if user.is_administrator() {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    }
    resources.extend(
        grants(store, user, namespace)
            .into_iter()
            .map(|grant| grant.rule),
    );
    json!({
        "resourceRules": resources,
        "nonResourceRules": [
            {"verbs": ["get"], "nonResourceURLs": PUBLIC},
            {"verbs": ["get"], "nonResourceURLs": DISCOVERY},
        ],
        "incomplete": false,
    })
}
