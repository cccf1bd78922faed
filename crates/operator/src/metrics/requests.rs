//! Counts the requests of a client: a layer around it.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use tower::{Layer, Service};

use super::Metrics;
use crate::access::{ACCESS, LEASE};

/// Counts what goes through a client that is built with it.
#[derive(Debug, Clone)]
pub struct CountRequests(Metrics);

impl Metrics {
    /// Counts what goes through a client that is built with this layer.
    #[must_use]
    pub fn requests(&self) -> CountRequests {
        CountRequests(self.clone())
    }
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A client's way to the API server, with a counter on it.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, resource) = what(&request);
        let mut counts = Counts {
            metrics: self.metrics.clone(),
            verb,
            resource,
            code: "dropped".to_owned(),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            counts.answered(answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}

/// Counts one request when it is dropped: also one that is not waited for to its end, because its answer hangs.
struct Counts {
    metrics: Metrics,
    verb: &'static str,
    resource: &'static str,
    code: String,
}

impl Counts {
    fn answered(&mut self, status: Option<StatusCode>) {
        self.code = match status {
            Some(status) => status.as_str().to_owned(),
            None => "error".to_owned(),
        };
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.metrics.requested(self.verb, self.resource, &self.code);
    }
}

/// Verb and resource of a request, in the words of RBAC; `other` for what the operator has no rule for.
fn what<B>(request: &Request<B>) -> (&'static str, &'static str) {
    let path = request.uri().path();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // /api/v1/… or /apis/GROUP/VERSION/…
    let skipped = if parts.next() == Some("api") { 1 } else { 2 };
    let mut rest: Vec<&str> = parts.skip(skipped).collect();
    if rest.len() > 2 && rest[0] == "namespaces" {
        rest.drain(..2);
    }
    let named = rest.len() > 1;
    let resource = match rest[..] {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        [resource, ..] => resource.to_owned(),
        [] => String::new(),
    };
    let mut known = ACCESS.iter().chain(LEASE).map(|access| access.resource);
    let resource = known.find(|known| *known == resource).unwrap_or("other");
    let query = request.uri().query().unwrap_or_default();
    let verb = match *request.method() {
        _ if query.split('&').any(|pair| pair == "watch=true") => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rules_are() {
        let of = |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri).body(());
            what(&request.expect("a request"))
        };
        let tasks = "/apis/kubeopencode.io/v1alpha1/namespaces/a/tasks";
        assert_eq!(of(Method::GET, tasks), ("list", "tasks"));
        assert_eq!(
            of(Method::GET, &format!("{tasks}?watch=true&x=y")),
            ("watch", "tasks")
        );
        assert_eq!(
            of(Method::PUT, &format!("{tasks}/it/status?")),
            ("update", "tasks/status")
        );
        assert_eq!(of(Method::GET, "/api/v1/pods?limit=1"), ("list", "pods"));
        assert_eq!(
            of(Method::GET, "/api/v1/namespaces/a/configmaps/b"),
            ("get", "configmaps")
        );
        assert_eq!(
            of(Method::GET, "/api/v1/namespaces/a/secrets/b"),
            ("get", "other")
        );
        assert_eq!(of(Method::GET, "/version"), ("list", "other"));
    }
}
