//! Both operators are paused; meanwhile Tasks come and agents end, etcd forgets all versions but the last, and the API
//! server with its memory of changes starts anew. So every watch has to begin from a list: 410 Gone.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::stage::{SOON, Stage, api_server_ready, signal_part};

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    stage.two_operators().await?;
    stage.create(10).await?;
    stage.more_start(5).await?;
    for wired in &stage.operators {
        wired.operator.signal(Signal::SIGSTOP)?;
    }
    let paused = async {
        // They miss the beginning of these, and the end of those.
        stage.create(10).await?;
        let started = stage.setting.counter.count(&stage.namespace).started;
        let ended = stage
            .setting
            .counter
            .until(&stage.namespace, SOON, |count| count.ended >= started);
        ensure!(ended.await, "agents that run do not end");
        let revision = compact().await?;
        signal_part("kube-apiserver", Signal::SIGKILL)?;
        api_server_ready(&stage.setting.client).await?;
        Ok(revision)
    };
    let revision = paused.await;
    for wired in &stage.operators {
        wired.operator.signal(Signal::SIGCONT)?;
    }
    let revision = revision?;
    stage
        .checks
        .note(format!("etcd was compacted at revision {revision}"));
    stage.more_start(stage.created).await?;
    let expired: usize = stage
        .operators
        .iter()
        .map(|wired| wired.wire.expired())
        .sum();
    stage.checks.check(
        "watches were told that they are too old",
        expired > 0,
        format!("{expired} times"),
    );
    Ok(())
}

/// Makes etcd forget everything but the newest; gives back the revision.
async fn compact() -> Result<String> {
    // Any range has the newest revision in its header; keys are base64.
    let answer = etcd("kv/range", r#"{"key":"AA=="}"#).await?;
    let revision = answer.pointer("/header/revision").and_then(Value::as_str);
    let revision = revision.with_context(|| format!("etcd says {answer}"))?;
    let request = format!(r#"{{"revision":"{revision}","physical":true}}"#);
    let answer = etcd("kv/compaction", &request).await?;
    ensure!(answer.get("header").is_some(), "etcd says {answer}");
    Ok(revision.to_owned())
}

async fn etcd(what: &str, request: &str) -> Result<Value> {
    let address = format!("http://127.0.0.1:2379/v3/{what}");
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "-X", "POST", "-d", request, &address])
        .output()
        .await
        .context("cannot start curl")?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("etcd: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
