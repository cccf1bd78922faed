//! Recordings for `crates/agents/tests/fixtures`: what the real agents print when something goes wrong, as it is.
//!
//! `KUBEOPENCODE_TEST_RECORD=FOLDER tests/agents/run` makes them anew, in that folder, instead of running the tests. Each is
//! read line by line before it becomes a fixture.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    agent::Agent,
    model::{Model, Turn},
    support::{Outcome, Sandbox},
};

/// What goes wrong, as names of recordings say it; the script of the model; more of the Agent, by its profile.
type Recorded = (&'static str, fn() -> Vec<Turn>, fn(&str) -> Value);

const ALL: [Recorded; 4] = [
    ("http401", || vec![Turn::Fails(401, 0)], |_| json!({})),
    ("http500", || vec![Turn::Fails(500, 0)], |_| json!({})),
    (
        "broken-off",
        || vec![commits(), Turn::Breaks],
        |_| json!({}),
    ),
    (
        "refused",
        || vec![commits(), Turn::Says("I could not.".to_owned())],
        careful,
    ),
];

fn commits() -> Turn {
    Turn::Runs("git commit --quiet --allow-empty --message 'Fix the test'".to_owned())
}

/// An Agent that may not do all that it wants.
fn careful(profile: &str) -> Value {
    let command = match profile {
        "OpenCode" => {
            return json!({"configuration": {"permission": {"bash": "ask"}}});
        }
        "ClaudeCode" => {
            "claude --print --output-format stream-json --verbose --setting-sources user < task.md"
        }
        _ => {
            "mkdir -p ~/.codex/rules && echo 'prefix_rule(pattern = [\"git\"], decision = \"forbidden\")' > ~/.codex/rules/default.rules && codex exec --json --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check - < task.md"
        }
    };
    json!({"command": ["sh", "-c", command]})
}

/// Records all of them, by the agents of this folder.
#[expect(clippy::print_stderr, reason = "that is for whoever records")]
pub fn all(agents: &Path, into: &Path) {
    std::fs::create_dir_all(into).expect("a folder");
    for agent in Agent::ALL {
        for (what, script, more) in ALL {
            let model = Model::plays(script());
            let outcome = run(&agent, agents, &model, &more(agent.profile));
            let code = exit_code(&outcome);
            let name = format!("{}-{what}-rc{code}.jsonl", agent.recordings);
            std::fs::write(into.join(&name), &outcome.stdout).expect("a file");
            eprintln!("{name}\n{}", outcome.stderr);
        }
    }
}

/// The agent's own: where its work is half done, that of `run` is another.
fn exit_code(outcome: &Outcome) -> String {
    let own = outcome.stderr.split_once("the agent ended with exit code ");
    let digits = own.map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect());
    digits.unwrap_or_else(|| outcome.code.expect("an exit status").to_string())
}

fn run(agent: &Agent, agents: &Path, model: &Model, more: &Value) -> Outcome {
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("app");
    let url = format!("file://{}", repository.display());
    let mut more = more.clone();
    more["checkout"] = json!(".");
    let file = sandbox.write("task.yaml", &agent.manifest(model, &url, &more));
    let path = std::env::var("PATH").expect("a PATH");
    let output = sandbox
        .command(&["run", "--raw", "--file", &file.to_string_lossy()])
        .env("PATH", format!("{}/bin:{path}", agents.display()))
        .output()
        .expect("the binary starts");
    Outcome::of(&output)
}
