//! A run from when it is known to be good: its Tasks are created, followed to their end and summed up, and what they left
//! is brought back. An interrupt stops them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::future::join_all;
use kube::{Client, ResourceExt as _};
use kubeopencode_engine::run::Run;

use super::{elsewhere, workspace};
use crate::{
    cli::RunArgs,
    create,
    failure::{Failure, Problem},
    follow::{Followed, Output, Show, Talk, follow},
    interrupt::Interrupts,
    machine::{Machine, MachineOptions},
    manifest::{Manifest, repository::LocalRepository},
    printer::Printer,
    summary::TaskSummary,
    target::Target,
    verbs::task::request_stop,
};

/// The exit status of what a person interrupted.
const INTERRUPTED: u8 = 130;

/// Signals that follow the first one sooner than this are the same interrupt: `timeout` sends its signal to the program
/// and to its process group.
const ONE_INTERRUPT: Duration = Duration::from_millis(500);

/// A Task of this run.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// All that a run needs to know after it has begun.
pub(super) struct Session<'a> {
    pub(super) arguments: &'a RunArgs,
    pub(super) printer: &'a Printer,
    pub(super) ours: Vec<Ours>,
    pub(super) runs: Vec<Run>,
    pub(super) local_repositories: Vec<LocalRepository>,
    /// Whether the machine, and all that is on it, ends with the run.
    pub(super) own_machine: bool,
    /// Whether a Task has left work in its workspace that is nowhere else. It is kept however the run ends.
    pub(super) left: Cell<bool>,
    /// Namespaces and names of the Tasks whose workspaces were looked at.
    pub(super) seen: RefCell<BTreeSet<(String, String)>>,
}

