//! `completion`: the completion script of a shell.

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, CompletionArgs},
    printer::Printer,
};

/// Prints the script.
pub(crate) fn completion(arguments: &CompletionArgs, printer: &Printer) {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "kubeopencode",
        &mut script,
    );
    printer.data(&script);
}
