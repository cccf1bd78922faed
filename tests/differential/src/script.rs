//! Scripts: requests as a person writes them, in YAML.
//!
//! Values that only an answer knows are references, `${ID/POINTER}`: what stands at the JSON pointer in the answer to
//! the request ID. `{ns}` in a path is `namespaces/NAME` of the script, `{namespace}` there and in bodies its name.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A list of requests with a namespace of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What it shows.
    pub note: String,
    /// Made before the first request, gone after the last.
    pub namespace: String,
    /// In order.
    pub requests: Vec<Step>,
}

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name within the script.
    pub id: String,
    /// What it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Method and path.
    pub request: String,
    /// How the body of a PATCH is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Patch>,
    /// Which form of answer; a plain object if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<Form>,
    /// Headers that are not those that follow from the rest; null for one that is not sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Option<String>>,
    /// Who asks; the user of the kubeconfig if left out.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// An object, or a text that is sent as it stands.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
    /// Asked again until this holds: other programs of the cluster have to do their work first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// A watch: it is open during these requests.
    #[serde(default, rename = "while", skip_serializing_if = "Option::is_none")]
    pub during: Option<Vec<Step>>,
    /// A watch ends with the event about the object of this name, or when the server closes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
}

/// The four kinds of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patch {
    /// JSON merge patch.
    Merge,
    /// Strategic merge patch.
    Strategic,
    /// JSON patch.
    Json,
    /// Server-side apply.
    Apply,
}

/// Forms of an answer beside the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A Table, as `kubectl get` asks for.
    Table,
    /// Only the metadata of one object.
    Metadata,
    /// Only the metadata of a list or watch.
    MetadataList,
}

/// Who asks, if not an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A user without any rights, other than those that a script gives.
    Viewer,
    /// Nobody: no token.
    Nobody,
    /// A token that is nobody's.
    BadToken,
}

impl Who {
    /// The token that is sent. `cluster/cluster` has the same one for the viewer.
    #[must_use]
    pub fn token(self) -> Option<&'static str> {
        match self {
            Self::Viewer => Some("viewer"),
            Self::Nobody => None,
            Self::BadToken => Some("wrong"),
        }
    }
}

/// What has to hold of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Until {
    /// Its status code.
    Code(u16),
    /// What stands at JSON pointers.
    Has(BTreeMap<String, Value>),
    /// The garbage collector has done what a deletion asked for.
    Collected,
    /// What is being deleted has gone.
    Gone,
}

impl Until {
    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, code: u16, body: &Value) -> bool {
        match self {
            Self::Code(wanted) => code == *wanted,
            Self::Has(values) => values
                .iter()
                .all(|(at, wanted)| body.pointer(at).unwrap_or(&Value::Null) == wanted),
            Self::Gone => body["metadata"]["deletionTimestamp"].is_null(),
            Self::Collected => {
                let finalizers = body["metadata"]["finalizers"].as_array();
                !finalizers
                    .into_iter()
                    .flatten()
                    .any(|f| f == "foregroundDeletion" || f == "orphan")
            }
        }
    }

    /// In words, for the recording.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Code(code) => format!("until the answer is {code}"),
            Self::Has(values) => {
                let all: Vec<String> = values
                    .iter()
                    .map(|(at, value)| format!("{at} is {value}"))
                    .collect();
                format!("until {}", all.join(" and "))
            }
            Self::Gone => "until it is gone".to_owned(),
            Self::Collected => "until the garbage collector is done".to_owned(),
        }
    }
}

/// A request whose references have been filled in.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST, …
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names and values.
    pub headers: BTreeMap<String, String>,
    /// The body as it is sent; empty for none.
    pub body: String,
    /// Who asks, if not an administrator.
    pub who: Option<Who>,
}

