//! The programs of this crate alone, for its own tests; in an image they are subcommands of `kubeopencode`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubeopencode_pod::main().unwrap_or(ExitCode::from(2))
}
