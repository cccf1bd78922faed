//! Custom resource definitions: what is served follows from those in the store.

use std::sync::Arc;

use serde_json::{Value, json};

use super::delete::Deleted;
use super::query::DeleteOptions;
use super::update::deletion_is_complete;
use super::{Inner, broken};
use crate::apply;
use crate::kinds::{Kind, crd};
use crate::status::Failure;
use crate::store::{Expect, Revised, StoreError, Write};

const GROUP: &str = "apiextensions.k8s.io";
const PREFIX: &str = "/apiextensions.k8s.io/customresourcedefinitions/";
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Who the status of a definition is written by.
const MANAGER: &str = "kube-apiserver";

fn is_definition(kind: &Kind) -> bool {
    kind.group == GROUP && kind.kind == "CustomResourceDefinition"
}

fn names(definition: &Value) -> (&str, &str) {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let plural = definition["spec"]["names"]["plural"]
        .as_str()
        .unwrap_or_default();
    (group, plural)
}

impl Inner {
    /// Serves the definitions that are in the store.
    pub(super) fn serve_stored_definitions(&self) -> Result<(), Failure> {
        for definition in self.store.list(PREFIX).0 {
            self.registry.install_crd(&definition.value)?;
        }
        Ok(())
    }

    /// After an object was created.
    pub(super) async fn created(
        self: &Arc<Self>,
        kind: &Kind,
        stored: &Revised,
    ) -> Result<(), Failure> {
        if is_definition(kind) {
            self.establish(kind, stored).await?;
        }
        Ok(())
    }

    /// After an object was changed.
    pub(super) async fn updated(
        self: &Arc<Self>,
        kind: &Kind,
        stored: &Revised,
    ) -> Result<(), Failure> {
        if !is_definition(kind) {
            return Ok(());
        }
        if stored.value["metadata"]["deletionTimestamp"].is_string() {
            return Box::pin(self.clean_up(kind, &stored.key)).await;
        }
        self.registry.install_crd(&stored.value)?;
        self.kinds_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// After an object has gone.
    pub(super) async fn removed(
        self: &Arc<Self>,
        kind: &Kind,
        last: &Value,
    ) -> Result<(), Failure> {
        if is_definition(kind) {
            let (group, plural) = names(last);
            self.registry.remove(group, plural);
            self.kinds_changed.send_modify(|count| *count += 1);
            return Ok(());
        }
        if !kind.custom {
            return Ok(());
        }
        // The last object of a definition that is being deleted takes the definition with it.
        let key = format!("{PREFIX}{}.{}", kind.plural, kind.group);
        let definition = self.store.get(&key);
        let leaving =
            definition.is_some_and(|d| d.value["metadata"]["deletionTimestamp"].is_string());
        match self
            .registry
            .lookup(GROUP, "v1", "customresourcedefinitions")
        {
            Some(definitions) if leaving => Box::pin(self.finish(&definitions, &key)).await,
            _ => Ok(()),
        }
    }

    /// Accepts the names of a new definition, serves it, and says so in its status, in two steps as
    /// the real server does.
    async fn establish(&self, kind: &Kind, stored: &Revised) -> Result<(), Failure> {
        self.registry.install_crd(&stored.value)?;
        let time = self.now();
        for step in [crd::accept_names, crd::establish] {
            self.write_status(kind, &stored.key, |definition| step(definition, &time))
                .await?;
        }
        self.kinds_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn write_status(
        &self,
        kind: &Kind,
        key: &str,
        change: impl Fn(&mut Value),
    ) -> Result<(), Failure> {
        while let Some(current) = self.store.get(key) {
            let mut new = current.value.clone();
            change(&mut new);
            let time = self.now();
            let writer = super::create::writer(MANAGER, &time, Some("status"));
            apply::track_update(kind, Some(&current.value), &mut new, writer);
            let write = Write::Put {
                key: key.to_owned(),
                expect: Expect::Revision(current.revision),
                value: new,
            };
            match self.store.write(write).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// Marks a definition: its objects go first.
    pub(super) fn mark_definition(&self, definition: &mut Value) {
        if definition["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let time = self.now();
        definition["metadata"]["deletionTimestamp"] = time.as_str().into();
        let mut finalizers: Vec<Value> = definition["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        finalizers.push(CLEANUP.into());
        definition["metadata"]["finalizers"] = finalizers.into();
        let terminating = json!({
            "type": "Terminating",
            "status": "True",
            "lastTransitionTime": time,
            "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        });
        match definition["status"]["conditions"].as_array_mut() {
            Some(conditions) => conditions.push(terminating),
            None => definition["status"]["conditions"] = json!([terminating]),
        }
    }

    /// Deletes the objects of a definition that was marked, then the definition.
    async fn clean_up(self: &Arc<Self>, definitions: &Kind, key: &str) -> Result<(), Failure> {
        let Some(definition) = self.store.get(key) else {
            return Ok(());
        };
        let (group, plural) = names(&definition.value);
        let kinds = self.registry.kinds();
        if let Some(kind) = kinds
            .iter()
            .find(|k| k.group == group && k.plural == plural)
        {
            for object in self.store.list(&super::prefix(kind, None)).0 {
                let metadata = &object.value["metadata"];
                let name = metadata["name"].as_str().unwrap_or_default();
                let options = DeleteOptions::default();
                let namespace = metadata["namespace"].as_str();
                match self.delete_object(kind, namespace, name, &options).await {
                    Ok(Deleted::Gone(_) | Deleted::Waits(_)) => {}
                    Err(failure) if failure.code() == 404 => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
        self.finish(definitions, key).await
    }

    /// Takes the finalizer off a definition without objects.
    async fn finish(self: &Arc<Self>, definitions: &Kind, key: &str) -> Result<(), Failure> {
        while let Some(current) = self.store.get(key) {
            let (group, plural) = names(&current.value);
            let objects = self.store.list(&format!("/{group}/{plural}/")).0;
            if !objects.is_empty() {
                return Ok(());
            }
            let mut new = current.value.clone();
            if let Some(finalizers) = new["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|name| name != CLEANUP);
            }
            let complete = deletion_is_complete(&new);
            if !complete && new == current.value {
                return Ok(());
            }
            let write = if complete {
                Write::Delete {
                    key: key.to_owned(),
                    revision: current.revision,
                }
            } else {
                Write::Put {
                    key: key.to_owned(),
                    expect: Expect::Revision(current.revision),
                    value: new.clone(),
                }
            };
            match self.store.write(write).await {
                Ok(_) if complete => return Box::pin(self.removed(definitions, &new)).await,
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }
}
