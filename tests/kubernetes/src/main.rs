//! The operator on a real Kubernetes: in trouble, and under load.
//!
//! Runs where a cluster of `cluster/cluster` is: it reads KUBECONFIG, starts the operator's real binary as processes of
//! its own, and does to them, and to the cluster, what a bad day does. `README.md` beside this says how to run it.

mod api;
mod counter;
mod load;
mod operator;
mod report;
mod rights;
mod trouble;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// The operator on a real Kubernetes.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What goes wrong in a cluster, while Tasks run: each agent still runs exactly once
    Trouble(trouble::TroubleArgs),
    /// Tasks a second, beside the same writes made by bare clients
    Load(load::LoadArgs),
}

/// The operator under test.
#[derive(Debug, Clone, Args)]
struct OperatorArgs {
    /// The program whose `controller` is tested
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "KUBEOPENCODE",
        default_value = "target/release/kubeopencode"
    )]
    program: PathBuf,
    /// Image of the init containers
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "quay.io/kubeopencode/kubeopencode:test"
    )]
    system_image: String,
    /// Where the logs of the operators stay. Default: they go with the test
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Trouble(arguments) => trouble::trouble(arguments).await,
        Command::Load(arguments) => load::load(arguments).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::aside(format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
