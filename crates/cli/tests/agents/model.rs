//! A model that plays a script: the servers that `OpenCode`, Claude Code and Codex talk to, on loopback.
//!
//! Which turn is played follows from the request alone: it is as many as there are answers of tools in it. So a request
//! that is repeated gets the same answer, and any number of sessions can go on at once.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, Uri},
    response::Response,
};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{anthropic, chat, responses};

/// What the model does when it is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Turn {
    /// It wants this shell command to be run.
    Runs(String),
    /// It says this, and has ended.
    Says(String),
    /// It begins to say something, and the connection breaks.
    Breaks,
    /// The server answers with this status, this many times; after that it does what comes next. Of 0 times, always.
    Fails(u16, usize),
    /// The server never answers.
    Hangs,
}

/// A server that plays a script.
pub struct Model {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Model {
    fn drop(&mut self) {
        // Also inside of another runtime, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Shared {
    script: Vec<Turn>,
    failed: AtomicUsize,
    asked: AtomicUsize,
    requests: Mutex<Vec<Value>>,
}

impl Model {
    /// Starts it on loopback; it ends when it is dropped.
    pub fn plays(script: impl IntoIterator<Item = Turn>) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), script)
    }

    /// The same, at another address of this machine. Not for a thread that belongs to a runtime.
    pub fn at(address: IpAddr, script: impl IntoIterator<Item = Turn>) -> Self {
        let shared = Arc::new(Shared {
            script: script.into_iter().collect(),
            failed: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            requests: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind((address, 0)))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often anything at all was asked so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// The requests to the model so far, without those that only want a title.
    pub fn requests(&self) -> Vec<Value> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }
}

/// One way to talk to a model.
pub struct Protocol {
    /// How many answers of tools are in the request.
    pub turn: fn(&Value) -> usize,
    /// The events of a turn, each as the bytes that go over the wire.
    pub events: fn(usize, &Turn, &Value) -> Vec<String>,
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    shared.asked.fetch_add(1, Ordering::Relaxed);
    let protocol = match uri.path() {
        path if path.ends_with("/chat/completions") => chat::PROTOCOL,
        path if path.ends_with("/messages") => anthropic::PROTOCOL,
        path if path.ends_with("/responses") => responses::PROTOCOL,
        path if path.ends_with("/count_tokens") => {
            return json_of(StatusCode::OK, &json!({"input_tokens": 10}));
        }
        _ => {
            return json_of(
                StatusCode::OK,
                &json!({"object": "list", "data": [], "models": []}),
            );
        }
    };
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let for_work = request["tools"]
        .as_array()
        .is_some_and(|tools| !tools.is_empty());
    if !for_work {
        return streamed((protocol.events)(
            0,
            &Turn::Says("A title".to_owned()),
            &request,
        ));
    }
    shared
        .requests
        .lock()
        .expect("not poisoned")
        .push(request.clone());
    let index = (protocol.turn)(&request);
    let (fails, turn) = turn(&shared.script, index);
    if let Some((status, times)) = fails
        && (times == 0 || shared.failed.fetch_add(1, Ordering::Relaxed) < times)
    {
        return failure(status);
    }
    match turn {
        Some(Turn::Hangs) | None => std::future::pending().await,
        Some(Turn::Breaks) => {
            let said = Turn::Says("I will look at it first, and then see".to_owned());
            let mut events = (protocol.events)(index, &said, &request);
            events.truncate(events.len() / 2);
            broken(events)
        }
        Some(turn) => streamed((protocol.events)(index, turn, &request)),
    }
}

/// The turn of this number, or the last one, and what fails before it, which is no turn of its own.
fn turn(script: &[Turn], index: usize) -> (Option<(u16, usize)>, Option<&Turn>) {
    let (mut fails, mut last, mut turns) = (None, None, 0);
    for turn in script {
        if let Turn::Fails(status, times) = turn {
            fails = Some((*status, *times));
            continue;
        }
        last = Some((fails.take(), turn));
        if turns == index {
            break;
        }
        turns += 1;
    }
    match (fails, last) {
        (None, Some((fails, turn))) => (fails, Some(turn)),
        (fails, _) => (fails, None),
    }
}

fn failure(status: u16) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let kind = match status.as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        _ => "api_error",
    };
    let error =
        json!({"type": "error", "error": {"type": kind, "message": format!("scripted {status}")}});
    let mut response = json_of(status, &error);
    // Servers of models say when to ask again; without it, agents wait for longer each time.
    let soon = HeaderValue::from_static("100");
    response.headers_mut().insert("retry-after-ms", soon);
    response
}

fn json_of(status: StatusCode, value: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(value.to_string()))
        .expect("a response")
}

fn streamed(events: Vec<String>) -> Response {
    let events = stream::iter(events).map(|event| Ok::<_, Infallible>(Bytes::from(event)));
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(events))
        .expect("a response")
}

/// These events, and then no end.
fn broken(events: Vec<String>) -> Response {
    let events = stream::iter(events).map(|event| Ok(Bytes::from(event)));
    let end = stream::iter([Err(std::io::Error::from(
        std::io::ErrorKind::ConnectionReset,
    ))]);
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(events.chain(end)))
        .expect("a response")
}

/// An event of the stream, with its type as its name too.
pub fn named(kind: &str, mut event: Value) -> String {
    event["type"] = json!(kind);
    format!("event: {kind}\ndata: {event}\n\n")
}
