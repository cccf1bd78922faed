//! What a real kube-apiserver 1.36 answered, asked again: the first recording, and those of `scripts`.
//!
//! The recorded exchanges run in their order against the service, each recording in a cluster of its own. Every difference must stand in
//! `known-differences.txt` with its reason, and nothing may stand there that no longer differs.

#[path = "replay/kubelet.rs"]
mod kubelet;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use kubeopencode_embedded::api::{Api, Body};
use kubeopencode_embedded::cluster::{Cluster, Options};
use kubeopencode_embedded::logs::record::Source;
use kubeopencode_embedded::logs::{LogStore, LogWriter};
use kubeopencode_embedded::store::Store;
use regex::Regex;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use kubelet::Kubelet;
use kubeopencode_differential::exchange::{Exchange, load};
use kubeopencode_differential::matching::Bindings;
use kubeopencode_differential::script::{Script, Step};
use kubeopencode_differential::side::{ADMINISTRATOR, COMPARED, Side, tokens};

const REQUESTS: &str = include_str!("../recorded/requests.jsonl");
const KNOWN: &str = include_str!("../known-differences.txt");
const CONFORMANCE: &str = include_str!("../../../docs/conformance.md");

/// Only against a hang; nothing waits for it to pass.
const GUARD: Duration = Duration::from_secs(30);

struct Answer {
    code: u16,
    headers: BTreeMap<&'static str, String>,
    warnings: Vec<String>,
    body: Body,
}

/// A watch that is open while other requests are made.
struct Open {
    exchange: Exchange,
    code: u16,
    lines: mpsc::UnboundedReceiver<Value>,
}

struct Replay {
    api: Api,
    bindings: Bindings,
    open: Vec<Open>,
    differences: BTreeMap<String, Vec<String>>,
    /// A container that prints the rest while its log is being followed.
    printing: Option<(LogWriter, Vec<String>)>,
}

impl Replay {
    fn new(api: Api) -> Self {
        Self {
            api,
            bindings: Bindings::default(),
            open: Vec::new(),
            differences: BTreeMap::new(),
            printing: None,
        }
    }

