//! What `get` and `list` show: at least what kubectl has in its columns, of which some are shown with `-o wide` alone.

use kube::CustomResourceExt as _;
use kubeopencode_api::v1alpha1::{Agent, Task};
use serde_json::Value;

use super::local::served::Local;
use crate::support::{Sandbox, can_run_pods};

/// The values of kubectl's columns, but for the age.
fn columns(definition: &Value, object: &Value) -> Vec<(String, String)> {
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
    let columns = columns.into_iter().flatten();
    let columns = columns.filter(|column| column["type"] != "date");
    let values = columns.map(|column| {
        let path = column["jsonPath"].as_str().expect("a path");
        let value = object.pointer(&path.replace('.', "/"));
        let value = match value.unwrap_or(&Value::Null) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (path.to_owned(), value)
    });
    values.collect()
}

#[test]
fn what_kubectl_shows_in_its_columns() {
    if !can_run_pods("task get and agent list") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let _local = Local::start(&sandbox.data()).expect("it serves");
    // It stands in for OpenCode, of which the fixture is a recording.
    let events = include_str!("../../../agents/tests/fixtures/ok-write.jsonl");
    let work = "cat events.jsonl && cd repo && git commit --quiet --allow-empty --message three";
    let objects = [
        serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
            "spec": {
                "serviceAccountName": "an-account", "profile": "OpenCode", "command": ["sh", "-c", work],
                "agentImage": "example.com/an-image", "maxConcurrentTasks": 7,
                "contexts": [{"type": "Text", "mountPath": "events.jsonl", "text": events}],
            },
        }),
        serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
            "spec": {"description": "Do it", "contexts": [
                {"type": "Git", "mountPath": "repo", "git": {"repository": format!("file://{}", repository.display())}},
            ]},
        }),
    ];
    let text = objects.map(|it| it.to_string()).join("\n---\n");
    sandbox.write("it.yaml", &text);
    sandbox
        .run(&["task", "create", "-f", "it.yaml"])
        .expect_code(0);
    sandbox
        .run(&["task", "logs", "--follow", "it"])
        .expect_code(0);
    let object = |kind: &str, name: &str| -> Value {
        let got = sandbox.run(&[kind, "get", name, "-o", "json"]);
        serde_json::from_str(&got.expect_code(0).stdout).expect("JSON")
    };

    let got = sandbox.run(&["task", "get", "it"]).expect_code(0).stdout;
    let definition = serde_json::to_value(Task::crd()).expect("JSON");
    let shown = columns(&definition, &object("task", "it"));
    assert!(shown.len() >= 8, "{shown:?}");
    for (path, value) in shown {
        assert_ne!(value, "null", "{path}");
        assert!(got.contains(&value), "{path}: {value}: {got}");
    }
    for row in ["Age:", "Outcome:", "Used:", "Commits:"] {
        assert!(got.contains(row), "{row}: {got}");
    }

    // Its slot is given back right after the Task has ended.
    let free = std::iter::repeat_with(|| object("agent", "default"))
        .take(1000)
        .any(|agent| agent["status"]["slotsInUse"] == 0);
    assert!(free, "the slot is given back");
    let listed = sandbox.run(&["agent", "list"]).expect_code(0).stdout;
    let got = sandbox.run(&["agent", "get", "default"]).expect_code(0);
    let definition = serde_json::to_value(Agent::crd()).expect("JSON");
    for (path, value) in columns(&definition, &object("agent", "default")) {
        let words: Vec<&str> = listed.split_whitespace().collect();
        assert!(words.contains(&value.as_str()), "{path}: {value}: {listed}");
        assert!(
            got.stdout.contains(&value),
            "{path}: {value}: {}",
            got.stdout
        );
    }
}
