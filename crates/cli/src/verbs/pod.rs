//! The programs of the Pod, which are this binary under hidden subcommands: `context-init`, `git-init`, `supervise`.
//!
//! They are started for every Task and have to be quick: no command-line parser, no runtime, no thread before them.

use std::process::ExitCode;

/// Runs the program that the first argument names; None when it names none of them.
pub(crate) fn main() -> Option<ExitCode> {
    None
}
