//! Variables that `run` gives to the agent: from its own environment by name, or from files. Never from an argument: what
//! stands in one can be read by everybody on the machine.

use std::{collections::BTreeMap, path::Path};

use crate::{
    cli::SaidArgs,
    failure::{Failure, Problem},
};

/// The variables, with their values. A name that is given by itself wins over a file.
pub(super) fn variables(said: &SaidArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for file in &said.env_file {
        variables.extend(of_file(file)?);
    }
    for name in &said.env {
        if name.contains('=') {
            return Err(Problem::new(
                "--env takes the name of a variable alone: an argument with its value can be seen by others",
            )
            .hint("`export NAME=…` first, or put NAME=… into a file and give it with --env-file")
            .input());
        }
        check(name, "--env")?;
        let value = std::env::var(name).map_err(|_| {
            Problem::new(format!(
                "--env {name}: there is no such variable, or it is no text"
            ))
            .hint(format!(
                "`export {name}=…` sets it; --env-file takes it from a file"
            ))
            .input()
        })?;
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

/// Lines `NAME=value`, each value as it stands there to the end of its line, `$`, `\` and `#` too: a password may have any of
/// them. Quotes around it are taken off; between them it may have several lines. Lines that are empty or begin with `#` are
/// passed over. An error repeats no value.
fn of_file(file: &Path) -> Result<Vec<(String, String)>, Failure> {
    let place = format!("--env-file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Problem::new(format!("{place}: cannot be read: {error}")).input())?;
    let mut lines = text.lines().enumerate();
    let mut variables = Vec::new();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{place}:{}", number + 1);
        let wrong = |what: &str| Problem::new(format!("{place}: {what}")).input();
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("this is not of the form NAME=value"))?;
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        check(name, &place)?;
        let value = value.trim_start();
        let value = match value.chars().next().filter(|first| "'\"".contains(*first)) {
            Some(quote) => {
                quoted(quote, value, lines.by_ref().map(|(_, line)| line)).ok_or_else(|| {
                    wrong("its value begins with a quote, and no line ends with another")
                })?
            }
            None => value.to_owned(),
        };
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

/// What is between the quote that `first` begins with, and the one that it or one of these lines ends with.
fn quoted<'t>(quote: char, first: &'t str, more: impl Iterator<Item = &'t str>) -> Option<String> {
    let mut value = String::new();
    for (number, line) in std::iter::once(&first[1..]).chain(more).enumerate() {
        if number > 0 {
            value.push('\n');
        }
        if let Some(last) = line.trim_end().strip_suffix(quote) {
            value.push_str(last);
            return Some(value);
        }
        value.push_str(line);
    }
    None
}

/// Whether it is a name that a variable can have.
fn check(name: &str, place: &str) -> Result<(), Failure> {
    let first = name
        .chars()
        .next()
        .is_some_and(|letter| letter == '_' || letter.is_ascii_alphabetic());
    let rest = name
        .chars()
        .all(|letter| letter == '_' || letter.is_ascii_alphanumeric());
    if first && rest {
        return Ok(());
    }
    Err(Problem::new(format!(
        "{place}: {name:?} cannot be the name of a variable: letters, digits and _, not a digit first"
    ))
    .input())
}
