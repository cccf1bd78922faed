//! One attempt of one container: from the Pod's specification to a running sandbox, its log, and
//! its end.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use nix::unistd::{getegid, geteuid};

use super::expand::expand;
use super::references::Unresolved;
use super::sandbox::{Container, Mount, Process, Resource, Rlimit, RootFs, Source, User};
use super::volumes::{self, Place};
use super::{NodeOptions, image, refuse};

/// The most bytes of a termination message, as in Kubernetes.
const MESSAGE_BYTES: u64 = 4096;
/// What of the log stands in for a termination message.
const FALLBACK_LINES: u64 = 80;
const FALLBACK_BYTES: usize = 2048;

/// What one attempt needs on disk: a private directory with the termination message, and what
/// programs expect to be able to write to.
pub(super) struct Workspace {
    message: PathBuf,
    scratch: [(&'static str, PathBuf); 2],
}

impl Workspace {
    /// Makes it anew; what an earlier attempt left is removed.
    pub(super) fn make(pod_directory: &Path, container: &str) -> io::Result<Self> {
        let directory = pod_directory.join("containers").join(container);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let workspace = Self {
            message: directory.join("termination-log"),
            scratch: ["tmp", "root"].map(|name| (name, directory.join(name))),
        };
        for (_, path) in &workspace.scratch {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o1777))?;
        }
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o666)
            .open(&workspace.message)?;
        Ok(workspace)
    }

    /// The end of what the container wrote as its termination message.
    pub(super) fn message(&self) -> io::Result<Option<String>> {
        let mut file = fs::File::open(&self.message)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MESSAGE_BYTES).read_to_end(&mut bytes)?;
        Ok((!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Removes what only the running container needed.
    pub(super) fn clear(&self) {
        for (_, path) in &self.scratch {
            // What cannot be removed now goes with the Pod.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Whether the log may stand in for a termination message.
pub(super) fn falls_back(spec: &Spec) -> Option<(u64, usize)> {
    (spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"))
        .then_some((FALLBACK_LINES, FALLBACK_BYTES))
}

/// The sandbox for a container of a Pod.
pub(super) fn describe(
    pod: &Pod,
    spec: &Spec,
    options: &NodeOptions,
    place: &Place<'_>,
    workspace: &Workspace,
    env: Vec<(String, String)>,
) -> Result<Container, Unresolved> {
    let lookup = |name: &str| {
        let found = env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let files = options.files.now();
    let command = refuse::command(spec, &files.images)
        .ok_or_else(|| Unresolved::Invalid("the container names no command".to_owned()))?;
    let args = command.iter().map(|word| expand(word, lookup)).collect();
    let volumes = volumes::mounts(pod, spec, place, &env)?;
    let mut mounts = Vec::new();
    let own = |destination: &str, path: &Path| Mount {
        destination: destination.into(),
        source: Source::Bind {
            path: path.to_owned(),
            sub_path: None,
            owned: true,
        },
        readonly: false,
    };
    for (name, path) in &workspace.scratch {
        mounts.push(own(&format!("/{name}"), path));
    }
    let image = image::find(&files.images, spec.image.as_deref().unwrap_or_default());
    mounts.extend(
        image
            .iter()
            .flat_map(|image| &image.files)
            .chain(&files.everywhere)
            .map(|(inside, path)| Mount {
                readonly: true,
                source: Source::Bind {
                    path: path.canonicalize().unwrap_or_else(|_| path.clone()),
                    sub_path: None,
                    owned: false,
                },
                ..own(&inside.to_string_lossy(), path)
            }),
    );
    mounts.extend(volumes);
    let message = spec
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    mounts.push(own(message, &workspace.message));
    let mut hidden = options.hidden.clone();
    hidden.push(options.data_dir.clone());
    hidden.extend(home_among_system_files());
    let security = spec.security_context.as_ref();
    let cwd = spec
        .working_dir
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    Ok(Container {
        hostname: hostname(pod),
        root: RootFs::Host {
            visible: options.visible.clone(),
            hidden,
        },
        readonly_root: security.and_then(|security| security.read_only_root_filesystem)
            == Some(true),
        mounts,
        process: Process {
            args,
            cwd: Path::new("/").join(cwd),
            user: user(pod, spec)?,
            rlimits: vec![Rlimit {
                resource: Resource::Core,
                soft: 0,
                hard: 0,
            }],
            env,
        },
    })
}

/// The home of the node's user where it is neither in `/home` nor in `/root`, as with services.
fn home_among_system_files() -> Option<PathBuf> {
    let home = nix::unistd::User::from_uid(geteuid()).ok()??.dir;
    let data = home.starts_with("/var") || home.starts_with("/opt");
    (data && home.components().count() > 2).then_some(home)
}

fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.hostname.clone())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default()
}

/// Who the program sees itself as; on the host it is always the node's own user. Without a wish:
/// the node's own number, so that names and homes of the host's user database fit.
fn user(pod: &Pod, spec: &Spec) -> Result<User, Unresolved> {
    let pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let container = spec.security_context.as_ref();
    let uid = container
        .and_then(|c| c.run_as_user)
        .or_else(|| pod.and_then(|p| p.run_as_user));
    let gid = container
        .and_then(|c| c.run_as_group)
        .or_else(|| pod.and_then(|p| p.run_as_group));
    let not_root = container
        .and_then(|c| c.run_as_non_root)
        .or_else(|| pod.and_then(|p| p.run_as_non_root))
        == Some(true);
    if not_root && uid == Some(0) {
        return Err(Unresolved::Invalid(
            "container's runAsUser breaks non-root policy".to_owned(),
        ));
    }
    let number = |wanted: Option<i64>, own: u32| match wanted {
        Some(wanted) => u32::try_from(wanted)
            .map_err(|_| Unresolved::Invalid(format!("there is no user or group {wanted}"))),
        None if not_root && own == 0 => Ok(1000),
        None => Ok(own),
    };
    Ok(User {
        uid: number(uid, geteuid().as_raw())?,
        gid: number(gid, getegid().as_raw())?,
    })
}
