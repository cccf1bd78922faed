//! Kubernetes Events of what happened, for `kubectl describe` and `kubectl events`.
//!
//! Best effort, and never in the way: a round hands an Event over and goes on. One that the API server may take later is
//! sent a few times. When it is slower than what happens, or does not answer, Events are dropped, and the log says so. An
//! Event's name follows from its owner and content, so that one that is sent again after a lost answer is the same one.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::{
    api::core::v1::{Event as CoreEvent, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use kubeopencode_api::names;
use kubeopencode_engine::{decide::Event, run::Owner, state::RunState};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock::Clock;

/// Events that may wait for the API server.
const WAITING: usize = 1024;
/// Events that are sent at once. With four, one in five was dropped where thousands of Tasks began at once.
const AT_ONCE: usize = 8;

/// How long until an Event is sent again that the API server had no time for.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
];

/// Whether the API server has answered that it may take it later.
fn may_pass(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [429, 500, 503, 504].contains(&status.code))
}

/// Where rounds hand over what happened.
#[derive(Clone)]
pub(crate) struct Events {
    clock: Clock,
    identity: Arc<str>,
    send: mpsc::Sender<CoreEvent>,
}

impl Events {
    /// The place to hand over to, and what sends them: to be polled, it ends when every place to hand over is gone and
    /// all are sent.
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        identity: &str,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (send, receive) = mpsc::channel(WAITING);
        let events = Self {
            clock,
            identity: identity.into(),
            send,
        };
        let receive = futures::stream::unfold(receive, |mut receive| async {
            let event = receive.recv().await?;
            Some((event, receive))
        });
        (events, send_all(client, receive))
    }

    /// Hand over an Event of this owner, about the state that is on record.
    pub(crate) fn publish(&self, owner: &Owner, state: &RunState, event: &Event) {
        let event = self.core_event(owner, state, event);
        if self.send.try_send(event).is_err() {
            warn!(
                object = owner.name,
                namespace = owner.namespace,
                "an Event was dropped"
            );
        }
    }

    fn core_event(&self, owner: &Owner, state: &RunState, event: &Event) -> CoreEvent {
        let now = Time((self.clock)());
        CoreEvent {
            metadata: ObjectMeta {
                name: Some(name(owner, state, event)),
                namespace: Some(owner.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(format!("{}/{}", owner.group, owner.version)),
                kind: Some(owner.kind.clone()),
                name: Some(owner.name.clone()),
                namespace: Some(owner.namespace.clone()),
                uid: Some(owner.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some(event.type_.as_str().to_owned()),
            reason: Some(event.reason.clone()),
            message: Some(limited(&event.note)),
            source: Some(EventSource {
                component: Some(names::MANAGER.to_owned()),
                host: None,
            }),
            reporting_component: Some(names::MANAGER.to_owned()),
            reporting_instance: Some(self.identity.to_string()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..CoreEvent::default()
        }
    }
}

async fn send_all(client: Client, events: impl Stream<Item = CoreEvent>) {
    events
        .for_each_concurrent(AT_ONCE, |event| {
            let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
            let api: Api<CoreEvent> = Api::namespaced(client.clone(), namespace);
            async move {
                let mut pauses = PAUSES.into_iter();
                loop {
                    let error = match api.create(&PostParams::default(), &event).await {
                        Ok(_) => return,
                        Err(kube::Error::Api(status)) if status.is_already_exists() => return,
                        Err(error) => error,
                    };
                    let Some(pause) = pauses.next().filter(|_| may_pass(&error)) else {
                        let error = &error as &dyn std::error::Error;
                        warn!(error, reason = event.reason, "an Event was not published");
                        return;
                    };
                    tokio::time::sleep(pause).await;
                }
            }
            .boxed()
        })
        .await;
}

/// `<object>.<16 hex digits>`, at most 253 characters. It follows from what is on record, so that an Event which is sent
/// twice is one; what happens once more, as when it waits again, is another by the time of the newest condition.
fn name(owner: &Owner, state: &RunState, event: &Event) -> String {
    let mut hash = Sha256::new();
    for part in [&owner.uid, &event.reason, &event.note] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.update(state.attempts.to_le_bytes());
    let conditions = state.conditions.iter();
    let newest = conditions.map(|condition| condition.last_transition).max();
    hash.update(newest.unwrap_or_default().as_second().to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    let digits = format!("{:016x}", u64::from_be_bytes(first));
    let mut object = owner.name.as_str();
    // Object names are ASCII.
    object = object.get(..object.len().min(253 - 17)).unwrap_or(object);
    format!("{}.{digits}", object.trim_end_matches(['.', '-']))
}

/// At most 1024 bytes, as the API server demands.
fn limited(note: &str) -> String {
    const LIMIT: usize = 1024;
    if note.len() <= LIMIT {
        return note.to_owned();
    }
    let mut end = LIMIT - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kubeopencode_engine::{decide::EventType, state::Condition};

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            group: "g".into(),
            version: "v1".into(),
            kind: "Task".into(),
            plural: "tasks".into(),
            name: name.into(),
            namespace: "ns".into(),
            uid: "u".into(),
            generation: 1,
        }
    }

    fn event(note: &str) -> Event {
        Event {
            type_: EventType::Normal,
            reason: "Started".into(),
            note: note.into(),
        }
    }

    /// The state in this attempt, one of whose conditions has changed then.
    fn state(attempts: u32, second: i64) -> RunState {
        let condition = Condition {
            type_: "Queued".to_owned(),
            status: true,
            reason: "AtCapacity".into(),
            message: String::new(),
            last_transition: Timestamp::from_second(second).unwrap(),
            observed_generation: Some(1),
        };
        RunState {
            attempts,
            conditions: vec![condition],
            ..RunState::default()
        }
    }

    #[test]
    fn the_same_news_has_the_same_name_and_other_news_another() {
        let a = name(&owner("fix"), &state(1, 5), &event("x"));
        assert!(a.starts_with("fix.") && a.len() == 4 + 16, "{a}");
        assert_eq!(a, name(&owner("fix"), &state(1, 5), &event("x")));
        assert_ne!(a, name(&owner("fix"), &state(2, 5), &event("x")));
        assert_ne!(a, name(&owner("fix"), &state(1, 5), &event("y")));
        // It waits once more.
        assert_ne!(a, name(&owner("fix"), &state(1, 6), &event("x")));
    }

    #[test]
    fn names_and_notes_keep_to_their_limits() {
        assert!(name(&owner(&"a".repeat(253)), &state(1, 5), &event("x")).len() <= 253);
        assert!(limited(&"ü".repeat(1000)).len() <= 1024);
        assert_eq!(limited("short"), "short");
    }
}
