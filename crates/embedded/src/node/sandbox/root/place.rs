//! Finding and making the places where something is mounted.
//!
//! Every path is resolved inside the container's root by the kernel (`openat2`), so that no
//! symbolic link leads out of it. A place is made only on a file system that is the container's
//! own; where the host's files are in the way, a read-only overlay with an empty skeleton gives
//! the place without touching them.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use super::super::spec::{Context as _, SetupError, SetupReason};
use super::table;
use super::{NEW, PROC, SKELETON};

/// What is mounted at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    File,
    Directory,
}

impl Shape {
    pub(super) fn of(file: &OwnedFd) -> Result<Self, Errno> {
        let kind = SFlag::from_bits_truncate(fstat(file.as_fd())?.st_mode) & SFlag::S_IFMT;
        Ok(match kind {
            SFlag::S_IFDIR => Self::Directory,
            _ => Self::File,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
        }
    }
}

/// The path by which the kernel reaches an open file, for `mount`.
pub(super) fn path_of(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("{PROC}/self/fd/{}", file.as_raw_fd()))
}

/// Opens `path` below `root`, as a place and not for its content.
pub(super) fn open_in(root: &OwnedFd, path: &Path, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(root.as_fd(), relative, how) {
            // A rename somewhere else at the same time.
            Err(Errno::EAGAIN) => {}
            result => return result,
        }
    }
}

/// The new root, and which of its mounts are the container's own.
pub(super) struct Places {
    root: OwnedFd,
    own: HashSet<u64>,
}

impl Places {
    pub(super) fn new(root: OwnedFd) -> Result<Self, SetupError> {
        let mut places = Self {
            root,
            own: HashSet::new(),
        };
        let mount = places.mount_at(Path::new("/"))?;
        places.own.insert(mount);
        Ok(places)
    }

    /// From now on places may be made on what is mounted at `path`.
    pub(super) fn own(&mut self, path: &Path) -> Result<(), SetupError> {
        let mount = self.mount_at(path)?;
        self.own.insert(mount);
        Ok(())
    }

    /// The id of the mount that `path` is on.
    pub(super) fn mount_at(&self, path: &Path) -> Result<u64, SetupError> {
        let file = self.open(path).or_mount(|| path.display().to_string())?;
        table::mount_of(PROC, file.as_fd()).or_mount(|| path.display().to_string())
    }

    /// Opens what is at `path` in the container.
    pub(super) fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        open_in(&self.root, path, ResolveFlag::RESOLVE_IN_ROOT)
    }

    /// The deepest directory on the way to `path` that exists, and what is missing below it.
    fn deepest(&self, path: &Path) -> Result<(OwnedFd, Vec<OsString>), SetupError> {
        let names = components(path)?;
        for existing in (0..=names.len()).rev() {
            let prefix: PathBuf = names[..existing].iter().collect();
            match self.open(&prefix) {
                Ok(file) => return Ok((file, names[existing..].to_vec())),
                Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(errno).or_mount(|| format!("mount path {}", path.display()));
                }
            }
        }
        Err(SetupError::new(
            SetupReason::Mount,
            "the container has no root",
        ))
    }

    fn is_own(&self, file: &OwnedFd) -> Result<bool, SetupError> {
        let mount = table::mount_of(PROC, file.as_fd()).or_mount(|| "reading fdinfo".to_owned())?;
        Ok(self.own.contains(&mount))
    }

    /// The place at `path`, made if it is missing and may be made.
    pub(super) fn ensure(&self, path: &Path, shape: Shape) -> Result<OwnedFd, SetupError> {
        let at = || format!("mount path {}", path.display());
        let (mut place, missing) = self.deepest(path)?;
        if !missing.is_empty() && !self.is_own(&place)? {
            return Err(SetupError::new(
                SetupReason::Mount,
                format!(
                    "{}: there is no such {} in the volume that it lies in, and none is made there",
                    at(),
                    shape.word()
                ),
            ));
        }
        let last = missing.len().saturating_sub(1);
        for (index, name) in missing.iter().enumerate() {
            place = if index < last || shape == Shape::Directory {
                make_directory(&place, name)
            } else {
                make_file(&place, name)
            }
            .or_mount(at)?;
        }
        let found = Shape::of(&place).or_mount(at)?;
        if found == shape {
            Ok(place)
        } else {
            Err(SetupError::new(
                SetupReason::Mount,
                format!(
                    "{}: a {} cannot be mounted on a {}",
                    at(),
                    shape.word(),
                    found.word()
                ),
            ))
        }
    }

    /// Lays a read-only overlay over each directory of the host in which one of the wanted places
    /// is missing.
    pub(super) fn overlay_host<'a>(
        &self,
        wanted: impl IntoIterator<Item = (&'a Path, Shape)>,
    ) -> Result<(), SetupError> {
        let mut skeletons: BTreeMap<PathBuf, Vec<(PathBuf, Shape)>> = BTreeMap::new();
        let mut covered: Vec<&Path> = Vec::new();
        for (path, shape) in wanted {
            // A place inside of another volume is that volume's affair.
            if covered.iter().any(|other| path.starts_with(other)) {
                continue;
            }
            covered.push(path);
            let (directory, missing) = self.deepest(path)?;
            if missing.is_empty() || self.is_own(&directory)? {
                continue;
            }
            if Shape::of(&directory).or_mount(|| path.display().to_string())? == Shape::File {
                return Err(Errno::ENOTDIR).or_mount(|| format!("mount path {}", path.display()));
            }
            let real = fs::read_link(path_of(&directory))
                .or_mount(|| format!("mount path {}", path.display()))?;
            skeletons
                .entry(real)
                .or_default()
                .push((missing.iter().collect(), shape));
        }
        for (number, (directory, missing)) in skeletons.iter().enumerate() {
            overlay(number, directory, missing)
                .or_mount(|| format!("a place to mount on below {}", shown(directory)))?;
        }
        Ok(())
    }
}

