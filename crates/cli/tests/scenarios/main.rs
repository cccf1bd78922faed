//! The scenarios of `tests/scenarios`: manifests, what happens to them, and how they end.
//!
//! Each file is a test of its own, in a namespace of its own, on one cluster that all share: the embedded one, or,
//! with `KUBEOPENCODE_SCENARIO_CONTEXT` set, the cluster of that kubeconfig context, where the operator already runs.
//! `tests/scenarios/README.md` describes the form.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the servers are tests, which clippy does not see"
)]

mod agent;
#[path = "../agents/anthropic.rs"]
mod anthropic;
#[path = "../agents/chat.rs"]
mod chat;
mod cluster;
mod documents;
mod failures;
#[expect(dead_code, reason = "git-init's own tests ask more of it")]
#[path = "../../../../tests/git/https.rs"]
mod https;
#[path = "../support/local.rs"]
mod local;
mod matching;
#[expect(dead_code, reason = "the tests of real agents ask more of it")]
#[path = "../agents/model.rs"]
mod model;
mod repositories;
#[path = "../agents/responses.rs"]
mod responses;
#[path = "../../../../tests/failures/row.rs"]
mod row;
mod runner;
mod scenario;
#[path = "../support/some.rs"]
mod some;
#[path = "../../../../tests/git/ssh.rs"]
mod ssh;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use cluster::Cluster;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("tests/scenarios is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    paths.sort();
    let paths = scenario::spread(paths);
    if arguments.list {
        let trials = paths
            .iter()
            .map(|path| Trial::test(scenario::name(path), || Ok(())))
            .collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }

    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a tokio runtime"),
    );
    let cluster = Arc::new(
        runtime
            .block_on(Cluster::start())
            .expect("the cluster starts"),
    );
    let scenarios = paths.clone();
    let failures = Trial::test("docs/failures.md", move || {
        failures::check(&scenarios).map_err(|error| Failed::from(format!("{error:#}")))
    });
    let trials: Vec<Trial> = paths
        .into_iter()
        .map(|path| {
            let (runtime, cluster) = (runtime.clone(), cluster.clone());
            let elsewhere = scenario::elsewhere(&path, Cluster::kind());
            Trial::test(scenario::name(&path), move || {
                runtime
                    .block_on(runner::run(&cluster, &path))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
            .with_ignored_flag(elsewhere)
        })
        .collect();
    let documents = documents::paths();
    let documents: Vec<Trial> = documents
        .into_iter()
        .map(|path| {
            let (runtime, cluster) = (runtime.clone(), cluster.clone());
            let name = format!("manifests of {}", scenario::name(&path));
            Trial::test(name, move || {
                runtime
                    .block_on(documents::check(&cluster, &path))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    let form = Trial::test("logs are followed or compared", || {
        scenario::logs_are_followed_or_compared().map_err(|error| Failed::from(error.to_string()))
    });
    let trials = trials.into_iter().chain(documents);
    let trials = trials.chain([failures, form]);
    let trials = trials.collect();
    let code = some::run(&arguments, trials);
    drop(cluster);
    code
}
