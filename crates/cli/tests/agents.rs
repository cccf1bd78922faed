//! The real `OpenCode`, Claude Code and Codex, run as Tasks on the embedded cluster, with a model that plays a script.
//!
//! They come from npm: `tests/agents/run` fetches them, and names their folder in `KUBEOPENCODE_TEST_AGENTS`.

#[path = "agents/agent.rs"]
mod agent;
#[path = "agents/anthropic.rs"]
mod anthropic;
#[path = "agents/cases.rs"]
mod cases;
#[path = "agents/chat.rs"]
mod chat;
#[path = "../../../tests/git/https.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "git-init's own tests ask more of it; it is a test, which clippy does not see"
)]
mod https;
#[path = "agents/model.rs"]
mod model;
#[path = "agents/record.rs"]
mod record;
#[path = "agents/responses.rs"]
mod responses;
#[path = "support/some.rs"]
mod some;
#[path = "it/support.rs"]
#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
};

use agent::Agent;
use libtest_mimic::{Arguments, Failed, Trial};

#[expect(clippy::print_stderr, reason = "what is left out has to be seen")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let Some(folder) = std::env::var_os("KUBEOPENCODE_TEST_AGENTS").map(PathBuf::from) else {
        let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE")
            .is_ok_and(|list| list.split(',').any(|item| item == "agents"));
        assert!(
            !required,
            "no agents: KUBEOPENCODE_TEST_AGENTS names no folder"
        );
        eprintln!(
            "LEFT OUT: no real agent is run; tests/agents/run fetches them, and runs these tests"
        );
        return ExitCode::SUCCESS;
    };
    if let Some(into) = std::env::var_os("KUBEOPENCODE_TEST_RECORD") {
        record::all(&folder, Path::new(&into));
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    for agent in Agent::ALL {
        for (name, profiles, case) in cases::ALL {
            if !profiles.contains(&agent.profile) {
                continue;
            }
            let folder = folder.clone();
            trials.push(Trial::test(
                format!("{}: {name}", agent.profile),
                move || {
                    let run = AssertUnwindSafe(|| case(&agent, &folder));
                    std::panic::catch_unwind(run).map_err(|cause| {
                        let text = cause.downcast_ref::<String>().cloned();
                        let text = text
                            .or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned()));
                        Failed::from(text.unwrap_or_default())
                    })
                },
            ));
        }
    }
    some::run(&arguments, trials)
}
