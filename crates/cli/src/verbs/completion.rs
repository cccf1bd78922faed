//! `completion`: the completion script of a shell.

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, CompletionArgs},
    failure::Failure,
    printer::Printer,
};

/// Prints the script.
pub(crate) fn completion(arguments: &CompletionArgs, printer: &Printer) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "kubeopencode",
        &mut script,
    );
    printer.data(&script);
    Ok(())
}
