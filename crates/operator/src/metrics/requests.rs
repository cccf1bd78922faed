//! Counts the requests of a client: a layer around it.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service};

use super::Metrics;
use crate::{
    access::{ACCESS, LEASE},
    request::words_of,
};

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
    let (verb, resource) = words_of(request.method(), request.uri());
    let mut known = ACCESS.iter().chain(LEASE).map(|access| access.resource);
    let resource = known.find(|known| *known == resource).unwrap_or("other");
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_has_no_rule_for_gets_no_label_of_its_own() {
        let of = |uri: &str| what(&Request::get(uri).body(()).expect("a request"));
        assert_eq!(
            of("/api/v1/namespaces/a/configmaps/b"),
            ("get", "configmaps")
        );
        assert_eq!(of("/api/v1/namespaces/a/secrets/b"), ("get", "other"));
        assert_eq!(of("/version"), ("list", "other"));
    }
}