impl Step {
    /// The request with its references filled in from earlier answers. What no answer has is an empty text.
    ///
    /// # Errors
    /// The request is not a method and a path.
    pub fn request(&self, namespace: &str, answers: &Answers) -> Result<Request> {
        let Some((method, path)) = self.request.split_once(' ') else {
            bail!("{}: \"{}\" is not METHOD PATH", self.id, self.request);
        };
        let path = path
            .replace("{ns}", &format!("namespaces/{namespace}"))
            .replace("{namespace}", namespace);
        let mut headers = BTreeMap::new();
        headers.insert("Accept".to_owned(), self.accept_header().to_owned());
        if !self.body.is_null() {
            let media = self.patch.map_or("application/json", Patch::media_type);
            headers.insert("Content-Type".to_owned(), media.to_owned());
        }
        for (name, value) in &self.headers {
            match value {
                Some(value) => headers.insert(name.clone(), value.clone()),
                None => headers.remove(name),
            };
        }
        let body = match &self.body {
            Value::Null => String::new(),
            Value::String(text) => answers.fill(text),
            object => answers.filled(object).to_string(),
        };
        Ok(Request {
            method: method.to_owned(),
            path: answers.fill(&path),
            headers,
            body: body.replace("{namespace}", namespace),
            who: self.who,
        })
    }

    fn accept_header(&self) -> &'static str {
        match self.accept {
            None => "application/json",
            Some(Form::Table) => "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some(Form::Metadata) => "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            Some(Form::MetadataList) => {
                "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
            }
        }
    }
}

impl Patch {
    fn media_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What has been answered so far, by the ids of the requests.
#[derive(Clone, Debug, Default)]
pub struct Answers(BTreeMap<String, Value>);

impl Answers {
    /// Keeps one.
    pub fn keep(&mut self, id: &str, body: Value) {
        self.0.insert(id.to_owned(), body);
    }

    fn find(&self, reference: &str) -> Option<&Value> {
        let (id, pointer) = reference.split_at(reference.find('/')?);
        self.0.get(id)?.pointer(pointer)
    }

    /// A text with its references filled in.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, reference, after)) =
            rest.split_once("${").and_then(|(before, r)| {
                let (reference, after) = r.split_once('}')?;
                Some((before, reference, after))
            })
        {
            out.push_str(before);
            match self.find(reference) {
                Some(Value::String(text)) => out.push_str(text),
                Some(other) => out.push_str(&other.to_string()),
                None if repetition(reference).is_some() => {
                    out.extend(["${", reference, "}"]);
                }
                None => {}
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// A body likewise. A text that is one reference becomes what stands there, whatever it is.
    #[must_use]
    pub fn filled(&self, body: &Value) -> Value {
        match body {
            Value::String(text) => {
                let whole = text.strip_prefix("${").and_then(|t| t.strip_suffix('}'));
                let whole = whole.filter(|reference| !reference.contains("${"));
                match whole.filter(|reference| repetition(reference).is_none()) {
                    Some(reference) => self.find(reference).cloned().unwrap_or_else(|| "".into()),
                    None => self.fill(text).into(),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(fields) => {
                let filled = fields
                    .iter()
                    .map(|(key, value)| (self.fill(key), self.filled(value)));
                Value::Object(filled.collect())
            }
            other => other.clone(),
        }
    }
}

/// `TEXT*NUMBER`: the text, so many times.
fn repetition(reference: &str) -> Option<(&str, usize)> {
    let (text, count) = reference.rsplit_once('*')?;
    Some((text, count.parse().ok()?))
}

/// A body as it is sent: `${TEXT*NUMBER}`, with which a script asks for a large one, is written out. Recordings keep it
/// short.
#[must_use]
pub fn written_out(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let found = after
            .split_once('}')
            .and_then(|(inner, after)| Some((repetition(inner)?, after)));
        if let Some(((text, count), after)) = found {
            out.push_str(&text.repeat(count));
            rest = after;
        } else {
            out.push_str("${");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

impl Script {
    /// Reads one.
    ///
    /// # Errors
    /// The text is no script.
    pub fn parse(text: &str) -> Result<Self> {
        serde_saphyr::from_str(text)
            .context("not a script; tests/differential/README.md has the form")
    }
}
