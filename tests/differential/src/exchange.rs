//! An exchange: one request and what was answered, as a line of a recording.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::script::{Who, written_out};

/// One line. Texts have placeholders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Unique among all recordings.
    pub id: String,
    /// What it is about.
    pub group: String,
    /// What it shows.
    pub note: String,
    /// What the recorder waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Who asked, if not an administrator.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// GET, POST, …
    pub method: String,
    /// With the query.
    pub path: String,
    /// By name.
    pub request_headers: BTreeMap<String, String>,
    /// Null for none; a text was sent as it stands.
    pub request_body: Value,
    /// The status code.
    pub status: u16,
    /// `Warning` is a list, the others are texts.
    pub response_headers: BTreeMap<String, Value>,
    /// A text where it is no JSON, the list of its events for a watch.
    pub response_body: Value,
    /// Of a watch: what was asked while it was open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests_while_open: Vec<String>,
    /// Of a watch: who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_closed: Option<String>,
    /// The request's body as it is sent.
    #[serde(skip)]
    pub body: String,
}

/// The value of `stream_closed` where the server ended a watch.
pub const CLOSED_BY_SERVER: &str = "by server";

impl Exchange {
    /// Whether the server ended the watch.
    #[must_use]
    pub fn closed_by_server(&self) -> bool {
        self.stream_closed.as_deref() == Some(CLOSED_BY_SERVER)
    }

    /// How many events a watch must send before it can be closed: all but bookmarks at its end, which
    /// come when some time has passed.
    #[must_use]
    pub fn events_to_wait_for(&self) -> usize {
        let events = self.response_body.as_array().map_or(&[][..], Vec::as_slice);
        // The bookmark behind the first state is marked, in a Table on the object of its row.
        let marked = |object: &Value| !object["metadata"]["annotations"].is_null();
        let timed = |event: &&Value| {
            let object = &event["object"];
            event["type"] == "BOOKMARK" && !marked(object) && !marked(&object["rows"][0]["object"])
        };
        events.len() - events.iter().rev().take_while(timed).count()
    }

    /// The Warning headers.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let header = self.response_headers.get("Warning");
        let texts = header.and_then(Value::as_array).into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// Reads a recording of a script.
///
/// # Errors
/// A line is no exchange.
pub fn load(recording: &str) -> Result<Vec<Exchange>> {
    let lines = recording.lines().enumerate();
    let read = lines.map(|(index, line)| {
        let mut exchange: Exchange =
            serde_json::from_str(line).with_context(|| format!("line {}", index + 1))?;
        exchange.body = match &exchange.request_body {
            Value::Null => String::new(),
            Value::String(text) => written_out(text),
            object => written_out(&object.to_string()),
        };
        Ok(exchange)
    });
    read.collect()
}
