//! Tasks a second, beside the same writes made by bare clients.
//!
//! Pods are made and nobody starts them: a cluster without a node. So the figures are those of API server and operator,
//! not of containers. What bare clients send are the operator's own requests for one Task, taken from the wire, byte
//! for byte but for names and versions, for 32 Tasks at once.
//!
//! Each number of Tasks is measured four times: bare clients, operator, operator, bare clients. A write takes longer the
//! more objects there are, and what comes later meets more of them; so it weighs on both alike.

mod bare;
mod queue;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures::StreamExt as _;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{ListParams, PostParams},
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_api::v1alpha1::{Task, TaskPhase};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    OperatorArgs, api,
    operator::{Operator, Start},
    report,
    wire::Wire,
};

/// Connections that create Tasks.
const CREATORS: usize = 16;
/// Tasks whose requests are counted at the wire.
const COUNTED: usize = 200;
/// Longest that a measurement may take: then something hangs.
const PATIENCE: Duration = Duration::from_mins(15);

/// `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// How many Tasks are created; more than one number: one measurement each
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1000, 5000])]
    tasks: Vec<usize>,
    /// How many Tasks one Agent has, 50 of which may run at once, for the time from a freed slot to the next Job
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [300, 2000])]
    queued: Vec<usize>,
    /// Fail if the operator makes less than this part of the rate of bare clients, to the last Job released, with the
    /// smallest number of Tasks
    #[arg(long, value_name = "RATIO", overrides_with = "at_least")]
    at_least: Option<f64>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// How long it took from the first create, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Took {
    /// Until the last Task was created.
    created: f64,
    /// Until the last Job was released.
    released: f64,
    /// Until the last Task's phase was Running.
    running: f64,
}

impl Took {
    /// Of two runs.
    fn mean(self, other: Self) -> Self {
        Self {
            created: f64::midpoint(self.created, other.created),
            released: f64::midpoint(self.released, other.released),
            running: f64::midpoint(self.running, other.running),
        }
    }
}

/// What an operator took for its Tasks, beside time.
#[derive(Debug, Clone, Copy)]
struct Used {
    took: Took,
    peak_kib: u64,
    cpu_seconds: f64,
}

/// One number of Tasks, by both; means of two runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    tasks: usize,
    bare: Took,
    operator: Took,
    /// The operator's peak of resident memory, in KiB: the larger of the two.
    peak_kib: u64,
    /// Its processor time in seconds.
    cpu_seconds: f64,
}

impl Measured {
    /// The operator's rate as a part of that of bare clients.
    fn ratio(&self, until: impl Fn(&Took) -> f64) -> f64 {
        until(&self.bare) / until(&self.operator)
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    measured: Vec<Measured>,
    /// Requests of the operator for one Task, from its creation until it runs, without watches.
    requests: BTreeMap<String, f64>,
    /// From a freed slot to the next Job, by the length of the queue.
    queues: Vec<queue::Queue>,
}

/// What all measurements share.
struct Bench {
    config: Config,
    client: Client,
    arguments: OperatorArgs,
    folder: tempfile::TempDir,
}

/// Runs it; false if the operator is slower than it has to be.
pub(crate) async fn load(arguments: LoadArgs) -> Result<bool> {
    let config = api::config().await?;
    let client = Client::try_from(config.clone())?;
    api::install(&client, &arguments.operator.program).await?;
    let bench = Bench {
        config,
        client,
        arguments: arguments.operator,
        folder: tempfile::tempdir()?,
    };
    let script = bench.one_life().await?;
    let mut measured = Vec::new();
    for tasks in arguments.tasks {
        measured.push(bench.by_both(tasks, &script).await?);
    }
    let requests = bench.requests().await?;
    let mut queues = Vec::new();
    for tasks in arguments.queued {
        let queue = bench.queue(tasks).await?;
        report::aside(format!("{tasks} Tasks of one Agent: {queue:?}"));
        queues.push(queue);
    }
    let figures = Figures {
        measured,
        requests,
        queues,
    };
    if arguments.json {
        report::line(serde_json::to_string_pretty(&figures)?);
    } else {
        table::print(&figures);
    }
    let smallest = figures.measured.iter().min_by_key(|run| run.tasks);
    let (Some(goal), Some(smallest)) = (arguments.at_least, smallest) else {
        return Ok(true);
    };
    Ok(is_reached(goal, smallest))
}

/// Whether this ratio is reached, and says so.
fn is_reached(goal: f64, measured: &Measured) -> bool {
    let ratio = measured.ratio(|took| took.released);
    let reached = ratio >= goal;
    let word = if reached { "ok  " } else { "FAIL" };
    report::aside(format!(
        "{word} {} Tasks: the operator makes {ratio:.3} of the rate of bare clients; at least {goal} is asked for",
        measured.tasks
    ));
    reached
}

impl Bench {
    /// A namespace whose Tasks an operator of its own serves.
    async fn namespace(&self, name: &str) -> Result<()> {
        api::namespace(&self.client, name).await?;
        let spec = json!({"serviceAccountName": "default", "command": ["true"]});
        api::agent(&self.client, name, spec).await
    }

