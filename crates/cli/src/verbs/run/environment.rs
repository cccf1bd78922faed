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

/// Lines `NAME=value`, as `.env` files have them, with quotes, and with values as they stand there. The words of an error are
/// ours: the library's may repeat a line.
fn of_file(file: &Path) -> Result<Vec<(String, String)>, Failure> {
    let place = format!("--env-file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Problem::new(format!("{place}: cannot be read: {error}")).input())?;
    let Some(stand_in) = ('\u{e000}'..='\u{f8ff}').find(|letter| !text.contains(*letter)) else {
        return Err(Problem::new(format!("{place}: this is no text")).input());
    };
    let text = without_dollars(&text, stand_in);
    let mut variables = Vec::new();
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        let (name, value) = line.map_err(|error| {
            let place = match line_of(&text, &error) {
                Some(number) => format!("{place}:{number}"),
                None => place.clone(),
            };
            Problem::new(format!("{place}: this is not of the form NAME=value")).input()
        })?;
        check(&name, &place)?;
        variables.push((name, value.replace(stand_in, "$")));
    }
    Ok(variables)
}

/// With a stand-in for each `$`, for which the library would put in the value of a variable: a password may have one in it, and
/// nobody has named the variables of this environment. One that is escaped is a `$` to the library too, and its backslash is
/// a part of the value between single quotes.
fn without_dollars(text: &str, stand_in: char) -> String {
    let mut escaped = false;
    text.chars()
        .map(|letter| {
            let stands = letter == '$' && !escaped;
            escaped = letter == '\\' && !escaped;
            if stands { stand_in } else { letter }
        })
        .collect()
}

/// The number of the line that is wrong. Where a quote is not closed, it is the first of several.
fn line_of(text: &str, error: &dotenvy::Error) -> Option<usize> {
    let dotenvy::Error::LineParse(wrong, _) = error else {
        return None;
    };
    let first = wrong.lines().next()?.trim_end();
    let before = text.lines().position(|line| line.trim_end() == first)?;
    Some(before + 1)
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
