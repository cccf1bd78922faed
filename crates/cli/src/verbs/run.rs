//! `run`: from manifests or words to the agent's exit status, on a cluster of its own, the running local one, or
//! another.

mod environment;
mod said;
mod workspace;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use kube::Client;
use kubeopencode_agents::Profile;
use kubeopencode_api::v1alpha1::Task;
use kubeopencode_engine::run::Run;
use tempfile::TempDir;

use super::task::request_stop;
use crate::{
    cli::RunArgs,
    create,
    failure::{Failure, Problem},
    follow::{Output, Show, Talk, follow},
    interrupt::Interrupts,
    lowering::Sources,
    machine::{self, Machine, MachineOptions},
    manifest::{
        self, Manifest,
        repository::{self, LocalRepository},
    },
    printer::Printer,
    summary::TaskSummary,
    target::{self, Target},
};

/// The exit status of what a person interrupted.
const INTERRUPTED: u8 = 130;

/// Signals that follow the first one sooner than this are the same interrupt: `timeout` sends its signal to the program
/// and to its process group.
const ONE_INTERRUPT: Duration = Duration::from_millis(500);

/// Where the Tasks run.
enum Place {
    /// A machine for this run alone, which begins once everything is known to be good.
    Own,
    /// A cluster that is there.
    There(Target),
}

/// A Task of this run.
#[derive(Debug, Clone)]
struct Ours {
    namespace: String,
    name: String,
}