    fn operator(&self, namespace: &str, kubeconfig: &Path) -> Result<Operator> {
        let logs = self.arguments.logs.as_deref();
        let mut arguments: Vec<String> = ["--leader-elect=false", "--listen", "off", "--namespace"]
            .map(str::to_owned)
            .into();
        arguments.extend([
            namespace.to_owned(),
            "--system-image".to_owned(),
            self.arguments.system_image.clone(),
        ]);
        Operator::start(Start {
            program: &self.arguments.program,
            name: format!("operator-of-{namespace}"),
            kubeconfig,
            arguments,
            logs: logs.unwrap_or(self.folder.path()),
            own_network: false,
        })
    }

    /// What the operator writes for one Task.
    async fn one_life(&self) -> Result<bare::Script> {
        let namespace = "load-script";
        self.namespace(namespace).await?;
        let (wire, operator) = self.wired(namespace).await?;
        let tasks = Api::<Task>::namespaced(self.client.clone(), namespace);
        let released = self.released(namespace, 1);
        let task = tasks
            .create(&PostParams::default(), &api::task(&name(0)))
            .await?;
        released.await?;
        // Events come after what they tell: they are sent before it ends.
        operator.end(Duration::from_secs(30)).await?;
        bare::Script::of(&task, &wire.seen())
    }

    async fn wired(&self, namespace: &str) -> Result<(Wire, Operator)> {
        let wire = Wire::new(self.config.clone(), "127.0.0.1").await?;
        let kubeconfig = self.folder.path().join(format!("{namespace}.kubeconfig"));
        Wire::kubeconfig(wire.address, &kubeconfig)?;
        let operator = self.operator(namespace, &kubeconfig)?;
        Ok((wire, operator))
    }

    async fn by_both(&self, tasks: usize, script: &bare::Script) -> Result<Measured> {
        let bare = self.bare(tasks, 1, script).await?;
        let operator = self.by_operator(tasks, 1).await?;
        let again = self.by_operator(tasks, 2).await?;
        let bare = bare.mean(self.bare(tasks, 2, script).await?);
        Ok(Measured {
            tasks,
            bare,
            operator: operator.took.mean(again.took),
            peak_kib: operator.peak_kib.max(again.peak_kib),
            cpu_seconds: f64::midpoint(operator.cpu_seconds, again.cpu_seconds),
        })
    }

    async fn bare(&self, count: usize, turn: u8, script: &bare::Script) -> Result<Took> {
        let namespace = format!("load-bare-{count}-{turn}");
        self.namespace(&namespace).await?;
        let writes = bare::write(&self.client, &namespace, count, script);
        let took = self.measure(&namespace, count, writes).await?;
        report::aside(format!("{count} Tasks by bare clients: {took:?}"));
        Ok(took)
    }

    async fn by_operator(&self, count: usize, turn: u8) -> Result<Used> {
        let namespace = format!("load-operator-{count}-{turn}");
        self.namespace(&namespace).await?;
        let operator = self.operator(&namespace, &api::kubeconfig()?)?;
        let result = async {
            // It has begun when it has done something.
            let tasks = Api::<Task>::namespaced(self.client.clone(), &namespace);
            tasks
                .create(&PostParams::default(), &api::task("first"))
                .await?;
            self.released(&namespace, 1).await?;
            let before = operator.usage()?;
            let names = (0..count).map(name).collect();
            let creates = async {
                let begin = Instant::now();
                api::create(&tasks, names, CREATORS).await?;
                Ok(begin.elapsed())
            };
            let took = self.measure(&namespace, count, creates).await?;
            let after = operator.usage()?;
            Ok(Used {
                took,
                peak_kib: after.peak_kib,
                cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            })
        };
        let used = result
            .await
            .map_err(|error: anyhow::Error| error.context(operator.last_words(10)))?;
        operator.end(Duration::from_mins(1)).await?;
        report::aside(format!("{count} Tasks by the operator: {used:?}"));
        Ok(used)
    }

