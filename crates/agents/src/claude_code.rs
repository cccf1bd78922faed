//! Claude Code, as version 2.1 does it: `claude --print --output-format stream-json --verbose` prints one object a line.
//!
//! A model's answer comes as several lines `assistant` with one message id; answers of tools are lines `user`; the last
//! line is `result`, with the totals. Lines of a subagent have a `parent_tool_use_id`: what it says and calls is part of one
//! call, but its model is asked and used as any.

use serde_json::Value;

use crate::{
    Change, Dollars, Ended, Event, Failure, Profile, ToolOutcome, Usage,
    json::{first_text, number, some_text, text},
    reader::ReadLine,
    recent::Recent,
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
    holds: &["steps", "tokens"],
    tells_its_end: true,
    install: "npm install -g @anthropic-ai/claude-code",
    packaged: &[
        "@anthropic-ai/claude-code-linux-{npm}/claude",
        "@anthropic-ai/claude-code-linux-{npm}-musl/claude",
    ],
    reader: || Box::<Lines>::default(),
};

/// How the answer of a tool that may not be used begins, and what stands further on in it: `Permission to use Bash has been
/// denied.` What a tool itself says of permissions, and a file that has such words, is no refusal.
const REFUSED: [(&str, &str); 3] = [
    // A command, where nobody is there to approve of it.
    ("This command requires approval", ""),
    ("Claude requested permissions to ", " granted it yet"),
    ("Permission to use ", " has been denied"),
];

fn is_refusal(output: &str) -> bool {
    let of = |(begin, further): &(&str, &str)| {
        let rest = output.strip_prefix(begin);
        rest.is_some_and(|rest| rest.lines().next().unwrap_or_default().contains(further))
    };
    REFUSED.iter().any(of)
}

/// What stands for a model where none was asked.
const SYNTHETIC: &str = "<synthetic>";

#[derive(Default)]
struct Lines {
    /// Of each that is at work, by the call that it works for (the agent itself for none): the message that is being told.
    /// Those of several come in turns.
    messages: Recent<Told>,
}

/// What has been told of a message of the model.
#[derive(Default)]
struct Told {
    id: Option<String>,
    /// Characters of what came out so far.
    characters: u64,
    /// Tokens that have been counted for that.
    output: u64,
}

/// A token has about so many characters.
const CHARACTERS: u64 = 4;

impl Told {
    /// How many more tokens came out with this content. Its lines repeat what the message began with, when next to nothing
    /// had come out; what there is since is known only when all has ended. Until then this is the least that it can be.
    fn more_output(&mut self, at_least: u64, content: &Value) -> u64 {
        let parts = content.as_array().into_iter().flatten();
        let characters = parts.map(characters).fold(0, u64::saturating_add);
        self.characters = self.characters.saturating_add(characters);
        let counted = (self.characters / CHARACTERS)
            .max(at_least)
            .max(self.output);
        counted - std::mem::replace(&mut self.output, counted)
    }
}

/// Of what the model wrote.
fn characters(part: &Value) -> u64 {
    let count = |text: &str| text.chars().count() as u64;
    match part["type"].as_str() {
        Some("text") => part["text"].as_str().map_or(0, count),
        Some("thinking") => part["thinking"].as_str().map_or(0, count),
        Some("tool_use") => count(&part["input"].to_string()),
        _ => 0,
    }
}

