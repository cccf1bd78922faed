//! What the agent left in a checkout's `.git`, read without git.
//!
//! All of it is the agent's to write. Followed are no links, no `.git` file that names another place, and no alternates;
//! read are which commit HEAD is, and branches if they are asked for, where history ends, what is excluded, and where the
//! objects are.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Access, OFlags, access};

use crate::git::remote::is_hex;

/// Longest HEAD, or ref.
const REF: u64 = 4096;
/// Longest list of packed refs, of ends of history, or of what is excluded.
const LIST: u64 = 64 * 1024 * 1024;

/// Where local branches are.
const HEADS: &str = "refs/heads/";
/// What `git stash` has put aside last.
const STASH: &str = "refs/stash";
/// Most branches that are looked at.
const REFS: usize = 10_000;

/// What there is.
#[derive(Debug)]
pub(super) struct Left {
    /// The commit that HEAD is at.
    pub head: String,
    /// Commits whose parents are not there.
    pub shallow: Vec<String>,
    /// `.git/info/exclude`.
    pub exclude: Vec<u8>,
    /// The directory of the objects: real directories and files, all of it.
    pub objects: PathBuf,
    /// A file in it that this user cannot read. It may not be needed.
    pub unreadable: Option<PathBuf>,
}

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeftError {
    #[error("{0} is a symbolic link")]
    Link(PathBuf),
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    #[error("its objects are elsewhere: {0}")]
    Elsewhere(PathBuf),
    #[error("{0} is longer than anything that git writes there")]
    TooLong(PathBuf),
    #[error("its HEAD names no commit")]
    NoHead,
    #[error("user {user} cannot read {0}", user = rustix::process::geteuid().as_raw())]
    Unreadable(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl LeftError {
    fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Unreadable(path),
            _ => Self::Io { path, source },
        }
    }
}

/// Looks at the checkout at `path`. No process of the agent may be left: what was looked at has to stay.
pub(super) fn look(path: &Path) -> Result<Left, LeftError> {
    let mut at = PathBuf::new();
    for component in path.components() {
        at.push(component);
        directory(&at)?;
    }
    let git_dir = path.join(".git");
    directory(&git_dir)?;
    let objects = git_dir.join("objects");
    let unreadable = only_plain(&objects)?;
    for name in ["info/alternates", "info/http-alternates"] {
        let alternates = objects.join(name);
        if fs::symlink_metadata(&alternates).is_ok() {
            return Err(LeftError::Elsewhere(alternates));
        }
    }
    let exclude = below(&git_dir, "info/exclude", LIST)?.unwrap_or_default();
    let shallow = below(&git_dir, "shallow", LIST)?.unwrap_or_default();
    let shallow = String::from_utf8_lossy(&shallow);
    Ok(Left {
        head: head(&git_dir)?,
        shallow: shallow.lines().filter_map(commit).collect(),
        exclude,
        objects,
        unreadable,
    })
}

/// A branch of the checkout, or what was put aside with `git stash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// Its name, without `refs/` or `refs/heads/`.
    pub name: String,
    /// The commit that it is at.
    pub commit: String,
}

/// All local branches of the checkout at `path`, at which [`look`] has looked, and what was put aside: the newest is `stash`,
/// the one before it `stash-2`.
pub(super) fn aside(path: &Path) -> Result<Vec<Aside>, LeftError> {
    let git_dir = path.join(".git");
    let packed = below(&git_dir, "packed-refs", LIST)?.unwrap_or_default();
    let packed = String::from_utf8_lossy(&packed);
    let packed = packed.lines().filter_map(|line| line.split_once(' '));
    let mut found: BTreeMap<String, String> = packed
        .filter(|(_, name)| name.starts_with(HEADS) || *name == STASH)
        .filter_map(|(id, name)| Some((name.to_owned(), commit(id)?)))
        .collect();
    let mut open = vec![HEADS.trim_end_matches('/').to_owned(), STASH.to_owned()];
    while let Some(name) = open.pop() {
        // A loose one counts more than a packed one.
        if let Some(loose) = below(&git_dir, &name, REF)? {
            // One that is another's name is found under that.
            if let Some(id) = commit(String::from_utf8_lossy(&loose).trim_end()) {
                found.insert(name, id);
            }
            continue;
        }
        let directory = git_dir.join(&name);
        let failed = |source| LeftError::of(&directory, source);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let below = entry.map_err(failed)?.file_name();
            open.push(format!("{name}/{}", below.to_string_lossy()));
        }
        if open.len() > REFS {
            return Err(LeftError::TooLong(directory));
        }
    }
    if found.contains_key(STASH) {
        // All but the newest are in its log alone, the oldest first: what it was before, what it became, and who did that.
        let log = below(&git_dir, &format!("logs/{STASH}"), LIST)?.unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let older = log.lines().rev().skip(1).take(REFS);
        let older = older.filter_map(|line| commit(line.split(' ').nth(1)?));
        found.extend((2..).map(|number| format!("{STASH}-{number}")).zip(older));
    }
    let short = |name: &str| {
        let name = name.strip_prefix(HEADS).unwrap_or(name);
        name.trim_start_matches("refs/").to_owned()
    };
    let found = found.into_iter();
    Ok(found
        .map(|(name, commit)| Aside {
            name: short(&name),
            commit,
        })
        .collect())
}