    async fn send(&self, exchange: &Exchange) -> Answer {
        let newest = self.api.store().revision();
        let fill = |text: &str| self.bindings.fill(text, newest);
        let mut request = http::Request::builder()
            .method(exchange.method.as_str())
            .uri(fill(&exchange.path).replace(' ', "%20"))
            .header("user-agent", "recorder/1.0");
        for (name, value) in &exchange.request_headers {
            request = request.header(name, fill(value));
        }
        let token = match exchange.who {
            Some(who) => who.token(),
            None => Some(ADMINISTRATOR),
        };
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(fill(&exchange.body))))
            .expect("a request");
        let response = match self.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let headers = COMPARED.iter().filter_map(|name| {
            let value = response.headers().get(*name)?.to_str().ok()?;
            Some((*name, value.to_owned()))
        });
        let headers = headers.collect();
        let warnings = response.headers().get_all("warning");
        Answer {
            code: response.status().as_u16(),
            headers,
            warnings: warnings
                .iter()
                .map(|w| w.to_str().expect("text").to_owned())
                .collect(),
            body: response.into_body(),
        }
    }

    /// One exchange: sent, and compared at once unless it is a watch that others run beside.
    async fn exchange(&mut self, exchange: &Exchange) {
        let answer = self.send(exchange).await;
        if !exchange.response_body.is_array() {
            let differences = self.compared(exchange, answer).await;
            self.note(&exchange.id, differences);
            return;
        }
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(pump(answer.body, sender));
        self.open.push(Open {
            exchange: exchange.clone(),
            code: answer.code,
            lines,
        });
        if exchange.requests_while_open.is_empty() {
            self.close(&exchange.id).await;
        }
    }

    /// Repeats an exchange after every change of the store until it is what was recorded.
    async fn exchange_when_ready(&mut self, exchange: &Exchange) {
        let store = self.api.store().clone();
        let mut news = store
            .watch("/", store.revision())
            .expect("the present can be watched");
        let until = tokio::time::Instant::now() + GUARD;
        loop {
            let learned = self.bindings.clone();
            let answer = self.send(exchange).await;
            let differences = self.compared(exchange, answer).await;
            let again = !differences.is_empty()
                && tokio::time::timeout_at(until, news.next()).await.is_ok();
            if !again {
                self.note(&exchange.id, differences);
                return;
            }
            self.bindings = learned;
        }
    }

    /// Waits until every namespace has what the controllers give it.
    async fn settle(&self) {
        self.until(|store| {
            let count = |prefix: &str| store.list(prefix).0.len();
            let namespaces = count("/core/namespaces/");
            count("/core/serviceaccounts/") >= namespaces
                && count("/core/configmaps/") >= namespaces
        })
        .await;
    }

    /// Waits until the status of every running Job tells of its Pod.
    async fn settle_jobs(&self) {
        self.until(|store| {
            let (jobs, _) = store.list("/batch/jobs/");
            jobs.iter().all(|job| {
                let suspended = job.value["spec"]["suspend"] == true;
                suspended || job.value["status"]["active"] == 1
            })
        })
        .await;
    }

    /// What happened on the recorded cluster before an exchange.
    async fn before(&self, exchange: &Exchange) {
        if exchange.id == "page-expired" {
            let store = self.api.store();
            store.compact(store.revision()).await.expect("compaction");
        }
    }

    /// What happened after one: other programs of the recorded cluster did their work.
    async fn after(
        &mut self,
        exchange: &Exchange,
        exchanges: &[Exchange],
        kubelet: &Kubelet,
        time: &AtomicI64,
    ) {
        let find = |id: &str| {
            let found = exchanges.iter().find(|exchange| exchange.id == id);
            found.expect("a recorded exchange")
        };
        match exchange.id.as_str() {
            "ns-create" => self.settle().await,
            "log-pod3" => {
                for (pod, answer) in [
                    ("lg2", "pod-delete-running"),
                    ("lg3", "pod-delete-force"),
                    ("lg1", "pod-get-succeeded"),
                ] {
                    if pod == "lg1" {
                        time.fetch_add(1, Ordering::Relaxed);
                    }
                    let status = &find(answer).response_body["status"];
                    kubelet.run(self, pod, status).await;
                }
            }
            "job-jd-pods" | "job-jo-pods" => self.settle_jobs().await,
            "log-pod4" => {
                let mut status = find("pod-get-succeeded").response_body["status"].clone();
                status["podIP"] = "<ip:6>".into();
                status["podIPs"] = serde_json::json!([{"ip": "<ip:6>"}]);
                // It has ended, and its kubelet has not yet said so of the Pod.
                status["phase"] = "Running".into();
                self.printing = kubelet.run(self, "lg4", &status).await;
            }
            _ => {}
        }
    }

    async fn until(&self, holds: impl Fn(&Store) -> bool) {
        let store = self.api.store().clone();
        let mut news = store
            .watch("/", store.revision())
            .expect("the present can be watched");
        while !holds(&store) {
            let next = tokio::time::timeout(GUARD, news.next()).await;
            next.expect("the controllers are at work")
                .expect("the store is open");
        }
    }

    async fn compared(&mut self, exchange: &Exchange, answer: Answer) -> Vec<String> {
        if exchange.id == "log-follow"
            && let Some((mut log, rest)) = self.printing.take()
        {
            for line in rest {
                let written = log.append(jiff::Timestamp::now(), Source::Stdout, line.as_bytes());
                written.await.expect("a log that can be written");
            }
        }
        let mut differences = Vec::new();
        if answer.code != exchange.status {
            differences.push(format!(
                "code {} instead of {}",
                answer.code, exchange.status
            ));
        }
        if answer.warnings != exchange.warnings() {
            differences.push(format!("warnings {:?}", answer.warnings));
        }
        for name in COMPARED {
            let recorded = exchange.response_headers.get(name).cloned();
            let actual = answer
                .headers
                .get(name)
                .map(|value| Value::from(value.as_str()));
            let (recorded, actual) = (recorded.unwrap_or_default(), actual.unwrap_or_default());
            let header = self.bindings.compare(&recorded, &actual);
            differences.extend(header.into_iter().map(|why| format!("{name}{why}")));
        }
        let read = tokio::time::timeout(GUARD, answer.body.collect()).await;
        let bytes = match read {
            Ok(Ok(collected)) => collected.to_bytes(),
            other => return vec![format!("the body does not end: {:?}", other.is_err())],
        };
        let actual = match &exchange.response_body {
            Value::String(_) => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
            _ => serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned())),
        };
        differences.extend(self.bindings.compare(&exchange.response_body, &actual));
        differences
    }

    /// The end of a watch: what it has sent by now.
    async fn close(&mut self, id: &str) {
        let Some(at) = self.open.iter().position(|open| open.exchange.id == id) else {
            return;
        };
        let mut open = self.open.remove(at);
        let expected = open.exchange.events_to_wait_for();
        let mut events = Vec::new();
        let mut differences = Vec::new();
        loop {
            if events.len() >= expected && !open.exchange.closed_by_server() {
                break;
            }
            match tokio::time::timeout(GUARD, open.lines.recv()).await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => {
                    differences.push("the watch waits for more".to_owned());
                    break;
                }
            }
        }
        while let Ok(event) = open.lines.try_recv() {
            events.push(event);
        }
        if open.code != open.exchange.status {
            differences.push(format!(
                "code {} instead of {}",
                open.code, open.exchange.status
            ));
        }
        differences.extend(
            self.bindings
                .compare(&open.exchange.response_body, &Value::from(events)),
        );
        self.note(id, differences);
    }

    fn note(&mut self, id: &str, differences: Vec<String>) {
        if !differences.is_empty() {
            self.differences.insert(id.to_owned(), differences);
        }
    }
}

