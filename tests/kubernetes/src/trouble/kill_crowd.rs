//! All Tasks run at the same time, and whoever leads is killed, again and again, while they start and while they run.

use std::time::Duration;

use anyhow::{Result, bail};

use super::stage::{Network, Stage};

/// How long an agent runs, in seconds: until the last of them has started, on a small machine.
pub(super) const AGENT: u32 = 300;
/// Longest time until the next few have started.
const SOME: Duration = Duration::from_mins(3);

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    let arguments = &stage.setting.arguments;
    let (kills, tasks) = (arguments.kills, arguments.tasks);
    let mut leader = stage.two_operators().await?;
    stage.create(tasks).await?;
    for kill in 0..kills {
        let goal = tasks * (kill + 1) / kills;
        let counter = &stage.setting.counter;
        let enough = |count: crate::counter::Count| count.started >= goal;
        if !counter.until(&stage.namespace, SOME, enough).await {
            bail!(
                "no more agents start; {:?}",
                counter.count(&stage.namespace)
            );
        }
        let dead = stage.operators.remove(leader);
        dead.operator.kill().await?;
        dead.wire.gate().cut();
        stage.start(Network::Shared).await?;
        leader = stage.leader().await?;
    }
    let count = stage.setting.counter.count(&stage.namespace);
    stage.checks.check(
        "all agents run while the last leader is killed",
        count.started == tasks && count.ended == 0,
        format!(
            "{} of {tasks}, after {kills} deaths",
            count.started - count.ended
        ),
    );
    Ok(())
}
