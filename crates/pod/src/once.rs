//! An agent begins once in a Pod: a mark of that, which outlives the agent's container.
//!
//! A node starts the container of a Pod with `restartPolicy: Never` once, as long as its runtime remembers it. One whose runtime
//! has lost the container takes it for one that was never started, and begins with the Pod anew (`ShouldContainerBeRestarted`
//! in Kubernetes' `pkg/kubelet/container/helpers.go`; the documentation of Jobs warns of it). So the first start is marked in
//! a volume, and whoever finds the mark ends with an error: `supervise`, and the init containers before it, which would take
//! the agent's work away.
//!
//! `context-init` makes a directory for it in the volume `tools`, of which the agent's container may write to this one alone.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use kubeopencode_engine::handover::{BEGUN_DIR_IN_TOOLS, BEGUN_FILE};

/// Why the agent must not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It has been.
    #[error(
        "the agent has begun in this Pod before, and its node has lost the container since: it is not started a second time"
    )]
    Twice,
    /// That cannot be ruled out the next time.
    #[error("cannot mark in {path} that the agent begins: {source}")]
    Mark {
        /// The mark.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes room for the mark. Another user may be the one who sets it.
pub(crate) fn make_room(tools_dir: &Path) -> io::Result<()> {
    let directory = tools_dir.join(BEGUN_DIR_IN_TOOLS);
    match fs::create_dir(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))
}

/// Sets the mark. Where there is no directory for it, nobody asked for one.
pub(crate) fn mark(directory: &Path) -> Result<(), Refused> {
    let mark = directory.join(BEGUN_FILE);
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).open(&mark) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Refused::Twice),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Refused::Mark { path: mark, source }),
    }
}

/// For init containers: whether there is anything to prepare.
pub(crate) fn check(tools_dir: &Path) -> Result<(), Refused> {
    let mark = tools_dir.join(BEGUN_DIR_IN_TOOLS).join(BEGUN_FILE);
    if mark.symlink_metadata().is_ok() {
        Err(Refused::Twice)
    } else {
        Ok(())
    }
}
