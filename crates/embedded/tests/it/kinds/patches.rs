//! Strategic merge patches of built-in kinds, beyond those that were recorded.

use kubeopencode_embedded::patch::strategic;
use serde_json::{Value, json};

use super::builtin;

fn patched(pod: &Value, patch: &Value) -> Value {
    strategic(&builtin("", "pods"), pod, patch).expect("a good patch")
}

fn pod() -> Value {
    json!({"metadata": {"finalizers": ["a.test/x"]}, "spec": {
        "containers": [{"name": "a", "image": "i:1", "env": [{"name": "A", "value": "1"}]}, {"name": "b", "image": "i:1"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "k"}],
    }})
}

#[test]
fn lists_inside_merged_items_merge_too() {
    let env = json!([{"name": "B", "value": "2"}]);
    let result = patched(
        &pod(),
        &json!({"spec": {"containers": [{"name": "a", "env": env}]}}),
    );
    let names: Vec<&Value> = result["spec"]["containers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    let env = &result["spec"]["containers"][0]["env"];
    assert_eq!(
        *env,
        json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}])
    );
}

#[test]
fn a_list_without_merge_key_is_replaced() {
    let result = patched(
        &pod(),
        &json!({"spec": {"tolerations": [{"key": "other"}]}}),
    );
    assert_eq!(result["spec"]["tolerations"], json!([{"key": "other"}]));
}

#[test]
fn retain_keys_swaps_the_source_of_a_volume() {
    let volume =
        json!({"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}});
    let result = patched(&pod(), &json!({"spec": {"volumes": [volume]}}));
    assert_eq!(
        result["spec"]["volumes"],
        json!([{"name": "v", "configMap": {"name": "c"}}])
    );
}

#[test]
fn directives_delete_and_replace() {
    let result = patched(
        &pod(),
        &json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}]}}),
    );
    assert_eq!(
        result["spec"]["containers"].as_array().map(Vec::len),
        Some(1)
    );
    let whole = json!([{"$patch": "replace"}, {"name": "c", "image": "i:2"}]);
    let result = patched(&pod(), &json!({"spec": {"containers": whole}}));
    assert_eq!(
        result["spec"]["containers"],
        json!([{"name": "c", "image": "i:2"}])
    );
    let result = patched(&pod(), &json!({"metadata": {"finalizers": ["b.test/y"]}}));
    assert_eq!(
        result["metadata"]["finalizers"],
        json!(["b.test/y", "a.test/x"])
    );
}

#[test]
fn an_order_alone_sorts() {
    let order = json!([{"name": "b"}, {"name": "a"}]);
    let result = patched(
        &pod(),
        &json!({"spec": {"$setElementOrder/containers": order}}),
    );
    assert_eq!(result["spec"]["containers"][0]["name"], "b");
}

#[test]
fn an_item_without_its_key_is_refused() {
    let patch = json!({"spec": {"containers": [{"image": "i"}]}});
    let failure = strategic(&builtin("", "pods"), &pod(), &patch).expect_err("no name");
    assert_eq!(failure.code(), 500);
}
