//! The API service: requests of the Kubernetes API in, answers out.
//!
//! [`Api`] is a `tower::Service`, so `kube::Client::new(api, "default")` works in process, and
//! `serve` puts HTTPS before the same thing. A request is read (`path`, `query`, `accept`, `body`),
//! allowed (`auth`), and done by one of the verbs (`read`, `watch`, `create`, `update`, `delete`), which
//! take what a kind is from `kinds` and keep it in the `store`.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{DATE, USER_AGENT};
use http::{Method, Request, Response};
use tokio::sync::watch as channel;

use crate::clock::{self, Clock, Entropy};
use crate::kinds::{Kind, Registry};
use crate::logs::LogStore;
use crate::status::Failure;
use crate::store::{Store, StoreError};
use crate::table::IncludeObject;

mod accept;
mod admission;
mod auth;
mod binding;
mod body;
mod create;
mod definitions;
mod delete;
mod eviction;
mod fields;
mod other;
mod paging;
mod path;
mod pods;
mod query;
mod read;
mod respond;
mod selector;
mod tokens;
mod update;
mod watch;

pub use auth::{Token, User};
pub use body::Body;

use accept::{Accept, Format, Shape};
use auth::Attributes;
use path::{ResourcePath, Target};
use query::Query;
use respond::Rendering;

/// What the service is made of.
pub struct Options {
    /// Where objects are kept.
    pub store: Store,
    /// For timestamps.
    pub clock: Clock,
    /// For UIDs and generated names.
    pub entropy: Entropy,
    /// What containers printed; without it `pods/log` says that there is no node.
    pub logs: Option<LogStore>,
    /// Who may come in over HTTPS.
    pub tokens: Vec<Token>,
    /// Host and port that discovery names.
    pub address: String,
}

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
    /// Who everybody is that comes in through this handle; `None`: what their token says.
    identity: Option<User>,
    /// The field manager of callers that name none and have no User-Agent.
    agent: Option<Arc<str>>,
}

pub(crate) struct Inner {
    store: Store,
    registry: Registry,
    clock: Clock,
    entropy: Entropy,
    logs: Option<LogStore>,
    tokens: Vec<Token>,
    account_tokens: tokens::ServiceAccountTokens,
    address: String,
    /// Counts the changes of the registry, for watches of kinds that go away.
    kinds_changed: channel::Sender<u64>,
}

impl Inner {
    fn now(&self) -> String {
        clock::seconds((self.clock)())
    }
}

impl Api {
    /// A service whose callers are told apart by their bearer tokens. Serves the custom resources
    /// whose definitions the store holds.
    ///
    /// # Errors
    /// A stored definition cannot be compiled.
    pub fn new(options: Options) -> Result<Self, Failure> {
        let inner = Arc::new(Inner {
            store: options.store,
            registry: Registry::builtin(),
            clock: options.clock,
            entropy: options.entropy,
            logs: options.logs,
            tokens: options.tokens,
            account_tokens: tokens::ServiceAccountTokens::default(),
            address: options.address,
            kinds_changed: channel::Sender::new(0),
        });
        inner.serve_stored_definitions()?;
        Ok(Self {
            inner,
            identity: None,
            agent: None,
        })
    }

    /// The same service, where every caller is `user`.
    #[must_use]
    pub fn for_user(&self, user: User) -> Self {
        Self {
            identity: Some(user),
            ..self.clone()
        }
    }

    /// The same service, where callers are told apart by their tokens.
    #[must_use]
    pub fn for_token_holders(&self) -> Self {
        Self {
            identity: None,
            ..self.clone()
        }
    }

    /// The same service for one component, which is the field manager of what it writes.
    #[must_use]
    pub fn for_component(&self, name: &str) -> Self {
        Self {
            agent: Some(name.into()),
            ..self.clone()
        }
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let head = *request.method() == Method::HEAD;
        let mut response = match self.dispatch(request).await {
            Ok(response) => response,
            Err(failure) => respond::failure(&failure),
        };
        if head {
            *response.body_mut() = body::full(Bytes::new());
        }
        if let Some(date) = clock::date((self.inner.clock)()) {
            response.headers_mut().insert(DATE, date);
        }
        response
    }

    async fn dispatch<B>(&self, request: Request<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let user = if let Some(user) = &self.identity {
            user.clone()
        } else {
            let issued = self.inner.account_tokens.all();
            auth::authenticate(self.inner.tokens.iter().chain(&issued), &parts.headers)?
        };
        let text = parts.uri.path();
        let target = path::parse(text);
        let Target::Resource(resource) = target else {
            let verb = parts.method.as_str().to_ascii_lowercase();
            auth::authorize_path(&user, &verb, text)?;
            return self.inner.other(&target, text, &parts);
        };
        let query = Query::parse(parts.uri.query());
        let verb = verb(&parts.method, &resource, &query);
        auth::authorize(&self.inner.store, &user, &Attributes::of(verb, &resource))?;
        let kind = self.inner.kind(&resource, verb, &parts.method)?;
        let rendering = Rendering {
            accept: if resource.subresource.as_deref() == Some("log") {
                Accept {
                    format: Format::Json,
                    shape: Shape::Whole,
                }
            } else {
                Accept::of(&parts.headers, kind.custom)?
            },
            include: include_object(query.text("includeObject"))?,
            clock: self.inner.clock.clone(),
        };
        let bytes = if matches!(verb, "get" | "list" | "watch") {
            Bytes::new()
        } else {
            body::read(body).await?
        };
        let agent = parts
            .headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .and_then(|agent| agent.split('/').next())
            .filter(|agent| !agent.is_empty())
            .or(self.agent.as_deref())
            .unwrap_or("unknown");
        Call {
            api: self.inner.clone(),
            user,
            kind,
            media: body::media_type(&parts.headers),
            path: resource,
            query,
            rendering,
            body: bytes,
            agent: agent.to_owned(),
        }
        .perform(verb)
        .await
    }
}

