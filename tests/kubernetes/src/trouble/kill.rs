//! The leading operator is killed, again and again, in the middle of a write: at another one each time.

use std::time::Duration;

use anyhow::Result;

use super::stage::{Network, Stage};

/// A leader that has nothing more to do is killed after this long.
const IDLE: Duration = Duration::from_secs(15);

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    let arguments = &stage.setting.arguments;
    let (kills, tasks) = (arguments.kills, arguments.tasks);
    let mut leader = stage.two_operators().await?;
    let mut in_a_write = 0;
    for kill in 0..kills {
        let until_now = tasks * (kill + 1) / kills;
        stage.create(until_now - stage.created).await?;
        let before = stage.operators[leader].wire.acts();
        // Spread over the life of a Task, and over many: the write with this number is under way when it dies.
        let write = (kill * 37) % 100 + 1;
        let wire = &stage.operators[leader].wire;
        let reached = wire
            .more_acts(write.saturating_sub(before).max(1), IDLE)
            .await;
        in_a_write += usize::from(reached);
        let dead = stage.operators.remove(leader);
        dead.operator.kill().await?;
        stage.start(Network::Shared).await?;
        leader = stage.leader().await?;
    }
    stage.checks.check(
        "leaders were killed, at least three of four in a write",
        in_a_write * 4 >= kills * 3,
        format!("{kills}, {in_a_write} of them in a write, {tasks} Tasks"),
    );
    let took = stage.leases.history();
    let names: std::collections::BTreeSet<_> = took.iter().map(|holder| &holder.name).collect();
    stage.checks.check(
        "each time another one took over",
        names.len() > kills,
        format!("{} leaders", names.len()),
    );
    Ok(())
}
