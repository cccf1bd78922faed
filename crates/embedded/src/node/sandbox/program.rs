//! Third stage of the helper: gives up everything the program must not have, and becomes it.
//!
//! The second user namespace is what protects the host when the node runs as root: the mounts
//! belong to the first one, so that no capability the program can get ever reaches them.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{self, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, Gid, Uid, access, chdir, dup2_stdin, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::outer::map_ids;
use super::spec::{Context as _, Process, Resource, SetupError, SetupReason};

/// Where a program without a slash is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the stage. Comes back only when the program could not be started, or when there is none
/// (no arguments: only the set-up was asked for).
pub(super) fn run(init: &mut UnixStream) {
    if let Err(error) = become_program(init)
        && let Ok(line) = serde_json::to_vec(&error)
    {
        let _ = init.write_all(&line);
    }
}

fn become_program(init: &mut UnixStream) -> Result<(), SetupError> {
    let mut description = Vec::new();
    init.read_to_end(&mut description)
        .or_other("reading what to run")?;
    let process: Process = serde_json::from_slice(&description).or_other("reading what to run")?;
    let null = open("/dev/null", OFlag::O_RDWR, Mode::empty()).or_other("opening /dev/null")?;
    dup2_stdin(null.as_fd()).or_other("closing standard input")?;
    drop(null);
    setsid().or_other("starting a session")?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    // The stage before blocks SIGCHLD for itself; a mask survives exec, and a program that waits for its children by
    // that signal would wait for ever.
    SigSet::empty()
        .thread_set_mask()
        .or_other("unblocking signals")?;

    for limit in &process.rlimits {
        let resource = match limit.resource {
            Resource::Core => resource::Resource::RLIMIT_CORE,
            Resource::OpenFiles => resource::Resource::RLIMIT_NOFILE,
            Resource::FileSize => resource::Resource::RLIMIT_FSIZE,
        };
        let (_, ceiling) = getrlimit(resource).or_other("reading a resource limit")?;
        let hard = limit.hard.min(ceiling);
        setrlimit(resource, limit.soft.min(hard), hard).or_other("setting a resource limit")?;
    }

    unshare(CloneFlags::CLONE_NEWUSER).or_other("making the program's user namespace")?;
    map_ids(process.user, Uid::from_raw(0), Gid::from_raw(0))
        .or_other("mapping the program's user")?;
    drop_capabilities().or_other("dropping capabilities")?;

    chdir(&process.cwd).or_setup(SetupReason::Program, || {
        format!("working directory {}", process.cwd.display())
    })?;
    let Some(name) = process.args.first() else {
        super::seccomp::apply()?;
        return Ok(());
    };
    let path = find(name, &process.env)?;
    super::seccomp::apply()?;
    let error = Command::new(&path)
        .arg0(name)
        .args(&process.args[1..])
        .env_clear()
        .envs(process.env.iter().map(|(name, value)| (name, value)))
        .exec();
    Err(SetupError::new(
        SetupReason::Program,
        format!("exec {}: {}", path.display(), plain(&error)),
    ))
}

/// Leaves no capability, and no way to get one by exec.
fn drop_capabilities() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    Ok(())
}

/// The file that `name` means, as a shell would find it.
fn find(name: &str, env: &[(String, String)]) -> Result<PathBuf, SetupError> {
    let failed =
        |why: &str| SetupError::new(SetupReason::Program, format!("exec: {name:?}: {why}"));
    if name.is_empty() {
        return Err(failed("the name of the program is empty"));
    }
    if name.contains('/') {
        let path = Path::new(name);
        return match std::fs::metadata(path) {
            Err(error) => Err(failed(&plain(&error))),
            Ok(metadata) if metadata.is_dir() => Err(failed("is a directory")),
            Ok(_) => access(path, AccessFlags::X_OK)
                .map(|()| path.to_owned())
                .map_err(|errno| failed(errno.desc())),
        };
    }
    let path = env
        .iter()
        .rev()
        .find_map(|(key, value)| (key == "PATH").then_some(value.as_str()))
        .unwrap_or(DEFAULT_PATH);
    path.split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| failed("executable file not found in $PATH"))
}

/// The system's words without the number behind them.
fn plain(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |code| nix::errno::Errno::from_raw(code).desc().to_owned(),
    )
}
