//! Writing below a checkout without being led out of it: a repository may contain `docs -> /etc`.
//!
//! Outside of checkouts a symbolic link is the image's or the cluster's own (`/var/run -> /run`) and is followed.
//! Inside of one, from its root downwards, no link is followed; the last component is replaced, never written through.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};

/// Permission bits of directories that are made: whoever the agent runs as has to be able to work in them, and the
/// volumes that they are in are the Pod's alone.
const DIRECTORY_MODE: u32 = 0o777;

/// Why something cannot be written where it should be.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The path is relative, or climbs.
    #[error("the path has to be absolute, without '.' and '..'")]
    NotPlain,
    /// A checkout leads elsewhere.
    #[error(
        "{link} is a symbolic link to {to} in the repository, and files are not written through links: choose another path"
    )]
    Link {
        /// The link.
        link: PathBuf,
        /// What it points to.
        to: String,
    },
    /// A file is where a directory is needed.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// A directory is where the file is to be.
    #[error("there is a directory of that name")]
    IsADirectory,
    /// The kernel refused.
    #[error("{path}: {source}")]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Writes a file at `target` with exactly the permission bits `mode`, making its parents. A reader sees all of it or
/// nothing. `checkouts` are the paths of all checkouts.
pub(crate) fn write(
    target: &Path,
    checkouts: &[PathBuf],
    content: &[u8],
    mode: u32,
) -> Result<(), PlaceError> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(PlaceError::NotPlain);
    };
    let directory = directory(parent, checkouts)?;
    let failed = |error: Errno| PlaceError::Io {
        path: target.to_owned(),
        source: error.into(),
    };
    if let Ok(there) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
        && rustix::fs::FileType::from_raw_mode(there.st_mode) == rustix::fs::FileType::Directory
    {
        return Err(PlaceError::IsADirectory);
    }
    let temporary = format!(".kubeopencode-{}", std::process::id());
    // Of an attempt that was interrupted.
    let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    let file = rustix::fs::openat(
        &directory,
        &temporary,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .map_err(failed)?;
    let written = File::from(file.try_clone().map_err(|source| PlaceError::Io {
        path: target.to_owned(),
        source,
    })?)
    .write_all(content)
    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    .and_then(|()| rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)))
    .and_then(|()| rustix::fs::renameat(&directory, &temporary, &directory, name));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    }
    written.map_err(failed)
}

/// Opens the directory at `path`, making what is missing of it.
pub(crate) fn directory(path: &Path, checkouts: &[PathBuf]) -> Result<OwnedFd, PlaceError> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(PlaceError::NotPlain);
    }
    let mut at = PathBuf::from("/");
    let mut open = enter(CWD, Path::new("/"), &at, OFlags::empty())?;
    for component in components {
        let Component::Normal(name) = component else {
            return Err(PlaceError::NotPlain);
        };
        // The root of a checkout is ours; what is below it is the repository's.
        let inside = checkouts.iter().any(|checkout| at.starts_with(checkout));
        let flags = if inside {
            OFlags::NOFOLLOW
        } else {
            OFlags::empty()
        };
        at.push(name);
        let name = Path::new(name);
        let made = match rustix::fs::mkdirat(&open, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => true,
            // What is there may be on a file system that nothing can be made on.
            Err(Errno::EXIST | Errno::ROFS | Errno::ACCESS | Errno::PERM) => false,
            Err(source) => {
                return Err(PlaceError::Io {
                    path: at,
                    source: source.into(),
                });
            }
        };
        open = enter(open, name, &at, flags)?;
        if made {
            // Whatever the umask took away.
            let _ = rustix::fs::fchmod(&open, Mode::from_raw_mode(DIRECTORY_MODE));
        }
    }
    Ok(open)
}

fn enter(
    parent: impl std::os::fd::AsFd,
    name: &Path,
    at: &Path,
    flags: OFlags,
) -> Result<OwnedFd, PlaceError> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|error| {
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(to) if flags.contains(OFlags::NOFOLLOW) => PlaceError::Link {
                link: at.to_owned(),
                to: to.to_string_lossy().into_owned(),
            },
            _ if error == Errno::NOTDIR => PlaceError::NotADirectory(at.to_owned()),
            _ => PlaceError::Io {
                path: at.to_owned(),
                source: error.into(),
            },
        }
    })
}