/// Runs everything to its end.
pub(crate) async fn run(arguments: &RunArgs, printer: &Printer) -> Result<ExitCode, Failure> {
    let place = place(arguments).await?;
    let (manifests, local_repositories) = manifests(arguments, &place)?;
    let ours: Vec<Ours> = manifests
        .iter()
        .filter(|manifest| manifest.is_task())
        .map(|manifest| Ours {
            namespace: manifest.namespace().unwrap_or_default().to_owned(),
            name: manifest.name().to_owned(),
        })
        .collect();
    if ours.is_empty() {
        let files: Vec<String> = arguments
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        return Err(
            Problem::new("there is no Task in it, so there is nothing to run")
                .at(files.join(", "))
                .input(),
        );
    }
    let on_this_machine = match &place {
        Place::Own => true,
        Place::There(target) => target.data_dir.is_some(),
    };
    let client = match &place {
        Place::Own => None,
        Place::There(target) => Some(&target.client),
    };
    let sources = Sources {
        manifests: &manifests,
        client,
    };
    let runs = create::check(
        &manifests,
        &sources,
        &create::settings(on_this_machine),
        create::Missing::Fails,
    )
    .await?;
    if on_this_machine {
        need_agents(&runs)?;
    }
    for repository in &local_repositories {
        if crate::git::is_dirty(&repository.shown) {
            printer.warn(&format!(
                "{} has changes that are not committed; the agent does not see them",
                repository.shown.display()
            ));
        }
    }
    let session = Session {
        arguments,
        printer,
        ours,
        runs,
        local_repositories,
        own_machine: matches!(place, Place::Own),
    };
    // Nothing is created yet: until here a signal ends the process, as it does any other.
    let mut interrupts = Interrupts::new()?;
    match place {
        Place::There(target) => {
            let written =
                create::create(&target.client, &manifests, create::Namespaces::Expected).await?;
            for (manifest, written) in manifests.iter().zip(written) {
                if written == create::Written::Configured {
                    printer.line(&format!("{} {}", manifest.title(), written.word()));
                }
            }
            session
                .see_through(&target.client, target.data_dir, &mut interrupts)
                .await
        }
        Place::Own => {
            let folder = tempfile::Builder::new()
                .prefix("kubeopencode-run-")
                .tempdir()?;
            let ended = session
                .on_own_machine(&folder, &manifests, &mut interrupts)
                .await;
            if arguments.keep {
                let _ = folder.keep();
            } else if let Err(error) = workspace::remove(folder.path()) {
                printer.warn(&format!(
                    "{} cannot be removed: {error}",
                    folder.path().display()
                ));
            }
            ended
        }
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

/// Fails early where a Task is started by its profile alone and this machine has no program for it.
fn need_agents(runs: &[Run]) -> Result<(), Failure> {
    for run in runs {
        let Some(profile) = run.profile.filter(|profile| is_started_by(run, profile)) else {
            continue;
        };
        if machine::find_agent(profile).is_none() {
            return Err(Problem::new(format!(
                "the Task {} runs {}, which is not installed on this machine",
                run.owner.name, profile.name
            ))
            .hint(format!(
                "`{}` installs it; --command, or an Agent with a command, runs something else",
                profile.install
            ))
            .failed());
        }
    }
    Ok(())
}

/// Whether its command is the profile's, or needs the image that brings it.
fn is_started_by(run: &Run, profile: &Profile) -> bool {
    let script = run.command.as_ref().and_then(|command| command.last());
    let begin = format!("exec {} ", profile.program);
    run.images.opencode.is_some() || script.is_some_and(|script| script.starts_with(&begin))
}

/// All that a run needs to know after it has begun.
struct Session<'a> {
    arguments: &'a RunArgs,
    printer: &'a Printer,
    ours: Vec<Ours>,
    runs: Vec<Run>,
    local_repositories: Vec<LocalRepository>,
    /// Whether the machine, and all that is on it, ends with the run.
    own_machine: bool,
}

impl Session<'_> {
    /// Runs on a machine of its own, which is there for as long.
    async fn on_own_machine(
        &self,
        folder: &TempDir,
        manifests: &[Manifest],
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, Failure> {
        let directory = folder.path().to_owned();
        let machine = Machine::start(MachineOptions {
            directory: directory.clone(),
            durable: false,
            // Only Pods that have a token have a use for it.
            listen: self
                .runs
                .iter()
                .any(|run| run.pod.service_account_token)
                .then_some(0),
        })
        .await?;
        let client = machine.client();
        let ended = match create::create(&client, manifests, create::Namespaces::Made).await {
            Ok(_) => self.see_through(&client, Some(directory), interrupts).await,
            Err(failure) => Err(failure),
        };
        match ended {
            // Whoever interrupts twice does not wait: dropping the machine ends its processes.
            Ok(code) if code == ExitCode::from(INTERRUPTED) => {}
            _ => machine.shutdown().await,
        }
        ended
    }

    /// Follows all Tasks to their end, brings their commits back, and sums up.
    async fn see_through(
        &self,
        client: &Client,
        data_dir: Option<PathBuf>,
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, Failure> {
        let Some((tasks, interrupted)) = self.follow_all(client, interrupts).await? else {
            self.printer.progress_end();
            self.printer.line("Interrupted twice: ended at once.");
            return Ok(ExitCode::from(INTERRUPTED));
        };
        let mut summaries = Vec::new();
        for task in &tasks {
            let mut summary = TaskSummary::of(task);
            summary.goes_with_run = self.own_machine && !self.arguments.keep;
            if let Some(data_dir) = &data_dir {
                workspace::collect(client, data_dir, task, self, &mut summary).await;
            }
            summaries.push(summary);
        }
        if self.arguments.output.is_some() {
            let text = serde_json::to_string_pretty(&serde_json::json!({"tasks": summaries}))
                .map_err(|error| Problem::new(error.to_string()).failed())?;
            self.printer.text(&text);
        }
        for summary in &summaries {
            summary.print(self.printer);
        }
        let code = summaries
            .iter()
            .map(TaskSummary::exit_status)
            .find(|code| *code != 0)
            .unwrap_or(0);
        Ok(ExitCode::from(if interrupted && code == 0 {
            INTERRUPTED
        } else {
            code
        }))
    }

    /// Follows all Tasks; the first interrupt stops them, the second one answers None.
    async fn follow_all(
        &self,
        client: &Client,
        interrupts: &mut Interrupts,
    ) -> Result<Option<(Vec<Task>, bool)>, Failure> {
        let show = Show {
            raw: self.arguments.raw,
            aside: self.arguments.output.is_some(),
            named: self.ours.len() > 1,
        };
        let mut following = Box::pin(try_join_all(self.ours.iter().map(|task| {
            let output = Output::new(self.printer, &task.name, show);
            follow(
                client,
                &task.namespace,
                &task.name,
                output,
                Talk::Phases,
                self.printer,
            )
        })));
        let mut interrupted: Option<Instant> = None;
        loop {
            tokio::select! {
                tasks = &mut following => return Ok(Some((tasks?, interrupted.is_some()))),
                () = interrupts.next() => {
                    match interrupted {
                        Some(first) if first.elapsed() < ONE_INTERRUPT => continue,
                        Some(_) => return Ok(None),
                        None => interrupted = Some(Instant::now()),
                    }
                    self.printer.line("Stopping; the agent has its grace period. Ctrl-C again ends everything at once.");
                    for task in &self.ours {
                        if let Err(error) = request_stop(client, &task.namespace, &task.name).await {
                            self.printer.warn(&format!("{} cannot be stopped: {error}", task.name));
                        }
                    }
                }
            }
        }
    }
}
