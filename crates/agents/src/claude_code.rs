//! Claude Code, as version 2.1 does it: `claude --print --output-format stream-json --verbose` prints one object a line.
//!
//! A model's answer comes as several lines `assistant` with one message id; answers of tools are lines `user`; the last
//! line is `result`, with the totals. Lines of a subagent have a `parent_tool_use_id`: they are part of one call.

use serde_json::Value;

use crate::{
    Change, Dollars, Ended, Event, Failure, Profile, ToolOutcome, Usage,
    json::{first_text, number, some_text, text},
    reader::ReadLine,
};

/// Claude Code.
pub(crate) const PROFILE: Profile = Profile {
    name: "ClaudeCode",
    program: "claude",
    in_tools: false,
    arguments: &[
        "--print",
        "--output-format",
        "stream-json",
        "--verbose",
        "--dangerously-skip-permissions",
        // A repository's .claude/settings.json could send the key to a server of its own, and its hooks and MCP servers are
        // run with all the variables. What it has to say to a model comes in by the variable below.
        "--setting-sources",
        "user",
        "--add-dir",
        ".",
    ],
    asks_for_events: &[
        &["--output-format", "stream-json"],
        &["--output-format=stream-json"],
    ],
    variables: &[
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        // As root it refuses to work without questions, unless told that it is in a sandbox.
        ("IS_SANDBOX", "1"),
    ],
    configuration: &[],
    holds: &["steps", "tokens"],
    install: "npm install -g @anthropic-ai/claude-code",
    packaged: &[
        "@anthropic-ai/claude-code-linux-{npm}/claude",
        "@anthropic-ai/claude-code-linux-{npm}-musl/claude",
    ],
    reader: || Box::<Lines>::default(),
};

/// What stands in the answer of a tool that may not be used.
const REFUSED: [&str; 2] = ["requested permissions", "Permission to use"];

#[derive(Default)]
struct Lines {
    /// Id of the message that is being told.
    message: Option<String>,
}

impl ReadLine for Lines {
    fn read(&mut self, line: &Value, each: &mut dyn FnMut(Event)) {
        if !line["parent_tool_use_id"].is_null() {
            return;
        }
        match line["type"].as_str() {
            Some("system") => system(line, each),
            Some("assistant") => self.assistant(&line["message"], each),
            Some("user") => tool_results(&line["message"], each),
            Some("result") => result(line, each),
            _ => {}
        }
    }
}

impl Lines {
    fn assistant(&mut self, message: &Value, each: &mut dyn FnMut(Event)) {
        let id = some_text(&message["id"]);
        // It makes messages of its own for what went wrong; no model was asked for them.
        if message["model"] == "<synthetic>" {
            return;
        }
        if id.is_none() || id != self.message {
            self.message = id;
            each(Event::StepBegan);
            // How it ended is not known yet, only what it used; the last line says how all of it ended.
            each(Event::StepEnded {
                ended: Ended::ForATool,
                usage: usage(&message["usage"]),
            });
        }
        for part in message["content"].as_array().into_iter().flatten() {
            match part["type"].as_str() {
                Some("text") => each(Event::Message(text(&part["text"]))),
                Some("thinking") => each(Event::Thought(text(&part["thinking"]))),
                Some("tool_use") => {
                    let input = &part["input"];
                    each(Event::ToolCalled {
                        id: text(&part["id"]),
                        tool: text(&part["name"]),
                        about: about(input),
                        change: change(input),
                    });
                }
                _ => {}
            }
        }
    }
}

fn system(line: &Value, each: &mut dyn FnMut(Event)) {
    match line["subtype"].as_str() {
        Some("init") => {
            if let Some(session) = some_text(&line["session_id"]) {
                each(Event::Session(session));
            }
        }
        Some("api_retry") => {
            let why = some_text(&line["error"]).unwrap_or_else(|| "the request failed".to_owned());
            each(Event::Notice(format!("asking the model again: {why}")));
        }
        _ => {}
    }
}

fn tool_results(message: &Value, each: &mut dyn FnMut(Event)) {
    for part in message["content"].as_array().into_iter().flatten() {
        if part["type"] != "tool_result" {
            continue;
        }
        let output = content(&part["content"]);
        let outcome = match part["is_error"].as_bool() {
            Some(true) if REFUSED.iter().any(|words| output.contains(words)) => {
                ToolOutcome::Refused
            }
            Some(true) => ToolOutcome::Failed,
            _ => ToolOutcome::Done(None),
        };
        each(Event::ToolEnded {
            id: text(&part["tool_use_id"]),
            outcome,
            output,
        });
    }
}

/// A text, or a list of parts of which some are texts.
fn content(content: &Value) -> String {
    let parts = content.as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| part["text"].as_str());
    content
        .as_str()
        .map_or_else(|| texts.collect::<Vec<_>>().join("\n"), str::to_owned)
}

fn result(line: &Value, each: &mut dyn FnMut(Event)) {
    let total = Usage {
        cost: line["total_cost_usd"]
            .as_f64()
            .and_then(Dollars::from_number),
        ..usage(&line["usage"])
    };
    let usage = line["usage"].is_object().then_some(total);
    let subtype = text(&line["subtype"]);
    let ended = match subtype.strip_prefix("error_") {
        Some(why) => Ended::Because(why.to_owned()),
        None => match line["stop_reason"].as_str() {
            Some("end_turn" | "stop_sequence") | None => Ended::ByItself,
            Some(other) => Ended::Because(other.to_owned()),
        },
    };
    each(Event::Finished { ended, usage });
    if line["is_error"] == true {
        let errors = line["errors"].as_array().into_iter().flatten();
        let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
        let message = some_text(&line["result"]).unwrap_or_else(|| errors.join("; "));
        let message = if message.is_empty() { subtype } else { message };
        each(Event::Failed(Failure::of(
            line["api_error_status"].as_u64(),
            &message,
        )));
    }
}

fn about(input: &Value) -> String {
    first_text(
        input,
        &[
            "command",
            "file_path",
            "description",
            "pattern",
            "url",
            "query",
            "path",
            "notebook_path",
        ],
    )
}

fn change(input: &Value) -> Option<Change> {
    let path = some_text(&input["file_path"])?;
    let after = input["new_string"].as_str().or(input["content"].as_str())?;
    Some(Change {
        path,
        before: text(&input["old_string"]),
        after: after.to_owned(),
    })
}

fn usage(usage: &Value) -> Usage {
    Usage {
        input: number(&usage["input_tokens"])
            .saturating_add(number(&usage["cache_creation_input_tokens"])),
        output: number(&usage["output_tokens"]),
        cached: number(&usage["cache_read_input_tokens"]),
        cost: None,
    }
}
