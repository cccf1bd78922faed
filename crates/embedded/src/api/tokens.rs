//! Tokens of service accounts: what a Pod shows to be its service account.
//!
//! A token is made when one is first asked for, and is the same for every Pod of that account as long as this process
//! lives; Pods do not outlive it. There is one for each account at most, so they are few. None is ever written down here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::Response;
use serde_json::json;

use super::{
    Call,
    auth::{Token, User},
    body::Body,
    respond::json as json_response,
};
use crate::{
    clock::{self, Entropy},
    status::Failure,
};

/// How long an answer says that its token is good, in seconds, unless it was asked for another time.
const SECONDS: i64 = 3600;

/// The tokens that were given out, by namespace and name of their account.
#[derive(Default)]
pub(crate) struct ServiceAccountTokens(Mutex<BTreeMap<(String, String), Token>>);

impl ServiceAccountTokens {
    fn issued(&self) -> MutexGuard<'_, BTreeMap<(String, String), Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was given out.
    pub(crate) fn all(&self) -> Vec<Token> {
        self.issued().values().cloned().collect()
    }

    fn of(&self, namespace: &str, name: &str, entropy: &Entropy) -> String {
        let place = (namespace.to_owned(), name.to_owned());
        let mut issued = self.issued();
        let token = issued.entry(place).or_insert_with(|| Token {
            secret: format!("{:032x}{:032x}", entropy(), entropy()),
            user: User::new(
                &format!("system:serviceaccount:{namespace}:{name}"),
                &[
                    "system:serviceaccounts",
                    &format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated",
                ],
            ),
        });
        token.secret.clone()
    }
}

impl Call {
    /// Answers a `TokenRequest` for a service account that exists.
    pub(super) fn issue_token(&self) -> Result<Response<Body>, Failure> {
        let namespace = self.path.namespace.as_deref().unwrap_or_default();
        let key = self.key(self.name());
        self.api.store.get(&key).ok_or_else(|| self.not_found())?;
        let mut request = self.document()?.value;
        let seconds = request["spec"]["expirationSeconds"]
            .as_i64()
            .unwrap_or(SECONDS);
        let now = (self.api.clock)();
        let until = now
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(jiff::Timestamp::MAX);
        request["spec"]["expirationSeconds"] = seconds.into();
        request["metadata"] = json!({
            "name": self.name(), "namespace": namespace, "creationTimestamp": clock::seconds(now),
        });
        request["status"] = json!({
            "token": self.api.account_tokens.of(namespace, self.name(), &self.api.entropy),
            "expirationTimestamp": clock::seconds(until),
        });
        Ok(json_response(201, &request))
    }
}
