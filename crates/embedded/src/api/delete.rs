//! `delete` and `deletecollection`: preconditions, finalizers, grace, propagation.

use std::sync::Arc;

use http::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::admission::PROTECTED;
use super::body::{self, Body};
use super::query::{DeleteOptions, ListOptions, Propagation, Version};
use super::read::shown;
use super::update::deletion_is_complete;
use super::{Call, Inner, broken, key, respond};
use crate::clock;
use crate::kinds::Kind;
use crate::status::Failure;
use crate::store::{Expect, StoreError, Write};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const JOBS_ORPHAN: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// Grace period of a Pod that names none, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// What a deletion came to.
pub(super) enum Deleted {
    /// The object is gone; with its last state.
    Gone(Value),
    /// It waits for finalizers, its content or its processes.
    Waits(Value),
}

impl Call {
    fn delete_options(&self) -> Result<DeleteOptions, Failure> {
        let body = if self.body.is_empty() {
            Value::Null
        } else {
            body::delete_options(&self.media, &self.body)?
        };
        DeleteOptions::read(&self.query, &body)
    }

    /// Jobs leave their Pods behind unless told otherwise.
    fn default_propagation(&self, options: &mut DeleteOptions) -> Option<&'static str> {
        let job = self.kind.group == "batch" && self.kind.kind == "Job";
        if !job || options.propagation.is_some() {
            return None;
        }
        options.propagation = Some(Propagation::Orphan);
        Some(JOBS_ORPHAN)
    }

    pub(super) async fn delete(self) -> Result<Response<Body>, Failure> {
        let mut options = self.delete_options()?;
        let warning = self.default_propagation(&mut options);
        let answer = self.deleted(&options).await;
        let warnings = warning.map(str::to_owned);
        Ok(respond::warned(answer, warnings.as_slice(), &[]))
    }

    async fn deleted(&self, options: &DeleteOptions) -> Result<Response<Body>, Failure> {
        let deleted = self
            .api
            .delete_object(&self.kind, self.namespace(), self.name(), options)
            .await?;
        Ok(match deleted {
            Deleted::Gone(object) if self.kind.kind != "Pod" => {
                let mut details = json!({
                    "name": self.name(),
                    "kind": self.kind.plural,
                    "uid": object["metadata"]["uid"],
                });
                if !self.kind.group.is_empty() {
                    details["group"] = self.kind.group.as_str().into();
                }
                respond::json(
                    200,
                    &json!({
                        "kind": "Status",
                        "apiVersion": "v1",
                        "metadata": {},
                        "status": "Success",
                        "details": details,
                    }),
                )
            }
            Deleted::Gone(object) | Deleted::Waits(object) => {
                self.rendering.object(200, &self.kind, &object)?
            }
        })
    }

    pub(super) async fn delete_collection(self) -> Result<Response<Body>, Failure> {
        let mut options = self.delete_options()?;
        let warning = self.default_propagation(&mut options);
        let list = ListOptions {
            version: Version::Newest,
            ..ListOptions::read(&self.query)?
        };
        let (objects, meta) = self.select(&list, &self.selection()?).await?;
        for object in &objects {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            let deleted = self
                .api
                .delete_object(&self.kind, metadata["namespace"].as_str(), name, &options)
                .await;
            match deleted {
                Err(Failure::Status(status)) if status.code == 404 => {}
                Err(failure) => return Err(failure),
                Ok(_) => {}
            }
        }
        let objects: Vec<&Value> = objects.iter().map(|object| &**object).collect();
        let mut response = self.rendering.list(&self.kind, &objects, &meta);
        if let Some(warning) = warning {
            respond::warn(&mut response, &[warning.to_owned()]);
        }
        Ok(response)
    }
}

