//! The end of a test program: where the environment requires `some`, it is a failure if no test ran, as after a filter that
//! has a wrong letter in it. Elsewhere it is none: `cargo test WORD` gives its word to every test program.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Runs them.
#[expect(clippy::print_stderr, reason = "it is said beside what the tests say")]
pub fn run(arguments: &Arguments, trials: Vec<Trial>) -> ExitCode {
    let conclusion = libtest_mimic::run(arguments, trials);
    let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE")
        .is_ok_and(|list| list.split(',').any(|item| item == "some"));
    if required && !arguments.list && conclusion.num_passed + conclusion.num_failed == 0 {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        eprintln!("no test ran: none that may run here has {filter:?} in its name");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