/// Reads a stream of JSON lines.
async fn pump(mut body: Body, lines: mpsc::UnboundedSender<Value>) {
    let mut rest = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let value = serde_json::from_slice(&line).unwrap_or_default();
            if lines.send(value).is_err() {
                return;
            }
        }
    }
    if let Ok(value) = serde_json::from_slice(&rest) {
        let _ = lines.send(value);
    }
}

/// `ID PATTERN => reason` lines; `#` begins a comment.
fn known() -> BTreeMap<&'static str, Regex> {
    KNOWN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (id, pattern) = line
                .split_once(" => ")
                .and_then(|(known, _reason)| known.split_once(' '))
                .expect(line);
            (id, Regex::new(pattern).expect(line))
        })
        .collect()
}

/// The watches that end after an exchange.
fn ends_of_watches(exchanges: &[Exchange]) -> HashMap<&str, Vec<&str>> {
    let mut ends: HashMap<&str, Vec<&str>> = HashMap::new();
    for exchange in exchanges {
        if let Some(last) = exchange.requests_while_open.last() {
            ends.entry(last).or_default().push(&exchange.id);
        }
    }
    ends
}

/// The recording of a script, in a cluster that serves the definitions of this project.
async fn run_script(namespace: &str, exchanges: &[Exchange]) -> BTreeMap<String, Vec<String>> {
    let (cluster, side) = Side::embedded().await.expect("a cluster starts");
    let made = side.make_namespace(namespace).await;
    made.expect("a namespace of its own");
    let mut replay = Replay::new(cluster.api().for_token_holders());
    let mut ends = ends_of_watches(exchanges);
    for exchange in exchanges {
        if exchange.before.is_some() {
            replay.exchange_when_ready(exchange).await;
        } else {
            replay.exchange(exchange).await;
        }
        for watch in ends.remove(exchange.id.as_str()).unwrap_or_default() {
            replay.close(watch).await;
        }
    }
    cluster.shutdown().await;
    replay.differences
}

/// The ids of a script's requests, in the order of its recording.
fn ids(name: &str, steps: &[Step]) -> Vec<String> {
    let each = steps.iter().flat_map(|step| {
        let during = step.during.as_deref().unwrap_or_default();
        std::iter::once(format!("{name}/{}", step.id)).chain(ids(name, during))
    });
    each.collect()
}

