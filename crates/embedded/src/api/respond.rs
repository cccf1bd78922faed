//! Turns what a verb found into a response.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Value, json};

use super::accept::{Accept, Format, Shape};
use super::body::{Body, full};
use crate::clock::Clock;
use crate::kinds::Kind;
use crate::status::Failure;
use crate::table::{self, IncludeObject};

/// How a client wants its answer; enough to render objects of any kind.
#[derive(Clone)]
pub struct Rendering {
    /// Representation.
    pub accept: Accept,
    /// What table rows carry.
    pub include: IncludeObject,
    /// For the ages in tables.
    pub clock: Clock,
}

/// Metadata of a list.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    /// Revision of the list.
    pub revision: u64,
    /// Where it goes on.
    pub continue_token: Option<String>,
    /// Objects behind that, where it is known.
    pub remaining: Option<usize>,
}

impl ListMeta {
    fn to_value(&self, always_continue: bool) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            meta["continue"] = token.as_str().into();
        } else if always_continue {
            meta["continue"] = "".into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

/// An answer with a body of some type.
#[must_use]
pub fn response(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// Any value, as JSON.
#[must_use]
pub fn json(code: u16, value: &Value) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    response(code, "application/json", full(bytes))
}

/// A refusal.
#[must_use]
pub fn failure(failure: &Failure) -> Response<Body> {
    match failure {
        Failure::Plain { code, text } => {
            response(*code, "text/plain; charset=utf-8", full(text.clone()))
        }
        Failure::Status(status) => {
            let mut response = json(status.code, &status.to_value());
            let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
            if retry > 0 {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from(retry));
            }
            response
        }
    }
}

/// Adds a `Warning` header for each text.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// An answer with its warnings, also where it is a refusal: what a body says is looked at first.
/// `advice` is for those that succeed.
pub fn warned(
    answer: Result<Response<Body>, Failure>,
    warnings: &[String],
    advice: &[String],
) -> Response<Body> {
    let done = answer.is_ok();
    let mut response = answer.unwrap_or_else(|refusal| failure(&refusal));
    warn(&mut response, warnings);
    warn(&mut response, if done { advice } else { &[] });
    response
}

impl Rendering {
    fn write(&self, code: u16, value: &Value) -> Response<Body> {
        match self.accept.format {
            Format::Json => json(code, value),
            Format::Yaml => {
                let text = serde_saphyr::to_string(value).unwrap_or_default();
                response(code, "application/yaml", full(text))
            }
        }
    }

    /// One object.
    ///
    /// # Errors
    /// 500 where a list was asked for.
    pub fn object(
        &self,
        code: u16,
        kind: &Kind,
        object: &Value,
    ) -> Result<Response<Body>, Failure> {
        Ok(self.write(code, &self.shaped(kind, object, true)?))
    }

    /// One object in the shape that was asked for, as watches carry it too. `columns` says whether a
    /// table has its column definitions.
    ///
    /// # Errors
    /// 500 where a list was asked for.
    pub fn shaped(&self, kind: &Kind, object: &Value, columns: bool) -> Result<Value, Failure> {
        match self.accept.shape {
            Shape::Whole => Ok(object.clone()),
            Shape::Table(version) => {
                let meta = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                Ok(table::render(
                    kind,
                    &[object],
                    &meta,
                    self.table(version, columns),
                ))
            }
            Shape::Metadata(version) => Ok(partial(object, version)),
            Shape::MetadataList(_) => Err(Failure::internal("content is not a list")),
        }
    }

    fn table(&self, version: &'static str, with_columns: bool) -> table::Options {
        table::Options {
            include: self.include,
            with_columns,
            now: (self.clock)().as_second(),
            version,
        }
    }

    /// A list.
    pub fn list(&self, kind: &Kind, objects: &[&Value], meta: &ListMeta) -> Response<Body> {
        match self.accept.shape {
            Shape::Whole if self.accept.format == Format::Json => response(
                200,
                "application/json",
                full(list_json(kind, objects, meta)),
            ),
            Shape::Whole => {
                let value = serde_json::from_slice(&list_json(kind, objects, meta));
                self.write(200, &value.unwrap_or_default())
            }
            Shape::Table(version) => {
                let options = self.table(version, true);
                self.write(
                    200,
                    &table::render(kind, objects, &meta.to_value(false), options),
                )
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                let items: Vec<Value> = objects.iter().map(|o| partial(o, version)).collect();
                // An empty list is Go's nil there.
                let items = if items.is_empty() {
                    Value::Null
                } else {
                    items.into()
                };
                self.write(
                    200,
                    &json!({
                        "kind": "PartialObjectMetadataList",
                        "apiVersion": format!("meta.k8s.io/{version}"),
                        "metadata": meta.to_value(false),
                        "items": items,
                    }),
                )
            }
        }
    }
}

fn partial(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"],
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'a str,
    api_version: String,
    metadata: Value,
    items: Vec<Item<'a>>,
}

/// An item of a list; those of built-in kinds do not repeat kind and apiVersion.
struct Item<'a> {
    object: &'a Value,
    bare: bool,
}

impl Serialize for Item<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.object.as_object() {
            Some(map) if self.bare => {
                let mut out = serializer.serialize_map(None)?;
                for (key, value) in map {
                    if key != "kind" && key != "apiVersion" {
                        out.serialize_entry(key, value)?;
                    }
                }
                out.end()
            }
            _ => self.object.serialize(serializer),
        }
    }
}

fn list_json(kind: &Kind, objects: &[&Value], meta: &ListMeta) -> Bytes {
    let list = List {
        kind: &kind.list_kind,
        api_version: kind.api_version(),
        metadata: meta.to_value(kind.custom),
        items: objects
            .iter()
            .map(|object| Item {
                object,
                bare: !kind.custom,
            })
            .collect(),
    };
    Bytes::from(serde_json::to_vec(&list).unwrap_or_default())
}