    /// How long it takes until all of these Tasks run, while `writes` makes them; it gives back when it had created them.
    async fn measure(
        &self,
        namespace: &str,
        count: usize,
        writes: impl Future<Output = Result<Duration>>,
    ) -> Result<Took> {
        let before = self.existing(namespace).await?;
        let begin = Instant::now();
        let timed = async |reached: &mut (dyn Future<Output = Result<()>> + Unpin)| {
            reached.await?;
            Ok::<_, anyhow::Error>(begin.elapsed())
        };
        let mut released = Box::pin(self.released(namespace, before + count));
        let mut running = Box::pin(self.running(namespace, before + count));
        let (created, released, running) =
            tokio::try_join!(writes, timed(&mut released), timed(&mut running))?;
        // The Job controller makes the Pods behind our backs: that must not be measured with what comes next.
        let pods = Api::<PartialObjectMeta<Pod>>::namespaced(self.client.clone(), namespace);
        reached(pods, before + count, "a Pod for each Task", |_| true).await?;
        Ok(Took {
            created: created.as_secs_f64(),
            released: released.as_secs_f64(),
            running: running.as_secs_f64(),
        })
    }

    async fn existing(&self, namespace: &str) -> Result<usize> {
        let tasks = Api::<Task>::namespaced(self.client.clone(), namespace);
        let all = ListParams::default();
        Ok(tasks.list_metadata(&all).await?.items.len())
    }

    async fn released(&self, namespace: &str, count: usize) -> Result<()> {
        let jobs = Api::<Job>::namespaced(self.client.clone(), namespace);
        reached(jobs, count, "the release of each Job", |job| {
            let suspend = job.spec.as_ref().and_then(|spec| spec.suspend);
            suspend != Some(true)
        })
        .await
    }

    async fn running(&self, namespace: &str, count: usize) -> Result<()> {
        let tasks = Api::<Task>::namespaced(self.client.clone(), namespace);
        reached(tasks, count, "the phase Running of each Task", |task| {
            let status = task.status.as_ref();
            status.and_then(|status| status.phase) == Some(TaskPhase::Running)
        })
        .await
    }

    /// Requests for one Task. The wire would cost time, so these Tasks are others than those that are timed.
    async fn requests(&self) -> Result<BTreeMap<String, f64>> {
        let namespace = "load-requests";
        self.namespace(namespace).await?;
        let (wire, operator) = self.wired(namespace).await?;
        let tasks = Api::<Task>::namespaced(self.client.clone(), namespace);
        let released = self.released(namespace, COUNTED);
        api::create(&tasks, (0..COUNTED).map(name).collect(), CREATORS).await?;
        released.await?;
        operator.end(Duration::from_mins(1)).await?;
        let mut counts = BTreeMap::new();
        // Watches and the first lists are there once, however many Tasks come.
        let of_tasks = |seen: &&crate::wire::Seen| match seen.verb {
            "watch" => false,
            "list" => seen.resource == "pods",
            _ => true,
        };
        for seen in wire.seen().iter().filter(of_tasks) {
            let refused = if seen.status == Some(409) {
                " (409)"
            } else {
                ""
            };
            let what = format!("{} {}{refused}", seen.verb, seen.resource);
            *counts.entry(what).or_insert(0.0) += 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        for count in counts.values_mut() {
            *count /= COUNTED as f64;
        }
        Ok(counts)
    }
}

/// Name of the Nth Task: all are of the same length.
fn name(number: usize) -> String {
    format!("task-{number:06}")
}

/// Waits until that many objects were seen in this state.
async fn reached<K>(api: Api<K>, count: usize, what: &str, is: impl Fn(&K) -> bool) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
    K::DynamicType: Default,
{
    let mut names = BTreeSet::new();
    let mut objects = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let all = async {
        while let Some(object) = objects.next().await {
            // A watch that broke goes on by itself.
            let Ok(object) = object else { continue };
            if is(&object) && names.insert(object.name_any()) && names.len() == count {
                break;
            }
        }
    };
    let timeout = tokio::time::timeout(PATIENCE, all).await;
    ensure!(
        timeout.is_ok(),
        "{what} did not come: {} of {count}",
        names.len()
    );
    timeout.context("in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_that_takes_longer_reaches_less() {
        let took = |released| Took {
            created: 1.0,
            released,
            running: released,
        };
        let measured = Measured {
            tasks: 1000,
            bare: took(6.0),
            operator: took(8.0),
            peak_kib: 0,
            cpu_seconds: 0.0,
        };
        assert!(is_reached(0.75, &measured));
        assert!(!is_reached(0.76, &measured));
    }
}
