//! What the crates below tell of themselves: JSON lines of the operator for a log collector, a few plain lines for a person.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// Sets up where events go. `RUST_LOG` has the last word; otherwise the operator tells of everything it does, and the
/// other commands only of what is wrong, or of more when they are asked to.
pub(crate) fn set_up(operator: bool, verbose: u8) {
    let default = match (operator, verbose) {
        (true, 0) => "info",
        // What the client cannot reach is told once, by the command that wanted it.
        (false, 0) => "error,kube_client=off",
        (false, 1) => {
            "warn,kubeopencode=info,kubeopencode_operator=info,kubeopencode_embedded=info"
        }
        (true, 1) | (false, 2) => {
            "info,kubeopencode=debug,kubeopencode_operator=debug,kubeopencode_embedded=debug"
        }
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Somebody has set one up already only in a test.
    let _ = if operator {
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init()
    } else {
        lines.without_time().with_target(false).try_init()
    };
}
