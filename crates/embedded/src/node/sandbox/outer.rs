//! First stage of the helper: makes the namespaces, and starts the second stage as PID 1 in them.
//!
//! It stays to be waited for: when it has ended, every process of the container has ended, because
//! the kernel ends a PID namespace before its first process can be reaped.

use std::fs;
use std::os::fd::RawFd;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, close, getegid, geteuid, setgroups};

use super::spec::{Context as _, SetupError, SetupReason, User};

/// Runs the stage; returns when the container is no more.
pub(super) fn run() -> Result<(), SetupError> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        // Groups of root would open the host's files; an ordinary user cannot drop his own.
        let _ = setgroups(&[]);
    }
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).map_err(forbidden)?;
    map_ids(User { uid: 0, gid: 0 }, uid, gid)
        .or_setup(SetupReason::NamespacesForbidden, || {
            format!("mapping the user into the new namespace ({})", advice())
        })?;
    // Ended by a signal: killed from outside, which the node learns from the end of the connection.
    let _status = Command::new("/proc/self/exe")
        .args([super::HELPER_ARGUMENT, super::STAGE_INIT])
        .env_clear()
        .stdin(Stdio::inherit())
        .status()
        .or_other("starting the first process of the container")?;
    Ok(())
}

/// Closes everything but the three standard streams, so that nothing the node was started with
/// reaches a Pod. To be called before this process opens anything of its own.
pub(super) fn close_inherited() -> std::io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The directory that was just read is among them and closed already.
        let _ = close(fd);
    }
    Ok(())
}

/// Maps one user and one group of the namespace outside to one inside, for this process, which
/// must have just made the namespace.
pub(super) fn map_ids(inside: User, uid: Uid, gid: Gid) -> std::io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {uid} 1", inside.uid))?;
    fs::write("/proc/self/gid_map", format!("{} {gid} 1", inside.gid))
}

fn forbidden(errno: Errno) -> SetupError {
    SetupError::new(
        SetupReason::NamespacesForbidden,
        format!("cannot make namespaces: {errno} ({})", advice()),
    )
}

/// What on this host forbids user namespaces, and what to do about it.
pub(super) fn advice() -> String {
    let setting = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
        "the limit user.max_user_namespaces is 0; raise it: \
         sudo sysctl -w user.max_user_namespaces=15000"
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        "user namespaces are switched off for ordinary users; allow them: \
         sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        "AppArmor restricts user namespaces, as on Ubuntu 24.04; allow them for this program with \
         an AppArmor profile, or for all: \
         sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        "something around this process, such as the seccomp filter of a container, forbids \
         namespaces; in Docker try --security-opt seccomp=unconfined \
         --security-opt systempaths=unconfined"
    }
    .to_owned()
}
