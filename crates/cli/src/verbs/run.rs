//! `run`: from manifests or words to the agent's exit status, on a cluster of its own, the running local one, or
//! another.

mod elsewhere;
mod environment;
mod existing;
mod said;
mod session;
mod workspace;

use std::{
    cell::{Cell, RefCell},
    process::ExitCode,
};

use kubeopencode_engine::run::Run;

use crate::{
    cli::RunArgs,
    create,
    failure::{Failure, Problem},
    interrupt::Interrupts,
    lowering::Sources,
    machine::{self, Search},
    manifest::{
        self, Manifest,
        repository::{self, LocalRepository},
    },
    printer::Printer,
    target::{self, Target},
};

use session::{Ours, Session};

/// Where the Tasks run.
enum Place {
    /// A machine for this run alone, which begins once everything is known to be good.
    Own,
    /// A cluster that is there.
    There(Target),
}

/// Runs everything to its end.
pub(crate) async fn run(arguments: &RunArgs, printer: &Printer) -> Result<ExitCode, Failure> {
    let place = place(arguments).await?;
    let (manifests, local_repositories) = manifests(arguments, &place)?;
    let runs = runs(&manifests, &place, printer).await?;
    warn_of_changes(&local_repositories, printer);
    if matches!(&place, Place::There(target) if target.data_dir.is_none()) {
        elsewhere::warn(&runs, &manifests, printer);
    }
    let session = Session {
        arguments,
        printer,
        ours: ours(arguments, &manifests)?,
        runs,
        local_repositories,
        own_machine: matches!(place, Place::Own),
        left: Cell::new(false),
        seen: RefCell::default(),
    };
    // Nothing is created yet: until here a signal ends the process, as it does any other.
    let mut interrupts = Interrupts::new()?;
    match place {
        Place::There(target) => {
            session
                .on_cluster(target, &manifests, &mut interrupts)
                .await
        }
        Place::Own => session.on_own_machine(&manifests, &mut interrupts).await,
    }
}

/// Which cluster it is.
async fn place(arguments: &RunArgs) -> Result<Place, Failure> {
    if target::is_named(&arguments.target) {
        return target::connect(&arguments.target).await.map(Place::There);
    }
    Ok(
        match target::running_local(arguments.target.namespace.as_deref()).await {
            Some(local) => Place::There(local),
            None => Place::Own,
        },
    )
}

/// What was given, checked, with paths of this machine resolved.
fn manifests(
    arguments: &RunArgs,
    place: &Place,
) -> Result<(Vec<Manifest>, Vec<LocalRepository>), Failure> {
    let (namespace, reachable, own) = match place {
        Place::Own => (
            arguments
                .target
                .namespace
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            true,
            true,
        ),
        Place::There(target) => (target.namespace.clone(), target.data_dir.is_some(), false),
    };
    let mut manifests = if arguments.files.is_empty() {
        Vec::new()
    } else {
        manifest::load(&arguments.files, &namespace)?
    };
    if let Some(what) = &arguments.what {
        manifests.extend(said::manifests(what, &arguments.said, &namespace, own)?);
    }
    let local_repositories = repository::resolve(&mut manifests, reachable)?;
    Ok((manifests, local_repositories))
}

/// The Tasks, of which there is at least one.
fn ours(arguments: &RunArgs, manifests: &[Manifest]) -> Result<Vec<Ours>, Failure> {
    let tasks = manifests.iter().filter(|manifest| manifest.is_task());
    let ours: Vec<Ours> = tasks
        .map(|manifest| Ours {
            namespace: manifest.namespace().unwrap_or_default().to_owned(),
            name: manifest.name().to_owned(),
        })
        .collect();
    if ours.is_empty() {
        let files = arguments
            .files
            .iter()
            .map(|file| file.display().to_string());
        return Err(
            Problem::new("there is no Task in it, so there is nothing to run")
                .at(files.collect::<Vec<_>>().join(", "))
                .input(),
        );
    }
    Ok(ours)
}

/// What the Tasks come down to; an error where one can never work.
async fn runs(
    manifests: &[Manifest],
    place: &Place,
    printer: &Printer,
) -> Result<Vec<Run>, Failure> {
    let (client, search) = match place {
        Place::Own => (None, Some(Search::here())),
        Place::There(target) => {
            let search = target.data_dir.as_deref().map(Search::of_local);
            (Some(&target.client), search)
        }
    };
    let sources = Sources { manifests, client };
    let settings = create::settings(search.is_some());
    let runs = create::check(manifests, &sources, &settings, create::Missing::Fails).await?;
    for (task, text) in existing::agents(manifests, &runs) {
        printer.about(&task, &text);
    }
    if let Some(search) = search {
        need_agents(&runs, &search, printer)?;
    }
    Ok(runs)
}

/// The agent gets what is committed.
fn warn_of_changes(repositories: &[LocalRepository], printer: &Printer) {
    for repository in repositories {
        if crate::git::is_dirty(&repository.shown) {
            printer.warn(&format!(
                "{} has changes that are not committed; the agent does not see them",
                repository.shown.display()
            ));
        }
    }
}

/// Fails early where this machine has no program for an agent that a Task is sure to start, and warns where it may.
fn need_agents(runs: &[Run], search: &Search, printer: &Printer) -> Result<(), Failure> {
    for lacking in runs.iter().filter_map(|run| machine::lacking(run, search)) {
        let problem = lacking.problem();
        if lacking.for_certain {
            return Err(problem.failed());
        }
        printer.warn_of(&problem);
    }
    Ok(())
}
