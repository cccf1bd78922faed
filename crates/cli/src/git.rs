//! The `git` program, for looking at the user's repository and for taking commits out of a checkout that an agent had.
//!
//! Nothing of the environment decides where git looks, no hook runs, nothing asks a person.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

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

/// Fetches the commits that `checkout` is at into a new branch of `repository`, and answers its name: `branch`, or that
/// with a number where it is taken. Nothing else of the repository changes.
///
/// The agent may have written anything into the checkout's configuration. It is read by `upload-pack` alone, in the way
/// that git serves repositories of strangers.
pub(crate) fn bring_back(
    repository: &Path,
    checkout: &Path,
    head: &str,
    branch: &str,
) -> Result<String> {
    // It is the agent's word, and git would take many others for a commit.
    if !matches!(head.len(), 40 | 64) || !head.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("{head:?} is no commit");
    }
    // Git serves a repository to others only if its directory is declared safe, and reads that from a global file.
    let folder = tempfile::Builder::new()
        .prefix("kubeopencode-git-")
        .tempdir()?;
    let config = folder.path().join("config");
    std::fs::write(&config, "[safe]\n\tdirectory = *\n")?;
    run(git(repository)
        .env("GIT_CONFIG_GLOBAL", &config)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args([
            "-c",
            "protocol.allow=never",
            "-c",
            "protocol.file.allow=always",
            "-c",
            "fetch.fsckObjects=true",
            "-c",
            "gc.auto=0",
            "-c",
            "maintenance.auto=false",
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--refmap=",
        ])
        .arg(checkout)
        .arg("HEAD"))?;
    for number in 1..1000 {
        let name = if number == 1 {
            branch.to_owned()
        } else {
            format!("{branch}-{number}")
        };
        let reference = format!("refs/heads/{name}");
        // The old value of 40 zeros: only if there is no such branch.
        let zero = "0".repeat(head.len());
        if output(
            repository,
            &["update-ref", "--no-deref", &reference, head, &zero],
        )
        .is_ok()
        {
            return Ok(name);
        }
        if output(
            repository,
            &["rev-parse", "--verify", "--quiet", &reference],
        )
        .is_err()
        {
            bail!("git cannot make the branch {name}");
        }
    }
    bail!("there are too many branches named {branch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_commit_is_not_brought_back() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (repository, checkout) = (folder.path().join("ours"), folder.path().join("theirs"));
        for path in [&repository, &checkout] {
            std::fs::create_dir(path)?;
            output(path, &["init", "--quiet"])?;
            let tree = output(path, &["write-tree"])?;
            let who = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
            let commit = [&who[..], &["commit-tree", "-m", "one", &tree]].concat();
            let commit = output(path, &commit)?;
            output(path, &["update-ref", "HEAD", &commit])?;
        }
        let forty = format!("HEAD{}", "~0".repeat(18));
        for head in ["HEAD", "--stdin", "", &forty] {
            let brought = bring_back(&repository, &checkout, head, "new");
            assert!(brought.is_err(), "{head:?}: {brought:?}");
        }
        let branches = output(&repository, &["branch", "--format=%(refname:short)"])?;
        assert_eq!(branches.lines().count(), 1, "{branches}");
        let head = output(&checkout, &["rev-parse", "HEAD"])?;
        assert_eq!(bring_back(&repository, &checkout, &head, "new")?, "new");
        Ok(())
    }
}
