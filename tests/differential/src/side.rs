//! One of the two that are asked: a real API, or the embedded one in this process. Both are a [`Client`].

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use kubeopencode_embedded::api::{Token, User};
use kubeopencode_embedded::cluster::{Cluster, Options};
use serde_json::{Value, json};
use std::time::Duration;

use crate::definitions::definitions;
use crate::script::{Answers, Request, Step, Until, written_out};

/// Only against a hang; nothing waits for it to pass.
const GUARD: Duration = Duration::from_mins(1);

/// What has not come for so long is not going to.
const QUIET: Duration = Duration::from_secs(10);

/// Between two looks at something that other programs of a cluster are about to change.
const LOOK: Duration = Duration::from_millis(20);

/// The token of the embedded cluster's administrator.
pub const ADMINISTRATOR: &str = "admin";

/// Headers that are compared, beside the warnings.
pub const COMPARED: [&str; 4] = ["Content-Type", "Etag", "Retry-After", "Vary"];

/// An API server.
#[derive(Clone)]
pub struct Side {
    client: Client,
    /// Sends no token of its own.
    without_token: Client,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Those of [`COMPARED`] that there are.
    pub headers: BTreeMap<String, String>,
    /// In order.
    pub warnings: Vec<String>,
    /// JSON, or the text where it is none. For a watch: an array of its events.
    pub body: Value,
    /// Of a watch: the server ended it.
    pub closed: bool,
}

/// A watch that is open.
pub struct Open {
    head: Answer,
    body: Body,
    rest: Vec<u8>,
}

/// The tokens of the embedded cluster: the administrator's and the viewer's.
#[must_use]
pub fn tokens() -> Vec<Token> {
    let token = |secret: &str, user| Token {
        secret: secret.to_owned(),
        user,
    };
    vec![
        token(ADMINISTRATOR, User::administrator("recorder")),
        token("viewer", User::new("viewer", &["system:authenticated"])),
    ]
}

impl Side {
    /// The API that the kubeconfig names.
    ///
    /// # Errors
    /// There is no kubeconfig, or what it names is the program's own doing.
    pub async fn real() -> Result<Self> {
        let mut config = Config::infer().await.context(
            "no cluster: set KUBECONFIG, or run this inside `cluster/cluster with --no-node --`",
        )?;
        config.default_retry = false;
        config.read_timeout = None;
        let mut without_token = config.clone();
        without_token.auth_info = AuthInfo::default();
        let client = |config| Client::try_from(config).context("cannot use the kubeconfig");
        Ok(Self {
            client: client(config)?,
            without_token: client(without_token)?,
        })
    }

