//! Writes Events about what controllers did.
//!
//! Events are for people: they are written in the background, in order, and dropped when too many wait.

use std::collections::HashMap;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use super::ControllerOptions;

/// How many Events may wait to be written.
const WAITING: usize = 1024;
/// How many Events are remembered, to count repetitions rather than to write them again.
const REMEMBERED: usize = 1024;

/// One Event to write.
#[derive(Clone, Debug)]
pub(crate) struct Occurrence {
    /// What it is about, with uid.
    pub(crate) about: ObjectReference,
    /// The controller that says so.
    pub(crate) component: &'static str,
    /// `Warning` rather than `Normal`.
    pub(crate) warning: bool,
    /// In one word.
    pub(crate) reason: String,
    /// In a sentence.
    pub(crate) message: String,
}

/// Takes Events to write.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(mpsc::Sender<Occurrence>);

impl Recorder {
    /// Writes this Event soon.
    pub(crate) fn record(&self, event: Occurrence) {
        if let Err(error) = self.0.try_send(event) {
            debug!(%error, "event dropped");
        }
    }
}

/// A recorder, and what must run for its Events to be written; ends when the last recorder is gone.
pub(crate) fn recorder(
    client: Client,
    options: ControllerOptions,
) -> (Recorder, impl Future<Output = ()>) {
    let (send, mut receive) = mpsc::channel(WAITING);
    let writer = async move {
        let mut written = HashMap::new();
        while let Some(event) = receive.recv().await {
            if written.len() >= REMEMBERED {
                written.clear();
            }
            if let Err(error) = write(&client, &options, &mut written, event).await {
                debug!(%error, "event not written");
            }
        }
    };
    (Recorder(send), writer)
}

/// What makes two occurrences the same: uid, reason and message.
type Key = (Option<String>, String, String);

async fn write(
    client: &Client,
    options: &ControllerOptions,
    written: &mut HashMap<Key, (String, i32)>,
    event: Occurrence,
) -> Result<(), kube::Error> {
    let namespace = event
        .about
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let now = (options.clock)();
    let key = (
        event.about.uid.clone(),
        event.reason.clone(),
        event.message.clone(),
    );
    if let Some((name, count)) = written.get_mut(&key) {
        *count += 1;
        let patch = json!({"count": *count, "lastTimestamp": Time(now)});
        match api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                written.remove(&key);
            }
            Err(error) => return Err(error),
        }
    }
    let about = event.about.name.clone().unwrap_or_default();
    let mut object = Event {
        involved_object: event.about,
        reason: Some(event.reason),
        message: Some(event.message),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource {
            component: Some(event.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(event.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    };
    object.metadata.namespace = Some(namespace);
    // 64 random bits are enough to be the only Event of this name.
    let number = (options.entropy)() >> 64;
    object.metadata.name = Some(format!("{about}.{number:016x}"));
    let created = api.create(&PostParams::default(), &object).await?;
    written.insert(key, (created.metadata.name.unwrap_or_default(), 1));
    Ok(())
}
