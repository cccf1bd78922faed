//! The operator's writes, made by bare clients: no watch, no decision, nothing but the requests.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, header};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use kubeopencode_api::v1alpha1::Task;
use serde_json::Value;
use tokio::{sync::mpsc, time::Instant};

use super::{CREATORS, name};
use crate::{api, wire::Seen};

/// Tasks that are written for at the same time. The operator looks at 48, some of which wait for what they refer to.
const AT_ONCE: usize = 32;
/// Events that are sent at the same time, as in the operator.
const EVENTS: usize = 8;

/// What the operator wrote for one Task, in order.
#[derive(Debug, Clone)]
pub(super) struct Script {
    requests: Vec<Scripted>,
    /// What stands in them, and is another thing for each Task.
    namespace: String,
    name: String,
    uid: String,
    version: String,
    job: Uid,
}

#[derive(Debug, Clone)]
struct Scripted {
    method: Method,
    path: String,
    kind: String,
    body: String,
    is_job: bool,
    is_event: bool,
}

type Uid = String;

impl Script {
    /// Of these requests, those that succeeded and are about this Task.
    pub(super) fn of(task: &Task, seen: &[Seen]) -> Result<Self> {
        let mut requests = Vec::new();
        let mut job = None;
        for seen in seen.iter().filter(|seen| seen.writes()) {
            let Some((path, kind, body)) = &seen.request else {
                continue;
            };
            if seen.status.is_none_or(|status| status >= 300) {
                continue;
            }
            let mut body: Value = serde_json::from_slice(body)?;
            let method = match seen.verb {
                "create" => Method::POST,
                "update" => Method::PUT,
                _ => Method::PATCH,
            };
            if method == Method::PUT {
                let status = body.pointer("/status/jobUID");
                job = status.and_then(Value::as_str).map(str::to_owned);
            }
            if seen.resource == "jobs" && method == Method::PATCH {
                without_precondition(&mut body);
            }
            requests.push(Scripted {
                method,
                path: path.clone(),
                kind: kind.clone(),
                body: body.to_string(),
                is_job: seen.resource == "jobs" && seen.verb == "create",
                is_event: seen.resource == "events",
            });
        }
        ensure!(
            requests.iter().filter(|request| !request.is_event).count() >= 4,
            "these are not all writes of a Task: {requests:?}"
        );
        Ok(Self {
            requests,
            namespace: task.namespace().unwrap_or_default(),
            name: task.name_any(),
            uid: task.uid().unwrap_or_default(),
            version: task.resource_version().unwrap_or_default(),
            job: job.context("the operator recorded no Job")?,
        })
    }
}

/// The Job controller writes each Job as well: a bare client does not mind.
fn without_precondition(patch: &mut Value) {
    if let Some(metadata) = patch
        .pointer_mut("/metadata")
        .and_then(Value::as_object_mut)
    {
        metadata.remove("resourceVersion");
    }
}

/// Creates so many Tasks, and writes for each what the script says. Gives back when all were created.
pub(super) async fn write(
    client: &Client,
    namespace: &str,
    count: usize,
    script: &Script,
) -> Result<Duration> {
    let api = Api::<Task>::namespaced(client.clone(), namespace);
    let begin = Instant::now();
    let (made, tasks) = mpsc::channel(count);
    let (told, events) = mpsc::channel(count * 4);
    let creating = async {
        stream::iter(0..count)
            .map(Ok::<_, anyhow::Error>)
            .try_for_each_concurrent(CREATORS, async |number| {
                let task = api
                    .create(&PostParams::default(), &api::task(&name(number)))
                    .await?;
                Ok(made.send(task).await?)
            })
            .await?;
        drop(made);
        Ok::<_, anyhow::Error>(begin.elapsed())
    };
    let writes = async {
        of(tasks)
            .map(Ok::<_, anyhow::Error>)
            .try_for_each_concurrent(AT_ONCE, async |task| {
                for event in life(client, namespace, &task, script).await? {
                    told.send(event).await?;
                }
                Ok(())
            })
            .await?;
        drop(told);
        Ok(())
    };
    let tells = of(events)
        .map(Ok::<_, anyhow::Error>)
        .try_for_each_concurrent(EVENTS, async |event| {
            client.request::<Value>(event).await?;
            Ok(())
        });
    let (created, (), ()) = tokio::try_join!(creating, writes, tells)?;
    Ok(created)
}

fn of<T>(receiver: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    stream::unfold(receiver, async |mut receiver| {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}

/// The writes of one Task, one after the other; gives back its Events.
async fn life(
    client: &Client,
    namespace: &str,
    task: &Task,
    script: &Script,
) -> Result<Vec<Request<Vec<u8>>>> {
    let mut events = Vec::new();
    let mut job = script.job.clone();
    for scripted in &script.requests {
        let fill = |text: &str| {
            text.replace(&script.namespace, namespace)
                .replace(&script.name, &task.name_any())
                .replace(&script.uid, &task.uid().unwrap_or_default())
                .replace(
                    &format!("\"resourceVersion\":\"{}\"", script.version),
                    &format!(
                        "\"resourceVersion\":\"{}\"",
                        task.resource_version().unwrap_or_default()
                    ),
                )
                .replace(&script.job, &job)
        };
        let request = Request::builder()
            .method(scripted.method.clone())
            .uri(fill(&scripted.path))
            .header(header::CONTENT_TYPE, &scripted.kind)
            .body(fill(&scripted.body).into_bytes())?;
        if scripted.is_event {
            events.push(request);
            continue;
        }
        let answer: Value = client.request(request).await?;
        if scripted.is_job {
            let uid = answer.pointer("/metadata/uid").and_then(Value::as_str);
            uid.context("a Job without UID")?.clone_into(&mut job);
        }
    }
    Ok(events)
}
