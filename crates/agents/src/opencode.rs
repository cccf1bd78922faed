//! OpenCode, as version 1.18 does it: `opencode run --format json` prints one object a line, each with `type`,
//! `sessionID`, and `part` or `error`.
//!
//! There is a line for a tool only when it has ended. What a subagent does is one call of the tool `task`; the tokens of
//! its session are not told.

use serde_json::Value;

use crate::{
    Change, Dollars, Ended, Event, Failure, FailureClass, Profile, ToolOutcome, Usage,
    json::{first_text, number, some_text, text},
    reader::ReadLine,
};

/// OpenCode.
pub(crate) const PROFILE: Profile = Profile {
    name: "OpenCode",
    program: "opencode",
    in_tools: true,
    // The prompt on standard input: an argument would be re-quoted, and ends at 128 KiB.
    arguments: &["run", "--format", "json"],
    asks_for_events: &[&["--format", "json"], &["--format=json"]],
    variables: &[
        ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
        ("OPENCODE_DISABLE_SHARE", "1"),
        // A repository's opencode.json could send the key of a provider to a server of its own, and its plugins are run
        // with all the variables.
        ("OPENCODE_DISABLE_PROJECT_CONFIG", "1"),
        // Where it would have to ask for a permission it gives up half-way, with exit code 0: so what it asks for unless told
        // otherwise is allowed. Not as `permission`, nor by the variable `OPENCODE_PERMISSION`: the last rule that matches
        // decides, and these are put after those that the operator has in a file. `tools` is put before them, and by names
        // that stand for doom_loop, external_directory and read: where the operator has rules for one of the same name,
        // they would be put in its place, before other rules of theirs.
        // And what a repository has to say to a model it would not look for either, without its configuration.
        (
            "OPENCODE_CONFIG_CONTENT",
            r#"{"autoupdate":false,"share":"disabled","tools":{"doom_*":true,"external_*":true,"read*":true},"instructions":["{env:WORKSPACE_DIR}/AGENTS.md","{env:WORKSPACE_DIR}/CLAUDE.md"]}"#,
        ),
    ],
    holds: &["steps", "tokens", "cost"],
    tells_its_end: false,
    install: "npm install -g opencode-ai",
    packaged: &[
        "opencode-linux-{npm}/bin/opencode",
        "opencode-linux-{npm}-baseline/bin/opencode",
        "opencode-linux-{npm}-musl/bin/opencode",
        "opencode-linux-{npm}-baseline-musl/bin/opencode",
    ],
    reader: || Box::<Lines>::default(),
};

/// What stands in the tool's error when a permission was refused: by a rule, or because nobody was there to ask.
const REFUSED: [&str; 2] = ["rejected permission", "prevents you from using"];

#[derive(Default)]
struct Lines {
    session_is_known: bool,
}

impl ReadLine for Lines {
    fn read(&mut self, line: &Value, each: &mut dyn FnMut(Event)) {
        let Some(kind) = line["type"].as_str() else {
            return;
        };
        if !self.session_is_known
            && let Some(session) = some_text(&line["sessionID"])
        {
            self.session_is_known = true;
            each(Event::Session(session));
        }
        let part = &line["part"];
        match kind {
            "step_start" => each(Event::StepBegan),
            "text" => each(Event::Message(text(&part["text"]))),
            "reasoning" => each(Event::Thought(text(&part["text"]))),
            "tool_use" => tool(part, each),
            "step_finish" => each(Event::StepEnded {
                ended: ended(&part["reason"]),
                usage: usage(part),
            }),
            "error" => each(Event::Failed(failure(&line["error"]))),
            _ => {}
        }
    }
}

fn tool(part: &Value, each: &mut dyn FnMut(Event)) {
    let (state, id) = (&part["state"], text(&part["callID"]));
    let input = &state["input"];
    each(Event::ToolCalled {
        id: id.clone(),
        tool: text(&part["tool"]),
        about: about(input),
        change: change(input),
    });
    let failed = state["status"] == "error" || part["tool"] == "invalid";
    let output = if state["status"] == "error" {
        text(&state["error"])
    } else {
        text(&state["output"])
    };
    let outcome = if failed && REFUSED.iter().any(|words| output.contains(words)) {
        ToolOutcome::Refused
    } else if failed {
        ToolOutcome::Failed
    } else {
        ToolOutcome::Done(state["metadata"]["exit"].as_i64())
    };
    each(Event::ToolEnded {
        id,
        outcome,
        output,
    });
}

fn about(input: &Value) -> String {
    first_text(
        input,
        &[
            "command",
            "filePath",
            "description",
            "pattern",
            "url",
            "path",
            "name",
            "error",
        ],
    )
}

fn change(input: &Value) -> Option<Change> {
    let path = some_text(&input["filePath"])?;
    let after = input["newString"].as_str().or(input["content"].as_str())?;
    Some(Change {
        path,
        before: text(&input["oldString"]),
        after: after.to_owned(),
    })
}

fn ended(reason: &Value) -> Ended {
    match reason.as_str().unwrap_or("unknown") {
        "stop" => Ended::ByItself,
        "tool-calls" => Ended::ForATool,
        other => Ended::Because(other.to_owned()),
    }
}

/// Where its table has no price for a model, it says 0, which is not known.
fn usage(part: &Value) -> Usage {
    let tokens = &part["tokens"];
    Usage {
        input: number(&tokens["input"]).saturating_add(number(&tokens["cache"]["write"])),
        output: number(&tokens["output"]).saturating_add(number(&tokens["reasoning"])),
        cached: number(&tokens["cache"]["read"]),
        cost: part["cost"]
            .as_f64()
            .filter(|cost| *cost > 0.0)
            .and_then(Dollars::from_number),
    }
}

fn failure(error: &Value) -> Failure {
    let data = &error["data"];
    let name = text(&error["name"]);
    let message = some_text(&data["message"]).unwrap_or_else(|| name.clone());
    let mut failure = Failure::of(data["statusCode"].as_u64(), &message);
    // Its own names say more than the words of a server.
    match name.as_str() {
        "ProviderAuthError" => failure.class = FailureClass::Authentication,
        "ProviderModelNotFoundError" => failure.class = FailureClass::ModelNotFound,
        "ContextOverflowError" => failure.class = FailureClass::ContextOverflow,
        _ => {}
    }
    failure
}
