//! Leader election by a Lease, by the protocol of client-go, so that any candidate that keeps to it may take part.
//!
//! | who | does |
//! |---|---|
//! | the holder | writes the Lease every [`Timing::retry`]; acts for [`Timing::deadline`] from the moment *before* it sent the request whose success is the last one |
//! | another candidate | watches the Lease; takes it when it was released, or when it was seen unchanged for the duration that stands in it |
//!
//! A candidate has seen a renewal after it was sent, so the holder has stopped by its own clock `duration - deadline`
//! before anybody takes over, however late its answers were; both only measure spans of time, so it does not matter
//! what the machines' clocks say. The write of the taker has the resourceVersion of what it saw as its precondition: it
//! succeeds only if the holder has really not renewed.
//!
//! Whoever loses the Lease goes back to trying: the caches of the operator stay warm, and nothing of it has to be begun
//! anew. The Lease is released when the operator has ended, and another candidate then takes over at once.
//!
//! `k8s-controller` and `kube-lease-manager` have elections of this kind. This one watches the Lease instead of asking
//! every two seconds, keeps the operator alive when the Lease is lost, and runs on tokio's clock, by which its tests
//! go through hours of failures.

use std::{pin::pin, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Error as KubeError,
    api::{PostParams, WatchEvent, WatchParams},
};
use kubeopencode_api::names;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::{
    Leadership, Mandate,
    sight::{Sight, held, released},
};
use crate::{
    clock::{Clock, Entropy},
    operator::UNTIL_ROLES,
};

/// How long things take. `retry < deadline < duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a Lease has to stay unchanged until another one may take it. Whole seconds.
    pub duration: Duration,
    /// How long a holder acts after its last renewal.
    pub deadline: Duration,
    /// How often a holder renews, and how long anybody waits after a failure.
    pub retry: Duration,
}

/// Those of client-go.
impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// How long a single request may take. Less than the deadline, so that one connection that hangs does not cost the
    /// Lease.
    fn request(self) -> Duration {
        self.deadline / 2
    }
}

/// What an election is about.
#[derive(Clone)]
pub struct ElectionOptions {
    /// Namespace of the Lease: the operator's own.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this candidate is. No other one, and no earlier process of the same Pod, may have the same: see
    /// [`identity_of`].
    pub identity: String,
    /// How long things take.
    pub timing: Timing,
    /// What stands in the Lease as the time; nothing else depends on it.
    pub clock: Clock,
    /// Randomness: spreads retries.
    pub entropy: Entropy,
}

/// An identity for this process: the name of its Pod and a random part, since a Pod's container can be started again.
#[must_use]
pub fn identity_of(pod: &str, entropy: &Entropy) -> String {
    format!("{pod}_{:016x}", entropy() % (1 << 64))
}

/// Why a candidate cannot stand: waiting would not help.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no place for the Lease.
    #[error("there is no namespace {0} to elect the operator that acts in")]
    NoNamespace(String),
    /// The API server does not let the candidate read or write the Lease.
    #[error("the operator may not use the Lease by which the one that acts is elected: {0}")]
    Forbidden(String),
}

/// A request of the election failed.
#[derive(Debug, thiserror::Error)]
enum ElectionError {
    /// Of an answer that is an error, what it says to a person.
    #[error("{}", match &**.0 { KubeError::Api(status) => status.message.clone(), error => error.to_string() })]
    Api(Box<KubeError>),
    #[error("no answer in time")]
    NoAnswer,
    #[error("somebody else changes it all the time")]
    Busy,
}

impl From<KubeError> for ElectionError {
    fn from(error: KubeError) -> Self {
        Self::Api(Box::new(error))
    }
}

/// A candidate. Its client must be its own: the connections of one that is busy, or that repeats requests by itself,
/// would cost it the Lease.
pub struct Election {
    api: Api<Lease>,
    options: ElectionOptions,
    mandate: Mandate,
    seen: Option<Sight>,
    /// Whether what was seen is still believed to be the newest.
    current: bool,
    /// Whether it was told that it leads.
    told: bool,
    /// Requests that failed one after the other.
    failures: u32,
}

impl Election {
    /// A candidate that does not stand yet, and the view of whether it leads.
    #[must_use]
    pub fn new(client: Client, options: ElectionOptions) -> (Self, Leadership) {
        let mandate = Mandate::default();
        let leadership = mandate.leadership();
        let election = Self {
            api: Api::namespaced(client, &options.namespace),
            options,
            mandate,
            seen: None,
            current: false,
            told: false,
            failures: 0,
        };
        (election, leadership)
    }

