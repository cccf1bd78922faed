//! Builds the root file system of a container, in a mount namespace of its own.
//!
//! First everything moves aside: a tmpfs becomes `/`, with the host's files at `/old` and the new
//! root at `/new`. There the root is put together out of read-only binds; at the end it becomes
//! `/` and the host's files are gone. Nothing is ever created through a bind of the host.

mod host;
mod place;
mod table;

pub(super) use self::host::is_shown;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, pivot_root};

use self::place::{Places, Shape, make_directory, open_in, path_of};
use super::spec::{Container, Context as _, Mount, RootFs, SetupError, SetupReason, Source};

/// The host's files, while the root is built.
const OLD: &str = "/old";
/// The container's root, while it is built.
const NEW: &str = "/new";
/// Empty places for overlays.
const SKELETON: &str = "/skeleton";
/// An empty file and an empty directory, to hide others behind.
const EMPTY_FILE: &str = "/empty";
const EMPTY_DIRECTORY: &str = "/nothing";
/// The host's proc file system, while the root is built.
const PROC: &str = "/old/proc";

/// How much the container may write to its root outside of every volume, in memory.
const ROOT_OPTIONS: &str = "mode=0755,size=64m,nr_inodes=16384";

/// Files of proc that a container may look at but not change: some of them are writable for
/// whoever is root on the host, whatever his capabilities.
const PROC_READONLY: &[&str] = &[
    "sys",
    "irq",
    "bus",
    "fs",
    "sysrq-trigger",
    "mtrr",
    "asound",
    "acpi",
    "scsi",
];
/// Files of proc that tell about the host.
const PROC_HIDDEN: &[&str] = &[
    "kcore",
    "keys",
    "key-users",
    "latency_stats",
    "timer_list",
    "sched_debug",
];

/// Devices that every program may expect.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Builds the root and makes it this process's.
pub(super) fn build(container: &Container) -> Result<(), SetupError> {
    move_aside()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), NEW, Some("tmpfs"), flags, Some(ROOT_OPTIONS))
        .or_mount(|| "the container's root".to_owned())?;
    let old = open_directory(OLD)?;
    let mut places = Places::new(open_directory(NEW)?)?;

    match &container.root {
        RootFs::Host { visible, hidden } => host::lay_out(&old, &mut places, visible, hidden)?,
    }
    for (name, mode) in [("proc", 0o755), ("dev", 0o755), ("tmp", 0o1777)] {
        in_root(name, mode).or_mount(|| format!("/{name}"))?;
    }
    devices(&places)?;
    proc(&places)?;

    let wanted = container
        .mounts
        .iter()
        .map(|mount| Ok((mount.destination.as_path(), shape_of(&old, mount)?)))
        .collect::<Result<Vec<_>, SetupError>>()?;
    places.overlay_host(wanted)?;
    for mount in &container.mounts {
        one(&old, &mut places, mount)?;
    }
    // As container runtimes do; where it cannot be made, changing to it says so.
    let _ = places.ensure(&container.process.cwd, Shape::Directory);
    if container.readonly_root {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
        mount(None::<&str>, NEW, None::<&str>, flags, None::<&str>)
            .or_mount(|| "making the root read-only".to_owned())?;
    }
    drop((old, places));
    enter()
}

/// A tmpfs becomes `/`, the host's files move to [`OLD`].
fn move_aside() -> Result<(), SetupError> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    // The first thing that needs the rights that the new user namespace was to give.
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .or_setup(SetupReason::NamespacesForbidden, || {
            format!("changing mounts ({})", super::outer::advice())
        })?;
    let base = ["/tmp", "/run", "/dev"]
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .unwrap_or("/tmp");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), base, Some("tmpfs"), flags, Some("mode=0755"))
        .or_mount(|| "a tmpfs to build on".to_owned())?;
    let old = format!("{base}{OLD}");
    fs::create_dir(&old).or_other("preparing the root")?;
    pivot_root(base, old.as_str())
        .or_mount(|| "leaving the host's root (a chroot cannot be left)".to_owned())?;
    chdir("/").or_other("preparing the root")?;
    for directory in [NEW, SKELETON, EMPTY_DIRECTORY] {
        fs::create_dir(directory).or_other("preparing the root")?;
    }
    fs::write(EMPTY_FILE, "").or_other("preparing the root")
}

/// The new root becomes `/`; the host's files and the scaffold are let go.
fn enter() -> Result<(), SetupError> {
    let what = || "entering the container's root".to_owned();
    chdir(NEW).or_mount(what)?;
    pivot_root(".", ".").or_mount(what)?;
    umount2(".", MntFlags::MNT_DETACH).or_mount(what)?;
    chdir("/").or_mount(what)
}

fn open_directory(path: &str) -> Result<OwnedFd, SetupError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).or_mount(|| path.to_owned())
}

