//! `watch`: a stream of changes as lines of JSON.
//!
//! Each stream holds a cursor into the store and the lines of one step, nothing more; it advances when
//! the connection takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep_until};

use super::accept::Shape;
use super::body::{Body, stream};
use super::fields::Selection;
use super::query::{Start, WatchOptions};
use super::read::{kept_as_shown, shown, view};
use super::respond::{Rendering, response};
use super::{Call, Inner, broken, prefix};
use crate::kinds::Kind;
use crate::status::Failure;
use crate::store::{Change, Revised, StoreError, Watcher};

/// Bookmarks come this often, and this long before the end of a watch with a time limit.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Objects encoded at once; bounds what a stream holds that nobody reads.
const STEP: usize = 256;

/// A watch ends by itself after half an hour to an hour.
const LONGEST: u64 = 1800;

impl Call {
    pub(super) fn watch(self) -> Result<Response<Body>, Failure> {
        let options = WatchOptions::read(&self.query)?;
        let selection = self.selection()?;
        let prefix = prefix(&self.kind, self.namespace());
        let store = self.api.store.clone();
        let mut lines = VecDeque::new();
        let mut initial = VecDeque::new();
        let mut initial_end = None;
        let encoder = Encoder {
            kind: self.kind.clone(),
            rendering: self.rendering.clone(),
            selection,
            columns: true,
        };
        let from = match options.start {
            Start::After(u64::MAX) => store.revision(),
            Start::After(revision) => revision,
            Start::State => {
                let (objects, revision) = store.list(&prefix);
                initial.extend(objects);
                revision
            }
            Start::Initial(at_least) => {
                self.not_in_future(at_least)?;
                let (objects, revision) = store.list(&prefix);
                initial.extend(objects);
                if options.bookmarks {
                    initial_end = Some(revision);
                }
                revision
            }
        };
        let watcher = match store.watch(&prefix, from) {
            Ok(watcher) => Some(watcher),
            Err(StoreError::Compacted { asked, oldest }) => {
                lines.push_back(error_line(&Failure::too_old_resource_version(
                    asked, oldest,
                )));
                None
            }
            Err(error) => return Err(broken(&error)),
        };
        let seconds = options.timeout.unwrap_or_else(|| {
            let spread = (self.api.entropy)() % u128::from(LONGEST);
            LONGEST + u64::try_from(spread).unwrap_or(0)
        });
        let now = Instant::now();
        let stream_state = Watch {
            next_bookmark: next_bookmark(options, now, seconds),
            end: now + Duration::from_secs(seconds),
            sent: from,
            kinds: self.api.kinds_changed.subscribe(),
            api: self.api,
            watcher,
            encoder,
            initial,
            initial_end,
            lines,
        };
        let pieces = futures::stream::unfold(stream_state, |mut state| async move {
            let piece = state.next().await?;
            Some((Ok(piece), state))
        });
        Ok(response(200, "application/json", stream(pieces)))
    }
}

fn next_bookmark(options: WatchOptions, now: Instant, seconds: u64) -> Option<Instant> {
    let before_end = Duration::from_secs(seconds).saturating_sub(BOOKMARK_BEFORE_END);
    (options.bookmarks && !before_end.is_zero()).then(|| now + before_end.min(BOOKMARK_EVERY))
}

/// An open watch.
struct Watch {
    api: Arc<Inner>,
    watcher: Option<Watcher>,
    encoder: Encoder,
    lines: VecDeque<Bytes>,
    /// Objects of the state it begins with, shared with the store until they are sent.
    initial: VecDeque<Arc<Revised>>,
    /// Revision of the bookmark behind them.
    initial_end: Option<u64>,
    kinds: channel::Receiver<u64>,
    end: Instant,
    next_bookmark: Option<Instant>,
    /// The revision that the client knows of.
    sent: u64,
}

enum News {
    Changes(Result<Vec<Arc<Change>>, StoreError>),
    Kinds,
    Bookmark,
    End,
}

