//! The manifests in `docs`, `examples` and the README: each is taken by the API server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use crate::cluster::Cluster;

/// The pages and files that have manifests.
pub fn paths() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![top.join("README.md")];
    for (folder, extension) in [("docs", "md"), ("examples", "yaml")] {
        let entries = std::fs::read_dir(top.join(folder)).expect("it is part of the repository");
        found.extend(
            entries
                .map(|entry| entry.expect("a readable folder").path())
                .filter(|path| path.extension().is_some_and(|own| own == extension))
                .filter(|path| !manifests(path).expect("a readable page").is_empty()),
        );
    }
    found.sort();
    found
}

/// Sends every manifest of the page to the API server, as a dry run.
pub async fn check(cluster: &Cluster, path: &Path) -> Result<()> {
    let manifests = manifests(path)?;
    ensure!(!manifests.is_empty(), "there is no manifest in it");
    for text in manifests {
        // As kubectl reads it: 0755 is octal.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let manifest: Value = serde_saphyr::from_str_with_options(&text, options)
            .with_context(|| format!("{}:\n{text}", path.display()))?;
        let (group, version) = match manifest["apiVersion"]
            .as_str()
            .context("apiVersion is missing")?
            .split_once('/')
        {
            Some((group, version)) => (group, version),
            None => ("", "v1"),
        };
        let kind = manifest["kind"].as_str().context("kind is missing")?;
        let name = manifest["metadata"]["name"]
            .as_str()
            .context("metadata.name is missing")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), "default", &resource);
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::apply("documents").force()
        };
        let taken = api
            .patch(name, &parameters, &Patch::Apply(&manifest))
            .await
            .with_context(|| format!("{kind} {name}"))?;
        ensure!(taken.metadata.uid.is_some(), "{kind} {name} was not taken");
    }
    Ok(())
}

/// The manifests of a page: the YAML blocks that begin with an API version, also those that a command writes to a file, or
/// the documents of a YAML file.
fn manifests(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    let blocks: Vec<&str> = if path.extension().is_some_and(|extension| extension == "md") {
        let between = |begin: &'static str, end: &'static str| {
            let blocks = text.split(begin).skip(1);
            blocks.filter_map(move |block| block.split(end).next())
        };
        let written = between(".yaml <<'END'\n", "\nEND\n");
        between("```yaml\n", "```").chain(written).collect()
    } else {
        vec![text.as_str()]
    };
    let documents = blocks.iter().flat_map(|block| block.split("\n---\n"));
    Ok(documents
        .filter(|text| text.lines().any(|line| line.starts_with("apiVersion:")))
        .map(str::to_owned)
        .collect())
}
