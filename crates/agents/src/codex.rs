//! Codex, as version 0.169 does it: `codex exec --json` prints one object a line.
//!
//! A thread has turns, a turn has items: commands, changes of files, messages. It does not tell how often the model was
//! asked: each item that is not a thought counts as a step. It knows no prices.

use serde_json::Value;

use crate::{
    Ended, Event, Failure, Profile, ToolOutcome, Usage,
    json::{first_text, number, some_text, text},
    reader::ReadLine,
    recent::Recent,
};

/// Codex.
pub(crate) const PROFILE: Profile = Profile {
    name: "Codex",
    program: "codex",
    in_tools: false,
    arguments: &[
        "exec",
        "--json",
        "--dangerously-bypass-approvals-and-sandbox",
        "--skip-git-repo-check",
        "-",
    ],
    asks_for_events: &[&["--json"]],
    variables: &[],
    holds: &["steps"],
    tells_its_end: true,
    install: "npm install -g @openai/codex",
    packaged: &["@openai/codex-linux-{npm}/vendor/{rust}-unknown-linux-musl/bin/codex"],
    reader: || Box::<Lines>::default(),
};

#[derive(Default)]
struct Lines {
    /// The items that were begun and have not ended, of which there may be several: their end must not call them once more.
    begun: Recent<()>,
}

impl ReadLine for Lines {
    fn read(&mut self, line: &Value, each: &mut dyn FnMut(Event)) {
        match line["type"].as_str() {
            Some("thread.started") => {
                if let Some(thread) = some_text(&line["thread_id"]) {
                    each(Event::Session(thread));
                }
            }
            Some("item.started") => self.started(&line["item"], each),
            Some("item.completed") => self.completed(&line["item"], each),
            Some("turn.completed") => each(Event::Finished {
                ended: Ended::ByItself,
                usage: line["usage"].is_object().then(|| usage(&line["usage"])),
            }),
            Some("turn.failed") => each(Event::Failed(failure(&line["error"]["message"]))),
            // It tries again, and says so in the same words; the turn says whether it gave up.
            Some("error") => each(Event::Notice(text(&line["message"]))),
            _ => {}
        }
    }
}

impl Lines {
    fn started(&mut self, item: &Value, each: &mut dyn FnMut(Event)) {
        if is_tool(item) {
            if let Some(id) = some_text(&item["id"]) {
                self.begun.of(&id);
            }
            called(item, each);
        }
    }

    fn completed(&mut self, item: &Value, each: &mut dyn FnMut(Event)) {
        match item["type"].as_str() {
            Some("agent_message") => {
                each(Event::StepBegan);
                each(Event::Message(text(&item["text"])));
            }
            Some("reasoning") => each(Event::Thought(text(&item["text"]))),
            Some("error") => each(Event::Notice(text(&item["message"]))),
            _ if is_tool(item) => {
                let id = some_text(&item["id"]);
                if id.and_then(|id| self.begun.take(&id)).is_none() {
                    called(item, each);
                }
                ended(item, each);
            }
            _ => {}
        }
    }
}

fn is_tool(item: &Value) -> bool {
    matches!(
        item["type"].as_str(),
        Some("command_execution" | "file_change" | "mcp_tool_call" | "web_search")
    )
}

fn called(item: &Value, each: &mut dyn FnMut(Event)) {
    let paths = item["changes"].as_array().into_iter().flatten();
    let paths: Vec<&str> = paths.filter_map(|change| change["path"].as_str()).collect();
    let about = if paths.is_empty() {
        first_text(item, &["command", "tool", "query"])
    } else {
        paths.join(", ")
    };
    each(Event::StepBegan);
    each(Event::ToolCalled {
        id: text(&item["id"]),
        tool: text(&item["type"]),
        about,
        change: None,
    });
}

fn ended(item: &Value, each: &mut dyn FnMut(Event)) {
    let exit = item["exit_code"].as_i64();
    let outcome = match item["status"].as_str() {
        Some("declined") => ToolOutcome::Refused,
        Some("failed") if exit.is_none() => ToolOutcome::Failed,
        _ => ToolOutcome::Done(exit),
    };
    each(Event::ToolEnded {
        id: text(&item["id"]),
        outcome,
        output: text(&item["aggregated_output"]),
    });
}

/// What came from the cache is among what went in.
fn usage(usage: &Value) -> Usage {
    let cached = number(&usage["cached_input_tokens"]);
    Usage {
        input: number(&usage["input_tokens"]).saturating_sub(cached),
        output: number(&usage["output_tokens"]),
        cached,
        cost: None,
    }
}

/// Its messages begin with the HTTP status where there was one: `unexpected status 401 Unauthorized: …`.
fn failure(message: &Value) -> Failure {
    let message = text(message);
    let status = message.split_once("status ").and_then(|(_, rest)| {
        rest.split(|letter: char| !letter.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    });
    Failure::of(status, &message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Facts, Reader};

    #[test]
    fn calls_that_run_at_the_same_time_count_once_each() {
        let (mut facts, mut reader) = (Facts::default(), Reader::new(&PROFILE));
        let line = |kind, id| json!({"type": kind, "item": {"id": id, "type": "command_execution", "command": "true"}});
        for line in [
            line("item.started", "a"),
            line("item.started", "b"),
            line("item.completed", "a"),
            line("item.completed", "b"),
            // It was never told that this one began.
            line("item.completed", "c"),
        ] {
            reader.feed(format!("{line}\n").as_bytes(), |event| facts.note(&event));
        }
        assert_eq!((facts.steps, facts.tools), (3, 3));
    }
}
