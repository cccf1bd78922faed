//! `local`: serves a Kubernetes of this machine until it is ended.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kube::config::{Kubeconfig, NamedContext};
use serde_json::json;

use crate::{
    cli::LocalArgs,
    failure::{Failure, Problem},
    interrupt::Interrupts,
    machine::{Machine, MachineOptions},
    printer::Printer,
    shell, target,
};

/// Name of everything that `--merge-kubeconfig` adds.
const CONTEXT: &str = "kubeopencode";

/// Serves until a signal.
pub(crate) async fn local(arguments: &LocalArgs, printer: &Printer) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let directory = match &arguments.data_dir {
        Some(directory) => std::path::absolute(directory)?,
        None => target::data_dir()?,
    };
    let port = arguments
        .port
        .or_else(|| last_port(&directory))
        .unwrap_or(0);
    let options = |port| MachineOptions {
        directory: directory.clone(),
        durable: true,
        listen: Some(port),
    };
    let machine = match Machine::start(options(port)).await {
        // Somebody else has the port of the last time by now; another one does as well, unless this one was asked for.
        Err(failure)
            if port != 0
                && arguments.port.is_none()
                && failure.problems.iter().any(|problem| {
                    problem.message.contains("in use") && !problem.message.contains("process")
                }) =>
        {
            Machine::start(options(0)).await?
        }
        other => other?,
    };
    // Of a time before this one that was killed.
    let ending = target::ending_of(&directory);
    let _ = fs::remove_file(&ending);
    let kubeconfig = target::kubeconfig_of(&directory);
    if arguments.merge_kubeconfig {
        let merged = merge(&kubeconfig)?;
        printer.line(&format!(
            "The context {CONTEXT} is in {} now, and is the current one.",
            merged.display()
        ));
    }
    printer.text(&format!(
        "export KUBECONFIG={}",
        shell::word(&kubeconfig.display().to_string())
    ));
    printer.line("This is a Kubernetes of this machine alone; kubectl works with it once you have entered the line above.");
    printer.line(if target::data_dir().is_ok_and(|usual| usual == directory) {
        "`kubeopencode run` and `kubeopencode task` use it by themselves. Ctrl-C ends it; its objects stay."
    } else {
        "`kubeopencode run` and `kubeopencode task` use it with --kubeconfig, as a cluster that others use: not for repositories of this machine. Ctrl-C ends it; its objects stay."
    });
    interrupts.next().await;
    if let Err(error) = fs::write(&ending, "") {
        printer.warn(&format!("{} cannot be written: {error}", ending.display()));
    }
    printer.line("Ending; a second Ctrl-C does not wait for Pods.");
    tokio::select! {
        () = machine.shutdown() => {}
        () = interrupts.next() => {}
    }
    let _ = fs::remove_file(ending);
    Ok(())
}

/// The port of the last time, so that shells with the old kubeconfig go on working.
fn last_port(directory: &Path) -> Option<u16> {
    let kubeconfig = Kubeconfig::read_from(target::kubeconfig_of(directory)).ok()?;
    let server = kubeconfig
        .clusters
        .first()?
        .cluster
        .as_ref()?
        .server
        .clone()?;
    server
        .rsplit_once(':')?
        .1
        .trim_end_matches('/')
        .parse()
        .ok()
}

/// Adds cluster, user and context to the default kubeconfig, in place of those of an earlier time.
fn merge(own: &Path) -> Result<PathBuf, Failure> {
    let path = match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(list) => std::env::split_paths(&list).next().unwrap_or_default(),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".kube/config"),
            None => {
                return Err(
                    Problem::new("there is no HOME, so there is no default kubeconfig").input(),
                );
            }
        },
    };
    let bad = |error: &dyn std::fmt::Display| {
        Problem::new(format!("it cannot be merged: {error}"))
            .at(path.display())
            .failed()
    };
    let mut added = Kubeconfig::read_from(own).map_err(|error| bad(&error))?;
    let mut merged = if path.exists() {
        Kubeconfig::read_from(&path).map_err(|error| bad(&error))?
    } else {
        Kubeconfig::default()
    };
    for cluster in &mut added.clusters {
        CONTEXT.clone_into(&mut cluster.name);
    }
    for user in &mut added.auth_infos {
        CONTEXT.clone_into(&mut user.name);
    }
    merged.clusters.retain(|cluster| cluster.name != CONTEXT);
    merged.auth_infos.retain(|user| user.name != CONTEXT);
    merged.contexts.retain(|context| context.name != CONTEXT);
    merged.clusters.append(&mut added.clusters);
    merged.auth_infos.append(&mut added.auth_infos);
    let context: NamedContext = serde_json::from_value(
        json!({"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}),
    )
    .map_err(|error| bad(&error))?;
    merged.contexts.push(context);
    merged.current_context = Some(CONTEXT.to_owned());
    let text = serde_saphyr::to_string(&merged).map_err(|error| bad(&error))?;
    write_private(&path, &text).map_err(|error| bad(&error))?;
    Ok(path)
}

/// Writes a file that only its owner can read, in one step.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
