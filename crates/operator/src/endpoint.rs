//! The HTTP endpoint: probes and metrics. Plain HTTP without secrets, for the kubelet and Prometheus alone.

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::{health::Health, metrics::Metrics};

/// What `/metrics` is: the form that prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves them until it is dropped.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    match listener.local_addr() {
        Ok(address) => info!(%address, "probes and metrics are served"),
        Err(error) => warn!(%error, "it is not known where probes and metrics are served"),
    }
    if let Err(error) = axum::serve(listener, router(health, metrics)).await {
        warn!(%error, "probes and metrics are not served any more");
    }
}

fn router(health: Health, metrics: Metrics) -> Router {
    let (alive, same) = (health.clone(), health.clone());
    Router::new()
        .route(
            "/livez",
            get(async move || probe(alive.stuck(), StatusCode::INTERNAL_SERVER_ERROR)),
        )
        .route(
            "/healthz",
            get(async move || probe(same.stuck(), StatusCode::INTERNAL_SERVER_ERROR)),
        )
        .route(
            "/readyz",
            get(async move || probe(health.ready(), StatusCode::SERVICE_UNAVAILABLE)),
        )
        .route(
            "/metrics",
            get(async move || ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text())),
        )
}

fn probe(result: Result<(), String>, otherwise: StatusCode) -> Response {
    match result {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (otherwise, why + "\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_stuck_and_not_ready_is_told_by_the_status() {
        let router = router(Health::default(), Metrics::default());
        tokio::time::sleep(Duration::from_mins(1)).await;
        for (path, expected) in [
            ("/livez", 500),
            ("/healthz", 500),
            ("/readyz", 503),
            ("/metrics", 200),
            ("/", 404),
        ] {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("an answer");
            assert_eq!(answer.status(), expected, "{path}");
        }
    }
}