impl Inner {
    /// Deletes one object as far as that is possible now.
    pub(super) async fn delete_object(
        self: &Arc<Self>,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let key = key(kind, namespace, name);
        // What was marked for its end by this call. Another write may finish the deletion first.
        let mut ending = None;
        loop {
            let Some(current) = self.store.get(&key) else {
                return match ending {
                    Some(last) => Ok(Deleted::Gone(last)),
                    None => Err(Failure::not_found(&kind.group, &kind.plural, name)),
                };
            };
            let old = shown(kind, &current);
            preconditions(kind, &old, options)?;
            let marked = self.marked(kind, &old, options)?;
            let complete = deletion_is_complete(&marked);
            // A Pod's watchers see the end of its grace before it goes.
            let shows_mark = kind.kind == "Pod" || !complete;
            if options.dry_run {
                return Ok(if complete {
                    Deleted::Gone(if shows_mark { marked } else { old })
                } else {
                    Deleted::Waits(marked)
                });
            }
            let mut revision = current.revision;
            let mut last = old;
            if shows_mark && marked != last {
                let write = Write::Put {
                    key: key.clone(),
                    expect: Expect::Revision(revision),
                    value: kind.to_stored(marked),
                };
                match self.store.write(write).await {
                    Ok(stored) => {
                        revision = stored.revision;
                        last = shown(kind, &stored);
                        if !complete {
                            self.updated(kind, &stored).await?;
                        }
                    }
                    Err(StoreError::Conflict(_)) => continue,
                    Err(error) => return Err(broken(&error)),
                }
            }
            if !complete {
                return Ok(Deleted::Waits(last));
            }
            ending = Some(last);
            let write = Write::Delete {
                key: key.clone(),
                revision,
            };
            match self.store.write(write).await {
                Ok(stored) => {
                    let last = shown(kind, &stored);
                    self.removed(kind, &last).await?;
                    return Ok(Deleted::Gone(last));
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    /// The object with everything that a deletion writes into it.
    fn marked(&self, kind: &Kind, old: &Value, options: &DeleteOptions) -> Result<Value, Failure> {
        let mut new = old.clone();
        let name = old["metadata"]["name"].as_str().unwrap_or_default();
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("", "Namespace") => {
                set_finalizers(&mut new, options.propagation);
                self.mark_namespace(&mut new, name)?;
            }
            ("apiextensions.k8s.io", _) => self.mark_definition(&mut new),
            ("", "Pod") => self.mark_pod(&mut new, options),
            _ => {
                set_finalizers(&mut new, options.propagation);
                self.mark(&mut new, 0);
            }
        }
        Ok(new)
    }

    /// A Pod ends within its grace period. Of one that is ending already, a deletion can only bring the end forward,
    /// as in `pkg/registry/rest/delete.go` of the API server: one that does not changes nothing at all.
    fn mark_pod(&self, pod: &mut Value, options: &DeleteOptions) {
        let metadata = &pod["metadata"];
        let Some(end) = metadata["deletionTimestamp"].as_str() else {
            let grace = pod_grace(pod, options.grace);
            set_finalizers(pod, options.propagation);
            return self.mark(pod, grace);
        };
        let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if grace == 0 {
            return set_finalizers(pod, options.propagation);
        }
        if let Some(shorter) = options.grace.filter(|asked| *asked < grace)
            && let Ok(end) = end.parse::<Timestamp>()
        {
            let end = end - SignedDuration::from_secs(grace - shorter);
            set_finalizers(pod, options.propagation);
            pod["metadata"]["deletionTimestamp"] = clock::seconds(end).into();
            pod["metadata"]["deletionGracePeriodSeconds"] = shorter.into();
        }
    }

    /// Marks what is not marked yet.
    fn mark(&self, object: &mut Value, grace: i64) {
        let metadata = &object["metadata"];
        if metadata["deletionTimestamp"].is_string() {
            return;
        }
        let end = (self.clock)() + SignedDuration::from_secs(grace);
        if let Some(generation) = metadata["generation"].as_i64().filter(|g| *g > 0) {
            object["metadata"]["generation"] = (generation + 1).into();
        }
        object["metadata"]["deletionTimestamp"] = clock::seconds(end).into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    }

    fn mark_namespace(&self, namespace: &mut Value, name: &str) -> Result<(), Failure> {
        if PROTECTED.contains(&name) {
            let why = "this namespace may not be deleted";
            return Err(Failure::forbidden("", "namespaces", name, why));
        }
        if namespace["metadata"]["deletionTimestamp"].is_string() {
            return Err(Failure::conflict(
                "",
                "namespaces",
                name,
                "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will automatically be purged by the system.",
            ));
        }
        namespace["metadata"]["deletionTimestamp"] = self.now().into();
        namespace["status"]["phase"] = "Terminating".into();
        Ok(())
    }
}

/// Whether the object is the one, and the version of it, that a deletion asks for, if it does.
pub(super) fn preconditions(
    kind: &Kind,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let conflict = |why: &str| Err(Failure::conflict(&kind.group, &kind.kind, name, why));
    // Namespaces are looked at elsewhere in the real server, in other words.
    let of_namespace = |what: &str, asked: &str, there: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {there}"
        );
        Err(Failure::conflict("", &kind.plural, name, &why))
    };
    let namespace = kind.group.is_empty() && kind.kind == "Namespace";
    let there = metadata["uid"].as_str().unwrap_or_default();
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != there) {
        if namespace {
            return of_namespace("UID", uid, there);
        }
        return conflict(&format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({there}). The object might have been deleted and then recreated"
        ));
    }
    let there = metadata["resourceVersion"].as_str().unwrap_or_default();
    if let Some(version) = options.resource_version.as_deref().filter(|v| *v != there) {
        if namespace {
            return of_namespace("ResourceVersion", version, there);
        }
        return conflict(&format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({there}). The object might have been modified"
        ));
    }
    Ok(())
}

/// The garbage collector's finalizers follow from the propagation policy.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let mut finalizers: Vec<Value> = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    finalizers.retain(|name| {
        Some(name.as_str().unwrap_or_default()) == wanted || (name != ORPHAN && name != FOREGROUND)
    });
    if let Some(wanted) = wanted
        && !finalizers.iter().any(|name| name == wanted)
    {
        finalizers.push(wanted.into());
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// How long a Pod gets: nothing if it has no node yet or has ended.
fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let ended = matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    if unscheduled || ended {
        return 0;
    }
    asked
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(DEFAULT_GRACE)
}
