//! A real agent in a scenario: its manifests stand once, in `tests/scenarios/agents`, and each scenario says what is
//! different.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// What stands for the agent's configuration in its manifests.
const CONFIGURATION: &str = "${configuration}";

/// `agent` as a scenario writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// Which: the name of a file of `tests/scenarios/agents`.
    pub is: String,
    /// More of the spec of its Agent, merged into it.
    #[serde(default)]
    spec: Value,
    /// More of its own configuration, merged into it.
    #[serde(default)]
    configuration: Value,
}

/// A file of `tests/scenarios/agents`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Described {
    /// The program that the embedded node takes from the machine.
    program: String,
    /// What it is told in a file of its own.
    configuration: Value,
    /// The Agent, and what it refers to.
    manifests: Vec<Value>,
}

impl Wanted {
    /// The program that the embedded node takes from the machine.
    pub fn program(&self) -> Result<String> {
        self.described(None).map(|described| described.program)
    }

    /// Its manifests, for a model at this address.
    pub fn manifests(&self, model: &str) -> Result<Vec<Value>> {
        let mut described = self.described(Some(model))?;
        merge(&mut described.configuration, &self.configuration);
        let configuration = json!(described.configuration.to_string());
        for manifest in &mut described.manifests {
            if manifest["kind"] != "Agent" {
                continue;
            }
            let contexts = manifest["spec"]["contexts"].as_array_mut();
            for context in contexts.into_iter().flatten() {
                if context["text"] == CONFIGURATION {
                    context["text"] = configuration.clone();
                }
            }
            merge(&mut manifest["spec"], &self.spec);
        }
        Ok(described.manifests)
    }

    fn described(&self, model: Option<&str>) -> Result<Described> {
        let path = folder().join(format!("{}.yaml", self.is));
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let text = model.map_or(text.clone(), |url| text.replace("${model.url}", url));
        serde_saphyr::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios/agents")
}

/// As a merge patch does; nothing is merged where nothing is said.
fn merge(into: &mut Value, more: &Value) {
    if !more.is_null() {
        json_patch::merge(into, more);
    }
}
