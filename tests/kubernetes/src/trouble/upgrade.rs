//! Both operators are replaced, one after the other, as a Deployment does it: the new one is ready before the old one
//! is told to end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::stage::{ELECTION, Network, Stage};

const ROUNDS: usize = 4;
const TASKS_EACH: usize = 10;
/// Nobody waited for the Lease to expire: that takes 12 s at least, however slow or fast the machine is.
const GAP: Duration = Duration::from_secs(12);

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    stage.two_operators().await?;
    let mut gaps = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..2 {
            stage.create(TASKS_EACH / 2).await?;
            stage.start(Network::Shared).await?;
            let new = stage.operators.last().context("it was started")?;
            new.ready().await?;
            // The oldest goes.
            let old = stage.operators.remove(0);
            let led = stage.leases.now().name == old.operator.name;
            let name = old.operator.name.clone();
            let begin = Instant::now();
            let ends = old.operator.end(Duration::from_secs(30));
            let taken = async {
                let next = |name: &str| {
                    stage
                        .operators
                        .iter()
                        .any(|wired| wired.operator.name == name)
                };
                let holder = stage
                    .leases
                    .until(ELECTION, |holder| next(&holder.name))
                    .await;
                holder.with_context(|| format!("nobody took over from {name}"))?;
                Ok(begin.elapsed())
            };
            let (took, taken) = tokio::try_join!(ends, taken)?;
            if led {
                gaps.push(taken.saturating_sub(took).max(Duration::ZERO));
                stage.checks.note(format!(
                    "the leader ended {:.3} s after SIGTERM, another one led {:.3} s after it",
                    took.as_secs_f64(),
                    taken.as_secs_f64()
                ));
            }
        }
    }
    let longest = gaps
        .iter()
        .max()
        .copied()
        .context("no leader was replaced")?;
    stage.checks.check(
        "the next one leads before the Lease could expire",
        longest < GAP,
        format!(
            "{} handovers, {:.3} s from the end of one to the next at most",
            gaps.len(),
            longest.as_secs_f64()
        ),
    );
    Ok(())
}
