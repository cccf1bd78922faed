//! The API server is killed, again and again; what the operators had under way is lost, or has taken effect unanswered.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::stage::{Stage, api_server_ready, signal_part};

const RESTARTS: usize = 10;
const TASKS_EACH: usize = 6;

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
