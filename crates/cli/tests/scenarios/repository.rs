//! Git repositories for scenarios, made with the real git.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::scenario::Repository;

/// A repository that was made.
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// Its first commit.
    pub first: String,
    /// The last commit on `main`.
    pub head: String,
}

/// Makes the repository below `folder`. Its commits are the same in every run.
pub fn make(folder: &Path, repository: &Repository) -> Result<Made> {
    let path = folder.join(&repository.name);
    std::fs::create_dir_all(&path)?;
    git(&path, &["init", "--quiet", "--initial-branch=main"])?;
    for commit in &repository.commits {
        if let Some(branch) = &commit.branch
            && git(&path, &["switch", "--quiet", branch]).is_err()
        {
            git(&path, &["switch", "--quiet", "--create", branch])?;
        }
        for (name, content) in &commit.files {
            let file = path.join(name);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, &file)?,
                None => std::fs::write(&file, content)?,
            }
        }
        git(&path, &["add", "--all"])?;
        git(&path, &["commit", "--quiet", "--message", "A commit"])?;
        if let Some(tag) = &commit.tag {
            git(&path, &["tag", tag])?;
        }
    }
    git(&path, &["switch", "--quiet", "main"])?;
    let first = git(&path, &["rev-list", "--max-parents=0", "HEAD"])?;
    let head = git(&path, &["rev-parse", "HEAD"])?;
    Ok(Made { path, first, head })
}

/// Runs git with an identity and a date of its own and nothing of the user's configuration; its output, trimmed.
fn git(path: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(path)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([
            ("GIT_AUTHOR_NAME", "Scenario"),
            ("GIT_AUTHOR_EMAIL", "scenario@example.com"),
            ("GIT_COMMITTER_NAME", "Scenario"),
            ("GIT_COMMITTER_EMAIL", "scenario@example.com"),
            ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z"),
            ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z"),
        ])
        .output()?;
    ensure!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
