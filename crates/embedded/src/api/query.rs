//! The parameters of a request, with the rules and messages of the real server's option types.

use serde_json::{Value, json};

use super::path::decode;
use crate::kinds::FieldValidation;
use crate::status::{Cause, Failure};

/// The parameters behind the question mark, in order.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=b&c=d`.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = text
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key, true), decode(value, true))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }

    /// As [`Query::get`], where an empty value means nothing.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// A truth value: everything that is given is true, but `0` and `false`.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 for what is none.
    pub fn number(&self, key: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.get(key).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            Failure::bad_request(format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                Value::from(value)
            ))
        })
    }
}

/// What creates, updates and patches have in common.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Everything but the store.
    pub dry_run: bool,
    /// About unknown fields.
    pub validation: FieldValidation,
    /// `fieldManager`, if given.
    pub manager: Option<String>,
    /// `force`, of an apply.
    pub force: bool,
}

/// Which option type the messages name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerb {
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH, but for an apply.
    Patch,
    /// PATCH with an apply configuration.
    Apply,
}

impl WriteOptions {
    /// Reads and checks them.
    ///
    /// # Errors
    /// 422 that names the option type.
    pub fn read(query: &Query, verb: WriteVerb) -> Result<Self, Failure> {
        let mut causes = Vec::new();
        let apply = verb == WriteVerb::Apply;
        if apply && query.text("fieldManager").is_empty() {
            causes.push(Cause::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        if query.text("fieldManager").len() > 128 {
            causes.push(Cause::too_long("fieldManager", 128));
        }
        if verb == WriteVerb::Patch && query.get("force").is_some() {
            causes.push(Cause::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
        causes.extend(dry_run_fault(&query.all("dryRun").collect::<Vec<_>>()));
        let validation = match query.text("fieldValidation") {
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            "" | "Warn" => FieldValidation::Warn,
            other => {
                causes.push(Cause::not_supported(
                    "fieldValidation",
                    &other.into(),
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        let kind = match verb {
            WriteVerb::Create => "CreateOptions",
            WriteVerb::Update => "UpdateOptions",
            WriteVerb::Patch | WriteVerb::Apply => "PatchOptions",
        };
        refuse(kind, causes)?;
        Ok(Self {
            dry_run: query.get("dryRun").is_some(),
            validation,
            manager: Some(query.text("fieldManager"))
                .filter(|manager| !manager.is_empty())
                .map(str::to_owned),
            force: query.flag("force"),
        })
    }
}

fn dry_run_fault(values: &[&str]) -> Option<Cause> {
    let wrong = values.iter().any(|value| *value != "All");
    wrong.then(|| Cause::not_supported("dryRun", &json!(values), &["All"]))
}

fn refuse(kind: &str, causes: Vec<Cause>) -> Result<(), Failure> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid("meta.k8s.io", kind, "", causes))
    }
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without their owner reference.
    Orphan,
    /// They go after the owner.
    Background,
    /// They go before the owner.
    Foreground,
}

/// How to delete, from the body or, where there is none, from the query.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Everything but the store.
    pub dry_run: bool,
    /// Seconds that a Pod has to end.
    pub grace: Option<i64>,
    /// About dependents.
    pub propagation: Option<Propagation>,
    /// The object must have this UID.
    pub uid: Option<String>,
    /// The object must have this resourceVersion.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads and checks them; `body` is `Null` for none.
    ///
    /// # Errors
    /// 400 for another kind of body, 422 for wrong values.
    pub fn read(query: &Query, body: &Value) -> Result<Self, Failure> {
        if let Some(kind) = body["kind"].as_str()
            && kind != "DeleteOptions"
        {
            let version = body["apiVersion"].as_str().unwrap_or_default();
            return Err(Failure::bad_request(format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/runtime/scheme.go:111\""
            )));
        }
        // A body counts alone.
        let query = if body.is_null() {
            query
        } else {
            &Query::default()
        };
        let text = |key: &str| -> Option<String> {
            let given = body[key].as_str().or_else(|| query.get(key));
            given.map(str::to_owned)
        };
        let mut causes = Vec::new();
        let policy = text("propagationPolicy");
        let orphan = body["orphanDependents"].as_bool().or_else(|| {
            query
                .get("orphanDependents")
                .map(|_| query.flag("orphanDependents"))
        });
        if let (Some(policy), Some(_)) = (&policy, orphan) {
            causes.push(Cause::invalid(
                "propagationPolicy",
                &policy.as_str().into(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let propagation = match policy.as_deref() {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                causes.push(Cause::not_supported(
                    "propagationPolicy",
                    &other.into(),
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
                None
            }
            None => match orphan {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => None,
            },
        };
        let asked = body["dryRun"].as_array().into_iter().flatten();
        let dry_run: Vec<&str> = query
            .all("dryRun")
            .chain(asked.filter_map(Value::as_str))
            .collect();
        causes.extend(dry_run_fault(&dry_run));
        refuse("DeleteOptions", causes)?;
        let grace = match body["gracePeriodSeconds"].as_i64() {
            Some(grace) => Some(grace),
            None => query.number("gracePeriodSeconds")?,
        };
        let condition = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            // Less than nothing is a second, as in the API server's `BeforeDelete`.
            grace: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            uid: condition("uid"),
            resource_version: condition("resourceVersion"),
        })
    }
}

/// Which state a list or watch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The newest.
    Newest,
    /// Any; what is at hand.
    Any,
    /// That one or a newer one.
    NotOlderThan(u64),
    /// That one.
    Exact(u64),
}

/// The parameters of a list.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Which state.
    pub version: Version,
    /// At most so many objects, or 0.
    pub limit: usize,
    /// Where an earlier list ended.
    pub continue_token: Option<String>,
}

impl ListOptions {
    /// Reads and checks them.
    ///
    /// # Errors
    /// 400 or 422.
    pub fn read(query: &Query) -> Result<Self, Failure> {
        let limit = usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(0);
        let matching = query.text("resourceVersionMatch");
        let version = query.text("resourceVersion");
        let token = Some(query.text("continue")).filter(|token| !token.is_empty());
        match_faults(query, matching, version)?;
        if token.is_some() && !version.is_empty() && version != "0" {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let version = match (version, matching) {
            ("", _) => Version::Newest,
            ("0", _) => Version::Any,
            (text, matching) => {
                let number = text.parse().map_err(|_| {
                    Failure::bad_request(format!("invalid resource version: {}", bad_version(text)))
                })?;
                if matching == "Exact" || (matching.is_empty() && limit > 0) {
                    Version::Exact(number)
                } else {
                    Version::NotOlderThan(number)
                }
            }
        };
        Ok(Self {
            version,
            limit: if version == Version::Any { 0 } else { limit },
            continue_token: token.map(str::to_owned),
        })
    }
}

const NO_MATCH_WITH_CONTINUE: &str = "resourceVersionMatch is forbidden when continue is provided";

fn match_faults(query: &Query, matching: &str, version: &str) -> Result<(), Failure> {
    let field = "resourceVersionMatch";
    let mut causes = Vec::new();
    if query.get("sendInitialEvents").is_some() {
        let why = "sendInitialEvents is forbidden for list";
        causes.push(Cause::forbidden("sendInitialEvents", why));
    }
    if matching.is_empty() {
        return refuse("ListOptions", causes);
    }
    if version.is_empty() {
        causes.push(Cause::forbidden(
            field,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if !query.text("continue").is_empty() {
        causes.push(Cause::forbidden(field, NO_MATCH_WITH_CONTINUE));
    }
    if !matches!(matching, "Exact" | "NotOlderThan") {
        causes.push(Cause::not_supported(
            field,
            &matching.into(),
            &["Exact", "NotOlderThan", ""],
        ));
    }
    if matching == "Exact" && version == "0" {
        causes.push(Cause::forbidden(
            field,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    refuse("ListOptions", causes)
}

/// What is said of a resource version that is no number.
fn bad_version(text: &str) -> String {
    let quoted = Value::from(text);
    format!(
        "resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax"
    )
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the objects that are there, as `ADDED`.
    State,
    /// The same, ended by a bookmark; at this revision or later.
    Initial(u64),
    /// With what changed after a revision.
    After(u64),
}

/// The parameters of a watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Where it begins.
    pub start: Start,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// Seconds after which it ends.
    pub timeout: Option<u64>,
}

impl WatchOptions {
    /// Reads and checks them.
    ///
    /// # Errors
    /// 400, 422, or 500 for a resource version that is no number.
    pub fn read(query: &Query) -> Result<Self, Failure> {
        let timeout = query
            .number("timeoutSeconds")?
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0);
        let initial = query
            .get("sendInitialEvents")
            .map(|_| query.flag("sendInitialEvents"));
        let field = "resourceVersionMatch";
        let mut causes = Vec::new();
        let matching = query.text(field);
        // A watch from the beginning is one with initial events, as the real server sees it.
        let from_beginning = initial.is_none()
            && matching.is_empty()
            && matches!(query.text("resourceVersion"), "" | "0");
        if initial.is_some() && matching != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(field, why));
        }
        if initial.is_none() && !matching.is_empty() {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden(field, why));
        }
        if !matches!(matching, "" | "NotOlderThan") {
            let supported = &["NotOlderThan"];
            causes.push(Cause::not_supported(field, &matching.into(), supported));
        }
        if (from_beginning || !matching.is_empty()) && !query.text("continue").is_empty() {
            causes.push(Cause::forbidden(field, NO_MATCH_WITH_CONTINUE));
        }
        refuse("ListOptions", causes)?;
        let version = match query.text("resourceVersion") {
            "" => None,
            text => Some(
                text.parse::<u64>()
                    .map_err(|_| Failure::internal(bad_version(text)))?,
            ),
        };
        let start = match (initial, version) {
            (Some(true), version) => Start::Initial(version.unwrap_or(0)),
            (Some(false), None | Some(0)) => Start::After(u64::MAX),
            (_, None | Some(0)) => Start::State,
            (_, Some(version)) => Start::After(version),
        };
        Ok(Self {
            start,
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout,
        })
    }
}
