//! Many seeds: each in a process of its own, some at the same time.

use std::{
    collections::BTreeSet,
    ops::Range,
    process::{Command, ExitCode, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

/// What a line begins with that says what the operators asked the API server for.
const ASKED: &str = "operators asked for: ";

/// That line.
pub fn asked(requests: &BTreeSet<String>) -> String {
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    format!("{ASKED}{}", requests.join(", "))
}

/// What such a line says.
fn read(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(ASKED));
    let requests = lines.next().unwrap_or_default().split(", ");
    requests.map(str::to_owned).collect()
}

/// `FROM..TO`.
pub fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..");
    let bounds = bounds.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match bounds {
        Some((from, to)) if from < to => Ok(from..to),
        _ => Err("as in 0..300".to_owned()),
    }
}

/// Up to the first that fails, which is shown.
pub fn run(seeds: Range<u64>, jobs: Option<usize>, lines: usize) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let jobs = jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let begin = Instant::now();
    let count = seeds.end - seeds.start;
    let bar = ProgressBar::new(count).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, Output)>> = Mutex::new(None);
    let requests: Mutex<BTreeSet<String>> = Mutex::default();
    let over = AtomicBool::new(false);
    let work = || -> anyhow::Result<()> {
        while !over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let output = Command::new(&program)
                .args(["--seed", &seed.to_string(), "--lines", &lines.to_string()])
                .stdin(Stdio::null())
                .output()
                .context("cannot start a process for a seed")?;
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.extend(read(&output));
            drop(requests);
            if !output.status.success() {
                over.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                    *failed = Some((seed, output));
                }
            }
            bar.inc(1);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut all = workers.into_iter().map(thread::ScopedJoinHandle::join);
        all.try_for_each(|ended| ended.unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })?;
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    if let Some((seed, output)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8_lossy(&output.stdout));
        println!("seed {seed} failed, after {seconds:.1} s");
        return Ok(ExitCode::FAILURE);
    }
    let requests = requests
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    println!("{}", asked(&requests));
    let speed = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds;
    println!("{count} seeds held, in {seconds:.1} s ({speed:.1} a second)");
    Ok(ExitCode::SUCCESS)
}
