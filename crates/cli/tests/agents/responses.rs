//! `POST /v1/responses`, which Codex uses.

use serde_json::{Value, json};

use crate::model::{Protocol, Turn, named};

pub const PROTOCOL: Protocol = Protocol { turn, events };

fn turn(request: &Value) -> usize {
    let items = request["input"].as_array().into_iter().flatten();
    let answers = ["function_call_output", "custom_tool_call_output"];
    items
        .filter(|item| {
            item["type"]
                .as_str()
                .is_some_and(|kind| answers.contains(&kind))
        })
        .count()
}

fn events(index: usize, turn: &Turn, _: &Value) -> Vec<String> {
    let item = match turn {
        Turn::Runs(command) => json!({
            "type": "function_call", "id": format!("fc_{index}"), "call_id": format!("call_{index}"),
            "name": "exec_command", "arguments": json!({"cmd": command}).to_string(), "status": "completed",
        }),
        Turn::Says(text) => json!({
            "type": "message", "id": format!("m_{index}"), "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }),
        Turn::Fails(..) | Turn::Hangs | Turn::Breaks => return Vec::new(),
    };
    let response = |status: &str, output: Value, usage: Value| {
        json!({"response": {
            "id": format!("resp_{index}"), "object": "response", "status": status, "output": output, "usage": usage,
        }})
    };
    let usage = json!({
        "input_tokens": 140, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 147,
    });
    vec![
        named(
            "response.created",
            response("in_progress", json!([]), Value::Null),
        ),
        named(
            "response.output_item.added",
            json!({"output_index": 0, "item": item}),
        ),
        named(
            "response.output_item.done",
            json!({"output_index": 0, "item": item}),
        ),
        named(
            "response.completed",
            response("completed", json!([item]), usage),
        ),
    ]
}
