//! The wire between one operator and the API server: it sees every request, can hold all of them back, and delivers
//! them late, when nobody waits for the answer any more, or never.
//!
//! To the operator it is the API server, over plain HTTP. Requests are passed on with the rights of whoever's configuration it
//! has, bytes as they are. Nothing is ever refused here: what the API server does not answer ends the connection.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Method, Request, Response, header, request::Parts};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use kubeopencode_operator::request::words_of;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// What ends a connection.
const CUT: &str = "the wire is cut";

/// A request that an operator made.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When all of it had come in.
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

/// Which of the requests that act.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writes {
    Any,
    /// Those with this verb, of this resource.
    Only(&'static str, &'static str),
}

impl Writes {
    fn are(self, seen: &Seen) -> bool {
        match self {
            Self::Any => true,
            Self::Only(verb, resource) => seen.verb == verb && seen.resource == resource,
        }
    }
}

/// For people: how often each of these came, and what the API server said, if it did.
pub(crate) fn counted(seen: &[Seen]) -> String {
    let mut counts = BTreeMap::new();
    for seen in seen {
        let status = seen.status.map(|status| format!(" {status}"));
        let what = format!(
            "{} {}{}",
            seen.verb,
            seen.resource,
            status.unwrap_or_default()
        );
        *counts.entry(what).or_insert(0) += 1;
    }
    let counts = counts.iter().map(|(what, count)| format!("{count} {what}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// What a wire does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Requests pass, and answers.
    Open,
    /// Both wait.
    Held,
    /// Neither ever arrives.
    Cut,
}

#[derive(Debug)]
struct State {
    way: Way,
    seen: Vec<Seen>,
    /// Requests that act, so far.
    acts: usize,
    /// The wire is held from the last of these on that is still to come.
    hold_in: Option<(Writes, usize)>,
    /// Watches that were told that what they ask for is too old.
    expired: usize,
}

/// A wire. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

/// Opens a wire that is held, or cuts it, and knows what it has seen.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Shared);

/// Whoever waits for something of the wire is told of each change of this, in the order in which they happen.
#[derive(Debug, Clone)]
struct Shared(Arc<watch::Sender<State>>);

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
        let shared = Shared(Arc::new(watch::Sender::new(State {
            way: Way::Open,
            seen: Vec::new(),
            acts: 0,
            hold_in: None,
            expired: 0,
        })));
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
        self.shared.0.borrow().seen.clone()
    }

    /// Requests that act, so far.
    pub(crate) fn acts(&self) -> usize {
        self.shared.0.borrow().acts
    }

    /// Watches that were told so far that they are too old.
    pub(crate) fn expired(&self) -> usize {
        self.shared.0.borrow().expired
    }

    /// Waits until that many more requests that act have come in; false if that takes longer.
    pub(crate) async fn more_acts(&self, more: usize, within: Duration) -> bool {
        let goal = self.shared.0.borrow().acts + more;
        self.shared.until(within, |state| state.acts >= goal).await
    }

    /// Holds everything from that one of these requests on, counted from one, which is held itself.
    pub(crate) fn hold_in(&self, which: Writes, number: usize) {
        self.shared
            .0
            .send_modify(|state| state.hold_in = Some((which, number)));
    }

    /// Waits until it is held; false if that takes longer.
    pub(crate) async fn held(&self, within: Duration) -> bool {
        self.shared
            .until(within, |state| state.way == Way::Held)
            .await
    }

    /// The requests that act, and are held: their numbers.
    pub(crate) fn acts_held(&self) -> Vec<usize> {
        let state = self.shared.0.borrow();
        let seen = state.seen.iter().enumerate();
        seen.filter(|(_, seen)| seen.acts() && seen.passed.is_none())
            .map(|(number, _)| number)
            .collect()
    }

    /// Waits until the API server has answered these requests; false if that takes longer.
    pub(crate) async fn answered(&self, numbers: &[usize], within: Duration) -> bool {
        let all = |state: &State| {
            let mut answers = numbers.iter().map(|number| state.seen.get(*number));
            answers.all(|seen| seen.is_some_and(|seen| seen.status.is_some()))
        };
        self.shared.until(within, all).await
    }

    /// What opens or cuts it.
    pub(crate) fn gate(&self) -> Gate {
        Gate(self.shared.clone())
    }
}