/// The recordings of the scripts: namespace and exchanges.
fn recorded_scripts() -> Vec<(String, Vec<Exchange>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = std::fs::read_dir(folder.join("scripts")).expect("scripts");
    let mut scripts: Vec<PathBuf> = scripts.map(|entry| entry.expect("a file").path()).collect();
    scripts.sort();
    let read = scripts.iter().map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let text = std::fs::read_to_string(path).expect("a script");
        let script = Script::parse(&text).expect("a script");
        let recording = folder.join("recorded").join(format!("{name}.jsonl"));
        let lines = std::fs::read_to_string(&recording).unwrap_or_default();
        let exchanges = load(&lines).expect("a recording");
        let recorded: Vec<&String> = exchanges.iter().map(|exchange| &exchange.id).collect();
        assert!(
            ids(&name, &script.requests).iter().eq(recorded),
            "{} is not of {}: record it again (README.md)",
            recording.display(),
            path.display()
        );
        (script.namespace, exchanges)
    });
    read.collect()
}

async fn run(exchanges: &[Exchange]) -> BTreeMap<String, Vec<String>> {
    let directory = tempfile::tempdir().expect("a directory");
    let time = Arc::new(AtomicI64::new(jiff::Timestamp::now().as_second()));
    let now = time.clone();
    let logs = LogStore::open(directory.path().join("logs")).expect("a directory for logs");
    let options = || Options {
        data_dir: Some(directory.path().to_owned()),
        listen: Some(0),
        logs: Some(logs.clone()),
        tokens: tokens(),
        clock: {
            let now = now.clone();
            Arc::new(move || {
                jiff::Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap_or_default()
            })
        },
        ..Options::default()
    };
    // The real one had a past, and part of it was compacted away.
    let first = Cluster::start(options()).await.expect("a cluster starts");
    let past = Replay::new(first.api());
    past.settle().await;
    let store = past.api.store();
    store.compact(store.revision()).await.expect("compaction");
    first.shutdown().await;
    drop(past);
    let cluster = Cluster::start(options())
        .await
        .expect("a cluster starts again");
    let mut replay = Replay::new(cluster.api().for_token_holders());
    let kubelet = Kubelet {
        api: cluster.api(),
        logs: logs.clone(),
    };
    let mut ends = ends_of_watches(exchanges);
    for exchange in exchanges {
        replay.before(exchange).await;
        if exchange.before.is_some() {
            replay.exchange_when_ready(exchange).await;
        } else {
            replay.exchange(exchange).await;
        }
        replay.after(exchange, exchanges, &kubelet, &time).await;
        // The recorder waited about here, and made the other requests within one second.
        if exchange.before.is_some() || exchange.stream_closed.is_some() {
            time.fetch_add(1, Ordering::Relaxed);
        }
        for watch in ends.remove(exchange.id.as_str()).unwrap_or_default() {
            replay.close(watch).await;
        }
    }
    let differences = replay.differences;
    cluster.shutdown().await;
    differences
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_a_real_api_server() {
    let mut exchanges = load(REQUESTS).expect("a recording");
    let mut differences = run(&exchanges).await;
    for (namespace, of_script) in recorded_scripts() {
        differences.extend(run_script(&namespace, &of_script).await);
        exchanges.extend(of_script);
    }
    let known = known();
    let mut groups: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for exchange in &exchanges {
        let group = groups.entry(&exchange.group).or_default();
        group.0 += usize::from(!differences.contains_key(&exchange.id));
        group.1 += 1;
    }
    println!(
        "{} of {} exchanges match",
        exchanges.len() - differences.len(),
        exchanges.len()
    );
    for (group, (same, all)) in groups {
        println!("  {group}: {same} of {all}");
    }
    // What docs/conformance.md promises.
    let same = exchanges.len() - differences.len();
    assert!(
        same * 100 >= exchanges.len() * 95,
        "{same} of {}",
        exchanges.len()
    );
    for promise in [
        format!(
            "- {} requests and their answers were recorded",
            exchanges.len()
        ),
        format!("{} of them are answered otherwise", known.len()),
    ] {
        assert!(
            CONFORMANCE.contains(&promise),
            "docs/conformance.md does not say: {promise}"
        );
    }
    let mut wrong = Vec::new();
    for (id, why) in &differences {
        let known = known.get(id.as_str());
        let is_new = |why: &&String| known.is_none_or(|known| !known.is_match(why));
        let new: Vec<&str> = why.iter().filter(is_new).map(String::as_str).collect();
        if !new.is_empty() {
            wrong.push(format!("{id} differs:\n    {}", new.join("\n    ")));
        }
    }
    for id in known.keys().filter(|id| !differences.contains_key(**id)) {
        wrong.push(format!("{id} is listed as a known difference and matches"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
