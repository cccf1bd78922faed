//! How fast the API service is: durable creates, creates in memory, and one change seen by a hundred watchers.
//!
//! `cargo bench -p kubeopencode-embedded --bench api`. Each figure stands beside something simpler that was measured in
//! the same run, because machines differ and are shared.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use kubeopencode_embedded::cluster::{Cluster, Options};

const CREATES: usize = 5_000;
const AT_ONCE: usize = 64;
const WATCHERS: usize = 100;
const CHANGES: usize = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bare = bare_inserts(&folder.path().join("bare.db"))?;
    println!(
        "{:<44} {:>10.0} /s",
        "SQLite alone, one insert a transaction", bare
    );
    for (name, data_dir) in [
        ("creates in memory", None),
        ("creates on disk", Some(folder.path().join("data"))),
    ] {
        if let Some(folder) = &data_dir {
            std::fs::create_dir_all(folder)?;
        }
        let cluster = Cluster::start(Options {
            data_dir,
            ..Options::default()
        })
        .await?;
        let rate = creates(&cluster).await?;
        println!(
            "{name:<44} {rate:>10.0} /s   {:>6.2} of SQLite alone",
            rate / bare
        );
        cluster.shutdown().await;
    }
    let cluster = Cluster::start(Options::default()).await?;
    let one = fan_out(&cluster, 1).await?;
    let many = fan_out(&cluster, WATCHERS).await?;
    println!("{:<44} {:>10.0} /s", "changes seen by 1 watcher", one);
    println!(
        "{:<44} {:>10.0} /s   {:>6.2} of one watcher's",
        format!("changes seen by each of {WATCHERS} watchers"),
        many,
        many / one
    );
    println!(
        "{:<44} {:>10.0} /s",
        "events delivered",
        many * f64::from(u32::try_from(WATCHERS)?)
    );
    cluster.shutdown().await;
    Ok(())
}

fn rate(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

fn object(name: String) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name),
            ..ObjectMeta::default()
        },
        data: Some([("key".to_owned(), "value".repeat(40))].into()),
        ..ConfigMap::default()
    }
}

/// The same bytes, put into SQLite with the same guarantees, one after the other.
fn bare_inserts(path: &std::path::Path) -> Result<f64> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT, value BLOB);")?;
    let value = serde_json::to_vec(&object("bare".to_owned()))?;
    let begin = Instant::now();
    let mut insert = connection.prepare("INSERT INTO t (key, value) VALUES (?1, ?2)")?;
    for number in 0..CREATES {
        insert.execute(rusqlite::params![
            format!("/configmaps/default/bare-{number}"),
            value
        ])?;
    }
    Ok(rate(CREATES, begin.elapsed()))
}

async fn creates(cluster: &Cluster) -> Result<f64> {
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let begin = Instant::now();
    stream::iter(0..CREATES)
        .map(|number| {
            let api = api.clone();
            tokio::spawn(async move {
                api.create(&PostParams::default(), &object(format!("c-{number}")))
                    .await
            })
        })
        .buffer_unordered(AT_ONCE)
        .map(|joined| {
            joined
                .context("a create ended early")?
                .context("a create was refused")
        })
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok(rate(CREATES, begin.elapsed()))
}

/// Changes a second that every one of these watchers has seen.
async fn fan_out(cluster: &Cluster, watchers: usize) -> Result<f64> {
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let version = api
        .list(&kube::api::ListParams::default())
        .await?
        .metadata
        .resource_version
        .unwrap_or_default();
    let mut seen = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let (api, version) = (api.clone(), version.clone());
        let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
        seen.spawn(async move {
            let mut added = 0;
            while let Some(event) = events.try_next().await? {
                added += usize::from(matches!(event, WatchEvent::Added(_)));
                if added == CHANGES {
                    break;
                }
            }
            anyhow::ensure!(added == CHANGES, "a watch ended after {added} events");
            Ok(())
        });
    }
    let begin = Instant::now();
    for number in 0..CHANGES {
        api.create(
            &PostParams::default(),
            &object(format!("w-{watchers}-{number}")),
        )
        .await?;
    }
    while let Some(joined) = seen.join_next().await {
        joined??;
    }
    Ok(rate(CHANGES, begin.elapsed()))
}
