//! The programs of this crate alone: what every Pod gets a copy of, and what this crate's own tests run. In `kubeopencode`
//! they are subcommands.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubeopencode_pod::main().unwrap_or(ExitCode::from(2))
}