/// A path of the new root as the container sees it.
fn shown(path: &Path) -> String {
    let path = path.strip_prefix(NEW).unwrap_or(path);
    format!("/{}", path.display())
}

/// Mounts an overlay on `directory` that adds the missing places to it.
fn overlay(
    number: usize,
    directory: &Path,
    missing: &[(PathBuf, Shape)],
) -> Result<(), std::io::Error> {
    let skeleton = Path::new(SKELETON).join(number.to_string());
    for (path, shape) in missing {
        let path = skeleton.join(path);
        match shape {
            Shape::Directory => fs::create_dir_all(&path)?,
            Shape::File => {
                fs::create_dir_all(path.parent().unwrap_or(&skeleton))?;
                fs::write(&path, "")?;
            }
        }
    }
    // What is mounted below the directory would be covered: it is held, and mounted again.
    let below: Vec<(PathBuf, fs::File)> = table::read(PROC)?
        .into_iter()
        .filter(|entry| entry.path != directory && entry.path.starts_with(directory))
        .filter_map(|entry| {
            use std::os::unix::fs::OpenOptionsExt as _;
            let held = fs::OpenOptions::new()
                .read(true)
                .custom_flags((OFlag::O_PATH | OFlag::O_NOFOLLOW).bits())
                .open(&entry.path)
                .ok()?;
            Some((entry.path, held))
        })
        .collect();
    let mut options = b"lowerdir=".to_vec();
    options.extend(escape(&skeleton));
    options.push(b':');
    options.extend(escape(directory));
    mount(
        Some("overlay"),
        directory,
        Some("overlay"),
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_slice()),
    )?;
    for (path, held) in below {
        mount(
            Some(&path_of(&OwnedFd::from(held))),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        // A mount with others below it that cannot be taken alone, or without a place.
        .or_else(|errno| match errno {
            Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR => Ok(()),
            errno => Err(errno),
        })?;
    }
    Ok(())
}

/// A path in the options of an overlay.
fn escape(path: &Path) -> Vec<u8> {
    path.as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|byte| {
            let special = matches!(byte, b'\\' | b':' | b',');
            special.then_some(b'\\').into_iter().chain([*byte])
        })
        .collect()
}

/// The names of an absolute path. One that climbs is refused.
fn components(path: &Path) -> Result<Vec<OsString>, SetupError> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir | Component::CurDir => None,
            Component::Normal(name) => Some(Ok(name.to_owned())),
            Component::ParentDir | Component::Prefix(_) => Some(Err(SetupError::new(
                SetupReason::Mount,
                format!("mount path {}: must not contain '..'", path.display()),
            ))),
        })
        .collect()
}

/// Makes a directory, never through a symbolic link, and opens it.
pub(super) fn make_directory(parent: &OwnedFd, name: &OsString) -> Result<OwnedFd, Errno> {
    match mkdirat(
        parent.as_fd(),
        name.as_os_str(),
        Mode::from_bits_truncate(0o755),
    ) {
        Ok(()) | Err(Errno::EEXIST) => open_in(
            parent,
            Path::new(name),
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
        ),
        Err(errno) => Err(errno),
    }
}

fn make_file(parent: &OwnedFd, name: &OsString) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    drop(openat(
        parent.as_fd(),
        name.as_os_str(),
        flags,
        Mode::from_bits_truncate(0o644),
    )?);
    open_in(
        parent,
        Path::new(name),
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
    )
}
