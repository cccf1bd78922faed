//! Server-side apply and the owners of fields.

use kubeopencode_embedded::apply::{Writer, apply, track_update};
use kubeopencode_embedded::kinds::Kind;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{builtin, decoded, message, widgets::widget};

fn writer(manager: &'static str) -> Writer<'static> {
    Writer {
        manager,
        time: "2026-01-01T00:00:00Z",
        subresource: None,
    }
}

fn applied(
    kind: &Kind,
    live: Option<&Value>,
    configuration: &Value,
    manager: &'static str,
) -> Value {
    let merged = apply(kind, live, configuration, writer(manager), false);
    decoded(kind, merged.expect("no conflict"))
}

fn pod(containers: impl Into<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers.into()}})
}

#[test]
fn containers_and_their_variables_have_owners_of_their_own() {
    let kind = builtin("", "pods");
    let first = pod(json!([{"name": "a", "image": "i", "env": [{"name": "A", "value": "1"}]}]));
    let second = pod(json!([{"name": "a", "env": [{"name": "B", "value": "2"}]}]));
    let live = applied(&kind, None, &first, "one");
    let live = applied(&kind, Some(&live), &second, "two");
    let env = &live["spec"]["containers"][0]["env"];
    assert_eq!(
        *env,
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])
    );
    let without = pod(json!([{"name": "a", "image": "i"}]));
    let live = applied(&kind, Some(&live), &without, "one");
    assert_eq!(
        live["spec"]["containers"][0]["env"],
        json!([{"name": "B", "value": "2"}])
    );
}

#[test]
fn ports_are_told_apart_by_number_and_protocol() {
    let kind = builtin("", "pods");
    let ports =
        json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]);
    let live = applied(
        &kind,
        None,
        &pod(json!([{"name": "a", "image": "i", "ports": ports}])),
        "one",
    );
    let owned = &live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]["k:{\"name\":\"a\"}"];
    let keys: Vec<&String> = owned["f:ports"]
        .as_object()
        .expect("ports")
        .keys()
        .collect();
    assert_eq!(
        keys,
        [
            "k:{\"containerPort\":53,\"protocol\":\"TCP\"}",
            "k:{\"containerPort\":53,\"protocol\":\"UDP\"}"
        ]
    );
}

#[test]
fn an_object_from_before_apply_keeps_its_fields() {
    let kind = builtin("", "configmaps");
    let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u"}, "data": {"a": "1", "b": "1"}});
    let configuration = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "2"}});
    let refused =
        apply(&kind, Some(&live), &configuration, writer("one"), false).expect_err("a conflict");
    assert_eq!(
        message(&refused),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
    let forced = apply(&kind, Some(&live), &configuration, writer("one"), true).expect("is forced");
    assert_eq!(forced["data"], json!({"a": "2", "b": "1"}));
    let managers: Vec<&Value> = forced["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|m| &m["manager"])
        .collect();
    assert_eq!(managers, ["one", "before-first-apply"]);
}

#[test]
fn what_does_not_fit_the_schema_is_refused_with_its_path() {
    let kind = widget();
    let cases = [
        (
            json!({"size": "five"}),
            ".spec.size: expected numeric (int or float), got &value.valueUnstructured{Value:\"five\"}",
        ),
        (
            json!({"ports": [{"number": 1}]}),
            ".spec.ports: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
        (
            json!({"ports": [{"name": "a", "x": 1}]}),
            ".spec.ports[name=\"a\"].x: field not declared in schema",
        ),
        (
            json!({"tags": ["x", "x"]}),
            ".spec.tags: duplicate entries for key [=\"x\"]",
        ),
    ];
    for (spec, text) in cases {
        let configuration = json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
        let refused =
            apply(&kind, None, &configuration, writer("one"), false).expect_err("does not fit");
        assert!(message(&refused).ends_with(text), "{}", message(&refused));
        assert_eq!(refused.code(), 500);
    }
}

#[test]
fn many_updaters_end_as_ancient_changes() {
    const NAMES: [&str; 13] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m",
    ];
    let kind = builtin("", "configmaps");
    let mut live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    let mut before = None;
    for name in NAMES {
        live["data"][name] = "1".into();
        track_update(&kind, before.as_ref(), &mut live, writer(name));
        before = Some(live.clone());
    }
    let managers = live["metadata"]["managedFields"]
        .as_array()
        .expect("managers");
    assert_eq!(managers.len(), 11);
    let ancient = managers
        .iter()
        .find(|m| m["manager"] == "ancient-changes")
        .expect("ancient changes");
    let fields = &ancient["fieldsV1"]["f:data"];
    assert_eq!(*fields, json!({".": {}, "f:a": {}, "f:b": {}, "f:c": {}}));
}

fn data() -> impl Strategy<Value = Map<String, Value>> {
    let entry = ("[a-d]", "[12]").prop_map(|(key, value)| (key, Value::from(value)));
    proptest::collection::vec(entry, 0..4).prop_map(|entries| entries.into_iter().collect())
}

fn config_map(data: &Map<String, Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever others did before: after a forced apply the object has what was applied, applying it again changes
    /// nothing, and applying nothing takes away what nobody else owns.
    #[test]
    fn a_forced_apply_holds(
        first in data(),
        second in data(),
        third in data(),
    ) {
        let kind = builtin("", "configmaps");
        let forced = |live: Option<&Value>, data: &Map<String, Value>, manager| {
            decoded(&kind, apply(&kind, live, &config_map(data), writer(manager), true).expect("is forced"))
        };
        let live = forced(None, &first, "one");
        let live = forced(Some(&live), &second, "two");
        let applied = forced(Some(&live), &third, "one");
        for (key, value) in &third {
            prop_assert_eq!(&applied["data"][key], value);
        }
        for key in first.keys().filter(|key| !third.contains_key(*key) && !second.contains_key(*key)) {
            prop_assert!(applied["data"].get(key).is_none());
        }
        for (key, value) in second.iter().filter(|(key, _)| !third.contains_key(*key)) {
            prop_assert_eq!(&applied["data"][key], value);
        }
        let again = apply(&kind, Some(&applied), &config_map(&third), writer("one"), false).expect("no conflict");
        let again = decoded(&kind, again);
        prop_assert_eq!(again.get("data"), applied.get("data"));
        if !third.is_empty() {
            prop_assert_eq!(&again, &applied);
        }
        let nothing = Map::new();
        let left = forced(Some(&forced(Some(&applied), &nothing, "one")), &nothing, "two");
        prop_assert!(left.get("data").is_none(), "{}", left);
    }
}
