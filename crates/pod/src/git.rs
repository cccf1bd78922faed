//! Running the system's git against one repository: what it is given, what it may do, and what went wrong.

mod access;
pub(crate) mod address;
mod failure;
mod interrupt;
pub(crate) mod remote;

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
};

pub use self::failure::{Failure, Kind};
pub(crate) use self::{
    access::{Access, Purpose, quoted},
    interrupt::Running,
};

/// A git that runs no hook and no file system monitor of the repository at `root`, and knows no configuration but that
/// repository's and `config`.
pub(crate) fn bare(root: &Path, config: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "core.fsmonitor=false"])
        .args(["-c", "core.hooksPath=/dev/null"])
        .current_dir(root)
        .stdin(Stdio::null())
        .env_clear()
        .envs(search_path().map(|path| ("PATH", path)))
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", config)
        .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(root));
    command
}

/// Where programs are looked for. Not in what is named from where one is, as by a point or an empty entry: git may be in a
/// checkout, where the agent can have put a git of its own.
fn search_path() -> Option<OsString> {
    let path = std::env::var_os("PATH")?;
    let absolute = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    std::env::join_paths(absolute).ok()
}

/// What git says of its failure: the first line.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().next();
    line.unwrap_or("git failed and said nothing").to_owned()
}
