//! What a container is, as the node tells its helper: close to the OCI runtime specification,
//! so that root file systems of unpacked images can come later as another [`RootFs`].
//!
//! It travels as one line of JSON over the helper's standard input, never as an argument,
//! because the environment holds secrets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container, complete: nothing is inherited from the node but the host's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The name of the host inside (UTS namespace); cut to the kernel's 64 bytes.
    pub hostname: String,
    /// What `/` is.
    pub root: RootFs,
    /// Nothing at all can be written outside of the writable mounts.
    pub readonly_root: bool,
    /// What is laid over the root, in this order.
    pub mounts: Vec<Mount>,
    /// The program.
    pub process: Process,
}

/// Where the files of a container come from. Nothing is ever written there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum RootFs {
    /// The programs of the host: its system directories (`/usr`, `/etc`, `/opt`, …) read-only,
    /// and nothing of its users: `/home`, `/root`, `/run`, `/tmp`, `/var/tmp`, `/mnt` and what
    /// else lies at the top are empty or absent.
    Host {
        /// Further directories of the host that may be seen, read-only.
        visible: Vec<PathBuf>,
        /// Directories and files of the host that look empty, wherever they are.
        hidden: Vec<PathBuf>,
    },
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container. Missing directories are made where the place is the
    /// container's own; symbolic links are followed inside the container only.
    pub destination: PathBuf,
    /// What appears there.
    pub source: Source,
    /// Whether the program may only read it (also everything mounted below it).
    pub readonly: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Source {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        path: PathBuf,
        /// A place below `path`; a symbolic link that leads out of `path` is refused.
        sub_path: Option<PathBuf>,
        /// The directory is this container's or Pod's own: places to mount on may be made in it,
        /// and a `sub_path` that does not exist becomes a directory.
        owned: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// The most bytes it may hold.
        size: u64,
    },
}

/// The program and what it runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program, found through `PATH` of `env` when it has no slash, and its arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory; made if it is missing and the place is the container's own.
    pub cwd: PathBuf,
    /// The user that the program sees itself as. On the host it is always the node's own user,
    /// so every file of that user appears as owned by this one, and all others by 65534.
    pub user: User,
    /// Limits: name as in `setrlimit`, soft, hard.
    pub rlimits: Vec<Rlimit>,
}

/// Numbers inside the container's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One resource limit; the node's own limit still bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which one.
    pub resource: Resource,
    /// What applies.
    pub soft: u64,
    /// How far the program may raise it.
    pub hard: u64,
}

/// The limits that a container can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// Size of a core dump (`RLIMIT_CORE`).
    Core,
    /// Open files (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Size of one file (`RLIMIT_FSIZE`).
    FileSize,
}

/// What the node asks of a running container, one JSON line each after the [`Container`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// Send this signal to the process group of the program.
    Signal(i32),
}

/// What the helper tells the node, one JSON line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Report {
    /// The program runs.
    Started,
    /// The program never ran.
    Failed(SetupError),
    /// The program ended by itself.
    Exited(i32),
    /// A signal ended the program.
    Signaled(i32),
}

/// Why a container could not be started. This is never mistaken for the program's own exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SetupError {
    /// The class.
    pub reason: SetupReason,
    /// What, where, and what the system said. Holds no secret: paths and names only.
    pub message: String,
}

/// Classes of [`SetupError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SetupReason {
    /// The host does not let this user make namespaces.
    NamespacesForbidden,
    /// A mount cannot be made as it was asked for.
    Mount,
    /// The program does not exist in the container, or cannot be executed.
    Program,
    /// Anything else.
    Other,
}

impl SetupError {
    pub(super) fn new(reason: SetupReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Puts what was tried in front of what the system answered.
pub(super) trait Context<T> {
    /// With the class that fits.
    fn or_setup(self, reason: SetupReason, what: impl FnOnce() -> String) -> Result<T, SetupError>;

    /// With [`SetupReason::Other`].
    fn or_other(self, what: &str) -> Result<T, SetupError>
    where
        Self: Sized,
    {
        self.or_setup(SetupReason::Other, || what.to_owned())
    }

    /// With [`SetupReason::Mount`].
    fn or_mount(self, what: impl FnOnce() -> String) -> Result<T, SetupError>
    where
        Self: Sized,
    {
        self.or_setup(SetupReason::Mount, what)
    }
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn or_setup(self, reason: SetupReason, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::new(reason, format!("{}: {error}", what())))
    }
}
