//! The host's own programs as a container's root: its system directories, read-only, and nothing
//! of its users.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::ResolveFlag;
use nix::mount::{MsFlags, mount};
use nix::unistd::{AccessFlags, access};

use super::super::spec::{Context as _, SetupError};
use super::place::{Places, Shape, open_in, path_of};
use super::{NEW, OLD, bind, hide, in_root, on_host, restrict};

/// What of the host's top directory a program needs. Everything else there (homes, data disks,
/// repositories) stays out of sight.
const SYSTEM: &[&str] = &[
    "bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "var", "sys", "nix",
    "gnu", "snap",
];

/// Places that programs expect, empty.
const EMPTY: &[&str] = &["home", "root", "run", "mnt", "media", "srv", "var", "etc"];

/// Files of the host that a node run by root could read, and its Pods must not.
/// An ordinary user cannot read most of them anyway.
const SECRET: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/NetworkManager/system-connections",
    "/etc/wireguard",
    "/var/backups",
    // Homes and data of systems whose root is an image.
    "/var/home",
    "/var/roothome",
    "/var/mnt",
    "/var/srv",
    "/var/log",
    "/var/mail",
    "/var/spool",
    "/var/lib/docker",
    // Sockets that lead to a root shell for members of a group.
    "/var/lib/lxd",
    "/var/lib/incus",
    "/var/snap",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/lib/systemd/coredump",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/fs/bpf",
];

/// Whether an absolute path of the host lies in a directory that containers see.
pub(in super::super) fn is_shown(path: &Path) -> bool {
    path.iter()
        .nth(1)
        .is_some_and(|top| SYSTEM.iter().any(|name| top == *name))
}

/// Lays out the root. `visible` is added to what is seen, `hidden` is taken away.
pub(super) fn lay_out(
    old: &OwnedFd,
    places: &mut Places,
    visible: &[PathBuf],
    hidden: &[PathBuf],
) -> Result<(), SetupError> {
    for name in SYSTEM {
        let (source, target) = (Path::new(OLD).join(name), Path::new(NEW).join(name));
        let what = || format!("/{name} of the host");
        match fs::symlink_metadata(&source) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&source).or_mount(what)?;
                symlink(link, &target).or_mount(what)?;
            }
            Ok(metadata) if metadata.is_dir() => {
                in_root(name, 0o755).or_mount(what)?;
                bind(&source, &target).or_mount(what)?;
                restrict(places, &Path::new("/").join(name), read_only())?;
            }
            _ => {}
        }
    }
    for name in EMPTY
        .iter()
        .filter(|name| !Path::new(NEW).join(name).exists())
    {
        in_root(name, 0o755).or_mount(|| format!("/{name}"))?;
    }
    temporary(places, "/var/tmp")?;
    run_of_the_host(old, places)?;
    for path in visible {
        let source = open_in(old, path, ResolveFlag::RESOLVE_IN_ROOT)
            .or_mount(|| path.display().to_string())?;
        let shape = Shape::of(&source).or_mount(|| path.display().to_string())?;
        // Below a system directory it is seen already.
        let place = places.ensure(path, shape)?;
        bind(&path_of(&source), &path_of(&place)).or_mount(|| path.display().to_string())?;
        restrict(places, path, read_only())?;
    }
    let keys = host_keys();
    for path in SECRET
        .iter()
        .map(Path::new)
        .chain(keys.iter().map(PathBuf::as_path))
    {
        let flags = AccessFlags::R_OK;
        if access(
            &Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path)),
            flags,
        )
        .is_ok()
        {
            cover(places, path)?;
        }
    }
    for path in hidden {
        cover(places, path)?;
    }
    Ok(())
}

fn read_only() -> MsFlags {
    MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV
}

/// Hides what is at a path of the container, wherever links lead to.
fn cover(places: &Places, path: &Path) -> Result<(), SetupError> {
    match places.open(path) {
        Ok(place) => hide(&path_of(&place)).or_mount(|| format!("hiding {}", path.display())),
        // Out of sight already, or out of reach.
        Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
        Err(errno) => Err(errno).or_mount(|| format!("hiding {}", path.display())),
    }
}

/// A writable directory in memory in place of one of the host's.
fn temporary(places: &mut Places, path: &str) -> Result<(), SetupError> {
    let Ok(place) = places.open(Path::new(path)) else {
        return Ok(());
    };
    mount(
        Some("tmpfs"),
        &path_of(&place),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=1777,size=64m"),
    )
    .or_mount(|| path.to_owned())?;
    places.own(Path::new(path))
}

/// `/run` holds the sockets of the host's services and stays hidden. Two things in it are needed:
/// what `/etc/resolv.conf` points to, and the system profile of NixOS.
fn run_of_the_host(old: &OwnedFd, places: &Places) -> Result<(), SetupError> {
    let what = || "/etc/resolv.conf".to_owned();
    if let Ok(file) = open_in(
        old,
        Path::new("/etc/resolv.conf"),
        ResolveFlag::RESOLVE_IN_ROOT,
    ) {
        let real = fs::read_link(path_of(&file)).or_mount(what)?;
        let inside = Path::new("/").join(real.strip_prefix(OLD).unwrap_or(&real));
        if inside.starts_with("/run") {
            let place = places.ensure(&inside, Shape::File)?;
            bind(&path_of(&file), &path_of(&place)).or_mount(what)?;
            restrict(places, &inside, read_only())?;
        }
    }
    if let Ok(profile) = fs::read_link(on_host("/run/current-system")) {
        symlink(profile, Path::new(NEW).join("run/current-system"))
            .or_mount(|| "/run/current-system".to_owned())?;
    }
    Ok(())
}

/// The private keys of the host's SSH server.
fn host_keys() -> Vec<PathBuf> {
    fs::read_dir(on_host("/etc/ssh"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key"))
        .map(|name| Path::new("/etc/ssh").join(name))
        .collect()
}
