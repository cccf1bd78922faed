//! What `supervise` costs: bytes a second through it beside `cat` alone, its memory, and how much later an agent starts.
//!
//! Everything is read from a file by `cat` and counted at the other end of a pipe, with `supervise` in between or without.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "the figures are what this is for"
)]

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};

/// Bytes that go through.
const SIZE: u64 = 1 << 30;
/// Runs of each way, of which the fastest counts: other programs only make it slower.
const RUNS: usize = 3;
/// Starts.
const STARTS: usize = 200;

/// What a real OpenCode printed.
const EVENTS: &str = include_str!("../../agents/tests/fixtures/ok-write.jsonl");

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("text");
    let events = folder.path().join("events");
    fill(
        &text,
        "a line of a log, as a compiler or a test prints it, with some words in it\n",
    )?;
    fill(&events, EVENTS)?;
    println!(
        "{:<44} {:>10} {:>8}",
        "1 GiB, to the end of a pipe", "MB/s", "of cat"
    );
    for (file, what, profile) in [
        (&text, "any command", None),
        (
            &text,
            "OpenCode, lines that are no events",
            Some("OpenCode"),
        ),
        (&events, "OpenCode, nothing but events", Some("OpenCode")),
    ] {
        let cat = fastest(|| through(Command::new("cat").arg(file)))?;
        let supervised = fastest(|| {
            let mut supervise = supervise(folder.path());
            supervise.arg("cat").arg(file);
            if let Some(profile) = profile {
                supervise.env("KUBEOPENCODE_PROFILE", profile);
            }
            through(&mut supervise)
        })?;
        println!(
            "{:<44} {:>10.0} {:>8.2}",
            format!("supervise, {what}"),
            rate(supervised),
            cat.as_secs_f64() / supervised.as_secs_f64()
        );
        println!("{:<44} {:>10.0}", "cat alone", rate(cat));
    }
    // Nothing else that was started needs as much.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!(
        "peak of memory of supervise: {:.1} MiB",
        peak as f64 / 1024.0
    );
    let bare = median(|| through(&mut Command::new("true")))?;
    let supervised = median(|| through(supervise(folder.path()).arg("true")))?;
    println!(
        "start and end of `true`: {:.2} ms, {:.2} ms with supervise (median of {STARTS})",
        bare.as_secs_f64() * 1e3,
        supervised.as_secs_f64() * 1e3
    );
    Ok(())
}

fn fill(file: &Path, with: &str) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    let mut written = 0;
    while written < SIZE {
        file.write_all(with.as_bytes())?;
        written += with.len() as u64;
    }
    file.flush()
}

fn supervise(folder: &Path) -> Command {
    let mut supervise = Command::new(env!("CARGO_BIN_EXE_pod-programs"));
    supervise
        .args(["supervise", "--tools-dir"])
        .arg(folder.join("tools"));
    supervise
        .arg("--termination-log")
        .arg(folder.join("report"))
        .arg("--");
    supervise
}

/// How long until the last byte has come.
fn through(command: &mut Command) -> std::io::Result<Duration> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut buffer = vec![0; 1 << 16];
    if let Some(mut stdout) = child.stdout.take() {
        while stdout.read(&mut buffer)? > 0 {}
    }
    child.wait()?;
    Ok(began.elapsed())
}

fn fastest(run: impl Fn() -> std::io::Result<Duration>) -> std::io::Result<Duration> {
    let times = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    Ok(times.into_iter().min().unwrap_or_default())
}

fn median(run: impl Fn() -> std::io::Result<Duration>) -> std::io::Result<Duration> {
    let mut times = (0..STARTS).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[STARTS / 2])
}

fn rate(time: Duration) -> f64 {
    SIZE as f64 / 1e6 / time.as_secs_f64()
}