impl Session<'_> {
    /// What a Task comes down to.
    pub(super) fn run(&self, namespace: &str, name: &str) -> Option<&Run> {
        let mut runs = self.runs.iter();
        runs.find(|run| run.owner.name == name && run.owner.namespace == namespace)
    }

    /// Runs on a cluster that is there.
    pub(super) async fn on_cluster(
        &self,
        target: Target,
        manifests: &[Manifest],
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, Failure> {
        create::create(
            &target.client,
            manifests,
            create::Namespaces::Expected,
            create::Present::Kept,
        )
        .await?;
        let Target {
            client, data_dir, ..
        } = target;
        let ended = self
            .see_through(&client, data_dir.as_deref(), interrupts)
            .await;
        if let Some(data_dir) = data_dir {
            self.keep_unseen(&client, &data_dir).await;
        }
        ended
    }

    /// Runs on a machine of its own, which is there for as long, and so is its folder.
    pub(super) async fn on_own_machine(
        &self,
        manifests: &[Manifest],
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("kubeopencode-run-")
            .tempdir()?;
        let ended = self.within(folder.path(), manifests, interrupts).await;
        if self.arguments.keep || self.left.get() {
            let _ = folder.keep();
        } else if let Err(error) = workspace::remove(folder.path()) {
            self.printer.warn(&format!(
                "{} cannot be removed: {error}",
                folder.path().display()
            ));
        }
        ended
    }

    /// Starts a machine in a folder, runs on it, and ends it.
    async fn within(
        &self,
        folder: &Path,
        manifests: &[Manifest],
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, Failure> {
        let machine = Machine::start(MachineOptions {
            directory: folder.to_owned(),
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
        let created = create::create(
            &client,
            manifests,
            create::Namespaces::Made,
            create::Present::Changed,
        );
        let ended = match created.await {
            Ok(_) => self.see_through(&client, Some(folder), interrupts).await,
            Err(failure) => Err(failure),
        };
        self.keep_unseen(&client, folder).await;
        match &ended {
            // Whoever interrupts twice does not wait: dropping the machine ends its processes.
            Ok(code) if *code == ExitCode::from(INTERRUPTED) => {}
            _ => machine.shutdown().await,
        }
        ended
    }

    /// Sees to it that the folder stays where a Task was not followed to its end, and says where its work is.
    async fn keep_unseen(&self, client: &Client, folder: &Path) {
        for task in &self.ours {
            let key = (task.namespace.clone(), task.name.clone());
            let Some(run) = self.run(&task.namespace, &task.name) else {
                continue;
            };
            if self.seen.borrow().contains(&key) {
                continue;
            }
            for place in workspace::unseen(client, folder, task, run).await {
                self.left.set(true);
                self.printer.about(
                    &task.name,
                    &format!(
                        "what its agent did is not brought back; it is kept in {}",
                        place.display()
                    ),
                );
            }
        }
    }

    /// Follows all Tasks to their end, each of which is summed up when it ends.
    async fn see_through(
        &self,
        client: &Client,
        data_dir: Option<&Path>,
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, Failure> {
        let Some((summaries, interrupted)) = self.follow_all(client, data_dir, interrupts).await?
        else {
            self.printer.progress_end();
            self.printer.line(if self.own_machine {
                "Interrupted twice: ended at once."
            } else {
                // It belongs to the cluster, and so does its agent.
                "Interrupted twice: not waited for any longer; the cluster ends the agent when its grace period is over."
            });
            return Ok(ExitCode::from(INTERRUPTED));
        };
        if self.arguments.output.is_some() {
            let text = serde_json::to_string_pretty(&serde_json::json!({"tasks": summaries}))
                .map_err(|error| Problem::new(error.to_string()).failed())?;
            self.printer.text(&text);
        }
        let code = summaries
            .iter()
            .map(TaskSummary::exit_status)
            .find(|code| *code != 0)
            .unwrap_or(0);
        let code = if interrupted && code == 0 {
            INTERRUPTED
        } else {
            code
        };
        Ok(ExitCode::from(code))
    }

    /// Follows one to its end, brings its work back, and sums it up. Its exit status is the agent's, also where the log
    /// was cut.
    async fn follow_one(
        &self,
        client: &Client,
        data_dir: Option<&Path>,
        task: &Ours,
        show: Show,
    ) -> Result<TaskSummary, Failure> {
        let output = Output::new(self.printer, &task.name, show);
        let followed = follow(
            client,
            &task.namespace,
            &task.name,
            output,
            Talk::Phases,
            self.printer,
        );
        let Followed { task, cut } = followed.await?;
        if let Some(why) = cut {
            self.printer.warn(&format!("{}: {why}", task.name_any()));
        }
        let mut summary = TaskSummary::of(&task);
        if let Some(data_dir) = data_dir {
            if workspace::collect(client, data_dir, &task, self, &mut summary).await {
                self.left.set(true);
            }
            let key = (task.namespace().unwrap_or_default(), task.name_any());
            self.seen.borrow_mut().insert(key);
        } else if let Some(run) = self.run(&task.namespace().unwrap_or_default(), &task.name_any())
        {
            elsewhere::mark(run, &mut summary);
        }
        summary.print(self.printer);
        Ok(summary)
    }

    /// Follows all Tasks, also when one of them cannot be; the first interrupt stops them, the second one answers None.
    async fn follow_all(
        &self,
        client: &Client,
        data_dir: Option<&Path>,
        interrupts: &mut Interrupts,
    ) -> Result<Option<(Vec<TaskSummary>, bool)>, Failure> {
        let show = Show {
            raw: self.arguments.raw,
            aside: self.arguments.output.is_some(),
            named: self.ours.len() > 1,
        };
        let all = self.ours.iter().map(|task| async move {
            let followed = self.follow_one(client, data_dir, task, show).await;
            if followed.is_err() && self.ours.len() > 1 {
                let name = &task.name;
                self.printer.warn(&format!(
                    "{name} cannot be followed any more; the others are"
                ));
            }
            followed
        });
        let mut following = Box::pin(join_all(all));
        let mut interrupted: Option<Instant> = None;
        loop {
            tokio::select! {
                ended = &mut following => {
                    let summaries: Result<Vec<_>, _> = ended.into_iter().collect();
                    return Ok(Some((summaries?, interrupted.is_some())));
                }
                () = interrupts.next() => {
                    match interrupted {
                        Some(first) if first.elapsed() < ONE_INTERRUPT => continue,
                        Some(_) => return Ok(None),
                        None => interrupted = Some(Instant::now()),
                    }
                    self.printer.line(if self.own_machine {
                        "Stopping; the agent has its grace period. Ctrl-C again ends everything at once."
                    } else {
                        "Stopping; the agent has its grace period. Ctrl-C again does not wait for it."
                    });
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
