//! Bodies into objects.

use kubeopencode_embedded::kinds::FieldValidation;
use kubeopencode_embedded::schema::Document;
use serde_json::{Value, json};

use super::{builtin, decoded, message};

fn pod(spec: impl Into<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec.into()})
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    let kind = builtin("", "pods");
    let cases = [
        (
            json!({"containers": [{"name": "a", "image": 1}]}),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            json!({"containers": {}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            json!({"activeDeadlineSeconds": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64",
        ),
        (
            json!({"priority": 3_000_000_000_i64}),
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
    ];
    for (spec, text) in cases {
        let failure = kind.decode(Document::from(pod(spec)), FieldValidation::Warn);
        let failure = failure.expect_err("a wrong type");
        assert_eq!(failure.code(), 400);
        let whole = format!("Pod in version \"v1\" cannot be handled as a Pod: {text}");
        assert_eq!(message(&failure), whole);
    }
}

#[test]
fn unknown_fields_deep_inside_are_named_and_dropped() {
    let kind = builtin("", "pods");
    let body = pod(
        json!({"containers": [{"name": "a", "image": "i", "bogus": 1, "env": [{"name": "A", "nope": 2}]}]}),
    );
    let decoded = kind
        .decode(Document::from(body), FieldValidation::Warn)
        .expect("decodes");
    assert_eq!(
        decoded.warnings,
        [
            "unknown field \"spec.containers[0].bogus\"",
            "unknown field \"spec.containers[0].env[0].nope\""
        ]
    );
    assert_eq!(decoded.object["spec"]["containers"][0].get("bogus"), None);
}

#[test]
fn empty_values_go_where_go_leaves_them_out() {
    let object = decoded(
        &builtin("", "pods"),
        pod(json!({
            "hostNetwork": false, "automountServiceAccountToken": false, "nodeName": "", "tolerations": [],
            "nodeSelector": {}, "securityContext": null, "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "a", "image": "i", "tty": false, "env": [{"name": "A", "value": ""}]}],
        })),
    );
    let spec = &object["spec"];
    for gone in ["hostNetwork", "nodeName", "tolerations", "nodeSelector"] {
        assert_eq!(spec.get(gone), None, "{gone}");
    }
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    assert_eq!(spec["containers"][0]["env"], json!([{"name": "A"}]));
    assert_eq!(spec["containers"][0]["resources"], json!({}));
}

#[test]
fn quantities_and_times_come_in_one_form() {
    let object = decoded(
        &builtin("", "pods"),
        pod(
            json!({"containers": [{"name": "a", "image": "i", "resources": {
                "limits": {"cpu": 0.5, "memory": "1024Mi", "ephemeral-storage": "1500M"}, "requests": {"cpu": "1000m"},
            }}]}),
        ),
    );
    let resources = &object["spec"]["containers"][0]["resources"];
    assert_eq!(
        resources["limits"],
        json!({"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1500M"})
    );
    assert_eq!(resources["requests"]["cpu"], "1");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"renewTime": "2026-01-01T02:00:00.123456+01:00"}});
    let lease = decoded(&builtin("coordination.k8s.io", "leases"), lease);
    assert_eq!(lease["spec"]["renewTime"], "2026-01-01T01:00:00.123456Z");
}

#[test]
fn images_decide_how_they_are_pulled() {
    for (image, policy) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("registry:5000/a", "Always"),
        ("registry:5000/a:2", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
    ] {
        let object = decoded(
            &builtin("", "pods"),
            pod(json!({"containers": [{"name": "a", "image": image}]})),
        );
        assert_eq!(
            object["spec"]["containers"][0]["imagePullPolicy"], policy,
            "{image}"
        );
    }
}

#[test]
fn keys_given_twice_are_found_at_any_depth() {
    let text = br#"{"a": {"b": [{"c": 1, "c": 2}]}, "d": 1, "d": 2}"#;
    let document = Document::parse(text).expect("JSON");
    assert_eq!(document.duplicates, ["a.b[0].c", "d"]);
    assert_eq!(document.value, json!({"a": {"b": [{"c": 2}]}, "d": 2}));
}
