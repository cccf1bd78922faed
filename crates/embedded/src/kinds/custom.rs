//! From a custom resource definition to the kinds it adds.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{Column, Custom, Kind, Subresource, crd};
use crate::{
    schema::{Schema, rules::Rules},
    status::{Cause, Failure},
};

const VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// One kind for each served version.
pub(super) fn kinds(definition: &Value) -> Result<Vec<Kind>, Failure> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(&text).collect()
    };
    let (group, names) = (text(&spec["group"]), &spec["names"]);
    let (kind, plural) = (text(&names["kind"]), text(&names["plural"]));
    let or = |value: String, default: String| if value.is_empty() { default } else { value };
    let versions = crd::versions(definition);
    let stored = versions
        .iter()
        .find(|v| v["storage"] == true)
        .map(|v| text(&v["name"]))
        .unwrap_or_default();
    let mut kinds = Vec::new();
    for version in versions.iter().filter(|v| v["served"] == true) {
        let schema = &version["schema"]["openAPIV3Schema"];
        let compiled = Schema::compile(schema).map_err(|error| {
            let cause = Cause::invalid("spec.versions", &version["name"], error.to_string());
            let name = text(&definition["metadata"]["name"]);
            Failure::invalid(
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                &name,
                vec![cause],
            )
        })?;
        let has_status = version["subresources"]["status"].is_object();
        let subresource = Subresource {
            name: "status",
            kind: ("", "", kind.clone()),
            verbs: vec!["get", "patch", "update"],
        };
        kinds.push(Kind {
            group: group.clone(),
            version: text(&version["name"]),
            list_kind: or(text(&names["listKind"]), format!("{kind}List")),
            singular: or(text(&names["singular"]), kind.to_lowercase()),
            kind: kind.clone(),
            plural: plural.clone(),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            has_status,
            custom: true,
            verbs: VERBS.to_vec(),
            subresources: if has_status {
                vec![subresource]
            } else {
                Vec::new()
            },
            columns: columns(&version["additionalPrinterColumns"]),
            selectable_fields: version["selectableFields"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|field| text(&field["jsonPath"]))
                .collect(),
            stored_as: (group.clone(), stored.clone(), plural.clone()),
            schema: OnceLock::from(Arc::new(compiled)),
            custom_parts: Some(Custom {
                rules: Rules::compile(schema),
                document: schema.clone(),
            }),
        });
    }
    Ok(kinds)
}

fn columns(list: &Value) -> Vec<Column> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let columns = list.as_array().into_iter().flatten().map(|column| Column {
        name: text(&column["name"]),
        kind: text(&column["type"]),
        format: text(&column["format"]),
        description: text(&column["description"]),
        priority: column["priority"].as_i64().unwrap_or_default(),
        json_path: text(&column["jsonPath"]),
    });
    columns.collect()
}
