//! How fast the whole line is: from `run` to the agent's first byte, and Tasks a second from create to finished.
//!
//! `cargo bench -p kubeopencode --bench line`. Each figure stands beside something simpler that was measured in the same
//! run, because machines differ and are shared.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/support/local.rs"]
mod local;

use std::{
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_api::v1alpha1::{Agent, Task, TaskPhase};
use local::Local;
use serde_json::json;

const STARTS: usize = 20;
const TASKS: usize = 200;
const AT_ONCE: usize = 16;

fn main() -> Result<()> {
    let shell = median(STARTS, || {
        first_byte(Command::new("sh").args(["-c", "echo first"]))
    })?;
    let run = median(STARTS, || {
        first_byte(Command::new(env!("CARGO_BIN_EXE_kubeopencode")).args([
            "run",
            "Be quick",
            "--command",
            "echo first",
        ]))
    })?;
    println!(
        "{:<52} {:>8.1} ms",
        "sh -c 'echo first', to its first byte",
        millis(shell)
    );
    println!(
        "{:<52} {:>8.1} ms   {:>6.1} of the shell alone",
        "kubeopencode run, to the agent's first byte",
        millis(run),
        run.as_secs_f64() / shell.as_secs_f64()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let bare = runtime.block_on(bare_processes())?;
    let tasks = runtime.block_on(tasks())?;
    println!(
        "{:<52} {:>8.1} /s",
        "three processes in a row, no cluster", bare
    );
    println!(
        "{:<52} {:>8.1} /s   {:>6.3} of bare processes",
        format!("Tasks from create to finished, {TASKS} in all"),
        tasks,
        tasks / bare
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(times: usize, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut all = (0..times).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    all.sort();
    all.get(times / 2).copied().context("nothing was measured")
}

/// From the start of a program to the first byte of its standard output.
fn first_byte(command: &mut Command) -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let begin = Instant::now();
    let mut child = command
        .env("XDG_DATA_HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut byte = [0];
    child
        .stdout
        .take()
        .context("stdout is a pipe")?
        .read_exact(&mut byte)?;
    let time = begin.elapsed();
    child.wait()?;
    Ok(time)
}

/// What a Task comes to at the least: context-init, supervise and the agent, one after the other.
async fn bare_processes() -> Result<f64> {
    let begin = Instant::now();
    stream::iter(0..TASKS)
        .map(|_| async {
            for _ in 0..3 {
                let status = tokio::process::Command::new("true").status().await?;
                ensure!(status.success(), "true failed");
            }
            Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(rate(begin.elapsed()))
}

fn rate(time: Duration) -> f64 {
    f64::from(u32::try_from(TASKS).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

async fn tasks() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let local = Local::start(folder.path())?;
    let kubeconfig = Kubeconfig::read_from(local.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let agent = json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
        "spec": {"serviceAccountName": "default", "command": ["true"]},
    });
    Api::<Agent>::default_namespaced(client.clone())
        .patch(
            "default",
            &PatchParams::apply("bench"),
            &Patch::Apply(agent),
        )
        .await?;
    let api: Api<Task> = Api::default_namespaced(client);
    let begin = Instant::now();
    let finished = finished(api.clone());
    let created = stream::iter(0..TASKS)
        .map(|number| {
            let api = api.clone();
            let task = Task::new(
                &format!("t-{number}"),
                serde_json::from_value(json!({"description": "Be quick"})).unwrap_or_default(),
            );
            async move { api.create(&PostParams::default(), &task).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<Task>>();
    let (created, finished) = tokio::join!(created, finished);
    created?;
    finished?;
    Ok(rate(begin.elapsed()))
}

async fn finished(api: Api<Task>) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    let mut changes = watcher(api, watcher::Config::default())
        .applied_objects()
        .boxed();
    while let Some(task) = changes.try_next().await? {
        let phase = task.status.as_ref().and_then(|status| status.phase);
        ensure!(
            phase != Some(TaskPhase::Failed),
            "a Task failed: {:?}",
            task.status
        );
        if phase == Some(TaskPhase::Completed)
            && names.insert(task.metadata.name)
            && names.len() == TASKS
        {
            return Ok(());
        }
    }
    anyhow::bail!("the watch ended")
}