impl Gate {
    /// Everything that was seen so far, also when the wire is gone.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.0.borrow().seen.clone()
    }

    /// Lets everything pass that is held, and all that comes.
    pub(crate) fn open(&self) {
        self.0.0.send_modify(|state| {
            state.hold_in = None;
            state.way = Way::Open;
            for seen in &mut state.seen {
                seen.late |= seen.passed.is_none();
            }
        });
    }

    /// Drops everything that is held, and all that comes.
    pub(crate) fn cut(&self) {
        self.0.0.send_modify(|state| state.way = Way::Cut);
    }
}

impl Shared {
    async fn until(&self, within: Duration, is: impl FnMut(&State) -> bool) -> bool {
        let mut states = self.0.subscribe();
        tokio::time::timeout(within, states.wait_for(is))
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Takes down a request; gives back its number.
    fn note(&self, parts: &Parts, body: &Bytes) -> usize {
        let (verb, resource) = words_of(&parts.method, &parts.uri);
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let seen = Seen {
            at: SystemTime::now(),
            passed: None,
            status: None,
            verb,
            resource,
            late: false,
            request: (parts.method != Method::GET).then(|| {
                (
                    parts.uri.to_string(),
                    kind.unwrap_or_default().to_owned(),
                    body.clone(),
                )
            }),
        };
        let mut number = 0;
        self.0.send_modify(|state| {
            if seen.acts() {
                state.acts += 1;
                if let Some((which, number)) = &mut state.hold_in
                    && which.are(&seen)
                {
                    *number = number.saturating_sub(1);
                    if *number == 0 {
                        state.way = Way::Held;
                    }
                }
            }
            number = state.seen.len();
            state.seen.push(seen);
        });
        number
    }

    /// Waits until this request may pass, and counts it as passed; false if the wire is cut.
    async fn passes(&self, number: usize) -> bool {
        loop {
            let mut way = Way::Held;
            self.0.send_if_modified(|state| {
                way = state.way;
                let seen = state.seen.get_mut(number);
                let Some(seen) = seen.filter(|_| way == Way::Open) else {
                    return false;
                };
                seen.passed = Some(SystemTime::now());
                true
            });
            match way {
                Way::Open => return true,
                Way::Cut => return false,
                Way::Held => self.opens().await,
            };
        }
    }

    /// Waits as long as it is held; false if it is cut then.
    async fn opens(&self) -> bool {
        let mut states = self.0.subscribe();
        // The sender lives as long as this.
        let state = states.wait_for(|state| state.way != Way::Held).await;
        state.is_ok_and(|state| state.way == Way::Open)
    }

    fn answered(&self, number: usize, status: u16) {
        self.0.send_modify(|state| {
            if let Some(seen) = state.seen.get_mut(number) {
                seen.status = Some(status);
            }
            state.expired += usize::from(status == 410);
        });
    }
}

async fn serve(listener: TcpListener, client: Client, shared: Shared) {
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

type Answer = Response<UnsyncBoxBody<Bytes, anyhow::Error>>;

/// On a task of its own, so that a request that its sender gave up is delivered all the same.
async fn pass(request: Request<Incoming>, client: Client, shared: Shared) -> Result<Answer> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let number = shared.note(&parts, &body);
    tokio::spawn(async move {
        parts.headers.remove(header::HOST);
        ensure!(shared.passes(number).await, CUT);
        let request = Request::from_parts(parts, body.into());
        let response = client.send(request).await?;
        shared.answered(number, response.status().as_u16());
        // Answers are held back too.
        ensure!(shared.opens().await, CUT);
        Ok(response.map(|body| {
            let chunks = held_back(body.into_data_stream().map_err(Into::into), shared);
            StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
        }))
    })
    .await?
}

/// Nothing comes through while the wire is held.
fn held_back(
    chunks: impl Stream<Item = Result<Bytes>> + Send,
    shared: Shared,
) -> impl Stream<Item = Result<Bytes>> + Send {
    chunks.then(move |chunk| {
        let shared = shared.clone();
        async move {
            ensure!(shared.opens().await, CUT);
            let bytes = chunk?;
            // A watch is told so by an event in an answer that has begun.
            if bytes.windows(10).any(|part| part == b"\"code\":410") {
                shared.0.send_modify(|state| state.expired += 1);
            }
            Ok(bytes)
        }
    })
}
