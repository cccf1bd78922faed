//! A layer between a client and an API server that sees every call, and lets some of them fail as calls do fail: before
//! or after they took effect, or together with the caller.
//!
//! What happens to a call is decided by a function of its number and of what it is, so a run can be repeated exactly.

use std::{
    future::pending,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tower::{BoxError, Layer, Service, ServiceExt as _};

/// A call of the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// As RBAC has it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: String,
    /// `resource` or `resource/subresource`.
    pub resource: String,
    /// Namespace; empty for what is in none, and for all of them.
    pub namespace: String,
    /// Name of the object, if it is about one.
    pub name: String,
}

impl Call {
    fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group = match parts.next() {
            Some("apis") => parts.next().unwrap_or_default(),
            _ => "",
        };
        let mut rest: Vec<&str> = parts.skip(1).collect();
        let mut namespace = "";
        if rest.len() > 2 && rest[0] == "namespaces" {
            namespace = rest[1];
            rest.drain(..2);
        }
        let name = (*rest.get(1).unwrap_or(&"")).to_owned();
        let mut resource = (*rest.first().unwrap_or(&"")).to_owned();
        if let Some(subresource) = rest.get(2) {
            resource = format!("{resource}/{subresource}");
        }
        let watches = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let verb = match (request.method(), name.is_empty()) {
            (_, _) if watches => "watch",
            (&Method::GET, true) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, _) => "delete",
            _ => "get",
        };
        Self {
            verb,
            group: group.to_owned(),
            resource,
            namespace: namespace.to_owned(),
            name,
        }
    }

    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete")
    }
}

/// What comes back.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is answered.
    None,
    /// Nobody is there to answer, and it has no effect.
    Unreachable,
    /// It is answered with 500, and has no effect.
    Refused,
    /// It is answered with 403, and has no effect.
    Forbidden,
    /// It is answered with 404, and has no effect.
    Missing,
    /// It is answered with this code, and has no effect.
    Answered(u16),
    /// It is granted, and something on its way undoes it: it is answered with the object as it was.
    Undone,
    /// It is a watch, and its only event is that its resourceVersion is too old to watch from.
    Expired,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It takes effect, and each piece of the answer comes this much later. Of a watch, that is each event.
    Late(Duration),
    /// It takes effect only after this, and not at all if the caller has dropped it by then.
    Slow(Duration),
    /// It never takes effect and is never answered.
    Hangs,
    /// It takes effect and is never answered.
    AnswerHangs,
    /// The caller dies before it takes effect.
    DiesBefore,
    /// It takes effect, and the caller dies before it hears.
    DiesAfter,
}

type Plan = Box<dyn FnMut(usize, &Call) -> Fault + Send>;

/// What a caller suffers, and a record of what it called.
#[derive(Clone)]
pub struct Faults {
    inner: Arc<Inner>,
}

struct Inner {
    standstill: bool,
    plan: Mutex<Plan>,
    calls: Mutex<Vec<Call>>,
    successes: Mutex<Vec<Call>>,
    dead: watch::Sender<bool>,
    cuts: watch::Sender<usize>,
}

impl Faults {
    /// Every call goes through `plan` with its number, counted from 0.
    pub fn new(plan: impl FnMut(usize, &Call) -> Fault + Send + 'static) -> Self {
        Self::with(false, plan)
    }

    /// The same for a paused clock, which stands still while the API server works on a call.
    pub fn timed(plan: impl FnMut(usize, &Call) -> Fault + Send + 'static) -> Self {
        Self::with(true, plan)
    }

