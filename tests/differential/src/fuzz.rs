//! Random sequences of requests to both APIs. A seed is a sequence; the first difference is shrunk to a script.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::compare::{Outcome, Pair};
use crate::known::Known;
use crate::script::Script;
use crate::side::Side;

mod bodies;
mod generate;
mod shrink;

/// Namespaces that are made ahead, so that nothing waits for the controllers that furnish them.
const AHEAD: usize = 6;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// For how long, unless a number of sequences is given.
    pub seconds: u64,
    /// How many sequences.
    pub sequences: Option<usize>,
    /// The first seed; by the clock if left out.
    pub seed: Option<u64>,
    /// Goes on after a difference.
    pub keep_going: bool,
}

/// What has been seen.
#[derive(Debug, Default)]
pub struct Report {
    /// How many sequences were answered alike to their end.
    pub sequences: usize,
    /// How many requests were answered alike.
    pub requests: usize,
    /// How many sequences showed a difference of the same kind as one before.
    pub again: usize,
    /// The differences, each with its command.
    pub found: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())
    }
}

impl Report {
    fn summary(&self) -> String {
        format!(
            "{} sequences and {} requests answered alike; {} differences, seen {} times more",
            self.sequences,
            self.requests,
            self.found.len(),
            self.again
        )
    }
}

/// Runs until the time is over or, unless told otherwise, something differs.
///
/// # Errors
/// One of the two APIs cannot be reached.
pub async fn run(pair: &Pair, settings: &Settings, tell: impl Fn(&str)) -> Result<Report> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let first = settings.seed.unwrap_or(u64::try_from(now)? % 1_000_000_000);
    let mut worlds = Worlds::new(pair, now);
    let known = Known::read()?;
    let mut report = Report::default();
    let begin = Instant::now();
    let mut told = begin;
    let mut seen = BTreeSet::new();
    for seed in first.. {
        let script = generate::script(seed);
        let outcome = worlds.run(script.clone(), &known).await?;
        report.requests += outcome.same;
        match outcome.difference {
            None => report.sequences += 1,
            // Once for each fault.
            Some(difference) if seen.insert(difference.signature()) => {
                let found = found(&mut worlds, seed, script, &known, &tell).await?;
                tell(&found);
                report.found.push(found);
            }
            Some(_) => report.again += 1,
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            tell(&format!(
                "{} s: {}",
                begin.elapsed().as_secs(),
                report.summary()
            ));
        }
        let over = match settings.sequences {
            Some(sequences) => report.sequences + report.again + report.found.len() >= sequences,
            None => begin.elapsed().as_secs() >= settings.seconds,
        };
        if over || (!report.found.is_empty() && !settings.keep_going) {
            break;
        }
    }
    drop(worlds);
    // The embedded API ends with this program.
    clear(&pair.real, &format!("fuzz-{now}-")).await?;
    Ok(report)
}

/// Shrinks a sequence that shows a difference, keeps it as a script, and tells of it.
async fn found(
    worlds: &mut Worlds,
    seed: u64,
    script: Script,
    known: &Known,
    tell: &impl Fn(&str),
) -> Result<String> {
    tell(&format!(
        "seed {seed} shows a difference; making it smaller"
    ));
    let (smaller, difference) = shrink::shrink(worlds, script, known).await?;
    let Some(difference) = difference else {
        return Ok(format!(
            "seed {seed}: the difference did not come again: it depends on the moment"
        ));
    };
    let folder = PathBuf::from("target/differential");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("seed-{seed}.yaml"));
    let text = serde_saphyr::to_string(&smaller).context("a script")?;
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(format!(
        "seed {seed}, {}\nagain: cargo run -p kubeopencode-differential -- compare {}\n",
        difference,
        path.display()
    ))
}

/// Removes what all sequences have left. At the end, because the controllers that empty namespaces would be busy with
/// those while a sequence waits for them.
async fn clear(side: &Side, prefix: &str) -> Result<()> {
    for collection in generate::collections() {
        let everywhere = collection.replace("/{ns}", "");
        let list = side.ask("GET", &everywhere, &Value::Null).await?;
        for object in list.body["items"].as_array().into_iter().flatten() {
            let metadata = &object["metadata"];
            let text = |key: &str| metadata[key].as_str().unwrap_or_default();
            if text("namespace").starts_with(prefix) && metadata["finalizers"].is_array() {
                let namespace = format!("namespaces/{}", text("namespace"));
                let path = format!(
                    "{}/{}",
                    collection.replace("{ns}", &namespace),
                    text("name")
                );
                side.release(&path).await?;
            }
        }
    }
    let all = side.ask("GET", "/api/v1/namespaces", &Value::Null).await?;
    for namespace in all.body["items"].as_array().into_iter().flatten() {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        if name.starts_with(prefix) {
            side.delete_namespace(name).await?;
        }
    }
    Ok(())
}

/// Namespaces for sequences, one each, on both sides.
pub(crate) struct Worlds {
    pair: Pair,
    ready: mpsc::Receiver<Result<String>>,
}

impl Worlds {
    fn new(pair: &Pair, run: u128) -> Self {
        let (made, ready) = mpsc::channel(AHEAD);
        let of_maker = pair.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                let name = format!("fuzz-{run}-{number}");
                let result = of_maker.make_namespace(&name).await.map(|()| name);
                if made.send(result).await.is_err() {
                    return;
                }
            }
        });
        Self {
            pair: pair.clone(),
            ready,
        }
    }

    /// Runs a sequence in a namespace of its own.
    pub(crate) async fn run(&mut self, mut script: Script, known: &Known) -> Result<Outcome> {
        let name = self.ready.recv().await.context("no namespace")??;
        script.namespace = name;
        let outcome = self.pair.run(&script, known).await;
        outcome.with_context(|| serde_saphyr::to_string(&script).unwrap_or_default())
    }
}
