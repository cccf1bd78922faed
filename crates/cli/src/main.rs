//! `kubeopencode`: the operator, the local cluster, the programs of the Pod and the command line, in one binary.
//!
//! The sandbox helper and the programs of the Pod come first: they must not find any thread or runtime.

mod cli;
mod failure;
mod git;
mod manifest;
mod printer;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;
use failure::Failure;
use printer::Printer;

fn main() -> ExitCode {
    if let Some(code) = kubeopencode_embedded::node::sandbox::helper_main() {
        return code;
    }
    if let Some(code) = verbs::pod::main() {
        return code;
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let printer = Printer::new(cli.color);
    match dispatch(cli, &printer) {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.class.code())
        }
    }
}

fn dispatch(cli: cli::Cli, printer: &Printer) -> Result<ExitCode, Failure> {
    use cli::Command;
    match cli.command {
        Command::Crds(arguments) => verbs::crds::crds(&arguments, printer),
        Command::Completion(arguments) => verbs::completion::completion(&arguments, printer),
        Command::CliReference => verbs::reference::reference(printer),
        _ => Err(failure::Problem::new("not built yet").failed()),
    }
    .map(|()| ExitCode::SUCCESS)
}
