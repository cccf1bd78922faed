//! Looking up what a resource refers to, as the engine's lowering asks for it.
//!
//! Always from the API server: a Task that is created right after its Agent was changed runs with the change. No cache
//! of Agents, configurations or ConfigMaps is held at all.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Resource, core::NamespaceResourceScope};
use kubeopencode_api::v1alpha1::{Agent, KubeOpenCodeConfig};
use kubeopencode_engine::lower::{Found, FrontEnd, Lowered, Reference, ReferenceKind, References};
use serde::de::DeserializeOwned;

use super::{Controller, Owning, waiter};
use crate::error::LookUpError;

/// A resource refers to an Agent, and that to contexts: a chain of references is shorter than this.
const DEPTH: usize = 16;

impl<F: FrontEnd<Resource: Owning> + 'static> Controller<F> {
    pub(super) async fn look_up(&self, object: &F::Resource) -> Result<Lowered, LookUpError> {
        let waiter = waiter(object);
        let mut references = References::new();
        for _ in 0..DEPTH {
            let needed = match F::lower(object, &references, &self.settings) {
                Lowered::Needs(needed) => needed,
                known => return Ok(known),
            };
            // Before the look-up, so that what appears after it wakes this object.
            self.waiting.enter(&waiter, needed.iter().cloned());
            for reference in needed {
                let found = self.get(&reference).await?;
                references.insert(reference, found);
            }
        }
        Err(LookUpError::Endless)
    }

    async fn get(&self, reference: &Reference) -> Result<Option<Found>, LookUpError> {
        Ok(match reference.kind {
            ReferenceKind::Agent => self
                .get_one::<Agent>(reference)
                .await?
                .map(|found| Found::Agent(Box::new(found))),
            ReferenceKind::ConfigMap => self
                .get_one::<ConfigMap>(reference)
                .await?
                .map(|found| Found::ConfigMap(Box::new(found))),
            ReferenceKind::KubeOpenCodeConfig => self
                .get_one::<KubeOpenCodeConfig>(reference)
                .await?
                .map(|found| Found::KubeOpenCodeConfig(Box::new(found))),
        })
    }

    async fn get_one<K>(&self, reference: &Reference) -> Result<Option<K>, LookUpError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &reference.namespace);
        let found = api.get_opt(&reference.name).await;
        found.map_err(|source| LookUpError::Get {
            reference: reference.clone(),
            source: Box::new(source),
        })
    }
}
