//! Paths that are no resources: discovery, `OpenAPI`, version and health.

use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{Method, Response};
use serde_json::{Value, json};

use super::Inner;
use super::accept::aggregated_discovery;
use super::body::{Body, full};
use super::path::Target;
use super::respond::{json as json_response, response};
use crate::kinds::Registry;
use crate::status::Failure;
use crate::{discovery, openapi};

impl Inner {
    pub(super) fn other(
        &self,
        target: &Target,
        path: &str,
        parts: &Parts,
    ) -> Result<Response<Body>, Failure> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(Failure::method_not_allowed());
        }
        let registry = &self.registry;
        match target {
            Target::Versions { core } => Ok(self.versions(*core, parts)),
            Target::Group(group) => discovery::group(registry, group)
                .map(|document| json_response(200, &document))
                .ok_or_else(Failure::no_such_path),
            Target::GroupVersion(group, version) => {
                let document = discovery::resource_list(registry, group, version);
                let missing = || {
                    if Registry::is_builtin_group(group) {
                        Failure::no_such_resource()
                    } else {
                        Failure::no_such_path()
                    }
                };
                document
                    .map(|document| json_response(200, &document))
                    .ok_or_else(missing)
            }
            Target::Resource(_) | Target::Other => self.plain(path, parts),
        }
    }

    fn versions(&self, core: bool, parts: &Parts) -> Response<Body> {
        let Some(version) = aggregated_discovery(&parts.headers) else {
            let document = if core {
                discovery::api_versions(&self.address)
            } else {
                discovery::group_list(&self.registry)
            };
            return json_response(200, &document);
        };
        let document = discovery::aggregated(&self.registry, core, version);
        let content_type = if version == "v2" {
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        } else {
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
        };
        tagged(&document, content_type, parts)
    }

    fn plain(&self, path: &str, parts: &Parts) -> Result<Response<Body>, Failure> {
        let trimmed = path.trim_end_matches('/');
        if let Some(rest) = trimmed.strip_prefix("/openapi/v3") {
            return Ok(self.openapi(rest.trim_matches('/'), parts));
        }
        match trimmed {
            "/openapi/v2" => Ok(swagger(parts)),
            "" => Ok(json_response(200, &discovery::paths(&self.registry))),
            "/version" => Ok(json_response(200, &version())),
            "/healthz" | "/livez" | "/readyz" => Ok(health(trimmed, parts)),
            _ => Err(Failure::no_such_path()),
        }
    }

    fn openapi(&self, rest: &str, parts: &Parts) -> Response<Body> {
        let segments: Vec<&str> = rest.split('/').collect();
        let document = match segments.as_slice() {
            [""] => return json_response(200, &openapi::index(&self.registry)),
            ["api", version] => openapi::document(&self.registry, "", version),
            ["apis", group, version] => openapi::document(&self.registry, group, version),
            _ => None,
        };
        match document {
            Some(document) => tagged(&document, "application/json", parts),
            None => response(404, "", full("")),
        }
    }
}

/// The document that came before `OpenAPI` v3, in protobuf where that is asked for: the one form that `kubectl` takes.
fn swagger(parts: &Parts) -> Response<Body> {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2";
    let wanted = parts.headers.get_all(ACCEPT).iter();
    let mut wanted = wanted.filter_map(|header| header.to_str().ok());
    if wanted.any(|header| header.contains(PROTOBUF)) {
        let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        response(200, content_type, full(openapi::v2::protobuf()))
    } else {
        json_response(200, &openapi::v2::document())
    }
}

/// A document with its `ETag`, or 304 if the client has it.
fn tagged(document: &Value, content_type: &'static str, parts: &Parts) -> Response<Body> {
    let tag = format!("\"{}\"", discovery::etag(document));
    let known = parts
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|header| header.to_str().ok())
        .is_some_and(|header| header == tag);
    let mut answer = if known {
        response(304, "", full(""))
    } else {
        let bytes = serde_json::to_vec(document).unwrap_or_default();
        response(200, content_type, full(bytes))
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

fn health(path: &str, parts: &Parts) -> Response<Body> {
    let name = path.trim_start_matches('/');
    let verbose = parts.uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair == "verbose" || pair.starts_with("verbose="))
    });
    let text = if verbose {
        format!("[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]shutdown ok\n{name} check passed\n")
    } else {
        "ok".to_owned()
    };
    response(200, "text/plain; charset=utf-8", full(text))
}

/// The version of Kubernetes whose API this is.
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.3",
        "gitCommit": "unknown",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.26.8",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}
