//! The kubelet is paused while agents run: the node's processes go on, and nobody tells the API server.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::stage::{Stage, signal_part};

/// Longer than the 50 s after which the node counts as not ready, shorter than the 5 minutes until its Pods are given up.
const AWAY: Duration = Duration::from_secs(70);

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    stage.two_operators().await?;
    stage.create(20).await?;
    stage.more_start(5).await?;
    signal_part("kubelet", Signal::SIGSTOP)?;
    // How long a node is away is not up to any event.
    tokio::time::sleep(AWAY).await;
    signal_part("kubelet", Signal::SIGCONT)?;
    stage
        .checks
        .note(format!("the kubelet was paused for {} s", AWAY.as_secs()));
    Ok(())
}
