//! `kubeopencode`: the operator, the local cluster, the programs of the Pod and the command line, in one binary.
//!
//! The sandbox helper and the programs of the Pod come first: they must not find any thread or runtime.

mod cli;
mod create;
mod failure;
mod follow;
mod git;
mod interrupt;
mod lowering;
mod machine;
mod manifest;
mod mask;
mod pods;
mod printer;
mod render;
mod shell;
mod summary;
mod table;
mod target;
mod tell;
mod used;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;
use failure::Failure;
use printer::Printer;

fn main() -> ExitCode {
    if let Some(code) = kubeopencode_embedded::node::sandbox::helper_main() {
        return code;
    }
    if let Some(code) = kubeopencode_pod::main() {
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
    tell::set_up(matches!(cli.command, Command::Controller(_)), cli.verbose);
    match cli.command {
        Command::Run(arguments) => return wait(verbs::run::run(&arguments, printer))?,
        Command::Local(arguments) => wait(verbs::local::local(&arguments, printer))?,
        Command::Controller(arguments) => {
            // It decides on one thread anyway. Others would only carry bytes, and waking one another costs more than that.
            let one_thread = tokio::runtime::Builder::new_current_thread();
            wait_on(one_thread, verbs::controller::controller(&arguments))?
        }
        Command::Task(command) => wait(verbs::task::task(&command, printer))?,
        Command::Agent(command) => wait(verbs::agent::agent(&command, printer))?,
        Command::Plan(arguments) => wait(verbs::plan::plan(&arguments, printer))?,
        Command::Crds(arguments) => verbs::crds::crds(&arguments, printer),
        Command::Rbac(arguments) => verbs::rbac::rbac(&arguments, printer),
        Command::Completion(arguments) => {
            verbs::completion::completion(&arguments, printer);
            Ok(())
        }
        Command::CliReference => {
            verbs::reference::reference(printer);
            Ok(())
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Runs a verb to its end.
fn wait<T>(verb: impl Future<Output = T>) -> Result<T, Failure> {
    wait_on(tokio::runtime::Builder::new_multi_thread(), verb)
}

fn wait_on<T>(
    mut threads: tokio::runtime::Builder,
    verb: impl Future<Output = T>,
) -> Result<T, Failure> {
    let runtime = threads.enable_all().build()?;
    let value = runtime.block_on(verb);
    // Whatever is left is not waited for: all that has to end has been ended.
    runtime.shutdown_background();
    Ok(value)
}
