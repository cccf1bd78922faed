//! record: the new state goes into the owner's status, if it differs, and only over the version that it was made from.

use std::sync::Arc;

use kube::{Api, Error as KubeError, ResourceExt as _, api::PostParams};
use kubeopencode_api::names;
use kubeopencode_engine::{lower::FrontEnd, run::Owner, state::RunState};

use super::{Controller, Owning};
use crate::{
    error::{RecordError, RoundError},
    memory::Remembered,
};

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// Returns the object as it is then. It is sent with the resourceVersion that it was read with, so of all operators
    /// that decided on the same version, one succeeds.
    pub(super) async fn record(
        &self,
        owner: &Owner,
        object: &Arc<F::Resource>,
        state: &RunState,
    ) -> Result<Arc<F::Resource>, RoundError> {
        let next = F::with_state(object, state);
        if next == **object {
            return Ok(object.clone());
        }
        self.must_lead()?;
        let api: Api<F::Resource> = Api::namespaced(self.client.clone(), &owner.namespace);
        let parameters = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match api.replace_status(&owner.name, &parameters, &next).await {
            Ok(written) => written,
            Err(source) => {
                self.not_recorded(owner, object, &source).await;
                return Err(RecordError(Box::new(source)).into());
            }
        };
        let written = Arc::new(written);
        self.memory.of(&owner.uid, |remembered| {
            remembered
                .owner
                .knows(object.resource_version().as_deref(), written.clone());
        });
        Ok(written)
    }

    /// What the answer says of the object, where the watch may be late for long: events of what was made of it would begin
    /// the same again and again.
    async fn not_recorded(&self, owner: &Owner, object: &Arc<F::Resource>, source: &KubeError) {
        let KubeError::Api(status) = source else {
            return;
        };
        if status.is_not_found() {
            self.memory.of(&owner.uid, Remembered::is_missed);
        } else if status.is_conflict()
            && let Ok(Some(live)) = self.live_owner(owner).await
        {
            let before = object.resource_version();
            self.memory.of(&owner.uid, |remembered| {
                remembered.owner.knows(before.as_deref(), live);
            });
        }
    }
}
