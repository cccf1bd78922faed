//! The subresource `binding` of Pods: a scheduler puts a Pod on a node.
//!
//! As in `pkg/registry/core/pod/storage/storage.go` of Kubernetes: what the scheduler has seen (uid, resourceVersion) are
//! preconditions, and come before what the Pod itself forbids.

use http::Response;
use serde_json::{Map, Value, json};

use super::body::Body;
use super::query::{WriteOptions, WriteVerb};
use super::respond::json as json_response;
use super::{Call, broken};
use crate::status::{Cause, Failure};
use crate::store::{Expect, StoreError, Write};

/// The answer to a binding and an eviction.
pub(super) fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

impl Call {
    /// Puts a Pod on a node.
    pub(super) async fn bind(self) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::read(&self.query, WriteVerb::Create)?;
        let binding = self.about_this_pod("Binding")?;
        check(&binding["target"])?;
        let key = self.key(self.name());
        loop {
            let current = self.api.store.get(&key).ok_or_else(|| self.not_found())?;
            let mut pod = current.value.clone();
            self.is_as_seen(&binding["metadata"], &pod["metadata"])?;
            if let Some(why) = objection(&pod, self.name()) {
                return Err(Failure::conflict("", "pods/binding", self.name(), &why));
            }
            if options.dry_run {
                return Ok(json_response(201, &created()));
            }
            assign(&mut pod, &binding, &self.api.now());
            let write = Write::Put {
                key: key.clone(),
                expect: Expect::Revision(current.revision),
                value: pod,
            };
            match self.api.store.write(write).await {
                Ok(_) => return Ok(json_response(201, &created())),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// The body, which is of this kind and names the Pod of the path.
    pub(super) fn about_this_pod(&self, kind: &str) -> Result<Value, Failure> {
        let document = self.document()?.value;
        self.same_namespace(&document)?;
        if document["metadata"]["name"] == self.name() {
            return Ok(document);
        }
        let why = format!("name in URL does not match name in {kind} object");
        Err(Failure::bad_request(why))
    }

    /// Whether the Pod is the one, and the version of it, that the binding names, if it does.
    fn is_as_seen(&self, binding: &Value, pod: &Value) -> Result<(), Failure> {
        for (key, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let asked = binding[key].as_str().unwrap_or_default();
            let there = pod[key].as_str().unwrap_or_default();
            if !asked.is_empty() && asked != there {
                let (namespace, name) = (self.namespace().unwrap_or_default(), self.name());
                let why = format!(
                    "StorageError: invalid object, Code: 4, Key: /registry/pods/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {asked}, {what} in object meta: {there}"
                );
                return Err(Failure::conflict("", "pods", name, &why));
            }
        }
        Ok(())
    }
}

/// Refuses what is no node. The real server takes these faults for its own, and answers 500.
fn check(target: &Value) -> Result<(), Failure> {
    let mut causes = Vec::new();
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let known = ["Node", "<empty>"];
        causes.push(Cause::not_supported("target.kind", &kind.into(), &known));
    }
    if target["name"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("target.name", ""));
    }
    let texts: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::internal(one)),
        more => Err(Failure::internal(format!("[{}]", more.join(", ")))),
    }
}

/// Why this Pod gets no node now.
fn objection(pod: &Value, name: &str) -> Option<String> {
    let spec = &pod["spec"];
    let there = spec["nodeName"].as_str().unwrap_or_default();
    let gates = spec["schedulingGates"].as_array().map_or(0, Vec::len);
    if pod["metadata"]["deletionTimestamp"].is_string() {
        Some(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ))
    } else if !there.is_empty() {
        Some(format!(
            "pod {name} is already assigned to node \"{there}\""
        ))
    } else if gates > 0 {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    }
}

/// Writes the node, the condition that tells of it, and what the binding has of labels and annotations.
fn assign(pod: &mut Value, binding: &Value, time: &str) {
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for key in ["labels", "annotations"] {
        let Some(more) = binding["metadata"][key].as_object() else {
            continue;
        };
        if !pod["metadata"][key].is_object() {
            pod["metadata"][key] = Map::new().into();
        }
        if let Some(all) = pod["metadata"][key].as_object_mut() {
            all.extend(more.clone());
        }
    }
    if let Some(status) = pod["status"].as_object_mut() {
        // A hint that has served.
        status.remove("nominatedNodeName");
    }
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time,
    });
    let mut conditions: Vec<Value> = pod["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(condition);
    pod["status"]["conditions"] = conditions.into();
}
