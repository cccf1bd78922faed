//! The `git` program, for looking at the user's repository and for taking in what an agent did.
//!
//! Nothing of the environment decides where git looks, no hook runs, nothing asks a person.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use kubeopencode_pod::work::Packed;

/// A git that runs in `directory` with a safe environment.
fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("LC_ALL", "C")
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
        ]);
    command
}

/// What git prints, trimmed; an error with git's words when it fails.
pub(crate) fn output(directory: &Path, arguments: &[&str]) -> Result<String> {
    run(git(directory).args(arguments))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .context("git cannot be started: is it installed?")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("git: {}", text.trim().lines().last().unwrap_or("it failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Whether something in a repository is not committed.
pub(crate) fn is_dirty(directory: &Path) -> bool {
    output(
        directory,
        &["status", "--porcelain", "--untracked-files=no"],
    )
    .is_ok_and(|text| !text.is_empty())
}

/// What was brought into a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brought {
    /// The branch with what the agent's HEAD had, and what it did not commit.
    pub(crate) branch: Option<String>,
    /// Those with what it had on others, or put aside.
    pub(crate) others: Vec<String>,
}

/// Takes the objects of a pack into `repository` and puts new branches on its commits: `branch`, or that with a number
/// where it is taken, and `branch-NAME` for others. Nothing else of the repository changes.
pub(crate) fn bring_back(repository: &Path, packed: &Packed, branch: &str) -> Result<Brought> {
    let pack = std::fs::File::open(&packed.file)?;
    // One that is known was there before the agent.
    let is_new = |commit: &str| {
        let object = format!("{commit}^{{commit}}");
        output(repository, &["cat-file", "-e", &object]).is_err()
    };
    let aside: Vec<&(String, String)> = packed
        .aside
        .iter()
        .filter(|(_, commit)| is_new(commit))
        .collect();
    // As a fetch does it: each object is named anew and checked, and so is what it refers to.
    run(git(repository)
        .args(["index-pack", "--stdin", "--strict"])
        .stdin(Stdio::from(pack)))?;
    let whole = |commit: &str| {
        let mut list = vec!["rev-list", "--objects", "--quiet", commit, "--not"];
        list.extend(packed.boundary.as_deref());
        list.push("--");
        output(repository, &list).context("not everything that it is built on is there")
    };
    let mut brought = Brought {
        branch: None,
        others: Vec::new(),
    };
    if let Some(commit) = &packed.commit {
        whole(commit)?;
        brought.branch = Some(new_branch(repository, branch, commit)?);
    }
    for (name, commit) in aside {
        whole(commit)?;
        let name = format!("{branch}-{}", plain(name));
        brought.others.push(new_branch(repository, &name, commit)?);
    }
    Ok(brought)
}

/// The agent's name of a branch, as a part of one of ours.
fn plain(name: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => letter,
        _ => '-',
    };
    let plain: String = name.chars().take(60).map(letter).collect();
    plain.trim_matches('-').to_owned()
}

/// Puts a branch that is not there yet on a commit. Answers its name.
fn new_branch(repository: &Path, branch: &str, commit: &str) -> Result<String> {
    for number in 1..1000 {
        let name = if number == 1 {
            branch.to_owned()
        } else {
            format!("{branch}-{number}")
        };
        let reference = format!("refs/heads/{name}");
        // The old value of zeros: only if there is no such branch.
        let zero = "0".repeat(commit.len());
        let update = ["update-ref", "--no-deref", &reference, commit, &zero];
        if output(repository, &update).is_ok() {
            return Ok(name);
        }
        let there = ["rev-parse", "--verify", "--quiet", &reference];
        if output(repository, &there).is_err() {
            bail!("git cannot make the branch {name}");
        }
    }
    bail!("there are too many branches named {branch}")
}

/// Whether there is a commit that both are built on, as `git diff A...B` needs it.
pub(crate) fn have_common_history(directory: &Path, one: &str, other: &str) -> bool {
    output(directory, &["merge-base", one, other]).is_ok()
}

/// What a person calls the place that work began at: the branch that `directory` has checked out, if it has that commit,
/// or else the commit.
pub(crate) fn began_at(directory: &Path, base: &str) -> String {
    let has_it = ["merge-base", "--is-ancestor", base, "HEAD"];
    output(directory, &has_it)
        .and_then(|_| output(directory, &["symbolic-ref", "--quiet", "--short", "HEAD"]))
        .unwrap_or_else(|_| base.get(..10).unwrap_or(base).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_agent_is_made_a_part_of_a_branch() {
        for (name, expected) in [
            ("topic/one", "topic-one"),
            ("../../heads/main", "heads-main"),
            ("-x.lock", "x-lock"),
            ("ü", ""),
        ] {
            assert_eq!(plain(name), expected, "{name}");
        }
    }
}
