//! The leading operator is killed, again and again, in the middle of a write: of each kind, and of another Task each
//! time. The API server gets that write when its sender is dead, or never: in turn.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};

use super::stage::{Network, Stage};
use crate::wire::{Seen, Writes, counted};

/// What a Task takes at least, each at least once.
const WRITES: [Writes; 4] = [
    Writes::Only("create", "configmaps"),
    Writes::Only("create", "jobs"),
    Writes::Only("update", "tasks/status"),
    // The release.
    Writes::Only("patch", "jobs"),
];
/// Longest time until the leader comes to its write, and until the API server answers one.
const SOON: Duration = Duration::from_secs(30);

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    let arguments = &stage.setting.arguments;
    let (kills, tasks) = (arguments.kills, arguments.tasks);
    ensure!(
        (1..=tasks).contains(&kills),
        "each of the --kills needs one of the --tasks at least"
    );
    let mut leader = stage.two_operators().await?;
    let (mut delivered, mut dropped) = (Vec::<Vec<Seen>>::new(), Vec::<Vec<Seen>>::new());
    for kill in 0..kills {
        let tasks = tasks * (kill + 1) / kills - stage.created;
        // Each kind of write has both fates, and is another Task's each time.
        let write = WRITES[kill / 2 % WRITES.len()];
        let wire = &stage.operators[leader].wire;
        wire.hold_in(write, kill * 37 % tasks + 1);
        stage.create(tasks).await?;
        ensure!(
            stage.operators[leader].wire.held(SOON).await,
            "the leader does not come to its write"
        );
        let dead = stage.operators.remove(leader);
        dead.operator.kill().await?;
        let writes = dead.wire.acts_held();
        let fate = if kill % 2 == 0 {
            dead.wire.gate().open();
            dead.wire.answered(&writes, SOON).await;
            &mut delivered
        } else {
            dead.wire.gate().cut();
            &mut dropped
        };
        let seen = dead.wire.seen();
        fate.push(writes.iter().map(|number| seen[*number].clone()).collect());
        stage.start(Network::Shared).await?;
        leader = stage.leader().await?;
    }
    stage.checks.check(
        "its write arrived when the leader was dead",
        each_in_a_write(&delivered, |seen| seen.status.is_some()),
        told(&delivered),
    );
    stage.checks.check(
        "its write died with the leader",
        each_in_a_write(&dropped, |seen| seen.passed.is_none()),
        told(&dropped),
    );
    let took = stage.leases.history();
    let names: BTreeSet<_> = took.iter().map(|holder| &holder.name).collect();
    stage.checks.check(
        "each time another one took over",
        names.len() > kills,
        format!("{} leaders", names.len()),
    );
    Ok(())
}

/// Whether in each of these deaths a write was under way, and all of them had this fate.
fn each_in_a_write(deaths: &[Vec<Seen>], fate: impl Fn(&Seen) -> bool) -> bool {
    deaths
        .iter()
        .all(|writes| !writes.is_empty() && writes.iter().all(&fate))
}

/// The writes that were under way.
fn told(deaths: &[Vec<Seen>]) -> String {
    format!("{} deaths: {}", deaths.len(), counted(&deaths.concat()))
}
