//! The wire between one operator and the API server: it sees every request, can hold all of them back, and delivers
//! them late, when nobody waits for the answer any more.
//!
//! To the operator it is the API server, over plain HTTP. Requests are passed on with the cluster's administrator, bytes
//! as they are. Nothing is ever refused here: what the API server does not answer ends the connection.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use kubeopencode_operator::request::words_of;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// A request that an operator made.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When it came in.
    pub(crate) at: SystemTime,
    /// When it was passed on, if it was.
    pub(crate) passed: Option<SystemTime>,
    /// What the API server said.
    pub(crate) status: Option<u16>,
    /// get, list, watch, create, update, patch or delete.
    pub(crate) verb: &'static str,
    /// Plural of the resource, with its subresource.
    pub(crate) resource: String,
    /// Whether it was still held when the wire was opened again.
    pub(crate) late: bool,
    /// The request itself, if it changes something: path with query, content type, body.
    pub(crate) request: Option<(String, String, Bytes)>,
}

impl Seen {
    /// Whether it may change something that matters: not an Event, and not the Lease itself.
    pub(crate) fn acts(&self) -> bool {
        self.writes() && !matches!(self.resource.as_str(), "events" | "leases")
    }

    /// Whether it may change anything.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

#[derive(Debug)]
struct State {
    seen: Vec<Seen>,
    /// Requests that act, so far.
    acts: usize,
    /// The wire is held from this one on.
    hold_at: Option<usize>,
    /// Watches that were told that what they ask for is too old.
    expired: usize,
}

/// A wire. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// Opens a wire that is held.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    open: watch::Sender<bool>,
    /// Changes with every request that acts.
    acts: watch::Sender<usize>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Wire {
    /// A wire to the cluster of this configuration, listening on any port of that address.
    pub(crate) async fn new(mut config: Config, listen: &str) -> Result<Self> {
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let listener = TcpListener::bind((listen, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                seen: Vec::new(),
                acts: 0,
                hold_at: None,
                expired: 0,
            }),
            open: watch::Sender::new(true),
            acts: watch::Sender::new(0),
        });
        let server = tokio::spawn(serve(listener, client, shared.clone()));
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    /// Writes a kubeconfig that leads to a wire, which an operator sees at this address.
    pub(crate) fn kubeconfig(address: SocketAddr, file: &Path) -> Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: wire, cluster: {{server: \"http://{address}\"}}}}]\n\
             users: [{{name: user, user: {{}}}}]\ncontexts: [{{name: wire, context: {{cluster: wire, user: user}}}}]\n\
             current-context: wire\n"
        );
        Ok(std::fs::write(file, text)?)
    }

    /// Everything that was seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Watches that were told so far that they are too old.
    pub(crate) fn expired(&self) -> usize {
        self.shared.lock().expired
    }

    /// Requests that act, so far.
    pub(crate) fn acts(&self) -> usize {
        self.shared.lock().acts
    }

    /// Waits until that many more of them have come in; false if that takes longer.
    pub(crate) async fn more_acts(&self, more: usize, within: Duration) -> bool {
        let goal = self.acts() + more;
        let mut acts = self.shared.acts.subscribe();
        tokio::time::timeout(within, acts.wait_for(|acts| *acts >= goal))
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Holds everything from the request on that is that many acts away, this one included.
    pub(crate) fn hold_in(&self, more: usize) {
        let mut state = self.shared.lock();
        state.hold_at = Some(state.acts + more);
    }

    /// What opens it again.
    pub(crate) fn gate(&self) -> Gate {
        Gate(self.shared.clone())
    }
}

impl Gate {
    /// Lets everything pass that is held, and all that comes.
    pub(crate) fn open(&self) {
        let mut state = self.0.lock();
        state.hold_at = None;
        for seen in &mut state.seen {
            seen.late |= seen.passed.is_none();
        }
        drop(state);
        self.0.open.send_replace(true);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down a request; gives back its number.
    fn note(&self, request: &Request<Incoming>) -> usize {
        let (verb, resource) = words_of(request);
        let seen = Seen {
            at: SystemTime::now(),
            passed: None,
            status: None,
            verb,
            resource,
            late: false,
            request: None,
        };
        let mut state = self.lock();
        if seen.acts() {
            state.acts += 1;
            if state.hold_at.is_some_and(|hold_at| state.acts >= hold_at) {
                self.open.send_replace(false);
            }
        }
        state.seen.push(seen);
        let (number, acts) = (state.seen.len() - 1, state.acts);
        drop(state);
        self.acts.send_replace(acts);
        number
    }

    fn passed(&self, number: usize, request: Option<(String, String, Bytes)>) {
        if let Some(seen) = self.lock().seen.get_mut(number) {
            seen.passed = Some(SystemTime::now());
            seen.request = request;
        }
    }

    fn answered(&self, number: usize, status: u16) {
        let mut state = self.lock();
        if let Some(seen) = state.seen.get_mut(number) {
            seen.status = Some(status);
        }
        state.expired += usize::from(status == 410);
    }

    async fn is_open(&self) {
        // The sender lives as long as this.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

async fn serve(listener: TcpListener, client: Client, shared: Arc<Shared>) {
    // Aborted with this future: connections do not outlive their wire.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Answers are written in small pieces; waiting to fill packets would be measured.
        let _ = stream.set_nodelay(true);
        let (client, shared) = (client.clone(), shared.clone());
        let service = service_fn(move |request| pass(request, client.clone(), shared.clone()));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

/// On a task of its own, so that a request that its sender gave up is delivered all the same.
async fn pass(
    request: Request<Incoming>,
    client: Client,
    shared: Arc<Shared>,
) -> Result<Answer, anyhow::Error> {
    let number = shared.note(&request);
    tokio::spawn(async move {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        parts.headers.remove(header::HOST);
        shared.is_open().await;
        let written = (parts.method != Method::GET).then(|| {
            let kind = parts.headers.get(header::CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok());
            (
                parts.uri.to_string(),
                kind.unwrap_or_default().to_owned(),
                body.clone(),
            )
        });
        shared.passed(number, written);
        let request = Request::from_parts(parts, body.into());
        let response = client.send(request).await?;
        shared.answered(number, response.status().as_u16());
        // Answers are held back too.
        shared.is_open().await;
        Ok(response.map(|body| {
            let chunks = held_back(body.into_data_stream(), shared);
            StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
        }))
    })
    .await?
}

/// Nothing comes through while the wire is held.
fn held_back<E: Send>(
    chunks: impl Stream<Item = Result<Bytes, E>> + Send,
    shared: Arc<Shared>,
) -> impl Stream<Item = Result<Bytes, E>> + Send {
    chunks.then(move |chunk| {
        let shared = shared.clone();
        let open = shared.open.subscribe();
        async move {
            let mut open = open;
            let _ = open.wait_for(|open| *open).await;
            if let Ok(bytes) = &chunk {
                // A watch is told so by an event in an answer that has begun.
                let expired = bytes.windows(10).any(|part| part == b"\"code\":410");
                shared.lock().expired += usize::from(expired);
            }
            chunk
        }
    })
}