/// Makes a directory at the top of the new root; fine if it is there.
fn in_root(name: &str, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = Path::new(NEW).join(name);
    match fs::create_dir(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Bind of one file or directory, with everything below it.
fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
}

/// Adds flags to the mount at `path` of the new root and to all below it.
fn restrict(places: &Places, path: &Path, flags: MsFlags) -> Result<(), SetupError> {
    let table = table::read(PROC).or_mount(|| "reading mountinfo".to_owned())?;
    let tree = table::tree(&table, places.mount_at(path)?);
    table::add_flags(&tree, flags).map_err(|(at, errno)| {
        let message = format!("restricting the mount {}: {errno}", at.display());
        SetupError::new(SetupReason::Mount, message)
    })
}

fn devices(places: &Places) -> Result<(), SetupError> {
    let what = || "/dev".to_owned();
    let dev = Path::new(NEW).join("dev");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let target = places.ensure(&path, Shape::File)?;
        bind(&Path::new(OLD).join("dev").join(name), &path_of(&target))
            .or_mount(|| format!("/dev/{name}"))?;
        // A device can be written to all the same; its mode and owner, which are the host's, cannot be changed.
        restrict(places, &path, MsFlags::MS_RDONLY | flags)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).or_mount(what)?;
    }
    for (name, kind, options) in [
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"),
        ("shm", "tmpfs", "mode=1777,size=64m"),
    ] {
        fs::create_dir(dev.join(name)).or_mount(what)?;
        mount(
            Some(kind),
            &dev.join(name),
            Some(kind),
            flags,
            Some(options),
        )
        .or_mount(|| format!("/dev/{name}"))?;
    }
    Ok(())
}

fn proc(places: &Places) -> Result<(), SetupError> {
    let proc = Path::new(NEW).join("proc");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>).or_setup(
        SetupReason::NamespacesForbidden,
        || {
            "/proc (where the host hides parts of /proc, as Docker does, a new one is forbidden; \
             there try --security-opt systempaths=unconfined)"
                .to_owned()
        },
    )?;
    for name in PROC_READONLY {
        let path = proc.join(name);
        if path.exists() {
            bind(&path, &path).or_mount(|| format!("/proc/{name}"))?;
            restrict(
                places,
                &Path::new("/proc").join(name),
                flags | MsFlags::MS_RDONLY,
            )?;
        }
    }
    for name in PROC_HIDDEN {
        hide(&proc.join(name)).or_mount(|| format!("/proc/{name}"))?;
    }
    Ok(())
}

/// Covers a file or directory with an empty one; nothing to do when it does not exist.
fn hide(path: &Path) -> Result<(), Errno> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => bind(Path::new(EMPTY_DIRECTORY), path),
        Ok(_) => bind(Path::new(EMPTY_FILE), path),
        Err(_) => Ok(()),
    }
}

/// Opens what a mount shows; `None` for what is made of nothing.
fn source_of(old: &OwnedFd, mount: &Mount) -> Result<Option<OwnedFd>, SetupError> {
    let Source::Bind {
        path,
        sub_path,
        owned,
    } = &mount.source
    else {
        return Ok(None);
    };
    let at = |what: &Path| format!("mount {}: {}", mount.destination.display(), what.display());
    let source = open_in(old, path, ResolveFlag::RESOLVE_IN_ROOT).or_mount(|| at(path))?;
    let Some(sub_path) = sub_path else {
        return Ok(Some(source));
    };
    match open_in(&source, sub_path, ResolveFlag::RESOLVE_BENEATH) {
        Err(Errno::ENOENT) if *owned => sub_path
            .iter()
            .try_fold(source, |parent, name| {
                make_directory(&parent, &name.to_owned())
            })
            .or_mount(|| at(sub_path)),
        Err(Errno::EXDEV) => Err(SetupError::new(
            SetupReason::Mount,
            format!("{}: subPath leads out of the volume", at(sub_path)),
        )),
        result => result.or_mount(|| at(sub_path)),
    }
    .map(Some)
}

fn shape_of(old: &OwnedFd, mount: &Mount) -> Result<Shape, SetupError> {
    match source_of(old, mount)? {
        Some(source) => Shape::of(&source).or_mount(|| mount.destination.display().to_string()),
        None => Ok(Shape::Directory),
    }
}

/// Mounts one of the container's mounts.
fn one(old: &OwnedFd, places: &mut Places, wanted: &Mount) -> Result<(), SetupError> {
    let destination = &wanted.destination;
    let at = || format!("mount {}", destination.display());
    let shape = shape_of(old, wanted)?;
    let place = places.ensure(destination, shape)?;
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let own = match (&wanted.source, source_of(old, wanted)?) {
        (Source::Tmpfs { size }, _) => {
            let options = format!("mode=1777,size={size}");
            mount(
                Some("tmpfs"),
                &path_of(&place),
                Some("tmpfs"),
                flags,
                Some(options.as_str()),
            )
            .or_mount(at)?;
            true
        }
        (Source::Bind { owned, .. }, Some(source)) => {
            bind(&path_of(&source), &path_of(&place)).or_mount(at)?;
            *owned && shape == Shape::Directory
        }
        (Source::Bind { .. }, None) => false,
    };
    if wanted.readonly {
        flags |= MsFlags::MS_RDONLY;
    }
    restrict(places, destination, flags)?;
    if own {
        places.own(destination)?;
    }
    Ok(())
}

/// Where a path of the host is while the root is built.
fn on_host(path: &str) -> PathBuf {
    Path::new(OLD).join(path.trim_start_matches('/'))
}
