//! `plan`: what would become of manifests, from the files alone: the Job, the files with their content, what is missing.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ConfigMap;
use kubeopencode_engine::{
    lower::{Lowered, Setting, Settings},
    render,
    run::Run,
};

use crate::{
    cli::PlanArgs,
    create,
    failure::{Failure, Problem},
    lowering::{self, Sources},
    manifest::{self, Manifest, repository},
    printer::Printer,
};

/// Prints what would become of each Task.
pub(crate) async fn plan(arguments: &PlanArgs, printer: &Printer) -> Result<(), Failure> {
    let mut manifests = manifest::load(&arguments.files, &arguments.namespace)?;
    repository::resolve(&mut manifests, true)?;
    // As `run` would do it on this machine.
    let settings = Settings {
        host_repositories: true,
        ..Settings::default()
    };
    let sources = Sources {
        manifests: &manifests,
        client: None,
    };
    let tasks: Vec<&Manifest> = manifests
        .iter()
        .filter(|manifest| manifest.is_task())
        .collect();
    if tasks.is_empty() {
        printer.line("There is no Task in it: nothing would run. Every object is valid.");
        return Ok(());
    }
    let mut problems = Vec::new();
    for manifest in tasks {
        let task = lowering::task_of(manifest)?;
        let (lowered, told) = lowering::lower_and_tell(&task, &sources, &settings).await?;
        match lowered {
            Lowered::Ready(run) => match render::render(&run, 1) {
                Ok(rendered) => {
                    let missing = sources.missing_secrets(&run).await?;
                    printer.text(&describe(manifest, &run, &rendered, &told, &missing)?);
                }
                Err(error) => problems.push(create::never_works(manifest, &error.to_string())),
            },
            Lowered::Missing { missing, timeout } => {
                printer.text(&waits(manifest, &missing, timeout, &told));
            }
            Lowered::Invalid(error) => {
                problems.push(create::never_works(manifest, &error.to_string()));
            }
            Lowered::Needs(_) => {}
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::input(problems))
    }
}

/// A Task that would wait.
fn waits(
    manifest: &Manifest,
    missing: &[kubeopencode_engine::lower::Missing],
    timeout: std::time::Duration,
    told: &[Setting],
) -> String {
    let mut text = format!(
        "# {}: it would wait, for at most {} seconds, for what is in none of the files:\n",
        manifest.title(),
        timeout.as_secs()
    );
    for missing in missing {
        let _ = writeln!(text, "#   {missing}");
    }
    add_settings(&mut text, told);
    text
}

/// What it would be executed with, and who says so.
fn add_settings(text: &mut String, told: &[Setting]) {
    text.push_str("#   settings:\n");
    for line in lowering::settings_table(told).lines() {
        let _ = writeln!(text, "#     {line}");
    }
}

/// A Task that would run: a comment for people, then ConfigMaps and Job as YAML.
fn describe(
    manifest: &Manifest,
    run: &Run,
    rendered: &render::Rendered,
    told: &[Setting],
    missing: &[String],
) -> Result<String, Failure> {
    let mut text = format!(
        "# {} in namespace {}\n",
        manifest.title(),
        run.owner.namespace
    );
    let _ = writeln!(
        text,
        "#   agent:    {} ({})",
        run.agent.name,
        match run.agent.generation {
            None => "built in: there is no Agent of this name in the files",
            Some(_) => "from the files",
        }
    );
    let _ = writeln!(
        text,
        "#   command:  {}",
        run.command.as_ref().map_or_else(
            || "the image's own".to_owned(),
            |words| format!("{words:?}")
        )
    );
    for checkout in &run.checkouts {
        let _ = writeln!(
            text,
            "#   clones:   {} {} into {}",
            checkout.repository,
            checkout.reference.as_deref().unwrap_or("HEAD"),
            checkout.path
        );
    }
    for name in lowering::secrets(run) {
        let state = if missing.contains(&name) {
            "in none of the files: the Pod would wait for it"
        } else {
            "from the files"
        };
        let _ = writeln!(text, "#   secret:   {name} ({state})");
    }
    add_settings(&mut text, told);
    let _ = writeln!(
        text,
        "#\n# Files (names of Job and ConfigMaps follow from the Task's UID, which only a cluster gives):"
    );
    for file in &run.files {
        let _ = writeln!(
            text,
            "#\n# {} ({} bytes, mode {:04o})",
            file.path,
            file.content.len(),
            file.mode.unwrap_or(0o644)
        );
        match std::str::from_utf8(&file.content) {
            Ok(content) => {
                for line in content.lines() {
                    let _ = writeln!(text, "#   | {line}");
                }
            }
            Err(_) => text.push_str("#   (binary)\n"),
        }
    }
    for config_map in &rendered.config_maps {
        let _ = writeln!(
            text,
            "---\n{}",
            yaml(&without_content(config_map))?.trim_end()
        );
    }
    let _ = writeln!(text, "---\n{}", yaml(&rendered.job)?.trim_end());
    Ok(text)
}

/// A ConfigMap whose content has been shown as files already.
fn without_content(config_map: &ConfigMap) -> ConfigMap {
    let mut short = config_map.clone();
    for value in short.data.iter_mut().flat_map(|data| data.values_mut()) {
        *value = format!("({} bytes)", value.len());
    }
    for value in short
        .binary_data
        .iter_mut()
        .flat_map(|data| data.values_mut())
    {
        value.0 = format!("({} bytes)", value.0.len()).into_bytes();
    }
    short
}

/// An object as YAML, with `apiVersion` and `kind`.
fn yaml<T: serde::Serialize>(object: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(object)
        .map_err(|error| Problem::new(format!("it cannot be written as YAML: {error}")).failed())
}
