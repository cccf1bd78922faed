//! Which representation of the answer a client asked for.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::status::Failure;

/// How the answer is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What of the objects is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The objects themselves.
    Whole,
    /// A `Table`, in this version of `meta.k8s.io`.
    Table(&'static str),
    /// `PartialObjectMetadata`, of one object.
    Metadata(&'static str),
    /// `PartialObjectMetadataList`.
    MetadataList(&'static str),
}

/// The first acceptable choice of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// How.
    pub format: Format,
    /// What.
    pub shape: Shape,
}

/// One range of an `Accept` header with its parameters.
struct Range<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        Self {
            media: parts.next().unwrap_or_default(),
            parameters: parts.filter_map(|part| part.split_once('=')).collect(),
        }
    }

    fn get(&self, name: &str) -> &'a str {
        let found = self.parameters.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value).unwrap_or_default()
    }
}

fn header(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    values.join(",")
}

impl Accept {
    /// Reads the `Accept` header; without one it is JSON.
    ///
    /// # Errors
    /// 406 when nothing in it is offered.
    pub fn of(headers: &HeaderMap, custom: bool) -> Result<Self, Failure> {
        let text = header(headers);
        if text.trim().is_empty() {
            return Ok(Self {
                format: Format::Json,
                shape: Shape::Whole,
            });
        }
        let choice = text
            .split(',')
            .map(|range| Range::parse(range.trim()))
            .find_map(|range| {
                let format = match range.media {
                    "application/json" | "*/*" | "application/*" => Format::Json,
                    "application/yaml" => Format::Yaml,
                    _ => return None,
                };
                Some(Self {
                    format,
                    shape: shape(&range)?,
                })
            });
        choice.ok_or_else(|| {
            let offered: &[&str] = if custom {
                &["application/json", "application/yaml"]
            } else {
                &[
                    "application/json",
                    "application/yaml",
                    "application/vnd.kubernetes.protobuf",
                ]
            };
            Failure::not_acceptable(offered)
        })
    }
}

fn shape(range: &Range<'_>) -> Option<Shape> {
    if range.get("as").is_empty() {
        return Some(Shape::Whole);
    }
    let version = match (range.get("g"), range.get("v")) {
        ("meta.k8s.io", "v1") => "v1",
        ("meta.k8s.io", "v1beta1") => "v1beta1",
        _ => return None,
    };
    match range.get("as") {
        "Table" => Some(Shape::Table(version)),
        "PartialObjectMetadata" => Some(Shape::Metadata(version)),
        "PartialObjectMetadataList" => Some(Shape::MetadataList(version)),
        _ => None,
    }
}

/// The version of the aggregated discovery that a client prefers over the old form.
#[must_use]
pub fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    let text = header(headers);
    let first = text.split(',').next()?.trim();
    let range = Range::parse(first);
    match (range.get("as"), range.get("g"), range.get("v")) {
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some("v2"),
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => Some("v2beta1"),
        _ => None,
    }
}
