//! `POST /v1/messages`, which Claude Code uses.

use serde_json::{Value, json};

use crate::model::{Protocol, Turn, named};

pub const PROTOCOL: Protocol = Protocol { turn, events };

fn turn(request: &Value) -> usize {
    let messages = request["messages"].as_array().into_iter().flatten();
    let parts = messages.flat_map(|message| message["content"].as_array().into_iter().flatten());
    parts.filter(|part| part["type"] == "tool_result").count()
}

fn events(index: usize, turn: &Turn, request: &Value) -> Vec<String> {
    let (block, delta, stop) = match turn {
        Turn::Runs(command) => (
            json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": "Bash", "input": {}}),
            json!({
                "type": "input_json_delta",
                "partial_json": json!({"command": command, "description": "as the script says"}).to_string(),
            }),
            "tool_use",
        ),
        Turn::Says(text) => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": text}),
            "end_turn",
        ),
        Turn::Fails(..) | Turn::Hangs | Turn::Breaks => return Vec::new(),
    };
    let usage = json!({
        "input_tokens": 100, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 40,
    });
    let message = json!({
        "id": format!("msg_{index}"), "type": "message", "role": "assistant", "model": request["model"],
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    vec![
        named("message_start", json!({"message": message})),
        named(
            "content_block_start",
            json!({"index": 0, "content_block": block}),
        ),
        named("content_block_delta", json!({"index": 0, "delta": delta})),
        named("content_block_stop", json!({"index": 0})),
        named(
            "message_delta",
            json!({"delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 7}}),
        ),
        named("message_stop", json!({})),
    ]
}