    /// Stands until `end`, and then gives back the Lease if it has it. What is done under the Lease has to have ended
    /// before `end` is ready.
    ///
    /// # Errors
    /// There is no namespace, or it was forbidden for [`UNTIL_ROLES`] from the beginning. What fails later is tried again.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> Result<(), Refused> {
        let end = end.shared();
        let most = self.options.timing.request();
        let patience = Instant::now() + UNTIL_ROLES;
        loop {
            let begin = Instant::now();
            self.tell_standing();
            // Not cut off at the end: a write that arrives when `resign` has looked would leave the Lease with the dead.
            let turn = tokio::select! {
                biased;
                turn = self.turn() => turn,
                () = end.clone().then(|()| sleep(most)) => break,
            };
            self.tell_standing();
            tokio::select! {
                biased;
                () = end.clone() => break,
                refused = self.between_turns(turn, begin, patience) => {
                    if let Some(refused) = refused {
                        return Err(refused);
                    }
                }
            }
        }
        self.resign().await;
        Ok(())
    }

    /// Waits until the next turn. What it answers instead is final.
    async fn between_turns(
        &mut self,
        turn: Result<bool, ElectionError>,
        begin: Instant,
        patience: Instant,
    ) -> Option<Refused> {
        match turn {
            Ok(true) => {
                self.failures = 0;
                sleep_until(begin + self.options.timing.retry).await;
            }
            Ok(false) => self.wait().await,
            Err(error) => {
                match (&self.seen, self.refused(&error)) {
                    (None, Some(Refused::Forbidden(_))) if begin < patience => {}
                    (None, Some(refused)) => return Some(refused),
                    _ => {}
                }
                self.current = false;
                self.tell(&error);
                self.pause(begin).await;
            }
        }
        None
    }

    /// Whether that is an answer which waiting does not change.
    fn refused(&self, error: &ElectionError) -> Option<Refused> {
        match error {
            ElectionError::Api(error) => match &**error {
                KubeError::Api(status) if status.is_not_found() => {
                    Some(Refused::NoNamespace(self.options.namespace.clone()))
                }
                KubeError::Api(status) if status.is_forbidden() => {
                    Some(Refused::Forbidden(status.message.clone()))
                }
                _ => None,
            },
            ElectionError::NoAnswer | ElectionError::Busy => None,
        }
    }

    /// Says when it leads, and when no more.
    fn tell_standing(&mut self) {
        let leads = self.mandate.leadership().holds();
        let (lease, identity) = (&self.options.name, &self.options.identity);
        match (self.told, leads) {
            (false, true) => info!(lease, identity, "this operator leads"),
            (true, false) => warn!(lease, identity, "this operator does not lead any more"),
            (true, true) | (false, false) => {}
        }
        self.told = leads;
    }

    /// Takes or renews the Lease if it may. Whether it has it then.
    async fn turn(&mut self) -> Result<bool, ElectionError> {
        if !self.current {
            self.look().await?;
        }
        if let Some(leads) = self.write().await? {
            return Ok(leads);
        }
        // Somebody changed it meanwhile, perhaps a label alone.
        self.look().await?;
        self.write().await?.ok_or(ElectionError::Busy)
    }

    async fn look(&mut self) -> Result<(), ElectionError> {
        let found = self.ask(self.api.get_opt(&self.options.name)).await?;
        let before = self.seen.take();
        self.seen = match found {
            Some(lease) => Some(Sight::of(lease, before, Instant::now())),
            None => before.map(Sight::vanished),
        };
        self.current = true;
        Ok(())
    }

    /// Writes itself into the Lease, if that may be: whether it is the holder then. None: it was not as it was seen.
    async fn write(&mut self) -> Result<Option<bool>, ElectionError> {
        let ElectionOptions {
            name,
            identity,
            timing,
            clock,
            ..
        } = &self.options;
        let sent = Instant::now();
        let seen = self.seen.as_ref();
        if let Some(other) = seen.filter(|seen| !seen.is_for(identity, timing.duration, sent)) {
            debug!(holder = other.holder(), "another operator leads");
            self.mandate.give_up();
            return Ok(Some(false));
        }
        let next = held(name, identity, timing.duration, seen, clock());
        let parameters = parameters();
        let exists = seen.is_some_and(|seen| seen.lease.is_some());
        let written = if exists {
            self.ask(self.api.replace(name, &parameters, &next)).await
        } else {
            self.ask(self.api.create(&parameters, &next)).await
        };
        let written = match written {
            Ok(written) => written,
            Err(ElectionError::Api(error)) if exists && moved_on(&error) => {
                self.current = false;
                return Ok(None);
            }
            Err(ElectionError::Api(error)) if matches!(&*error, KubeError::Api(status) if status.is_already_exists()) =>
            {
                self.current = false;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.mandate.hold_until(sent + timing.deadline);
        self.seen = Some(Sight::of(written, self.seen.take(), Instant::now()));
        Ok(Some(true))
    }

    /// Follows the Lease until there is something to do.
    async fn wait(&mut self) {
        let begin = Instant::now();
        let version = self.seen.as_ref().and_then(|seen| seen.lease.as_ref());
        let Some(version) = version.and_then(|lease| lease.metadata.resource_version.clone())
        else {
            // Deleted: it comes back when its holder renews it.
            self.current = false;
            self.pause(begin).await;
            return;
        };
        let one = WatchParams::default().fields(&format!("metadata.name={}", self.options.name));
        let watch = match self.ask(self.api.watch(&one, &version)).await {
            Ok(watch) => watch,
            Err(error) => {
                self.current = false;
                self.tell(&error);
                self.pause(begin).await;
                return;
            }
        };
        self.failures = 0;
        let mut watch = pin!(watch);
        loop {
            let identity = &self.options.identity;
            let usual = self.options.timing.duration;
            let expires = match &self.seen {
                Some(seen) if !seen.is_for(identity, usual, Instant::now()) => seen.expires(usual),
                _ => return,
            };
            let event = tokio::select! {
                biased;
                event = watch.next() => event,
                // Taken at once: that it was not renewed is what the precondition of the write says.
                () = sleep_until(expires) => return,
            };
            match event {
                Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => {
                    self.seen = Some(Sight::of(lease, self.seen.take(), Instant::now()));
                }
                Some(Ok(WatchEvent::Deleted(_))) => {
                    self.seen = self.seen.take().map(Sight::vanished);
                }
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                    self.current = false;
                    self.pause(begin).await;
                    return;
                }
            }
        }
    }

    /// Gives back the Lease. If that cannot be done in time, it expires.
    async fn resign(&mut self) {
        self.mandate.give_up();
        let identity = self.options.identity.clone();
        let within = Instant::now() + self.options.timing.request();
        let all = async {
            loop {
                self.look().await?;
                let ours = |seen: &&Sight| seen.holder() == Some(&identity) && seen.lease.is_some();
                let Some(seen) = self.seen.as_ref().filter(ours) else {
                    return Ok(false);
                };
                let free = released(&self.options.name, seen, (self.options.clock)());
                let (api, name) = (&self.api, &self.options.name);
                match self.ask(api.replace(name, &parameters(), &free)).await {
                    Ok(_) => return Ok(true),
                    Err(ElectionError::Api(error)) if moved_on(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        match timeout_at(within, all).await {
            Ok(Ok(true)) => info!(identity, "the Lease is released"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => self.not_released(&error),
            Err(_) => self.not_released(&ElectionError::NoAnswer),
        }
    }

    fn not_released(&self, error: &ElectionError) {
        let error = error as &dyn std::error::Error;
        let lease = &self.options.name;
        warn!(lease, error, "the Lease cannot be released; it expires");
    }

    /// Sends a request, and waits for its answer as long as that can be of use.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, KubeError>>,
    ) -> Result<T, ElectionError> {
        let now = Instant::now();
        let patience = now + self.options.timing.request();
        let ends = self.mandate.until().filter(|until| now < *until);
        let answer = timeout_at(ends.map_or(patience, |ends| patience.min(ends)), request).await;
        Ok(answer.map_err(|_| ElectionError::NoAnswer)??)
    }

    /// The first of several failures is told aloud.
    fn tell(&mut self, error: &ElectionError) {
        self.failures = self.failures.saturating_add(1);
        let error = error as &dyn std::error::Error;
        let (lease, namespace) = (&self.options.name, &self.options.namespace);
        if self.failures == 1 {
            warn!(
                lease,
                namespace, error, "the Lease cannot be read or written; trying again"
            );
        } else {
            debug!(
                lease,
                namespace, error, "the Lease cannot be read or written"
            );
        }
    }

    /// Waits after a failure: as long as between two renewals, and up to a quarter more so that not all come at once.
    async fn pause(&self, begin: Instant) {
        let retry = self.options.timing.retry;
        let spread = u32::try_from((self.options.entropy)() % 256).unwrap_or_default();
        sleep_until(begin + retry).await;
        sleep(retry * spread / 1024).await;
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Whether the Lease is another version than the one that was seen, or gone.
fn moved_on(error: &KubeError) -> bool {
    matches!(error, KubeError::Api(status) if status.is_conflict() || status.is_not_found())
}