    fn with(standstill: bool, plan: impl FnMut(usize, &Call) -> Fault + Send + 'static) -> Self {
        let inner = Inner {
            standstill,
            plan: Mutex::new(Box::new(plan)),
            calls: Mutex::default(),
            successes: Mutex::default(),
            dead: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// None at all; only the record.
    pub fn none() -> Self {
        Self::new(|_, _| Fault::None)
    }

    /// These are listed, and then nothing is heard of them.
    pub fn without_watching(resource: &'static str) -> Self {
        Self::new(move |_, call| {
            let watch = call.verb == "watch" && call.resource == resource;
            if watch { Fault::Hangs } else { Fault::None }
        })
    }

    /// One, at one call.
    pub fn one(at: usize, fault: Fault) -> Self {
        Self::new(move |number, _| if number == at { fault } else { Fault::None })
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// The calls that the API server granted, in order.
    pub fn successes(&self) -> Vec<Call> {
        self.inner.successes.lock().unwrap().clone()
    }

    /// All answers that are still coming in, such as watches, end here.
    pub fn cut(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ready when the caller has to die. Whoever drives it drops it then; until it does, none of its calls goes on.
    pub async fn died(&self) {
        let mut dead = self.inner.dead.subscribe();
        dead.wait_for(|dead| *dead).await.unwrap();
    }

    fn next(&self, call: Call) -> Fault {
        if *self.inner.dead.borrow() {
            return Fault::DiesBefore;
        }
        let mut calls = self.inner.calls.lock().unwrap();
        let fault = self.inner.plan.lock().unwrap()(calls.len(), &call);
        calls.push(call);
        fault
    }

    async fn die<T>(&self) -> T {
        self.inner.dead.send_replace(true);
        pending().await
    }
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty {
            inner,
            faults: self.clone(),
        }
    }
}

/// While it lives, a paused clock does not jump to the next timer: tokio holds it for as long as a blocking task runs.
struct Standstill(
    #[expect(dead_code, reason = "the task ends when this is dropped")] mpsc::Sender<()>,
);

impl Standstill {
    fn begin() -> Self {
        let (end, ended) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = ended.recv();
        });
        Self(end)
    }
}

/// A service behind [`Faults`].
#[derive(Clone)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S, B, R> Service<Request<B>> for Faulty<S>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, faults } = self.clone();
        Box::pin(async move {
            let mut request = request;
            let call = Call::of(&request);
            let fault = faults.next(call.clone());
            match fault {
                Fault::Unreachable => return Err("connection refused".into()),
                Fault::Refused => return Ok(failure(500, "InternalError")),
                Fault::Forbidden => return Ok(failure(403, "Forbidden")),
                Fault::Missing => return Ok(failure(404, "NotFound")),
                Fault::Answered(code) => return Ok(failure(code, "Injected")),
                Fault::Undone => *request.method_mut() = Method::GET,
                Fault::Expired => {
                    let event = json!({"type": "ERROR", "object": status(410, "Expired")});
                    return Ok(Response::new(full(format!("{event}\n"))));
                }
                Fault::DiesBefore => return faults.die().await,
                Fault::Hangs => return pending().await,
                Fault::Slow(by) => sleep(by).await,
                Fault::None
                | Fault::AnswerLost
                | Fault::Late(_)
                | Fault::AnswerHangs
                | Fault::DiesAfter => {}
            }
            let mut cuts = faults.inner.cuts.subscribe();
            let standstill = faults.inner.standstill.then(Standstill::begin);
            let answer = inner.oneshot(request).await.map_err(Into::into)?;
            drop(standstill);
            if answer.status().is_success() {
                faults.inner.successes.lock().unwrap().push(call);
            }
            match fault {
                Fault::AnswerLost => Err("the connection was reset".into()),
                Fault::AnswerHangs => pending().await,
                Fault::DiesAfter => faults.die().await,
                Fault::Late(by) => Ok(answer.map(|body| late(body, by))),
                _ => Ok(answer.map(|body| {
                    let cut = async move { cuts.changed().await };
                    let frames =
                        BodyStream::new(body.map_err(Into::into)).take_until(Box::pin(cut));
                    StreamBody::new(frames).boxed_unsync()
                })),
            }
        })
    }
}

fn late<B>(body: B, by: Duration) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let frames = BodyStream::new(body).then(move |frame| {
        let frame = frame.map_err(Into::into);
        sleep(by).map(|()| frame)
    });
    StreamBody::new(frames).boxed_unsync()
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let mut response = Response::new(full(status(code, reason).to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": "injected",
    })
}

fn full(text: String) -> Body {
    Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}
