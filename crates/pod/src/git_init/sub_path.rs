//! A file or directory of a repository, taken out of it.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use crate::{
    beneath,
    git::{Failure, Kind},
};

/// Puts `part` of `clone`, which nobody else sees, to `to`. `mode`: permission bits of the files. Links below it stay
/// links; no component of `part` may be one: what it points to is not asked for, and may lie outside of the repository,
/// where this container has secrets.
pub(super) fn put(
    clone: &Path,
    part: &str,
    to: &Path,
    mode: Option<u32>,
    enclosing: &[PathBuf],
) -> Result<(), Failure> {
    let mut from = clone.to_owned();
    for component in Path::new(part).components() {
        from.push(component);
        let there = fs::symlink_metadata(&from).map_err(|_| Kind::NoPath(part.to_owned()))?;
        if there.is_symlink() {
            let name = component.as_os_str().display();
            let problem =
                format!("{name} is a symbolic link in the repository: name what it points to");
            return Err(Kind::Place(problem).into());
        }
    }
    let from = from.as_path();
    let kind = fs::symlink_metadata(from)
        .map_err(|_| Kind::NoPath(part.to_owned()))?
        .file_type();
    if kind.is_dir() {
        beneath::directory(to, enclosing).map_err(|error| Kind::of_place("", &error))?;
        return copy(from, to, mode).map_err(|error| Kind::of_place("", &error).into());
    }
    let read = || -> io::Result<(Vec<u8>, u32)> {
        Ok((fs::read(from)?, fs::metadata(from)?.permissions().mode()))
    };
    let (content, own) = read().map_err(|error| Kind::of_place("", &error))?;
    beneath::write(to, enclosing, &content, mode.unwrap_or(own & 0o777))
        .map_err(|error| Kind::of_place("", &error).into())
}

/// Copies what is in `from` into the directory `to`. Of submodules the files, not the repositories.
fn copy(from: &Path, to: &Path, mode: Option<u32>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == ".git" {
            continue;
        }
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let there = fs::symlink_metadata(&target).ok();
        if kind.is_dir() {
            if there.is_none_or(|there| !there.is_dir()) {
                fs::create_dir(&target)?;
            }
            copy(&source, &target, mode)?;
            continue;
        }
        if there.is_some() {
            fs::remove_file(&target)?;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
            if let Some(mode) = mode {
                fs::set_permissions(&target, fs::Permissions::from_mode(mode & 0o7777))?;
            }
        }
    }
    Ok(())
}