impl ReadLine for Lines {
    fn read(&mut self, line: &Value, each: &mut dyn FnMut(Event)) {
        if let Some(parent) = some_text(&line["parent_tool_use_id"]) {
            if line["type"] == "assistant" {
                self.step(&parent, &line["message"], each);
            }
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
    /// The model was asked once more, where this message is another one.
    fn step(&mut self, parent: &str, message: &Value, each: &mut dyn FnMut(Event)) {
        // It makes messages of its own for what went wrong; no model was asked for them.
        if message["model"] == SYNTHETIC {
            return;
        }
        let id = some_text(&message["id"]);
        let told = self.messages.of(parent);
        let mut used = usage(&message["usage"]);
        let is_new = id.is_none() || id != told.id;
        if is_new {
            *told = Told {
                id,
                characters: 0,
                output: 0,
            };
            each(Event::StepBegan);
        } else {
            used = Usage::default();
        }
        used.output = told.more_output(used.output, &message["content"]);
        if is_new || used != Usage::default() {
            // How it ended is not known yet, only what it used; the last line says how all of it ended.
            each(Event::StepEnded {
                ended: Ended::ForATool,
                usage: used,
            });
        }
    }

    fn assistant(&mut self, message: &Value, each: &mut dyn FnMut(Event)) {
        if message["model"] == SYNTHETIC {
            return;
        }
        self.step("", message, each);
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
            Some(true) if is_refusal(&output) => ToolOutcome::Refused,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Facts, Reader};

    fn facts(lines: &[Value]) -> Facts {
        let (mut facts, mut reader) = (Facts::default(), Reader::new(&PROFILE));
        for line in lines {
            reader.feed(format!("{line}\n").as_bytes(), |event| facts.note(&event));
        }
        facts
    }

    fn says(parent: Option<&str>, id: &str, content: &Value) -> Value {
        json!({
            "type": "assistant",
            "parent_tool_use_id": parent,
            "message": {
                "id": id,
                "model": "claude",
                "content": [content],
                "usage": {"input_tokens": 100, "output_tokens": 1},
            },
        })
    }

    #[test]
    fn what_a_tool_says_of_permissions_is_no_refusal() {
        let refused = |said: &str| {
            let content = json!([{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": said}]);
            facts(&[json!({"type": "user", "message": {"content": content}})]).refused
        };
        assert_eq!(refused("Permission to use Bash has been denied."), 1);
        assert_eq!(
            refused("Permission to use Bash with command rm -rf / has been denied."),
            1
        );
        let asked =
            "Claude requested permissions to write to /etc/x, but you haven't granted it yet.";
        assert_eq!(refused(asked), 1);
        assert_eq!(refused("This command requires approval"), 1);
        assert_eq!(refused("Exit code 1\nThis command requires approval"), 0);
        assert_eq!(
            refused("Exit code 1\ncurl: Permission to use this API has been denied"),
            0
        );
        assert_eq!(refused("Permission to use tty\nhas been denied"), 0);
        assert_eq!(refused("Exit code 1\nThe app requested permissions"), 0);
    }

    #[test]
    fn what_comes_out_counts_while_it_works_and_exactly_at_the_end() {
        let output = |lines: &[Value]| facts(lines).usage.map(|usage| usage.output);
        let text = |length| json!({"type": "text", "text": "ü".repeat(length)});
        let thought = json!({"type": "thinking", "thinking": "y".repeat(400)});
        let written =
            json!({"type": "tool_use", "id": "a", "name": "Write", "input": "z".repeat(398)});
        assert_eq!(output(&[says(None, "1", &text(3))]), Some(1), "as it says");
        let mut lines = vec![
            says(None, "1", &text(400)),
            says(None, "1", &thought),
            says(Some("one"), "2", &thought),
            says(None, "1", &written),
        ];
        assert_eq!(output(&lines), Some(400));
        lines
            .push(json!({"type": "result", "subtype": "success", "usage": {"output_tokens": 350}}));
        assert_eq!(output(&lines), Some(350));
    }

    #[test]
    fn what_subagents_ask_the_model_counts_and_what_they_say_does_not() {
        let text = json!({"type": "text", "text": "x"});
        let tool = json!({"type": "tool_use", "id": "a", "name": "Bash", "input": {}});
        let facts = facts(&[
            says(
                None,
                "main",
                &json!({"type": "tool_use", "id": "one", "name": "Task", "input": {}}),
            ),
            says(Some("one"), "1", &text),
            says(Some("two"), "2", &text),
            // The rest of messages that have been told of.
            says(Some("one"), "1", &tool),
            says(Some("two"), "2", &tool),
            says(Some("one"), "3", &text),
            says(None, "main", &text),
        ]);
        assert_eq!((facts.steps, facts.tools), (4, 1));
        assert_eq!(facts.message.as_deref(), Some("x"), "the agent's own");
        assert_eq!(facts.usage.map(|usage| usage.input), Some(400));
    }
}
