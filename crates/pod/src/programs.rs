//! From the arguments of the process to one of the programs.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use kubeopencode_engine::handover::BEGUN_BEFORE;

use crate::{askpass, context_init, credentials_init, git_init, git_push, once, say, supervise};

/// The subcommands that [`main`] answers to.
pub const NAMES: [&str; 5] = [
    "context-init",
    "credentials-init",
    "git-init",
    "git-push",
    "supervise",
];

/// Exit code for arguments that no program understands.
const USAGE: u8 = 2;

/// Runs the program that the arguments of this process name, and answers its exit code. `None`: they name none of ours.
///
/// Call it before any thread exists: `supervise` and `git-init` block signals for the threads that come after.
/// Options, all optional: `--context-dir DIR` (all but `supervise`), `--tools-dir DIR` (all but `credentials-init`),
/// `--push-dir DIR` (`git-push`), `--grace-seconds N` (`git-push` and `supervise`), `--begun-dir DIR`,
/// `--termination-log FILE` and `--timeout-seconds N` (`supervise`, before `--` and the command).
#[must_use]
pub fn main() -> Option<ExitCode> {
    if let Some(code) = askpass::main() {
        return Some(code);
    }
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?;
    let name = NAMES.into_iter().find(|known| OsStr::new(known) == name)?;
    let code = match parse(arguments) {
        Ok(options) => run(name, options),
        Err(problem) => Err(problem),
    };
    Some(ExitCode::from(code.unwrap_or_else(|problem| {
        say::line(&format!("{name}: {problem}"));
        USAGE
    })))
}

/// Options and, after `--`, the command.
#[derive(Default)]
struct Options {
    named: Vec<(&'static str, OsString)>,
    command: Vec<OsString>,
}

impl Options {
    fn take(&mut self, name: &str) -> Option<OsString> {
        let at = self.named.iter().position(|(known, _)| *known == name)?;
        Some(self.named.remove(at).1)
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    const KNOWN: [&str; 7] = [
        "--context-dir",
        "--tools-dir",
        "--push-dir",
        "--begun-dir",
        "--termination-log",
        "--grace-seconds",
        "--timeout-seconds",
    ];
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            options.command = arguments.collect();
            return Ok(options);
        }
        let name = KNOWN
            .into_iter()
            .find(|known| OsStr::new(known) == argument)
            .ok_or_else(|| format!("unknown argument {}", argument.display()))?;
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        options.named.push((name, value));
    }
    Ok(options)
}

fn run(name: &str, mut options: Options) -> Result<u8, String> {
    let context_dir = options.take("--context-dir").map(PathBuf::from);
    let tools_dir = options.take("--tools-dir").map(PathBuf::from);
    let code = match name {
        "context-init" => {
            let mut places = context_init::Places::default();
            places.context_dir = context_dir.unwrap_or(places.context_dir);
            places.tools_dir = tools_dir.unwrap_or(places.tools_dir);
            nothing_left(&options)?;
            unless_begun(name, &places.tools_dir).unwrap_or_else(|| context_init::main(&places))
        }
        "credentials-init" => {
            nothing_left(&options)?;
            if tools_dir.is_some() {
                return Err("--tools-dir is not an option here".to_owned());
            }
            credentials_init::main(context_dir)
        }
        "git-init" => {
            let mut places = git_init::Places::default();
            places.context_dir = context_dir.unwrap_or(places.context_dir);
            places.tools_dir = tools_dir.unwrap_or(places.tools_dir);
            nothing_left(&options)?;
            unless_begun(name, &places.tools_dir).unwrap_or_else(|| git_init::main(&places))
        }
        "git-push" => {
            let mut places = git_push::Places::default();
            places.context_dir = context_dir.unwrap_or(places.context_dir);
            places.tools_dir = tools_dir.unwrap_or(places.tools_dir);
            if let Some(directory) = options.take("--push-dir") {
                places.push_dir = directory.into();
            }
            let grace = seconds(&mut options, "--grace-seconds")?;
            nothing_left(&options)?;
            git_push::main(&places, grace.unwrap_or_else(supervise::grace))
        }
        _ => {
            let mut settings = supervise::Settings::from_environment();
            settings.tools_dir = tools_dir.unwrap_or(settings.tools_dir);
            if let Some(directory) = options.take("--begun-dir") {
                settings.begun_dir = directory.into();
            }
            if let Some(file) = options.take("--termination-log") {
                settings.termination_log = file.into();
            }
            if let Some(grace) = seconds(&mut options, "--grace-seconds")? {
                settings.grace = grace;
            }
            if let Some(timeout) = seconds(&mut options, "--timeout-seconds")? {
                settings.timeout = Some(timeout);
            }
            let command = std::mem::take(&mut options.command);
            nothing_left(&options)?;
            if context_dir.is_some() || command.is_empty() {
                return Err("expected: supervise -- COMMAND [ARGUMENT…]".to_owned());
            }
            supervise::supervise(&command, &settings)
        }
    };
    Ok(code)
}

/// The exit code where the agent has begun before; what comes before an agent has nothing to do then.
fn unless_begun(name: &str, tools_dir: &Path) -> Option<u8> {
    let refused = once::check(tools_dir).err()?;
    say::line(&format!("{name}: {refused}"));
    Some(BEGUN_BEFORE)
}

fn seconds(options: &mut Options, name: &str) -> Result<Option<Duration>, String> {
    let given = options.take(name);
    given
        .map(|given| {
            given
                .to_str()
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs)
                .ok_or_else(|| format!("{name} needs a number"))
        })
        .transpose()
}

fn nothing_left(options: &Options) -> Result<(), String> {
    match (options.named.first(), options.command.is_empty()) {
        (Some((name, _)), _) => Err(format!("{name} is not an option here, or stands twice")),
        (None, false) => Err("no command is expected here".to_owned()),
        (None, true) => Ok(()),
    }
}
