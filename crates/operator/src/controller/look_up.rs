//! Looking up what a resource refers to, as the engine's lowering asks for it.
//!
//! Always from the API server: a Task that is created right after its Agent was changed runs with the change. No cache
//! is asked, also not the one of Agents, which knows slots alone; those who ask for the same at the same time share a request
//! that was sent after they all had asked.

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Resource,
    core::{DeserializeGuard, NamespaceResourceScope},
};
use kubeopencode_api::v1alpha1::{Agent, KubeOpenCodeConfig};
use kubeopencode_engine::lower::{Found, FrontEnd, Lowered, Reference, ReferenceKind, References};
use serde::de::DeserializeOwned;

use super::{Controller, Owning, waiter};
use crate::{combine::LONGEST_SHARED, error::LookUpError};

/// A resource refers to an Agent, and that to contexts: a chain of references is shorter than this.
const DEPTH: usize = 16;

/// What everyone gets who shares a request.
pub(super) type Answer = Result<Option<Found>, LookUpError>;

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
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
            let answers = needed.iter().map(|reference| {
                self.looked_up
                    .ask(reference, || self.get_in_time(reference))
            });
            for (reference, found) in needed.iter().zip(try_join_all(answers).await?) {
                references.insert(reference.clone(), found);
            }
        }
        Err(LookUpError::Endless)
    }

    async fn get_in_time(&self, reference: &Reference) -> Answer {
        let answer = tokio::time::timeout(LONGEST_SHARED, self.get(reference)).await;
        answer.unwrap_or_else(|_| {
            Err(LookUpError::NoAnswer {
                reference: reference.clone(),
                after: LONGEST_SHARED,
            })
        })
    }

    async fn get(&self, reference: &Reference) -> Answer {
        match reference.kind {
            ReferenceKind::Agent => {
                let found = |agent: Agent| Found::Agent(Box::new(agent));
                self.get_one(reference, found).await
            }
            ReferenceKind::ConfigMap => {
                let found = |config_map: ConfigMap| Found::ConfigMap(Box::new(config_map));
                self.get_one(reference, found).await
            }
            ReferenceKind::KubeOpenCodeConfig => {
                let found =
                    |config: KubeOpenCodeConfig| Found::KubeOpenCodeConfig(Box::new(config));
                self.get_one(reference, found).await
            }
        }
    }

    /// An object that is there and cannot be read is an answer like any other: whoever refers to it has to be told, and
    /// asking again would change nothing.
    async fn get_one<K>(&self, reference: &Reference, found: impl FnOnce(K) -> Found) -> Answer
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<DeserializeGuard<K>> =
            Api::namespaced(self.client.clone(), &reference.namespace);
        let answer = api.get_opt(&reference.name).await;
        let answer = answer.map_err(|source| LookUpError::Get {
            reference: reference.clone(),
            source: Arc::new(source),
        })?;
        Ok(answer.map(|guard| match guard.0 {
            Ok(object) => found(object),
            Err(unreadable) => Found::Unreadable(told(&unreadable.error)),
        }))
    }
}

/// What a decoder says, for a status: short, and without the values that it quotes.
fn told(error: &str) -> String {
    const LONGEST: usize = 200;
    let mut told = String::new();
    let mut quote = None;
    for letter in error.chars() {
        match quote {
            Some(end) if letter == end => quote = None,
            Some(_) => continue,
            None if matches!(letter, '"' | '`') => {
                quote = Some(letter);
                told.push(letter);
                told.push('…');
                continue;
            }
            None => {}
        }
        if told.len() >= LONGEST {
            told.push('…');
            break;
        }
        told.push(letter);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_decoder_is_quoted_without_values_and_not_for_long() {
        assert_eq!(
            told("invalid type: string \"s3cret\", expected i32 at line 1"),
            "invalid type: string \"…\", expected i32 at line 1"
        );
        assert_eq!(
            told("floating point `4.5`, expected"),
            "floating point `…`, expected"
        );
        assert!(told(&"x".repeat(9000)).len() < 210);
    }
}