fn include_object(text: &str) -> Result<IncludeObject, Failure> {
    match text {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => Err(Failure::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
            serde_json::Value::from(other)
        ))),
    }
}

/// The verb as authorization names it.
fn verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    let named = path.name.is_some();
    match *method {
        Method::GET | Method::HEAD if path.watch => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

impl Inner {
    /// The kind behind a path, if it can be asked for in this way.
    fn kind(&self, path: &ResourcePath, verb: &str, method: &Method) -> Result<Arc<Kind>, Failure> {
        let missing = || {
            if Registry::is_builtin_group(&path.group) {
                Failure::no_such_resource()
            } else {
                Failure::no_such_path()
            }
        };
        let kind = self
            .registry
            .lookup(&path.group, &path.version, &path.plural)
            .ok_or_else(missing)?;
        let one_namespace = match verb {
            "create" => true,
            "deletecollection" | "delete" => kind.custom,
            _ => path.name.is_some(),
        };
        let needs_namespace = kind.namespaced && one_namespace;
        if (needs_namespace && path.namespace.is_none())
            || (!kind.namespaced && path.namespace.is_some())
        {
            return Err(if kind.custom {
                missing()
            } else {
                Failure::method_not_allowed()
            });
        }
        if let Some(name) = &path.subresource {
            let Some(sub) = kind.subresources.iter().find(|sub| sub.name == name) else {
                return Err(if kind.custom {
                    let object = path.name.as_deref().unwrap_or_default();
                    Failure::not_found(&kind.group, &kind.plural, object)
                } else {
                    Failure::no_such_resource()
                });
            };
            if !sub.verbs.contains(&verb) {
                return Err(if kind.custom && matches!(verb, "create" | "delete") {
                    unsupported(&kind, verb)
                } else {
                    Failure::method_not_allowed()
                });
            }
            return Ok(kind);
        }
        let fits = match *method {
            Method::HEAD => kind.custom,
            Method::POST => kind.custom || path.name.is_none(),
            Method::PUT | Method::PATCH => kind.custom || path.name.is_some(),
            Method::GET | Method::DELETE => true,
            _ => false,
        };
        if !fits || !kind.verbs.contains(&verb) {
            return Err(Failure::method_not_allowed());
        }
        if matches!(verb, "update" | "patch") && path.name.is_none() {
            return Err(Failure::bad_request("name must be provided"));
        }
        Ok(kind)
    }
}

fn unsupported(kind: &Kind, verb: &str) -> Failure {
    let resource = crate::status::qualified(&kind.plural, &kind.group);
    Failure::status(
        405,
        "MethodNotAllowed",
        format!("{verb} is not supported on resources of kind \"{resource}\""),
        Some(crate::status::Details {
            group: kind.group.clone(),
            kind: kind.plural.clone(),
            ..crate::status::Details::default()
        }),
    )
}

/// One request for a resource, read and allowed.
pub(crate) struct Call {
    api: Arc<Inner>,
    user: User,
    kind: Arc<Kind>,
    path: ResourcePath,
    query: Query,
    rendering: Rendering,
    media: String,
    body: Bytes,
    /// User-Agent up to its first slash: the field manager where none is given.
    agent: String,
}

impl Call {
    async fn perform(self, verb: &str) -> Result<Response<Body>, Failure> {
        match (verb, self.path.subresource.as_deref()) {
            ("get", Some("log")) => self.log().await,
            ("create", Some("binding")) => self.bind().await,
            ("create", Some("eviction")) => self.evict().await,
            ("create", Some("token")) => self.issue_token(),
            ("get" | "create", Some("exec" | "attach" | "portforward" | "proxy")) => {
                Err(self.no_stream())
            }
            ("get", _) => self.get(),
            ("list", _) => self.list().await,
            ("watch", _) => self.watch(),
            ("create", _) => self.create().await,
            ("update", _) => self.update().await,
            ("patch", _) => self.patch().await,
            ("delete", _) => self.delete().await,
            ("deletecollection", _) => self.delete_collection().await,
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> Option<&str> {
        self.path.namespace.as_deref()
    }

    fn key(&self, name: &str) -> String {
        key(&self.kind, self.namespace(), name)
    }

    fn not_found(&self) -> Failure {
        Failure::not_found(&self.kind.group, &self.kind.plural, self.name())
    }

    fn manager(&self, given: Option<&String>) -> String {
        given.cloned().unwrap_or_else(|| self.agent.clone())
    }
}

/// Where the objects of a kind are kept; with a namespace, those in it.
fn prefix(kind: &Kind, namespace: Option<&str>) -> String {
    let (group, _, plural) = &kind.stored_as;
    let group = if group.is_empty() { "core" } else { group };
    match namespace {
        Some(namespace) => format!("/{group}/{plural}/{namespace}/"),
        None => format!("/{group}/{plural}/"),
    }
}

fn key(kind: &Kind, namespace: Option<&str>, name: &str) -> String {
    format!("{}{name}", prefix(kind, namespace))
}

/// A failure of the store that no condition of ours explains.
fn broken(error: &StoreError) -> Failure {
    tracing::error!(%error, "the store failed");
    Failure::status(
        500,
        "InternalError",
        format!("Internal error occurred: {error}"),
        None,
    )
}

impl<B> tower::Service<Request<B>> for Api
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}
