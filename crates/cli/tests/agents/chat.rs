//! `POST /v1/chat/completions`, which `OpenCode` uses for servers that are like `OpenAI`'s.

use serde_json::{Value, json};

use crate::model::{Protocol, Turn};

pub const PROTOCOL: Protocol = Protocol { turn, events };

fn turn(request: &Value) -> usize {
    let messages = request["messages"].as_array().into_iter().flatten();
    messages
        .filter(|message| message["role"] == "assistant")
        .count()
}

fn events(index: usize, turn: &Turn, request: &Value) -> Vec<String> {
    let chunk = |delta: Value, finish: Option<&str>| {
        json!({
            "id": format!("chat-{index}"), "object": "chat.completion.chunk", "created": 0, "model": request["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        })
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    match turn {
        Turn::Runs(command) => {
            let arguments =
                json!({"command": command, "description": "as the script says"}).to_string();
            let call = json!({
                "index": 0, "id": format!("call_{index}"), "type": "function",
                "function": {"name": "bash", "arguments": arguments},
            });
            chunks.push(chunk(json!({"tool_calls": [call]}), None));
            chunks.push(chunk(json!({}), Some("tool_calls")));
        }
        Turn::Says(text) => {
            let size = (text.len() / 100).max(5);
            let pieces = text.as_bytes().chunks(size).map(String::from_utf8_lossy);
            chunks.extend(pieces.map(|piece| chunk(json!({"content": piece}), None)));
            chunks.push(chunk(json!({}), Some("stop")));
        }
        Turn::Fails(..) | Turn::Hangs | Turn::Breaks => {}
    }
    let mut usage = chunk(json!({}), None);
    usage["choices"] = json!([]);
    usage["usage"] = json!({
        "prompt_tokens": 140, "completion_tokens": 7, "total_tokens": 147, "prompt_tokens_details": {"cached_tokens": 40},
    });
    chunks.push(usage);
    let lines = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    lines.chain(["data: [DONE]\n\n".to_owned()]).collect()
}
