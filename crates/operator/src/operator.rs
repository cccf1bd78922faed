//! The operator as a whole: what it is made of, and its life from start to shutdown.

use std::{mem, time::Duration};

use futures::FutureExt as _;
use kube::{Api, Client, api::ListParams};
use kubeopencode_api::v1alpha1::Task;
use kubeopencode_engine::lower::{Settings, kubeopencode::TaskFrontEnd};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{
    clock::{Clock, Entropy, system_clock, system_entropy},
    controller::{Controller, Parts},
    events::Events,
    health::Health,
    leadership::Leadership,
    metrics::Metrics,
};

/// How long the first answer of a cluster is waited for before its watches begin without it.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// How long it may be forbidden from the beginning until that is believed: an API server that begins refuses everything
/// until it has read the roles.
pub(crate) const UNTIL_ROLES: Duration = Duration::from_mins(1);

/// How long an operator that was forbidden waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long rounds and Events may take to their end after the shutdown; then they are cut off, so that there is time to
/// hand over before a kubelet loses its patience (30 s).
const LAST_ROUNDS: Duration = Duration::from_secs(20);

/// Which namespaces an operator serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    Cluster,
    /// One. The operator needs no right outside it, if `Settings::system_namespace` is this one too; otherwise it needs
    /// to read KubeOpenCodeConfigs there, and a change of one there is noticed at the next event of a Task.
    Namespace(String),
}

/// What an operator is made of, beside its client.
#[derive(Clone)]
pub struct OperatorOptions {
    /// What the time is: that of the API server, best, as [`ServerTime`](crate::ServerTime) has it.
    pub clock: Clock,
    /// Randomness: spreads retries, nothing else.
    pub entropy: Entropy,
    /// What the installation is set up with.
    pub settings: Settings,
    /// Which namespaces it serves.
    pub scope: Scope,
    /// Who it is among several: its Pod's name. Stands in Events.
    pub identity: String,
    /// Whether it may act.
    pub leadership: Leadership,
    /// Where it shows whether it is alive and ready.
    pub health: Health,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self {
            clock: system_clock(),
            entropy: system_entropy(),
            settings: Settings::default(),
            scope: Scope::default(),
            identity: kubeopencode_api::names::MANAGER.to_owned(),
            leadership: Leadership::always(),
            health: Health::default(),
            metrics: Metrics::default(),
        }
    }
}

/// Why an operator cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The API server does not know the operator's kinds.
    #[error(
        "the cluster does not know Tasks: install the CustomResourceDefinitions first (kubeopencode crds)"
    )]
    NotInstalled,
    /// The API server does not let the operator read Tasks.
    #[error("the operator may not list Tasks: {0}")]
    Forbidden(String),
}

/// An operator, not yet running.
pub struct Operator {
    client: Client,
    options: OperatorOptions,
}

impl Operator {
    /// An operator that talks to the cluster of this client.
    #[must_use]
    pub fn new(client: Client, options: OperatorOptions) -> Self {
        Self { client, options }
    }

    /// Runs until `shutdown` is ready; then ends the rounds that have begun, sends the Events that wait, and returns.
    /// What takes longer than 20 s is cut off.
    ///
    /// Dropping the future instead ends everything at once, in the middle of whatever it was. That is safe at any moment.
    ///
    /// # Errors
    /// The cluster does not have the CRDs, or has not let the operator read them for a minute. A cluster that does not
    /// answer is no error: the operator goes on trying.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), OperatorError> {
        let shutdown = shutdown.boxed().shared();
        tokio::select! {
            biased;
            checked = self.check() => checked?,
            () = shutdown.clone() => return Ok(()),
            never = self.options.health.beats() => match never {},
        }
        let Self { client, options } = self;
        let (events, sender) =
            Events::new(client.clone(), options.clock.clone(), &options.identity);
        info!(identity = options.identity, scope = ?options.scope, "the operator begins");
        options.metrics.leads(options.leadership.clone());
        let health = options.health.clone();
        let parts = Parts {
            client,
            clock: options.clock,
            entropy: options.entropy,
            settings: options.settings,
            scope: options.scope,
            leadership: options.leadership,
            health: options.health,
            metrics: options.metrics,
            events,
        };
        let late = {
            let shutdown = shutdown.clone();
            async move {
                shutdown.await;
                sleep(LAST_ROUNDS).await;
            }
        };
        let tasks = Controller::<TaskFrontEnd>::run(parts, shutdown);
        tokio::select! {
            biased;
            _ = futures::future::join(tasks.boxed(), sender.boxed()) => {}
            () = late => warn!("what has begun did not end in time, and is cut off"),
            never = health.beats() => match never {},
        }
        info!("the operator has ended");
        Ok(())
    }

    /// Fail early and clearly where waiting would not help.
    async fn check(&self) -> Result<(), OperatorError> {
        let patience = Instant::now() + UNTIL_ROLES;
        let mut told = false;
        loop {
            match self.ask().await {
                Err(OperatorError::Forbidden(error)) if Instant::now() < patience => {
                    if !mem::replace(&mut told, true) {
                        warn!(
                            error,
                            "the operator may not list Tasks yet; going on trying"
                        );
                    }
                    sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    /// Whether Tasks are there and may be listed.
    async fn ask(&self) -> Result<(), OperatorError> {
        let tasks: Api<Task> = match &self.options.scope {
            Scope::Cluster => Api::all(self.client.clone()),
            Scope::Namespace(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        let one = ListParams::default().limit(1);
        let asked = tokio::time::timeout(FIRST_ANSWER, tasks.list_metadata(&one));
        let Ok(answer) = asked.await else {
            warn!("the cluster does not answer; going on trying");
            return Ok(());
        };
        match answer {
            Err(kube::Error::Api(status)) if status.code == 404 => Err(OperatorError::NotInstalled),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                Err(OperatorError::Forbidden(status.message))
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "the cluster cannot be asked; going on trying");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller can spawn it on any runtime.
    #[test]
    fn running_is_a_future_that_can_move_between_threads() {
        fn can_move<T: Send>(_: impl FnOnce(Operator) -> T) {}
        can_move(|operator| operator.run(std::future::pending()));
    }
}
