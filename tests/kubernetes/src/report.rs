//! What is printed: results to standard output, everything else to standard error.

use std::fmt::Display;

/// A line of the result.
#[expect(clippy::print_stdout, reason = "the one place that prints results")]
pub(crate) fn line(text: impl Display) {
    println!("{text}");
}

/// A line beside it: progress, and what is wrong.
#[expect(clippy::print_stderr, reason = "the one place that prints asides")]
pub(crate) fn aside(text: impl Display) {
    eprintln!("{text}");
}

/// Counts the checks of a scenario, and prints each as it is made.
#[derive(Debug)]
pub(crate) struct Checks {
    scenario: &'static str,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Checks {
    /// No check was made yet.
    pub(crate) fn of(scenario: &'static str) -> Self {
        Self {
            scenario,
            passed: 0,
            failed: 0,
        }
    }

    /// One check: what has to be, whether it is, and what was found.
    pub(crate) fn check(&mut self, what: &str, holds: bool, found: impl Display) {
        let word = if holds { "ok  " } else { "FAIL" };
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        let scenario = self.scenario;
        line(format!("{word} {scenario}: {what}: {found}"));
    }

    /// Something worth knowing that is neither right nor wrong.
    pub(crate) fn note(&self, text: impl Display) {
        line(format!("     {}: {text}", self.scenario));
    }
}
