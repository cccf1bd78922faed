//! Kinds, schemas, patches and field ownership without a service around them: what the recorded exchanges of
//! `replay` leave out.

mod decode;
mod ownership;
mod patches;
mod widgets;

use std::sync::Arc;

use kubeopencode_embedded::kinds::crd::establish;
use kubeopencode_embedded::kinds::{FieldValidation, Kind, Registry};
use kubeopencode_embedded::schema::Document;
use kubeopencode_embedded::status::{Cause, Failure};
use serde_json::{Value, json};

fn builtin(group: &str, plural: &str) -> Arc<Kind> {
    let kind = Registry::builtin().lookup(group, "v1", plural);
    kind.expect("a built-in kind")
}

fn decoded(kind: &Kind, object: Value) -> Value {
    let decoded = kind.decode(Document::from(object), FieldValidation::Warn);
    decoded.expect("decodes").object
}

/// Everything that a create does to an object but for what the service sets.
fn created(kind: &Kind, mut object: Value) -> Value {
    object["metadata"]["uid"] = "uid-1".into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut object = decoded(kind, object);
    kind.prepare_create(&mut object);
    assert_eq!(kind.validate(&object, None, None), []);
    object
}

/// The faults of a change of a created object.
fn faults(
    kind: &Kind,
    old: &Value,
    change: impl FnOnce(&mut Value),
    subresource: Option<&str>,
) -> Vec<Cause> {
    let mut new = old.clone();
    change(&mut new);
    let mut new = decoded(kind, new);
    kind.prepare_update(&mut new, old, subresource);
    kind.validate(&new, Some(old), subresource)
}

fn message(failure: &Failure) -> String {
    failure.to_value()["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn job() -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "tools:1"}]}},
    }})
}

#[test]
fn a_job_gets_selector_and_labels_from_its_uid() {
    let job = created(&builtin("batch", "jobs"), job());
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "uid-1"}})
    );
    assert_eq!(labels["job-name"], "j");
    assert_eq!(job["metadata"]["labels"], *labels);
    assert_eq!(job["metadata"]["generation"], 1);
}

#[test]
fn a_job_may_be_suspended_and_scaled_but_its_template_stays() {
    let kind = builtin("batch", "jobs");
    let old = created(&kind, job());
    assert_eq!(
        faults(
            &kind,
            &old,
            |job| job["spec"]["suspend"] = true.into(),
            None
        ),
        []
    );
    assert_eq!(
        faults(
            &kind,
            &old,
            |job| job["spec"]["parallelism"] = 3.into(),
            None
        ),
        []
    );
    let image = |job: &mut Value| {
        job["spec"]["template"]["spec"]["containers"][0]["image"] = "other".into();
    };
    let causes = faults(&kind, &old, image, None);
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].field, "spec.template");
    assert!(causes[0].message.ends_with("field is immutable"));
}

#[test]
fn a_suspended_job_may_move_its_pods_elsewhere() {
    let kind = builtin("batch", "jobs");
    let mut suspended = job();
    suspended["spec"]["suspend"] = true.into();
    let old = created(&kind, suspended);
    let place =
        |job: &mut Value| job["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    assert_eq!(faults(&kind, &old, place, None), []);
    let mut running = old.clone();
    running["status"]["startTime"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(faults(&kind, &running, place, None).len(), 1);
}

#[test]
fn a_pod_deadline_may_come_and_shrink() {
    let kind = builtin("", "pods");
    let old = created(
        &kind,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "main", "image": "tools:1"}],
        }}),
    );
    let deadline =
        |seconds: i64| move |pod: &mut Value| pod["spec"]["activeDeadlineSeconds"] = seconds.into();
    assert_eq!(faults(&kind, &old, deadline(10), None), []);
    let mut limited = old.clone();
    limited["spec"]["activeDeadlineSeconds"] = 10.into();
    assert_eq!(faults(&kind, &limited, deadline(5), None), []);
    assert_eq!(faults(&kind, &limited, deadline(11), None).len(), 1);
    assert_eq!(
        old["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

#[test]
fn a_definition_serves_each_version_and_keeps_one() {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.a.test"}, "spec": {
        "group": "a.test", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [version("v1beta1", false), version("v1", true)],
    }});
    let definition = created(
        &builtin("apiextensions.k8s.io", "customresourcedefinitions"),
        definition,
    );
    assert_eq!(definition["spec"]["names"]["listKind"], "ThingList");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let kind = builtin("apiextensions.k8s.io", "customresourcedefinitions");
    let fewer = |d: &mut Value| d["spec"]["versions"] = json!([version("v2", true)]);
    let causes = faults(&kind, &definition, fewer, None);
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].field, "status.storedVersions[0]");
    let moved = |d: &mut Value| d["spec"]["scope"] = "Cluster".into();
    assert_eq!(
        faults(&kind, &definition, moved, None),
        [],
        "not served yet"
    );
    let mut served = definition.clone();
    establish(&mut served, "2026-01-01T00:00:00Z");
    assert_eq!(faults(&kind, &served, moved, None).len(), 1);
    let registry = Registry::builtin();
    let kinds = registry.install_crd(&definition).expect("installs");
    assert_eq!(kinds.len(), 2);
    let beta = registry
        .lookup("a.test", "v1beta1", "things")
        .expect("is served");
    let thing = json!({"apiVersion": "a.test/v1beta1", "kind": "Thing", "metadata": {"name": "t"}});
    let stored = beta.to_stored(thing.clone());
    assert_eq!(stored["apiVersion"], "a.test/v1");
    assert_eq!(beta.from_stored(stored), thing);
    registry.remove("a.test", "things");
    assert!(registry.lookup("a.test", "v1", "things").is_none());
}

#[test]
fn both_groups_of_events_show_the_same_event() {
    let kind = builtin("events.k8s.io", "events");
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "n"}, "note": "it moved", "reason": "Moved",
        "action": "Move", "type": "Normal", "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "a.test/c", "reportingInstance": "c-0"});
    let event = created(&kind, event);
    let core = kind.to_stored(event.clone());
    assert_eq!(core["involvedObject"]["name"], "p");
    assert_eq!(core["message"], "it moved");
    assert_eq!(kind.from_stored(core), event);
}
