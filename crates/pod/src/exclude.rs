//! What the system puts into a checkout is not the agent's work: it must not make the checkout dirty, and no commit
//! must take it along. A new file is entered in `.git/info/exclude`; one that replaces a file of the repository is
//! marked in the index, `--skip-worktree`, and git then takes the repository's own file for unchanged.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    git::{bare, complaint},
    run::{End, Limits, Untold, run},
};

/// How many paths one git is asked about: its arguments have to fit.
const PATHS_AT_ONCE: usize = 128;
/// How long one git may take. It reads the index and writes it.
const PATIENCE: Duration = Duration::from_mins(2);
/// More than the paths of one question can be.
const ANSWER: usize = 4 * 1024 * 1024;

/// A file inside a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The root of the repository.
    pub root: PathBuf,
    /// The file, below it.
    pub relative: PathBuf,
}

/// Adds `path` to the excludes of the repository it is in, and answers where it is, if there is one at or below
/// `checkout`.
pub(crate) fn add(path: &Path, checkout: &Path) -> io::Result<Option<Entry>> {
    let Some((root, git_dir)) = repository_of(path, checkout) else {
        return Ok(None);
    };
    let Ok(relative) = path.strip_prefix(&root) else {
        return Ok(None);
    };
    if relative
        .components()
        .next()
        .is_none_or(|first| first.as_os_str() == ".git")
    {
        return Ok(None);
    }
    let entry = Some(Entry {
        relative: relative.to_owned(),
        root: root.clone(),
    });
    let pattern = pattern(&relative.to_string_lossy());
    let file = git_dir.join("info/exclude");
    let mut text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if text.lines().any(|line| line == pattern) {
        return Ok(entry);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&pattern);
    text.push('\n');
    fs::create_dir_all(git_dir.join("info"))?;
    fs::write(file, text)?;
    Ok(entry)
}

/// Marks those of the files that the repository at `root` has itself, so that git takes them for unchanged. `config`
/// is git's whole configuration besides the repository's own.
pub(crate) fn mark_unchanged(root: &Path, files: &[PathBuf], config: &Path) -> io::Result<()> {
    for some in files.chunks(PATHS_AT_ONCE) {
        let mut list = git(root, config);
        list.args(["ls-files", "--cached", "-z", "--"]).args(some);
        let known = output(&mut list)?;
        let tracked: Vec<&PathBuf> = some
            .iter()
            .filter(|file| {
                let file = file.as_os_str().as_encoded_bytes();
                known.split(|byte| *byte == 0).any(|known| known == file)
            })
            .collect();
        if tracked.is_empty() {
            continue;
        }
        let mut mark = git(root, config);
        mark.args(["update-index", "--skip-worktree", "--"])
            .args(tracked);
        output(&mut mark)?;
    }
    Ok(())
}

fn git(root: &Path, config: &Path) -> Command {
    let mut command = bare(root, config);
    command.arg("--literal-pathspecs");
    command
}

/// What it answers on standard output; an error is what it says of its failure.
fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let limits = Limits {
        until: Some(Instant::now() + PATIENCE),
        silence: None,
        output: ANSWER,
    };
    let output = run(command, limits, &Untold, |_| {})?;
    match output.end {
        End::Exited(status) if status.success() => Ok(output.stdout),
        End::Exited(_) => {
            let line = complaint(&output.stderr);
            let text = String::from_utf8_lossy(&output.stderr);
            Err(if text.contains("No space left on device") {
                io::Error::new(io::ErrorKind::StorageFull, line)
            } else {
                io::Error::other(line)
            })
        }
        End::TimedOut => Err(io::Error::other("git took too long")),
        End::TooMuch => Err(io::Error::other("git answered too much")),
    }
}

/// The innermost repository that `path` is in: its root, and the directory that has its `info/exclude`.
fn repository_of(path: &Path, checkout: &Path) -> Option<(PathBuf, PathBuf)> {
    let trusted = checkout.join(".git").canonicalize().ok()?;
    path.ancestors()
        .skip(1)
        .take_while(|directory| directory.starts_with(checkout))
        .find_map(|root| {
            let dot_git = root.join(".git");
            let kind = fs::symlink_metadata(&dot_git).ok()?;
            let git_dir = if kind.is_dir() {
                dot_git
            } else if kind.is_file() {
                common_dir(&root.join(pointed_at(&dot_git, "gitdir: ")?))
            } else {
                return None;
            };
            // A submodule's is inside the one of the checkout. Whatever points elsewhere is none of ours.
            let git_dir = git_dir.canonicalize().ok()?;
            git_dir
                .starts_with(&trusted)
                .then(|| (root.to_owned(), git_dir))
        })
}

/// Several worktrees share one `info/exclude`.
fn common_dir(git_dir: &Path) -> PathBuf {
    pointed_at(&git_dir.join("commondir"), "")
        .map_or_else(|| git_dir.to_owned(), |common| git_dir.join(common))
}

fn pointed_at(file: &Path, prefix: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.strip_prefix(prefix)?.trim_end_matches('\n').into())
}

/// A pattern that matches exactly this path and nothing else.
fn pattern(relative: &str) -> String {
    let mut pattern = String::from("/");
    for character in relative.chars() {
        if matches!(character, '\\' | '*' | '?' | '[' | ']' | '!' | '#' | ' ') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_the_path_itself() {
        assert_eq!(pattern("task.md"), "/task.md");
        assert_eq!(pattern("a b/[x]*.md"), "/a\\ b/\\[x\\]\\*.md");
    }

    #[test]
    fn a_git_file_that_points_elsewhere_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let checkout = directory.path().join("checkout");
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir_all(checkout.join(".git")).unwrap();
        fs::create_dir_all(checkout.join("sub")).unwrap();
        fs::create_dir_all(&elsewhere).unwrap();
        fs::write(checkout.join("sub/.git"), "gitdir: ../../elsewhere\n").unwrap();
        add(&checkout.join("sub/file"), &checkout).unwrap();
        assert!(!elsewhere.join("info").exists());
        assert_eq!(
            fs::read_to_string(checkout.join(".git/info/exclude")).unwrap(),
            "/sub/file\n",
            "the outer repository is the one it is in"
        );
    }
}
