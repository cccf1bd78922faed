//! `.git/info/exclude`: what the system puts into a checkout is not the agent's work, and must not make it dirty.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Adds `path` to the excludes of the repository it is in, if there is one at or below `checkout`. A file that the
/// repository itself has at that path still counts as changed: it is.
pub(crate) fn add(path: &Path, checkout: &Path) -> io::Result<()> {
    let Some((root, git_dir)) = repository_of(path, checkout) else {
        return Ok(());
    };
    let Ok(relative) = path.strip_prefix(&root) else {
        return Ok(());
    };
    if relative
        .components()
        .next()
        .is_none_or(|first| first.as_os_str() == ".git")
    {
        return Ok(());
    }
    let pattern = pattern(&relative.to_string_lossy());
    let file = git_dir.join("info/exclude");
    let mut text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if text.lines().any(|line| line == pattern) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&pattern);
    text.push('\n');
    fs::create_dir_all(git_dir.join("info"))?;
    fs::write(file, text)
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
