//! The work that an agent left in a checkout, taken over into a repository of our own: its commits, and as one more what
//! it did not commit. For whoever hands it on, `git-push` to a remote and `kubeopencode run` to a repository of the machine.
//!
//! Nothing that the agent wrote is run or believed: the checkout is read by [`left`] and never entered by a git that would
//! read its configuration; see [`own`].

mod left;
mod own;
mod uncommitted;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

pub(crate) use self::left::LeftError;
use self::own::Own;
use crate::git::{Access, Failure, Kind, Purpose, Running, address};

/// A checkout that an agent had.
#[derive(Debug, Clone, Copy)]
pub struct Checkout<'c> {
    /// Where it is: an absolute path, to which no link leads.
    pub path: &'c Path,
    /// The commit that the agent began with.
    pub base: &'c str,
    /// Absolute paths of what the system put into the workspace.
    pub ours: &'c [PathBuf],
}

/// What is taken, besides the commits of HEAD.
#[derive(Debug, Clone, Copy)]
pub(crate) struct What {
    /// What is uncommitted.
    pub uncommitted: bool,
    /// Branches that HEAD is not on, and what was put aside.
    pub aside: bool,
}

/// Something in the working tree that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Relative to the checkout.
    pub path: PathBuf,
    /// Why not.
    pub why: Why,
}

/// Why something could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is another repository that is new or has moved.
    Repository,
    /// It leads to other working trees, which may be anywhere.
    WorkingTrees,
    /// This user cannot read it.
    Unreadable,
}

/// What was taken.
pub(crate) struct Work {
    pub own: Own,
    /// What HEAD has that the base has not, with what is uncommitted on top of it. `None`: nothing.
    pub commit: Option<String>,
    /// Whether `commit` itself is what the agent did not commit.
    uncommitted: bool,
    /// What is uncommitted and not in `commit`.
    pub left_out: Vec<LeftOut>,
    /// Why nothing of what is uncommitted is.
    pub failed: Option<Failure>,
    /// Goes away with everything in it.
    directory: tempfile::TempDir,
}

/// Why it cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    Left(#[from] LeftError),
    #[error("its objects are named in another way than they were")]
    Format,
    #[error("there is no place to work in: {0}")]
    Place(#[from] io::Error),
    #[error(transparent)]
    Git(#[from] Failure),
}

/// Takes it over, into a new directory below `place`. No process of the agent may be left. `local` has no credentials.
pub(crate) fn take(
    checkout: &Checkout<'_>,
    what: What,
    place: &Path,
    local: &Access<'_>,
) -> Result<Work, TakeError> {
    let left = left::look(checkout.path)?;
    if left.head.len() != checkout.base.len() {
        return Err(TakeError::Format);
    }
    let aside = if what.aside {
        left::aside(checkout.path)?
    } else {
        Vec::new()
    };
    let directory = tempfile::Builder::new()
        .prefix(".work-")
        .tempdir_in(place)?;
    let own = Own::make(directory.path(), &left, aside, checkout.base, local);
    let own = own.map_err(|failure| match (&failure.kind, &left.unreadable) {
        // git says of it that it is corrupt.
        (Kind::Other, Some(object)) => LeftError::Unreadable(object.clone()).into(),
        _ => TakeError::from(failure),
    })?;
    let (mut more, mut left_out, mut failed) = (None, Vec::new(), None);
    if what.uncommitted {
        match uncommitted::commit(&own, checkout.path, checkout.ours, &left.exclude, local) {
            Ok(made) => (more, left_out) = (made.commit, made.left_out),
            // The commits of HEAD do not depend on it.
            Err(failure) => failed = Some(failure),
        }
        if left::has_worktrees(checkout.path) {
            left_out.push(LeftOut {
                path: PathBuf::from(".git/worktrees"),
                why: Why::WorkingTrees,
            });
        }
    }
    let uncommitted = more.is_some();
    let commit = more.or_else(|| own.has_commits.then(|| own.head.clone()));
    Ok(Work {
        own,
        commit,
        uncommitted,
        left_out,
        failed,
        directory,
    })
}

/// All of an agent's work, as another repository takes it in.
#[derive(Debug)]
pub struct Packed {
    /// A pack of the objects that are new.
    pub file: PathBuf,
    /// What HEAD has that the base has not, with what is uncommitted on top of it. `None`: nothing.
    pub commit: Option<String>,
    /// Whether `commit` itself is what the agent did not commit.
    pub uncommitted: bool,
    /// Names and commits of branches that HEAD is not on, with commits that neither it nor the base has; `stash` is what
    /// was put aside last, `stash-2` what was before that.
    pub aside: Vec<(String, String)>,
    /// A commit whose objects are not in the pack.
    pub boundary: Option<String>,
    /// What is uncommitted and not in the pack.
    pub left_out: Vec<LeftOut>,
    /// Why nothing of what is uncommitted is, for a person.
    pub failed: Option<String>,
    /// Goes away with everything in it.
    _directory: tempfile::TempDir,
}

impl Packed {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commit.is_none() && self.aside.is_empty()
    }
}

/// Packs all of the work in a checkout, in a new directory below `place`. No process of the agent may be left. The error
/// is for a person.
pub fn pack(checkout: &Checkout<'_>, place: &Path) -> Result<Packed, String> {
    let running = Running::default();
    let packed = || {
        let local = Access::new(None, &address::HERE, &running)?;
        let what = What {
            uncommitted: true,
            aside: true,
        };
        packed(take(checkout, what, place, &local)?, &local)
    };
    packed().map_err(|error: TakeError| error.to_string())
}

fn packed(work: Work, local: &Access<'_>) -> Result<Packed, TakeError> {
    let mut packed = Packed {
        file: PathBuf::new(),
        commit: work.commit,
        uncommitted: work.uncommitted,
        aside: work
            .own
            .aside
            .iter()
            .map(|aside| (aside.name.clone(), aside.commit.clone()))
            .collect(),
        boundary: work.own.boundary.clone(),
        left_out: work.left_out,
        failed: work.failed.map(|failure| failure.to_string()),
        _directory: work.directory,
    };
    if packed.is_empty() {
        return Ok(packed);
    }
    let directory = &work.own.directory;
    let aside = packed.aside.iter().map(|(_, commit)| commit);
    let boundary = packed.boundary.iter().flat_map(|known| ["^", known, "\n"]);
    let wanted: String = packed
        .commit
        .iter()
        .chain(aside)
        .flat_map(|commit| [commit.as_str(), "\n"])
        .chain(boundary)
        .collect();
    let list = directory.join("wanted");
    fs::write(&list, wanted)?;
    let base = directory.join("new");
    let output = local.run(
        directory,
        Purpose::Local,
        [
            "pack-objects",
            "--revs",
            "--progress",
            &base.to_string_lossy(),
        ],
        Stdio::from(File::open(&list)?),
        &|_| {},
    )?;
    let name = local.judge(&output, Purpose::Local)?;
    packed.file = directory.join(format!("new-{}.pack", name.trim()));
    Ok(packed)
}
