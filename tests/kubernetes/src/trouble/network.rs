//! The leading operator loses the API server for a while: its interface goes down, or its requests are swallowed and
//! delivered when it has long been replaced. It has to have stopped before another one begins.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stage::{ELECTION, LINK, Network, Stage, run};
use crate::{
    operator::Operator,
    wire::{Seen, Writes, counted},
};

/// The leader's interface goes down, and comes up again. Nothing tells either side: packets vanish.
pub(super) async fn is_lost(stage: &mut Stage<'_>) -> Result<()> {
    stage.start(Network::Own).await?;
    ensure!(
        stage.leader().await? == 0,
        "the only operator does not lead"
    );
    stage.start(Network::Shared).await?;
    stage.create(10).await?;
    stage.operators[0].wire.more_acts(15, ELECTION).await;
    run(&["ip", "link", "set", LINK, "down"]).await?;
    stage.checks.note("the leader's interface is down");
    is_replaced(stage, async || {
        run(&["ip", "link", "set", LINK, "up"]).await
    })
    .await
}

/// Every request of the leader is held from one write on, and delivered when it is replaced; answers too.
pub(super) async fn swallows(stage: &mut Stage<'_>) -> Result<()> {
    stage.start(Network::Shared).await?;
    ensure!(
        stage.leader().await? == 0,
        "the only operator does not lead"
    );
    stage.start(Network::Shared).await?;
    stage.operators[0].wire.hold_in(Writes::Any, 15);
    stage.create(10).await?;
    let held = stage.operators[0].wire.held(ELECTION).await;
    ensure!(held, "the leader does not come to its write");
    stage.checks.note("the leader's requests are held");
    let wire = stage.operators[0].wire.gate();
    is_replaced(stage, async || {
        wire.open();
        Ok(())
    })
    .await?;
    let late: Vec<Seen> = stage.operators[0].wire.seen();
    let late: Vec<Seen> = late
        .into_iter()
        .filter(|seen| seen.late && seen.writes())
        .collect();
    stage.checks.check(
        "writes were delivered late",
        late.iter().any(Seen::acts),
        counted(&late),
    );
    // A Job that is created late is suspended and never released; everything else is refused.
    let took_effect = |seen: &&Seen| {
        seen.acts() && seen.verb != "create" && seen.status.is_some_and(|status| status < 300)
    };
    let took_effect: Vec<&Seen> = late.iter().filter(took_effect).collect();
    stage.checks.check(
        "no late change of something took effect",
        took_effect.is_empty(),
        format!("{} did", took_effect.len()),
    );
    Ok(())
}

/// What is the same for both: the other one takes over, works through, and the first one comes back.
async fn is_replaced(stage: &mut Stage<'_>, back: impl AsyncFn() -> Result<()>) -> Result<()> {
    let away = std::time::Instant::now();
    let second = stage.operators[1].operator.name.clone();
    let holder = stage.leases.until(ELECTION, |holder| holder.name == second);
    let holder = holder
        .await
        .context("the other one did not take the Lease")?;
    let taken = holder.since.context("the Lease has no acquireTime")?;
    stage.checks.note(format!(
        "the other one leads after {:.1} s",
        away.elapsed().as_secs_f64()
    ));
    stage.create(10).await?;
    stage.more_start(5).await?;
    let outage = Duration::from_secs(stage.setting.arguments.outage);
    // How long a network is away is not up to any event.
    tokio::time::sleep(outage.saturating_sub(away.elapsed())).await;
    let returned = SystemTime::now();
    back().await?;
    stage.create(10).await?;
    stage.more_start(5).await?;

    let first = &stage.operators[0];
    let stopped = said(&first.operator, "does not lead any more")
        .context("it did not say that it stopped")?;
    let begun = stage.operators[1]
        .wire
        .seen()
        .into_iter()
        .filter(Seen::acts)
        .map(|seen| seen.at)
        .min();
    let begun = begun.context("the other one did nothing")?;
    stage.checks.check(
        "it stopped before the other one took the Lease",
        stopped < taken,
        format!("{:.3} s before, by its own log", between(stopped, taken)),
    );
    let acts = || first.wire.seen().into_iter().filter(Seen::acts);
    let last = acts().map(|seen| seen.at).filter(|at| *at < returned).max();
    let last = last.context("it did nothing")?;
    stage.checks.check(
        "its last write before that is older than the first one of the other",
        last < begun,
        format!("{:.3} s", between(last, begun)),
    );
    let since: Vec<Seen> = acts().filter(|seen| seen.at >= taken).collect();
    stage.checks.check(
        "it sent no write from then on, also when it had its network back",
        since.is_empty(),
        format!("{} writes {}", since.len(), counted(&since)),
    );
    let term = stage.leases.now();
    stage.checks.check(
        "the other one still leads",
        term.name == second,
        term.name.clone(),
    );
    Ok(())
}

/// Seconds from one to the other.
fn between(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(later) => later.as_secs_f64(),
        Err(earlier) => -earlier.duration().as_secs_f64(),
    }
}

/// When an operator said this first.
fn said(operator: &Operator, what: &str) -> Option<SystemTime> {
    let log = std::fs::read_to_string(&operator.log).ok()?;
    let line = log.lines().find(|line| line.contains(what))?;
    let line: Value = serde_json::from_str(line).ok()?;
    let at: jiff::Timestamp = line.get("timestamp")?.as_str()?.parse().ok()?;
    Some(at.into())
}