    /// An embedded cluster, with the [`definitions`], and what talks to it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn embedded() -> Result<(Cluster, Self)> {
        let cluster = Cluster::start(Options {
            definitions: definitions()?,
            listen: Some(0),
            tokens: tokens(),
            ..Options::default()
        })
        .await?;
        let side = Self {
            client: cluster.client(),
            without_token: Client::new(cluster.api().for_token_holders(), "default"),
        };
        Ok((cluster, side))
    }

    /// Serves the [`definitions`], where the cluster does not yet.
    ///
    /// # Errors
    /// They are refused.
    pub async fn define(&self) -> Result<()> {
        for definition in definitions()? {
            let name = definition["metadata"]["name"].as_str().unwrap_or_default();
            let collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let made = self.ask("POST", collection, &definition).await?;
            ensure!(
                made.code == 201 || made.code == 409,
                "{name} is refused: {}",
                made.body
            );
            let path = format!("{collection}/{name}");
            self.until(&path, |answer| {
                let conditions = answer.body["status"]["conditions"].as_array();
                conditions
                    .into_iter()
                    .flatten()
                    .any(|c| c["type"] == "Established" && c["status"] == "True")
            })
            .await?;
            let group = &definition_group(&definition, name);
            self.until(group, |answer| answer.code == 200).await?;
        }
        let own = "kubeopencode.io/v1alpha1";
        let agent = json!({"serviceAccountName": "default"});
        self.is_collected(own, "Agent", agent).await?;
        let task = json!({"description": "x"});
        self.is_collected(own, "Task", task).await?;
        let widget = json!({"size": 1});
        self.is_collected("example.test/v1", "Widget", widget).await
    }

    /// Waits until the garbage collector knows a kind: a real one looks for new ones every half minute.
    async fn is_collected(&self, api_version: &str, kind: &str, spec: Value) -> Result<()> {
        let plural = format!("{}s", kind.to_lowercase());
        let collection = format!("/apis/{api_version}/namespaces/default/{plural}");
        let object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": "collected"},
            "spec": spec,
        });
        self.ask("POST", &collection, &object).await?;
        let path = format!("{collection}/collected");
        let foreground = json!({"propagationPolicy": "Foreground"});
        self.ask("DELETE", &path, &foreground).await?;
        self.gone(&path).await
    }

    /// Makes a namespace and waits for what every namespace gets.
    ///
    /// # Errors
    /// It is there already.
    pub async fn make_namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let made = self.ask("POST", "/api/v1/namespaces", &object).await?;
        if made.code != 201 {
            bail!(
                "the namespace {name} cannot be made: {}",
                made.body["message"]
            );
        }
        for what in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
            let path = format!("/api/v1/namespaces/{name}/{what}");
            self.until(&path, |answer| answer.code == 200).await?;
        }
        Ok(())
    }

    /// Deletes a namespace, without waiting for what is in it.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{name}");
        self.ask("DELETE", &path, &Value::Null).await.map(drop)
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// It stays.
    pub async fn gone(&self, path: &str) -> Result<()> {
        self.until(path, |answer| answer.code == 404)
            .await
            .map(drop)
    }

    async fn until(&self, path: &str, holds: impl Fn(&Answer) -> bool) -> Result<Answer> {
        let look = async {
            loop {
                let answer = self.ask("GET", path, &Value::Null).await?;
                if holds(&answer) {
                    return Ok(answer);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let found = tokio::time::timeout(GUARD, look).await;
        found.unwrap_or_else(|_| bail!("{path} does not become what is waited for"))
    }

    /// A request of this program's own.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let mut headers = BTreeMap::new();
        headers.insert("Content-Type".to_owned(), "application/json".to_owned());
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            body: if body.is_null() {
                String::new()
            } else {
                body.to_string()
            },
            who: None,
        };
        self.send(&request).await
    }

    /// Takes the finalizers off an object, if it is there.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn release(&self, path: &str) -> Result<()> {
        let mut headers = BTreeMap::new();
        let media = "application/merge-patch+json";
        headers.insert("Content-Type".to_owned(), media.to_owned());
        let body = json!({"metadata": {"finalizers": null}}).to_string();
        let (method, path) = ("PATCH".to_owned(), path.to_owned());
        let request = Request {
            method,
            path,
            headers,
            body,
            who: None,
        };
        self.send(&request).await.map(drop)
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn send(&self, request: &Request) -> Result<Answer> {
        let open = self.open(request).await?;
        open.collect().await
    }

    /// Sends the request of a step, again and again where it waits for something. The last answer is the answer, also
    /// when what is waited for does not come.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn step(&self, step: &Step, namespace: &str, answers: &Answers) -> Result<Answer> {
        let request = step.request(namespace, answers)?;
        let Some(until) = &step.until else {
            return self.send(&request).await;
        };
        // Nothing holds up what has to be gone, other than programs that have much to do.
        let patience = match until {
            Until::Gone => GUARD,
            _ => QUIET,
        };
        let end = tokio::time::Instant::now() + patience;
        loop {
            let answer = self.send(&request).await?;
            let over = tokio::time::Instant::now() > end;
            if over || until.holds(answer.code, &answer.body) {
                return Ok(answer);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(&self, request: &Request) -> Result<Open> {
        let what = || format!("{} {}", request.method, request.path);
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(request.path.replace(' ', "%20"))
            .header("user-agent", "recorder/1.0");
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let mut client = &self.client;
        if let Some(who) = request.who {
            client = &self.without_token;
            if let Some(token) = who.token() {
                builder = builder.header("authorization", format!("Bearer {token}"));
            }
        }
        let body = Body::from(Bytes::from(written_out(&request.body)));
        let response = client.send(builder.body(body).with_context(what)?);
        let response = response.await.with_context(what)?;
        let headers = response.headers();
        let compared = COMPARED.iter().filter_map(|name| {
            let value = headers.get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        });
        let warnings = headers.get_all("warning").iter();
        let head = Answer {
            code: response.status().as_u16(),
            headers: compared.collect(),
            warnings: warnings
                .map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned())
                .collect(),
            body: Value::Null,
            closed: false,
        };
        Ok(Open {
            head,
            body: response.into_body(),
            rest: Vec::new(),
        })
    }
}

/// Where the collection of a definition is served.
fn definition_group(made: &Value, name: &str) -> String {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    let version = made["spec"]["versions"][0]["name"].as_str();
    format!("/apis/{group}/{}/{plural}", version.unwrap_or("v1alpha1"))
}

impl Open {
    async fn collect(mut self) -> Result<Answer> {
        let read = tokio::time::timeout(GUARD, self.body.collect()).await;
        let bytes = read.context("the answer does not end")??.to_bytes();
        let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
        self.head.body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Ok(self.head)
    }

    /// The next event of a watch; `None` when the server has ended it.
    async fn event(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line).context("no event")?));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                None if self.rest.is_empty() => return Ok(None),
                None => self.rest.push(b'\n'),
            }
        }
    }

    /// The events of a watch up to the one about the object of a name. An answer that is no watch is read whole.
    ///
    /// # Errors
    /// The connection breaks.
    pub async fn events(mut self, through: Option<&str>) -> Result<Answer> {
        if self.head.code != 200 {
            return self.collect().await;
        }
        let mut events = Vec::new();
        loop {
            let Ok(next) = tokio::time::timeout(QUIET, self.event()).await else {
                events.push(format!("and nothing more, not even of {through:?}").into());
                break;
            };
            let Some(event) = next? else {
                self.head.closed = true;
                break;
            };
            let object = &event["object"];
            let name = object["metadata"]["name"].as_str();
            let name = name.or_else(|| object["rows"][0]["object"]["metadata"]["name"].as_str());
            let last = name.is_some() && name == through;
            events.push(event);
            if last {
                break;
            }
        }
        self.head.body = events.into();
        Ok(self.head)
    }
}
