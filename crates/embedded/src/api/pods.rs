//! What is read of a Pod beside itself: its logs.

use futures::TryStreamExt;
use http::Response;
use jiff::Timestamp;
use serde_json::Value;

use super::Call;
use super::body::{Body, full, stream};
use super::query::Query;
use super::respond::response;
use crate::logs::{LogError, LogOptions};
use crate::status::{Cause, Failure};

impl Call {
    /// Commands in a running Pod need a connection that this server does not offer.
    pub(super) fn no_stream(&self) -> Failure {
        let pod = self
            .api
            .get_value(&self.kind, self.namespace(), self.name());
        match pod {
            None => self.not_found(),
            Some(pod) if node(&pod).is_empty() => {
                Failure::bad_request(format!("pod {} does not have a host assigned", self.name()))
            }
            Some(_) => Failure::status(
                501,
                "NotImplemented",
                format!(
                    "{} is not offered by this cluster",
                    self.path.subresource.as_deref().unwrap_or_default()
                ),
                None,
            ),
        }
    }

    pub(super) async fn log(self) -> Result<Response<Body>, Failure> {
        let options = log_options(&self.query, self.name())?;
        let pod = self
            .api
            .get_value(&self.kind, self.namespace(), self.name())
            .ok_or_else(|| self.not_found())?;
        let container = container(&pod, self.name(), self.query.text("container"))?;
        if node(&pod).is_empty() {
            return Ok(response(204, "", full("")));
        }
        let previous_missing = || {
            Failure::bad_request(format!(
                "previous terminated container \"{container}\" in pod \"{}\" not found",
                self.name()
            ))
        };
        let status = container_status(&pod, &container);
        if options.previous && status["restartCount"].as_i64().unwrap_or(0) == 0 {
            return Err(previous_missing());
        }
        if status.is_null() && pod["status"]["phase"] == "Failed" {
            return Err(Failure::bad_request(format!(
                "container \"{container}\" in pod \"{}\" is not available",
                self.name()
            )));
        }
        started(&status, &container, self.name())?;
        let Some(logs) = &self.api.logs else {
            return Err(Failure::internal(
                "this cluster has no node that keeps logs",
            ));
        };
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        match logs.read(uid, &container, options).await {
            Ok(pieces) => Ok(response(200, "text/plain", stream(pieces.into_stream()))),
            Err(LogError::NotFound { .. }) => Ok(response(200, "text/plain", full(""))),
            Err(error @ LogError::Io { .. }) => Err(Failure::internal(error.to_string())),
        }
    }
}

fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn containers(pod: &Value) -> impl Iterator<Item = &str> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
}

fn container(pod: &Value, name: &str, asked: &str) -> Result<String, Failure> {
    if !asked.is_empty() {
        return if containers(pod).any(|container| container == asked) {
            Ok(asked.to_owned())
        } else {
            Err(Failure::bad_request(format!(
                "container {asked} is not valid for pod {name}"
            )))
        };
    }
    let names = |list: &str| -> Vec<&str> {
        let all = pod["spec"][list].as_array();
        all.into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    match main.as_slice() {
        [only] if init.is_empty() || main.len() == 1 => Ok((*only).to_owned()),
        _ => {
            let also = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            Err(Failure::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{also}",
                main.join(" ")
            )))
        }
    }
}

fn container_status(pod: &Value, container: &str) -> Value {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .into_iter()
    .filter_map(|list| pod["status"][list].as_array())
    .flatten()
    .find(|status| status["name"] == container)
    .cloned()
    .unwrap_or_default()
}

/// Refuses the log of a container that has not begun.
fn started(status: &Value, container: &str, pod: &str) -> Result<(), Failure> {
    let state = &status["state"];
    let begun = state["running"].is_object()
        || state["terminated"].is_object()
        || status["lastState"]["terminated"].is_object();
    if begun {
        return Ok(());
    }
    let why = match state["waiting"]["reason"].as_str() {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    Err(Failure::bad_request(format!(
        "container \"{container}\" in pod \"{pod}\" is waiting to start: {why}"
    )))
}

fn log_options(query: &Query, pod: &str) -> Result<LogOptions, Failure> {
    let mut causes = Vec::new();
    let tail = query.number("tailLines")?;
    let limit = query.number("limitBytes")?;
    let since = query.number("sinceSeconds")?;
    let since_time = match query.text("sinceTime") {
        "" => None,
        text => Some(text.parse::<Timestamp>().map_err(|_| {
            Failure::bad_request(format!(
                "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
            ))
        })?),
    };
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid("tailLines", &tail.into(), why));
    }
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        causes.push(Cause::invalid(
            "limitBytes",
            &limit.into(),
            "must be greater than 0",
        ));
    }
    if since.is_some() && since_time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        causes.push(Cause::forbidden("[]", why));
    } else if let Some(since) = since.filter(|since| *since < 1) {
        causes.push(Cause::invalid(
            "sinceSeconds",
            &since.into(),
            "must be greater than 0",
        ));
    }
    if query.get("stream").is_some_and(|stream| stream != "All") {
        causes.push(Cause::forbidden("stream", "may not be specified"));
    }
    if !causes.is_empty() {
        return Err(Failure::invalid("", "PodLogOptions", pod, causes));
    }
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines: tail.map(positive),
        since_time,
        since_seconds: since.map(|s| u32::try_from(s).unwrap_or(u32::MAX)),
        limit_bytes: limit.map(positive),
        timestamps: query.flag("timestamps"),
    })
}
