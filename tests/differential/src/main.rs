//! `kubeopencode-differential`: records what a real API answers, and holds the embedded one against it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where it prints"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use kubeopencode_differential::compare::Pair;
use kubeopencode_differential::fuzz::{self, Settings};
use kubeopencode_differential::known::Known;
use kubeopencode_differential::record::record;
use kubeopencode_differential::script::Script;
use kubeopencode_differential::side::Side;

#[derive(Parser)]
#[command(about = "The embedded API held against a real one (of KUBECONFIG)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends scripts to the real API and writes down what it answers, in recorded/
    Record {
        /// Script files; all in scripts/ if left out
        scripts: Vec<PathBuf>,
        /// Writes nothing; fails where the answers are not those that were recorded
        #[arg(long)]
        check: bool,
    },
    /// Sends scripts to both and shows the first difference of each
    Compare {
        /// Script files; all in scripts/ if left out
        scripts: Vec<PathBuf>,
    },
    /// Sends random requests to both, until they differ or the time is over
    Fuzz {
        /// For how long
        #[arg(long, default_value_t = 60, conflicts_with = "sequences")]
        seconds: u64,
        /// How many sequences, however long it takes
        #[arg(long)]
        sequences: Option<usize>,
        /// The first seed; the others follow it
        #[arg(long)]
        seed: Option<u64>,
        /// Goes on after a difference, and lists all of them at the end
        #[arg(long)]
        keep_going: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names and texts of scripts.
fn scripts(chosen: Vec<PathBuf>) -> Result<Vec<(String, Script)>> {
    let mut paths = chosen;
    if paths.is_empty() {
        let all = std::fs::read_dir(folder().join("scripts"))?;
        paths = all.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
        paths.sort();
    }
    let read = paths.iter().map(|path| {
        let what = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(what)?;
        let script = Script::parse(&text).with_context(what)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), script))
    });
    read.collect()
}

/// Whether all is as it should be.
async fn run(command: Command) -> Result<bool> {
    let real = Side::real().await?;
    real.define().await?;
    match command {
        Command::Record {
            scripts: chosen,
            check,
        } => {
            let mut same = true;
            for (name, script) in scripts(chosen)? {
                same &= record_one(&real, &name, &script, check).await?;
            }
            Ok(same)
        }
        Command::Compare { scripts: chosen } => {
            let (cluster, embedded) = Side::embedded().await?;
            let pair = Pair { real, embedded };
            let same = compare(&pair, scripts(chosen)?).await;
            cluster.shutdown().await;
            same
        }
        Command::Fuzz {
            seconds,
            sequences,
            seed,
            keep_going,
        } => {
            let (cluster, embedded) = Side::embedded().await?;
            let pair = Pair { real, embedded };
            let settings = Settings {
                seconds,
                sequences,
                seed,
                keep_going,
            };
            let report = fuzz::run(&pair, &settings, |line| eprintln!("{line}")).await;
            cluster.shutdown().await;
            let report = report?;
            print!("{report}");
            Ok(report.found.is_empty())
        }
    }
}

async fn record_one(real: &Side, name: &str, script: &Script, check: bool) -> Result<bool> {
    let recording = record(real, name, script).await?;
    let path = folder().join("recorded").join(format!("{name}.jsonl"));
    let count = recording.lines().count();
    if !check {
        std::fs::write(&path, recording).with_context(|| path.display().to_string())?;
        println!("{name}: {count} exchanges recorded");
        return Ok(true);
    }
    let before = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(!before.is_empty(), "{} is empty", path.display());
    if before == recording {
        println!("{name}: {count} exchanges, all as recorded");
        return Ok(true);
    }
    println!("{name}: not as recorded:");
    let mut lines = before.lines();
    for now in recording.lines() {
        let then = lines.next().unwrap_or_default();
        if then != now {
            println!("  recorded {then}\n  answered {now}");
        }
    }
    Ok(false)
}

async fn compare(pair: &Pair, scripts: Vec<(String, Script)>) -> Result<bool> {
    let known = Known::read()?;
    let mut same = true;
    for (name, script) in scripts {
        pair.make_namespace(&script.namespace).await?;
        let outcome = pair.run(&script, &known).await;
        pair.delete_namespace(&script.namespace).await?;
        let outcome = outcome.with_context(|| name.clone())?;
        println!("{name}: {} requests answered alike", outcome.same);
        if let Some(difference) = outcome.difference {
            println!("{difference}");
            same = false;
        }
        let gone = format!("/api/v1/namespaces/{}", script.namespace);
        pair.real.gone(&gone).await?;
    }
    Ok(same)
}
