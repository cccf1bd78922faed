//! The figures, for people.

use super::{Figures, Measured, Took};
use crate::report::line;

/// Prints them.
pub(super) fn print(figures: &Figures) {
    line(format!(
        "{:<44} {:>12} {:>12} {:>7}",
        "", "operator", "bare clients", "ratio"
    ));
    for measured in &figures.measured {
        let tasks = measured.tasks;
        rates(measured, "to the last Job released", |took| took.released);
        rates(measured, "to the last phase Running", |took| took.running);
        row(
            &format!("{tasks} Tasks: peak of memory"),
            &format!("{:.1} MiB", mebibytes(measured.peak_kib)),
        );
        row(
            &format!("{tasks} Tasks: processor"),
            &format!("{:.1} s", measured.cpu_seconds),
        );
    }
    line("");
    line("requests of the operator for a Task, until it runs (200 Tasks)");
    for (what, count) in &figures.requests {
        row(&format!("  {what}"), &format!("{count:.2}"));
    }
    row(
        "  in all",
        &format!("{:.2}", figures.requests.values().sum::<f64>()),
    );
    line("");
    line(format!(
        "{:<36} {:>10} {:>10} {:>12} {:>12} {:>14} {:>14} {:>10}",
        "from a freed slot to the next Job",
        "median",
        "p99",
        "one write",
        "all queued",
        "writes a Task",
        "writes a slot",
        "memory"
    ));
    for queue in &figures.queues {
        line(format!(
            "{:<36} {:>7.1} ms {:>7.1} ms {:>9.1} ms {:>10.1} s {:>14.2} {:>14.2} {:>6.1} MiB",
            format!("  {} Tasks, 50 slots", queue.tasks),
            queue.median,
            queue.p99,
            queue.write,
            queue.queued,
            queue.writes_waiting,
            queue.writes_freed,
            mebibytes(queue.peak_kib),
        ));
    }
}

fn row(what: &str, operator: &str) {
    line(format!("{what:<44} {operator:>12}"));
}

fn rates(measured: &Measured, until: &str, of: impl Fn(&Took) -> f64) {
    let rate = |took: &Took| count(measured.tasks) / of(took);
    let (operator, bare) = (rate(&measured.operator), rate(&measured.bare));
    line(format!(
        "{:<44} {:>10.1}/s {:>10.1}/s {:>7.2}",
        format!("{} Tasks, {until}", measured.tasks),
        operator,
        bare,
        measured.ratio(of)
    ));
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn count(tasks: usize) -> f64 {
    tasks as f64
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
