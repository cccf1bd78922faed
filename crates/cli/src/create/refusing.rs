//! For tests: a cluster that refuses one of the requests.

use http::{Method, StatusCode};
use kube::Client;
use kubeopencode_embedded::cluster::{Cluster, Options};
use serde_json::json;
use tower::{ServiceExt as _, service_fn};

/// A cluster, and a client of it that is refused this: a method, and how the path ends.
pub(super) async fn cluster(refused: Option<(Method, &'static str)>) -> (Cluster, Client) {
    let definitions = kubeopencode_api::crds();
    let definitions = definitions
        .iter()
        .map(|it| serde_json::to_value(it).expect("JSON"));
    let options = Options {
        definitions: definitions.collect(),
        ..Options::default()
    };
    let cluster = Cluster::start(options).await.expect("it starts");
    let api = cluster.api();
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, refused) = (api.clone(), refused.clone());
        async move {
            let is_refused = refused.is_some_and(|(method, path)| {
                request.method() == method && request.uri().path().ends_with(path)
            });
            if is_refused {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403,
                    "reason": "Forbidden", "message": "a quota is used up",
                });
                let body = kube::client::Body::from(status.to_string().into_bytes());
                let mut response = http::Response::new(body);
                *response.status_mut() = StatusCode::FORBIDDEN;
                return Ok(response.map(http_body_util::Either::Left));
            }
            let Ok(response) = api.oneshot(request).await;
            Ok::<_, std::convert::Infallible>(response.map(http_body_util::Either::Right))
        }
    });
    let client = Client::new(service, "default");
    (cluster, client)
}