/// Whether the checkout at `path` has other working trees: they may be anywhere, also where a pattern excludes them.
pub(super) fn has_worktrees(path: &Path) -> bool {
    fs::read_dir(path.join(".git/worktrees")).is_ok_and(|mut those| those.next().is_some())
}

/// The commit that HEAD is at.
fn head(git_dir: &Path) -> Result<String, LeftError> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    let head = below(git_dir, "HEAD", REF)?.map(text).unwrap_or_default();
    let Some(name) = head.strip_prefix("ref:") else {
        return commit(&head).ok_or(LeftError::NoHead);
    };
    let name = name.trim();
    let plain = Path::new(name)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !plain || !name.starts_with("refs/") {
        return Err(LeftError::NoHead);
    }
    if let Some(loose) = below(git_dir, name, REF)?.map(text) {
        return commit(&loose).ok_or(LeftError::NoHead);
    }
    let packed = below(git_dir, "packed-refs", LIST)?.unwrap_or_default();
    String::from_utf8_lossy(&packed)
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, known)| *known == name)
        .and_then(|(id, _)| commit(id))
        .ok_or(LeftError::NoHead)
}

/// A full object name.
fn commit(text: &str) -> Option<String> {
    (is_hex(text) && matches!(text.len(), 40 | 64)).then(|| text.to_ascii_lowercase())
}

fn directory(path: &Path) -> Result<(), LeftError> {
    let there = fs::symlink_metadata(path).map_err(|source| LeftError::of(path, source))?;
    if there.is_symlink() {
        Err(LeftError::Link(path.to_owned()))
    } else if there.is_dir() {
        Ok(())
    } else {
        Err(LeftError::NotADirectory(path.to_owned()))
    }
}

/// Directories and files below `path`, and nothing else: no link that leads out, nothing that is read for ever. Answers a
/// file that this user cannot read.
fn only_plain(path: &Path) -> Result<Option<PathBuf>, LeftError> {
    directory(path)?;
    let mut unreadable = None;
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        let failed = |source| LeftError::of(&directory, source);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_symlink() {
                return Err(LeftError::Link(entry.path()));
            } else if !kind.is_file() {
                return Err(LeftError::NotAFile(entry.path()));
            } else if unreadable.is_none() && access(entry.path(), Access::READ_OK).is_err() {
                unreadable = Some(entry.path());
            }
        }
    }
    Ok(unreadable)
}

/// The content of a file below `git_dir`, to which no link leads. `None`: it is not there.
fn below(git_dir: &Path, name: &str, longest: u64) -> Result<Option<Vec<u8>>, LeftError> {
    let path = git_dir.join(name);
    let mut at = git_dir.to_owned();
    for component in Path::new(name)
        .parent()
        .into_iter()
        .flat_map(Path::components)
    {
        at.push(component);
        match directory(&at) {
            Err(LeftError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        }
    }
    let failed = |source| LeftError::of(&path, source);
    // Not blocking: it may be a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(LeftError::Link(path));
        }
        Err(error) => return Err(failed(error)),
    };
    let there = file.metadata().map_err(failed)?;
    if there.is_dir() {
        // A namespace of branches, as far as git is concerned: no such ref.
        return Ok(None);
    }
    if !there.is_file() {
        return Err(LeftError::NotAFile(path));
    }
    let mut content = Vec::new();
    file.take(longest + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > longest {
        return Err(LeftError::TooLong(path));
    }
    Ok(Some(content))
}
