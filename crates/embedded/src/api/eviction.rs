//! The subresource `eviction` of Pods: a deletion that leaves word of itself in the Pod.
//!
//! As in `pkg/registry/core/pod/storage/eviction.go` of Kubernetes, without disruption budgets: there are none here.

use http::Response;
use serde_json::{Value, json};

use super::binding::created;
use super::body::Body;
use super::query::{DeleteOptions, Query, WriteOptions, WriteVerb};
use super::respond::json as json_response;
use super::{Call, broken, delete};
use crate::status::Failure;
use crate::store::{Expect, StoreError, Write};

impl Call {
    /// Deletes the Pod, with a condition that says why.
    pub(super) async fn evict(self) -> Result<Response<Body>, Failure> {
        let asked = WriteOptions::read(&self.query, WriteVerb::Create)?;
        let eviction = self.about_this_pod("Eviction")?;
        let mut options = DeleteOptions::read(&Query::default(), &eviction["deleteOptions"])?;
        options.dry_run |= asked.dry_run;
        if !options.dry_run {
            self.say_why(&mut options).await?;
        }
        self.api
            .delete_object(&self.kind, self.namespace(), self.name(), &options)
            .await?;
        Ok(json_response(201, &created()))
    }

    /// Writes the condition. A version that the deletion asks for is the one before it, and becomes the one after.
    async fn say_why(&self, options: &mut DeleteOptions) -> Result<(), Failure> {
        let key = self.key(self.name());
        loop {
            let current = self.api.store.get(&key).ok_or_else(|| self.not_found())?;
            delete::preconditions(&self.kind, &current.value, options)?;
            let mut pod = current.value.clone();
            disrupt(&mut pod, &self.api.now());
            if pod == current.value {
                return Ok(());
            }
            let write = Write::Put {
                key: key.clone(),
                expect: Expect::Revision(current.revision),
                value: pod,
            };
            match self.api.store.write(write).await {
                Ok(stored) => {
                    if let Some(version) = &mut options.resource_version {
                        *version = stored.revision.to_string();
                    }
                    return Ok(());
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

/// Says that the Pod is about to end for an eviction, once.
fn disrupt(pod: &mut Value, now: &str) {
    const TYPE: &str = "DisruptionTarget";
    let mut condition = json!({
        "type": TYPE,
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    });
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|there| there["type"] == TYPE) {
        Some(there) => {
            if there["status"] == "True" {
                condition["lastTransitionTime"] = there["lastTransitionTime"].take();
            }
            *there = condition;
        }
        None => conditions.push(condition),
    }
}
