//! How each agent is told of the model that plays a script.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use crate::{
    model::Model,
    support::{Outcome, Sandbox, ended},
};
use serde_json::{Value, json};

/// A real agent.
#[derive(Clone, Copy)]
pub struct Agent {
    /// Its profile.
    pub profile: &'static str,
    /// With what the names of its recordings begin.
    pub recordings: &'static str,
    /// What it finds when it starts, so that it asks that model: variables, and a file with its path below its home.
    told: fn(&str) -> Told,
}

struct Told {
    variables: Vec<(&'static str, String)>,
    file: Option<(&'static str, String)>,
}

impl Agent {
    pub const ALL: [Self; 3] = [
        Self {
            profile: "OpenCode",
            recordings: "opencode",
            told: opencode,
        },
        Self {
            profile: "ClaudeCode",
            recordings: "claude-code",
            told: claude_code,
        },
        Self {
            profile: "Codex",
            recordings: "codex-exec",
            told: codex,
        },
    ];

    /// A Task for it, in a checkout of the repository with this URL; `more` goes into the spec of its Agent, but for
    /// its `variables`, which go into the Secret `model`, `configuration`, which goes into its file where that is JSON,
    /// `checkout`, which is where the checkout is, and `git`, which is more of the context.
    pub fn manifest(&self, model: &Model, repository: &str, more: &Value) -> String {
        let told = (self.told)(&model.url());
        let mut variables: serde_json::Map<String, Value> = told
            .variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let others = more["variables"].as_object().into_iter().flatten();
        variables.extend(others.map(|(name, value)| (name.clone(), value.clone())));
        // One by one, as `run --env` does it, so that each wins over one of the profile's.
        let credentials: Vec<Value> = variables
            .keys()
            .map(|name| json!({"name": name, "secretRef": {"name": "model", "key": name}, "env": name}))
            .collect();
        let contexts: Vec<Value> = told
            .file
            .into_iter()
            .map(|(path, text)| {
                let text = with(&text, &more["configuration"]);
                json!({"type": "Text", "mountPath": format!("/tmp/{path}"), "text": text})
            })
            .collect();
        let mut spec = json!({
            "profile": self.profile,
            "serviceAccountName": "default",
            "contexts": contexts,
            "credentials": credentials,
        });
        let fields = more.as_object().into_iter().flatten();
        let of_agent =
            |name: &str| !["variables", "configuration", "checkout", "git"].contains(&name);
        for (name, value) in fields.filter(|(name, _)| of_agent(name)) {
            spec[name] = value.clone();
        }
        let mut checkout = json!({
            "type": "Git", "mountPath": more["checkout"].as_str().unwrap_or("repository"), "git": {"repository": repository},
        });
        for (name, value) in more["git"].as_object().into_iter().flatten() {
            checkout["git"][name] = value.clone();
        }
        let objects = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model"}, "stringData": variables}),
            json!({"apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"}, "spec": spec}),
            json!({
                "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
                "spec": {"description": "Fix the failing test", "contexts": [checkout]},
            }),
        ];
        objects.map(|object| object.to_string()).join("\n---\n")
    }

    /// Runs the Task to its end: what was printed, and the summary of the Task.
    pub fn run(sandbox: &Sandbox, folder: &Path, manifest: &str) -> (Outcome, Value) {
        Self::ended(Self::start(sandbox, folder, manifest))
    }

    /// Starts `run` with the Task.
    pub fn start(sandbox: &Sandbox, folder: &Path, manifest: &str) -> Child {
        let file = sandbox.write("task.yaml", manifest);
        let path = std::env::var("PATH").expect("a PATH");
        sandbox
            .command(&["run", "--output", "json", "--file", &file.to_string_lossy()])
            .env("PATH", format!("{}/bin:{path}", folder.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts")
    }

    /// The end of such a `run`.
    pub fn ended(run: Child) -> (Outcome, Value) {
        let outcome = ended(run);
        let summary: Option<Value> = serde_json::from_str(&outcome.stdout).ok();
        assert!(
            summary.is_some(),
            "no summary:\n{}\n{}",
            outcome.stdout,
            outcome.stderr
        );
        let summary = summary.unwrap_or_default();
        let task = summary["tasks"][0].clone();
        (outcome, task)
    }
}

/// A file of JSON with these fields, too, and without those that are null.
fn with(text: &str, more: &Value) -> String {
    let Some(more) = more.as_object() else {
        return text.to_owned();
    };
    let mut file: Value = serde_json::from_str(text).expect("JSON");
    for (name, value) in more {
        file[name] = value.clone();
    }
    if let Some(fields) = file.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    file.to_string()
}

fn opencode(url: &str) -> Told {
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": format!("{url}/v1"), "apiKey": "{env:SCRIPTED_KEY}"},
        "models": {"scripted": {
            "name": "Scripted", "tool_call": true, "limit": {"context": 100_000, "output": 8192},
            "cost": {"input": 1, "output": 2, "cache_read": 0.1},
        }},
    });
    let config = json!({
        "model": "scripted/scripted", "small_model": "scripted/scripted", "enabled_providers": ["scripted"],
        "provider": {"scripted": provider},
    });
    Told {
        variables: vec![("SCRIPTED_KEY", "not-a-secret".to_owned())],
        file: Some((".config/opencode/opencode.json", config.to_string())),
    }
}

fn claude_code(url: &str) -> Told {
    Told {
        variables: vec![
            ("ANTHROPIC_BASE_URL", url.to_owned()),
            ("ANTHROPIC_API_KEY", "not-a-secret".to_owned()),
            // It would try ten times, also with a key that was refused, for three minutes.
            ("CLAUDE_CODE_MAX_RETRIES", "2".to_owned()),
        ],
        file: None,
    }
}

fn codex(url: &str) -> Told {
    let config = format!(
        "model = \"scripted\"\nmodel_provider = \"scripted\"\n\n[model_providers.scripted]\nname = \"Scripted\"\nbase_url = \"{url}/v1\"\nenv_key = \"SCRIPTED_KEY\"\nwire_api = \"responses\"\nrequest_max_retries = 2\nstream_max_retries = 1\n"
    );
    Told {
        variables: vec![("SCRIPTED_KEY", "not-a-secret".to_owned())],
        file: Some((".codex/config.toml", config)),
    }
}
