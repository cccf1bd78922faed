//! What lies between a client and the API server. Every call of every client goes through here: it takes its time, it
//! may fail before or after it took effect, and each is a line in the trace.
//!
//! A call is on its way by itself, as a request on a wire is: whoever dies, or loses patience, does not recall it.

mod faults;
mod watches;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use kube::Client;
use kubeopencode_embedded::api::Api;
use kubeopencode_operator::{ServerTime, request::words_of};
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};
use tower::{BoxError, Layer as _, Service, ServiceExt as _};

use crate::{checker::Checker, dice::Dice, operators, trace::Trace};
use faults::Fault;

/// What comes back.
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answer = Result<Response<Body>, BoxError>;

/// How bad a line is.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Of a thousand calls so many suffer a fault, while the chaos lasts.
    pub faults: u32,
    /// Of a thousand pieces of a watch so many come late or twice.
    pub late: u32,
    /// The longest that a call usually takes in one direction, in milliseconds.
    pub latency: u64,
}

impl Quality {
    /// Nothing ever fails.
    pub const GOOD: Self = Self {
        faults: 0,
        late: 0,
        latency: 20,
    };
}

/// The network of one run. Clones are the same one.
#[derive(Clone)]
pub struct Network {
    api: Api,
    dice: Dice,
    trace: Trace,
    checker: Checker,
    /// Chaos is over.
    calm: Arc<watch::Sender<bool>>,
    /// The API server does not answer anybody.
    outage: Arc<watch::Sender<bool>>,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Network {
    /// A network before this API server.
    #[must_use]
    pub fn new(api: Api, dice: &Dice, trace: &Trace, checker: &Checker) -> Self {
        Self {
            api,
            dice: dice.fork(),
            trace: trace.clone(),
            checker: checker.clone(),
            calm: Arc::new(watch::Sender::new(false)),
            outage: Arc::new(watch::Sender::new(false)),
            asked: Arc::default(),
        }
    }

    /// What operators have asked for, in the words of RBAC, as in `create jobs`.
    #[must_use]
    pub fn asked_by_operators(&self) -> BTreeSet<String> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A line for somebody of that name.
    #[must_use]
    pub fn line(&self, name: &str, quality: Quality) -> Line {
        Line {
            network: self.clone(),
            api: self.api.for_component(name),
            name: name.into(),
            quality,
            paused: Arc::new(watch::Sender::new(false)),
        }
    }

    /// From now on nothing fails any more.
    pub fn calm_down(&self) {
        self.outage.send_replace(false);
        self.calm.send_replace(true);
    }

    /// Whether nothing fails any more.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    /// The API server goes away, or comes back.
    pub fn outage(&self, lasts: bool) {
        self.trace
            .say("api-server", if lasts { "gone" } else { "back" });
        self.outage.send_replace(lasts);
    }

    /// Everything that was superseded is forgotten, so that old watches cannot be taken up again.
    pub async fn compact(&self) {
        let store = self.api.store();
        self.trace.say("api-server", "compacts");
        // A store in memory has no disk that could fail.
        let _ = store.compact(store.revision()).await;
    }
}

/// The line of one client. Clones are the same one.
#[derive(Clone)]
pub struct Line {
    network: Network,
    api: Api,
    name: Arc<str>,
    quality: Quality,
    paused: Arc<watch::Sender<bool>>,
}

impl Line {
    /// A client at the end of this line.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// The same, whose answers tell the time.
    #[must_use]
    pub fn client_by(&self, time: &ServerTime) -> Client {
        Client::new(time.layer(self.clone()), "default")
    }

    /// To tell, later, whether it was free all the time.
    #[must_use]
    pub fn way(&self) -> Way {
        Way([self.paused.subscribe(), self.network.outage.subscribe()])
    }

    /// Nothing gets through in either direction until this is taken back; then everything does, late.
    pub fn pause(&self, paused: bool) {
        self.say(if paused { "is cut off" } else { "is back" });
        self.paused.send_replace(paused);
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.network.trace.say(&self.name, what);
    }

    async fn until_through(&self) {
        let mut paused = self.paused.subscribe();
        // The sender lives as long as this line.
        let _ = paused.wait_for(|paused| !*paused).await;
    }

    async fn takes_time(&self) {
        sleep(self.network.dice.millis(1..self.quality.latency.max(2))).await;
    }

    async fn deliver(self, request: Request<kube::client::Body>, heard: oneshot::Sender<Answer>) {
        let (verb, resource) = words_of(request.method(), request.uri());
        let what = match verb {
            "create" | "list" | "watch" => format!("{verb} {}", place(request.uri().path())),
            _ => format!(
                "{verb} {}",
                request.uri().path().trim_start_matches("/apis/")
            ),
        };
        if operators::is_one(&self.name) {
            let asked = self.network.asked.lock();
            let mut asked = asked.unwrap_or_else(PoisonError::into_inner);
            asked.insert(format!("{verb} {resource}"));
            if matches!(verb, "update" | "patch" | "delete") && resource != "leases" {
                self.network.checker.asks(&what);
            }
        }
        let sent_in_calm = self.network.is_calm();
        let fault = self.draw(verb, &resource);
        // Watches come and go all the time, and mean nothing where they get through.
        if verb != "watch" || fault != Fault::None {
            self.say(format_args!("> {what}{fault}"));
        }
        self.takes_time().await;
        let answer = (self.meet(fault, request, verb, &what, sent_in_calm)).await;
        self.until_through().await;
        if heard.send(answer).is_err() {
            self.say(format_args!(
                "x {what}: nobody waits for the answer any more"
            ));
        }
    }

    async fn meet(
        &self,
        fault: Fault,
        request: Request<kube::client::Body>,
        verb: &str,
        what: &str,
        sent_in_calm: bool,
    ) -> Answer {
        if let Fault::Slow(by) = fault {
            sleep(by).await;
        }
        self.until_through().await;
        if *self.network.outage.borrow() {
            return Err("connection refused".into());
        }
        if let Some(answer) = fault.before() {
            return answer;
        }
        let answer = match self.api.clone().oneshot(request).await {
            Ok(answer) => answer.map(|body| body.map_err(BoxError::from).boxed_unsync()),
            Err(never) => match never {},
        };
        self.network.checker.look(&self.name, sent_in_calm);
        let code = answer.status().as_u16();
        if verb == "watch" && code == 200 {
            return Ok(self.watched(answer, what));
        }
        self.say(format_args!("< {what}: {code}"));
        self.takes_time().await;
        match fault.after() {
            Some(lost) => {
                sleep(lost.after).await;
                lost.answer
            }
            None => Ok(answer),
        }
    }
}

/// Whether a line was cut off, or the API server away, since this was made.
pub struct Way([watch::Receiver<bool>; 2]);

impl Way {
    /// Nothing was in the way.
    #[must_use]
    pub fn was_free(&self) -> bool {
        let free = |lasts: &watch::Receiver<bool>| {
            // What is told anew may have come and gone.
            !*lasts.borrow() && !lasts.has_changed().unwrap_or(true)
        };
        self.0.iter().all(free)
    }
}

/// A path without group, version and selectors.
fn place(path: &str) -> &str {
    path.trim_start_matches("/apis/")
        .trim_start_matches("/api/")
}

fn full(text: String) -> Body {
    Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}

impl Service<Request<kube::client::Body>> for Line {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let (hear, heard) = oneshot::channel();
        tokio::spawn(self.clone().deliver(request, hear));
        async move { heard.await? }.boxed()
    }
}
