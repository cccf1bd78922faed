//! What `kubectl` shows of the resources, and what the schemas must not have.

use kubeopencode_api::crds;
use serde_json::Value;

#[test]
fn names_and_columns() {
    let shown: Vec<String> = crds()
        .iter()
        .map(|crd| {
            let names = &crd.spec.names;
            let version = &crd.spec.versions[0];
            let columns = version.additional_printer_columns.iter().flatten();
            let columns: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
            let short = names.short_names.clone().unwrap_or_default().join(",");
            format!("{} ({short}): {}", names.plural, columns.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "tasks (tk): Phase Agent Job Age Reason Outcome Commits Cost Message",
            "agents (ag): Image Max In-Use ServiceAccount Age",
            "kubeopencodeconfigs (kocc): System-Image Age",
        ]
    );
}

/// Kubernetes knows no unsigned formats, and the status of a Task or an Agent is a subresource of its own.
#[test]
fn schemas_are_such_as_kubernetes_knows() {
    fn formats(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                if let Some(Value::String(format)) = fields.get("format") {
                    found.push(format.clone());
                }
                fields.values().for_each(|value| formats(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| formats(value, found)),
            _ => {}
        }
    }
    for crd in crds() {
        let mut found = Vec::new();
        let object = serde_json::to_value(&crd).expect("JSON");
        formats(&object, &mut found);
        for format in found {
            let known = ["int32", "int64", "date-time", "double"];
            assert!(
                known.contains(&format.as_str()),
                "{format} in {:?}",
                crd.metadata.name
            );
        }
        let has_status = matches!(crd.spec.names.kind.as_str(), "Task" | "Agent");
        let status = crd.spec.versions[0].subresources.as_ref();
        let status = status.is_some_and(|subresources| subresources.status.is_some());
        assert_eq!(status, has_status);
    }
}
