//! The API server is killed, again and again; what the operators had under way is lost, or has taken effect unanswered.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{
    judge::Ends,
    stage::{Stage, api_server_ready, signal_part},
};

const RESTARTS: usize = 10;
const TASKS_EACH: usize = 6;
/// A Job controller whose API server dies while it creates a Pod may make a second one, delete one of the two, and give
/// up the Job, which may have no other.
pub(super) const ENDS: Ends = Ends {
    lost_at_least: 0,
    lost_at_most: RESTARTS,
};

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    stage.two_operators().await?;
    let mut away = Vec::new();
    for restart in 0..RESTARTS {
        stage.create(TASKS_EACH).await?;
        let leader = stage.leader().await?;
        // In the middle of another write each time.
        let wire = &stage.operators[leader].wire;
        wire.more_acts(restart * 3 + 1, Duration::from_secs(10))
            .await;
        signal_part("kube-apiserver", Signal::SIGKILL)?;
        away.push(api_server_ready(&stage.setting.client).await?);
        stage.more_start(1).await?;
    }
    let longest = away.iter().max().copied().unwrap_or_default();
    stage.checks.note(format!(
        "{RESTARTS} restarts; the API server was away for up to {:.1} s",
        longest.as_secs_f64()
    ));
    Ok(())
}
