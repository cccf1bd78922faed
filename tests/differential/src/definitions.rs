//! The definitions that every script finds: those of this project, and those of the folder `definitions`, which say what
//! the project's own do not need.

use anyhow::Result;
use serde_json::Value;

const OTHERS: [&str; 2] = [
    include_str!("../definitions/gadgets.yaml"),
    include_str!("../definitions/widgets.yaml"),
];

/// All of them.
///
/// # Errors
/// One of them is no YAML.
pub fn definitions() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for definition in kubeopencode_api::crds() {
        all.push(serde_json::to_value(definition)?);
    }
    for text in OTHERS {
        all.push(serde_saphyr::from_str(text)?);
    }
    Ok(all)
}
