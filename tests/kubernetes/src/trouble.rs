//! What goes wrong in a cluster, while Tasks run.
//!
//! Each scenario is a bad day of one kind. After it the same is asked every time, in [`judge`]: did every Task end as it
//! should, did each agent run exactly once, is anything left or held. What an agent did is known from the agent itself,
//! see [`crate::counter`].

mod api_restart;
mod compaction;
mod judge;
mod kill;
mod kill_crowd;
mod lease;
mod network;
mod node_away;
mod node_lost;
mod stage;
mod upgrade;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use futures::future::join_all;
use kube::Client;

use self::{
    judge::Ends,
    stage::{Setting, Stage},
};
use crate::{
    OperatorArgs, api,
    counter::Counter,
    report::{self, Checks},
};

/// `trouble`.
#[derive(Debug, Args)]
pub(crate) struct TroubleArgs {
    /// Which. Default: all
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    #[command(flatten)]
    operator: OperatorArgs,
    /// Image of the agent; it needs sh and curl
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "quay.io/kubeopencode/kubeopencode-agent-devbox:test"
    )]
    agent_image: String,
    /// How often the leading operator is killed
    #[arg(long, value_name = "N", default_value_t = 16)]
    kills: usize,
    /// How many Tasks are created in all, as many before each of the kills, while those from before run or have ended
    #[arg(long, value_name = "N", default_value_t = 200)]
    tasks: usize,
    /// How long an operator is without network. Before 2 minutes are over, the kernel may still send what the operator
    /// has given up
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(120..))]
    outage: u64,
    /// The file that the counter of agents keeps. Default: it goes with the test
    #[arg(long, value_name = "FILE")]
    counted: Option<PathBuf>,
}

/// A bad day. What an operator does about each is in docs/operations.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The leading operator is killed, again and again, in the middle of a write
    Kill,
    /// The leading operator is killed, again and again, while all Tasks run at once
    KillCrowd,
    /// The API server is killed, again and again
    ApiRestart,
    /// The operators are paused, and what they watched is compacted away meanwhile
    Compaction,
    /// The leading operator loses its network, and gets it back
    NoNetwork,
    /// Its requests are swallowed, and delivered when nobody waits for them any more
    LateRequests,
    /// Both operators are replaced, one after the other, again and again
    Upgrade,
    /// The kubelet is paused
    NodeAway,
    /// The kubelet is paused, and its Node deleted
    NodeLost,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillCrowd => "kill-crowd",
            Self::ApiRestart => "api-restart",
            Self::Compaction => "compaction",
            Self::NoNetwork => "no-network",
            Self::LateRequests => "late-requests",
            Self::Upgrade => "upgrade",
            Self::NodeAway => "node-away",
            Self::NodeLost => "node-lost",
        }
    }

    /// Whether it happens beside others: it does nothing to the cluster, only to its own operators, which serve its own
    /// namespace. Those of the other scenarios serve all.
    fn beside(self) -> bool {
        matches!(self, Self::Kill | Self::NoNetwork | Self::LateRequests)
    }

    /// Whether an operator may be refused what it has a right to: an API server that begins does not know the roles yet.
    fn may_be_refused(self) -> bool {
        self == Self::ApiRestart
    }

    /// How its Tasks may end.
    fn ends(self) -> Ends {
        match self {
            Self::NodeLost => node_lost::ENDS,
            Self::ApiRestart => api_restart::ENDS,
            _ => Ends::WELL,
        }
    }

    /// How long each of its agents runs, in seconds.
    fn agent_seconds(self) -> u32 {
        match self {
            Self::KillCrowd => kill_crowd::AGENT,
            _ => 2,
        }
    }

    async fn happens(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Self::Kill => kill::happens(stage).await,
            Self::KillCrowd => kill_crowd::happens(stage).await,
            Self::ApiRestart => api_restart::happens(stage).await,
            Self::Compaction => compaction::happens(stage).await,
            Self::NoNetwork => network::is_lost(stage).await,
            Self::LateRequests => network::swallows(stage).await,
            Self::Upgrade => upgrade::happens(stage).await,
            Self::NodeAway => node_away::happens(stage).await,
            Self::NodeLost => node_lost::happens(stage).await,
        }
    }
}

/// Runs them; true if every check holds.
pub(crate) async fn trouble(arguments: TroubleArgs) -> Result<bool> {
    let config = api::config().await?;
    let client = Client::try_from(config.clone())?;
    api::install(&client, &arguments.operator.program).await?;
    let folder = tempfile::tempdir()?;
    let file = arguments.counted.clone();
    let counter = Counter::new(&file.unwrap_or_else(|| folder.path().join("counted"))).await?;
    if let Some(logs) = &arguments.operator.logs {
        std::fs::create_dir_all(logs).with_context(|| logs.display().to_string())?;
    }
    let scenarios = match arguments.scenarios.as_slice() {
        [] => Scenario::value_variants().to_vec(),
        some => some.to_vec(),
    };
    let setting = Setting {
        config,
        client,
        arguments,
        counter,
        folder,
    };
    let (beside, alone): (Vec<_>, Vec<_>) = scenarios
        .into_iter()
        .partition(|scenario| scenario.beside());
    let mut checks = join_all(beside.into_iter().map(|scenario| play(scenario, &setting))).await;
    for scenario in alone {
        checks.push(play(scenario, &setting).await);
    }
    let checks: Vec<Checks> = checks.into_iter().collect::<Result<_>>()?;
    let failed: usize = checks.iter().map(|checks| checks.failed).sum();
    let passed: usize = checks.iter().map(|checks| checks.passed).sum();
    report::line(format!("{passed} passed, {failed} failed"));
    Ok(failed == 0)
}

/// One scenario, and what is asked after it.
async fn play(scenario: Scenario, setting: &Setting) -> Result<Checks> {
    let begin = tokio::time::Instant::now();
    let mut checks = Checks::of(scenario.name());
    let mut stage = Stage::new(setting, scenario, &mut checks).await?;
    let happened = async {
        scenario.happens(&mut stage).await?;
        judge::judge(&mut stage, scenario.ends()).await
    };
    if let Err(error) = happened.await {
        stage.dump().await;
        checks.check("goes to its end", false, format!("{error:#}"));
    }
    checks.note(format!("took {} s", begin.elapsed().as_secs()));
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever runs an operator reads there what happens then.
    #[test]
    fn the_page_about_operations_has_every_trouble_and_no_other() {
        let page = include_str!("../../../docs/operations.md");
        let (_, table) = page.split_once("## In trouble").unwrap();
        let table = table.split("\n## ").next().unwrap();
        let named: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        let tested: Vec<&str> = Scenario::value_variants()
            .iter()
            .map(|scenario| scenario.name())
            .collect();
        assert_eq!(named, tested);
    }

    #[test]
    fn a_scenario_is_asked_for_by_its_name() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}
