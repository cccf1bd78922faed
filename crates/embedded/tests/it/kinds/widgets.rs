//! Custom resources against a definition with most of what one can say.

use std::sync::Arc;

use kubeopencode_embedded::kinds::{Kind, Registry};
use serde_json::{Value, json};

use super::{created, decoded};

const WIDGETS: &str = include_str!("../../../../../tests/differential/definitions/widgets.yaml");

/// The kind of `widgets.example.test`, of which recordings tell what a real API makes.
pub(super) fn widget() -> Arc<Kind> {
    let definition: Value = serde_saphyr::from_str(WIDGETS).expect("YAML");
    let kinds = Registry::builtin().install_crd(&definition);
    kinds.expect("installs").remove(0)
}

fn spec(spec: impl Into<Value>) -> Value {
    json!({"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec.into()})
}

#[test]
fn an_unchanged_fault_may_stay() {
    let kind = widget();
    let mut old = created(&kind, spec(json!({"size": 5})));
    old["spec"]["title"] = "lower case".into();
    let mut new = old.clone();
    new["spec"]["note"] = "x".into();
    assert_eq!(kind.validate(&new, Some(&old), None), []);
    new["spec"]["title"] = "also lower case".into();
    let causes = kind.validate(&new, Some(&old), None);
    assert_eq!(causes.len(), 1);
    assert_eq!(
        causes[0].message,
        "Invalid value: \"also lower case\": spec.title in body should match '^[A-Z]'"
    );
}

#[test]
fn generation_rises_with_the_spec_alone() {
    let kind = widget();
    let old = created(&kind, spec(json!({"size": 5})));
    let generation = |change: &dyn Fn(&mut Value), subresource| {
        let mut new = old.clone();
        change(&mut new);
        let mut new = decoded(&kind, new);
        kind.prepare_update(&mut new, &old, subresource);
        (new["metadata"]["generation"].clone(), new)
    };
    let (unchanged, _) = generation(&|w| w["metadata"]["labels"] = json!({"a": "b"}), None);
    assert_eq!(unchanged, 1);
    let (raised, new) = generation(
        &|w| {
            w["spec"]["note"] = "x".into();
            w["status"] = json!({"count": 1});
        },
        None,
    );
    assert_eq!(raised, 2);
    assert_eq!(new.get("status"), None);
    let (unchanged, new) = generation(
        &|w| {
            w["spec"]["note"] = "x".into();
            w["metadata"]["labels"] = json!({"a": "b"});
            w["status"] = json!({"count": 1});
        },
        Some("status"),
    );
    assert_eq!(unchanged, 1);
    assert_eq!(new["status"], json!({"count": 1}));
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["metadata"].get("labels"), None);
}

#[test]
fn int_or_text_takes_both() {
    let kind = widget();
    for quota in [json!(5), json!("10%")] {
        let object = created(&kind, spec(json!({"size": 5, "quota": quota})));
        assert_eq!(object["spec"]["quota"], quota);
    }
    let object = decoded(&kind, spec(json!({"size": 5, "quota": []})));
    assert_eq!(
        kind.validate(&object, None, None)[0].reason,
        "FieldValueTypeInvalid"
    );
}
