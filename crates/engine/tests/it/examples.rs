//! One reviewed snapshot for each example of the API's document: the Jobs that its Tasks become.

use std::path::Path;

use kubeopencode_engine::{lower::Lowered, render::render};
use serde_json::json;

use super::fixture::Cluster;

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.yaml"));
    let yaml = std::fs::read_to_string(path).expect("the example");
    let cluster = Cluster::of(&yaml);
    let mut rendered = Vec::new();
    for task in cluster.tasks() {
        let run = match cluster.lower_task(task) {
            Lowered::Ready(run) => run,
            other => panic!("{name}: {other:?}"),
        };
        let once = render(&run, 1).expect("rendered");
        assert_eq!(
            render(&run, 1).expect("rendered"),
            once,
            "not deterministic"
        );
        let files: Vec<_> = once
            .config_maps
            .iter()
            .map(|config_map| json!({ "name": config_map.metadata.name, "data": config_map.data }))
            .collect();
        rendered.push(json!({ "configMaps": files, "job": once.job }));
    }
    // Through JSON, which has no place for what is not set.
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_yaml_snapshot!(name, rendered);
    });
}

#[test]
fn task_with_contexts() {
    check("task-with-contexts");
}

#[test]
fn context_types() {
    check("context-types");
}

#[test]
fn agent_with_everything() {
    check("agent-with-everything");
}

#[test]
fn simple() {
    check("simple");
}

#[test]
fn multiple_contexts() {
    check("multiple-contexts");
}

#[test]
fn concurrency() {
    check("concurrency");
}

#[test]
fn helm_batch() {
    check("helm-batch");
}

#[test]
fn system_configuration() {
    check("system-configuration");
}
