//! `kubeopencode-simulation`: one seed in this process, or many, each in a process of its own.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

mod many;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use kubeopencode_simulation::run;

/// The operator in virtual time, under faults that a seed decides.
#[derive(Parser)]
struct Arguments {
    /// Make the run of this seed.
    #[arg(long, required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Make the runs of these seeds, as in 0..300, up to the first that fails.
    #[arg(long, value_name = "FROM..TO", value_parser = many::range, conflicts_with = "seed")]
    seeds: Option<std::ops::Range<u64>>,
    /// Processes at the same time; default: one for each core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Lines of the trace that are shown when a rule did not hold.
    #[arg(long, default_value_t = 200)]
    lines: usize,
    /// Show the trace of a run that went well, too.
    #[arg(long)]
    trace: bool,
    /// Show what the operators log.
    #[arg(long)]
    verbose: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(seeds) = arguments.seeds {
        return many::run(seeds, arguments.jobs, arguments.lines);
    }
    if arguments.verbose {
        tracing_subscriber::fmt()
            .with_env_filter("warn,kubeopencode_operator=debug,kubeopencode_embedded=debug")
            .with_writer(std::io::stderr)
            .without_time()
            .init();
    }
    let seed = arguments.seed.context("no seed")?;
    let report = run(seed, arguments.lines)?;
    if arguments.trace || report.violation.is_some() {
        for line in &report.trace {
            println!("{line}");
        }
    }
    if let Some(violation) = report.violation {
        println!("\nseed {seed}: this did not hold: {}", violation.rule);
        println!("  {}", violation.what);
        println!("again: cargo run -p kubeopencode-simulation -- --seed {seed}");
        return Ok(ExitCode::FAILURE);
    }
    println!("{}", many::asked(&report.asked));
    println!(
        "seed {seed}: {} lines, {} agents started, {} Tasks at the end, {} s of virtual time, digest {}",
        report.lines,
        report.starts,
        report.tasks,
        report.took.as_secs(),
        report.digest
    );
    Ok(ExitCode::SUCCESS)
}
