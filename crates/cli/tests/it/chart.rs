//! The chart, held against what it stands for: the definitions, the operator's rights, the version, its own values.
//!
//! What the chart becomes is in `deploy/install` and `tests/chart/rendered`, so that no Helm is needed here;
//! `deploy/render --check` says whether these are fresh, `tests/chart/run` installs them.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use crate::support::Sandbox;

const INSTALL: &str = "deploy/install/install.yaml";
const OPERATOR: &str = "kubeopencode";
const SYSTEM: &str = "kubeopencode-system";

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect(name)
}

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

fn rules(role: &Value) -> Vec<PolicyRule> {
    serde_json::from_value(role["rules"].clone()).expect("rules")
}

/// Kind, namespace and rules of each role that is bound to the account of the operator.
fn bound(documents: &[Value]) -> Vec<(&str, Option<&str>, Vec<PolicyRule>)> {
    let mut bound: Vec<_> = documents
        .iter()
        .filter(|binding| {
            let subjects = binding["subjects"].as_array();
            subjects.is_some_and(|all| all.iter().any(|subject| subject["name"] == OPERATOR))
        })
        .map(|binding| {
            let reference = &binding["roleRef"];
            let role = documents
                .iter()
                .find(|role| {
                    role["kind"] == reference["kind"]
                        && role["metadata"]["name"] == reference["name"]
                        && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
                })
                .expect("the role of a binding");
            let kind = role["kind"].as_str().expect("a kind");
            (kind, role["metadata"]["namespace"].as_str(), rules(role))
        })
        .collect();
    bound.sort_by_key(|(kind, namespace, rules)| (*kind, *namespace, rules.len()));
    bound
}

#[test]
fn the_operator_of_the_chart_may_do_what_it_uses_and_nothing_else() {
    let cases = [
        (INSTALL, &["rbac"][..]),
        (
            "tests/chart/rendered/namespaced.yaml",
            &["rbac", "-n", "team-a"],
        ),
        (
            "tests/chart/rendered/namespaced-in-place.yaml",
            &["rbac", "-n", SYSTEM],
        ),
    ];
    for (file, arguments) in cases {
        let printed = Sandbox::new().run(arguments).expect_code(0).stdout;
        let needed = documents(&printed);
        let mut needed: Vec<_> = needed
            .iter()
            .map(|role| {
                let kind = role["kind"].as_str().expect("a kind");
                (kind, role["metadata"]["namespace"].as_str(), rules(role))
            })
            .collect();
        needed.sort_by_key(|(kind, namespace, rules)| (*kind, *namespace, rules.len()));
        assert_eq!(needed, bound(&documents(&read(file))), "{file}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_binary() {
    let chart: Value =
        serde_saphyr::from_str(&read("charts/kubeopencode/Chart.yaml")).expect("YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// A value of the chart, as the schema describes it.
#[derive(Debug, PartialEq)]
struct Described {
    description: String,
    default: Value,
}

/// Every described value below a schema, by its path.
fn described(schema: &Value, default: &Value, path: &str, all: &mut BTreeMap<String, Described>) {
    if let Some(description) = schema["description"].as_str() {
        let described = Described {
            description: description.to_owned(),
            default: default.clone(),
        };
        all.insert(path.to_owned(), described);
        return;
    }
    for (name, schema) in schema["properties"].as_object().expect(path) {
        let path = [path, name].join(".");
        described(schema, &default[name], path.trim_start_matches('.'), all);
    }
}

fn values() -> BTreeMap<String, Described> {
    let schema =
        serde_json::from_str(&read("charts/kubeopencode/values.schema.json")).expect("JSON");
    let defaults = serde_saphyr::from_str(&read("charts/kubeopencode/values.yaml")).expect("YAML");
    let mut all = BTreeMap::new();
    described(&schema, &defaults, "", &mut all);
    // Helm's own, which a chart has no default for.
    all.remove("global");
    all
}

/// The comment before each value of values.yaml, by the path of the value.
fn comments(text: &str) -> BTreeMap<String, String> {
    let (mut all, mut path, mut comment) = (BTreeMap::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        if let Some((name, _)) = line.split_once(':') {
            path.truncate(depth);
            path.push(name);
            if !comment.is_empty() {
                all.insert(path.join("."), comment.join(" "));
            }
        }
        comment.clear();
    }
    all
}

#[test]
fn the_schema_says_of_each_value_what_the_comment_before_it_says() {
    let described: BTreeMap<_, _> = values()
        .into_iter()
        .map(|(path, value)| (path, value.description))
        .collect();
    assert_eq!(
        described,
        comments(&read("charts/kubeopencode/values.yaml"))
    );
}

#[test]
fn the_table_of_values_is_fresh() {
    let mut table = String::from("\n| value | default | what it is |\n|---|---|---|\n");
    for (
        path,
        Described {
            description,
            default,
        },
    ) in values()
    {
        let description = description.replace('|', "\\|").replace('<', "&lt;");
        let _ = writeln!(table, "| `{path}` | `{default}` | {description} |");
    }
    let file = "docs/installation.md";
    let text = read(file);
    let (before, rest) = text
        .split_once("<!-- values -->\n")
        .expect("where they begin");
    let (old, after) = rest
        .split_once("<!-- end of values -->")
        .expect("where they end");
    let table = table + "\n";
    if std::env::var_os("INSTA_UPDATE").is_some_and(|how| how == "always") {
        let fresh = format!("{before}<!-- values -->\n{table}<!-- end of values -->{after}");
        std::fs::write(path(file), fresh).expect(file);
    } else {
        assert!(
            old == table,
            "the values in {file} are stale: INSTA_UPDATE=always cargo test -p kubeopencode --test it -- values"
        );
    }
}