impl Watch {
    /// The next piece of the body, or the end of it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.lines.is_empty() {
                let mut piece = Vec::new();
                for line in self.lines.drain(..) {
                    piece.extend_from_slice(&line);
                }
                return Some(piece.into());
            }
            if !self.initial.is_empty() || self.initial_end.is_some() {
                self.encode_initial();
                continue;
            }
            let watcher = self.watcher.as_mut()?;
            let bookmark = self.next_bookmark;
            let news = tokio::select! {
                biased;
                changes = watcher.next() => News::Changes(changes),
                changed = self.kinds.changed() => {
                    if changed.is_err() { News::End } else { News::Kinds }
                }
                () = sleep_until(self.end) => News::End,
                () = sleep_until(bookmark.unwrap_or(self.end)), if bookmark.is_some() => News::Bookmark,
            };
            match news {
                News::Changes(Ok(changes)) => self.encode(&changes),
                News::Changes(Err(StoreError::Compacted { asked, oldest })) => {
                    let failure = Failure::too_old_resource_version(asked, oldest);
                    self.fail(&failure);
                }
                News::Kinds => {
                    let kind = &self.encoder.kind;
                    let served = self
                        .api
                        .registry
                        .lookup(&kind.group, &kind.version, &kind.plural);
                    if served.is_none() {
                        self.drain().await;
                        self.watcher = None;
                    }
                }
                News::Bookmark => {
                    self.next_bookmark = bookmark.map(|at| at + BOOKMARK_EVERY);
                    let revision = watcher.revision();
                    if revision > self.sent && revision != u64::MAX {
                        self.sent = revision;
                        match self.encoder.bookmark(revision, false) {
                            Ok(line) => self.lines.push_back(line),
                            Err(failure) => self.fail(&failure),
                        }
                    }
                }
                News::End | News::Changes(Err(_)) => return None,
            }
        }
    }

    /// The next objects of the state that the watch begins with.
    fn encode_initial(&mut self) {
        for object in self.initial.drain(..self.initial.len().min(STEP)) {
            match self.encoder.initial(&object) {
                Ok(Some(line)) => self.lines.push_back(line),
                Ok(None) => {}
                Err(failure) => {
                    self.lines.push_back(error_line(&failure));
                    self.watcher = None;
                    break;
                }
            }
        }
        if self.watcher.is_none() {
            self.initial.clear();
            self.initial_end = None;
        } else if self.initial.is_empty()
            && let Some(revision) = self.initial_end.take()
        {
            match self.encoder.bookmark(revision, true) {
                Ok(line) => self.lines.push_back(line),
                Err(failure) => self.fail(&failure),
            }
        }
    }

    fn encode(&mut self, changes: &[Arc<Change>]) {
        for change in changes {
            match self.encoder.change(change) {
                Ok(Some(line)) => self.lines.push_back(line),
                Ok(None) => {}
                Err(failure) => return self.fail(&failure),
            }
        }
    }

    /// The last changes of a kind that is no longer served.
    async fn drain(&mut self) {
        let Some(watcher) = self.watcher.as_mut() else {
            return;
        };
        if let Ok(changes) = watcher.ready().await {
            self.encode(&changes);
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.lines.push_back(error_line(failure));
        self.watcher = None;
    }
}

/// Turns changes into the lines of one client.
struct Encoder {
    kind: Arc<Kind>,
    rendering: Rendering,
    selection: Selection,
    /// Whether the next table still needs its column definitions.
    columns: bool,
}

impl Encoder {
    /// `ADDED` for an object that was there at the start.
    fn initial(&mut self, object: &Revised) -> Result<Option<Bytes>, Failure> {
        let selected = self
            .selection
            .matches(&self.kind, &view(&self.kind, object));
        selected.then(|| self.object("ADDED", object)).transpose()
    }

    fn change(&mut self, change: &Change) -> Result<Option<Bytes>, Failure> {
        let selected = |object: &Revised| {
            self.selection
                .matches(&self.kind, &view(&self.kind, object))
        };
        let before = change.previous.as_deref().is_some_and(&selected);
        let after = !change.deleted && selected(&change.object);
        let name = match (before, after) {
            (false, false) => return Ok(None),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        if name != "DELETED" || change.deleted {
            return self.object(name, &change.object).map(Some);
        }
        let Some(previous) = change.previous.as_deref() else {
            return Ok(None);
        };
        let mut left = shown(&self.kind, previous);
        left["metadata"]["resourceVersion"] = change.object.revision.to_string().into();
        self.event(name, &left).map(Some)
    }

    fn object(&mut self, name: &str, object: &Revised) -> Result<Bytes, Failure> {
        if !kept_as_shown(&self.kind) || self.rendering.accept.shape != Shape::Whole {
            return self.event(name, &shown(&self.kind, object));
        }
        let json = object.json();
        let mut line = Vec::with_capacity(json.len() + 32);
        line.extend_from_slice(b"{\"type\":\"");
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"\",\"object\":");
        line.extend_from_slice(json);
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    }

    fn event(&mut self, name: &str, object: &Value) -> Result<Bytes, Failure> {
        let shaped = self.rendering.shaped(&self.kind, object, self.columns)?;
        self.columns = false;
        Ok(line(name, &shaped))
    }

    fn bookmark(&mut self, revision: u64, initial: bool) -> Result<Bytes, Failure> {
        let mut object = json!({
            "kind": self.kind.kind,
            "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.event("BOOKMARK", &object)
    }
}

fn error_line(failure: &Failure) -> Bytes {
    line("ERROR", &failure.to_value())
}

fn line(name: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": name, "object": object}).to_string();
    text.push('\n');
    text.into()
}
