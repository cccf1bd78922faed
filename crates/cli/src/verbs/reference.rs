//! `cli-reference`: the command line as Markdown, which is `docs/cli.md`.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use crate::{
    cli::{Cli, EXIT_STATUS},
    printer::Printer,
};

/// Prints it.
pub(crate) fn reference(printer: &Printer) {
    let mut text = format!(
        "# Commands\n\n<!-- Written by `cargo run -- cli-reference > docs/cli.md`. -->\n\n\
         Data goes to standard output, everything else to standard error. {EXIT_STATUS}\n",
    );
    let mut root = Cli::command();
    root.build();
    let globals: Vec<&Arg> = root
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .collect();
    text.push_str("\nEverywhere:\n\n");
    table(&mut text, &globals);
    for command in root
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        section(&mut text, command, "kubeopencode");
    }
    printer.text(&text);
}

fn section(text: &mut String, command: &Command, parent: &str) {
    let name = format!("{parent} {}", command.get_name());
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    if command.has_subcommands() {
        for child in command.get_subcommands() {
            section(text, child, &name);
        }
        return;
    }
    let _ = write!(text, "\n## {name}\n\n{about}.\n\n");
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !argument.is_hide_set())
        .filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
        .collect();
    table(text, &arguments);
    if let Some(after) = command.get_after_long_help() {
        let _ = write!(text, "\n```text\n{after}\n```\n");
    }
}

fn table(text: &mut String, arguments: &[&Arg]) {
    if arguments.is_empty() {
        return;
    }
    text.push_str("| | |\n|---|---|\n");
    for argument in arguments {
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
        let mut help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        if argument.get_action().takes_values() && !values.is_empty() {
            let _ = write!(help, " ({})", values.join(", "));
        }
        if let Some(default) = argument.get_default_values().first()
            && argument.get_action().takes_values()
        {
            let _ = write!(help, ". Default: `{}`", default.to_string_lossy());
        }
        let _ = writeln!(
            text,
            "| `{}` | {} |",
            form(argument).replace('|', "\\|"),
            help.replace('|', "\\|")
        );
    }
}

/// `-f, --file <FILE>…` or `<NAME>`.
fn form(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| {
            format!(
                "<{}>",
                names
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("> <")
            )
        });
    let many = if matches!(argument.get_action(), clap::ArgAction::Append) {
        "…"
    } else {
        ""
    };
    let names: Vec<String> = [
        argument.get_short().map(|short| format!("-{short}")),
        argument.get_long().map(|long| format!("--{long}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    match (names.is_empty(), value) {
        (true, value) => value.unwrap_or_default() + many,
        (false, Some(value)) if argument.is_require_equals_set() => {
            format!("{}[={value}]", names.join(", "))
        }
        (false, Some(value)) => format!("{} {value}{many}", names.join(", ")),
        (false, None) => names.join(", "),
    }
}
