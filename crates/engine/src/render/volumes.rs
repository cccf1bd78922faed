//! Which volumes the Pod has, and what each container sees of them.
//!
//! | volume | git-init | context-init | credentials-init | git-push | agent |
//! |---|---|---|---|---|---|
//! | `workspace`, `checkout-<n>` (outside the workspace) | at its path | at its path | – | at its path, read-only | at its path |
//! | `tools` | written | written | read-only | read-only | read-only; what is in `begun` is written at [`handover::BEGUN_DIR`] |
//! | `context` (the ConfigMaps) | read | read | read | read | – |
//! | `files` (files that are mounted alone) | – | at [`handover::FILES_DIR`] | – | – | each by subPath |
//! | `git-secret-<n>`, `repository-<n>` | read | – | – | – | – |
//! | `secret-<n>` | – | – | read | – | – |
//! | `credentials` (in memory) | – | – | at [`handover::CREDENTIALS_DIR`] | – | each by subPath, read-only |
//! | `push-secret-<n>` | – | – | – | read | – |
//! | `push` | – | – | – | written | read-only |
//! | `tmp`, unless something else is at [`HOME`] itself | – | – | – | – | at [`HOME`] |
//!
//! A file outside every volume is mounted alone: mounting a directory there would hide what the image has.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    ProjectedVolumeSource, SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};

use super::config_maps::{self, Entry};
use crate::{
    handover::{
        self, ContextPlan, CredentialsPlan, GitPlan, PlannedCheckout, PlannedCredential,
        PlannedFile, PlannedPush,
    },
    lower::places::inside,
    run::{Checkout, Credential, File, Run},
};

/// Name of the volume with the ConfigMaps.
const CONTEXT: &str = "context";
/// Home directory of every agent and of `git-push`, and where programs put what they need for a while.
pub const HOME: &str = "/tmp";
/// Name of the volume at [`HOME`].
const TMP: &str = "tmp";
/// Name of the volume that git-push and the agent share.
const PUSH: &str = "push";
/// Name of the volume with the files of Secrets, as the agent's own.
const CREDENTIALS: &str = "credentials";
/// Name of the file in a directory with one key of a Secret.
const CREDENTIAL_FILE: &str = "credential";
/// Secrets that only one of our init containers sees, under whatever user its image has.
const SECRET_MODE: i32 = 0o444;
/// Permission bits of a context file when nothing is said.
const FILE_MODE: u32 = 0o644;

/// Volumes, mounts, and the content of the ConfigMaps.
#[derive(Debug, Default)]
pub struct Plan {
    /// All but `context`, which needs the names of the ConfigMaps.
    volumes: Vec<Volume>,
    /// Mounts of opencode-init.
    pub opencode: Vec<VolumeMount>,
    /// Mounts of git-init.
    pub git: Vec<VolumeMount>,
    /// Mounts of context-init.
    pub context: Vec<VolumeMount>,
    /// Mounts of credentials-init; empty when there is nothing for it to do.
    pub credentials: Vec<VolumeMount>,
    /// Mounts of git-push; empty when nothing is to be pushed.
    pub push: Vec<VolumeMount>,
    /// Mounts of the agent, parents before what is inside them.
    pub agent: Vec<VolumeMount>,
    /// The plans and the files.
    pub contents: Vec<Entry>,
}

impl Plan {
    /// All volumes; the ConfigMaps appear as one.
    pub fn volumes(&self, config_maps: &[String]) -> Vec<Volume> {
        let sources = config_maps
            .iter()
            .map(|name| VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: name.clone(),
                    ..ConfigMapProjection::default()
                }),
                ..VolumeProjection::default()
            })
            .collect();
        let mut volumes = self.volumes.clone();
        volumes.push(Volume {
            name: CONTEXT.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(sources),
                default_mode: None,
            }),
            ..Volume::default()
        });
        volumes
    }

    fn shared(&mut self, name: &str, path: &str) {
        self.volumes.push(empty_dir(name));
        for mounts in [&mut self.git, &mut self.context, &mut self.agent] {
            mounts.push(mount(name, path));
        }
    }
}

/// Plan the volumes of a Run.
pub fn plan(run: &Run) -> Plan {
    let mut plan = Plan::default();
    plan.shared("workspace", &run.workspace_dir);
    let mut directories = vec![run.workspace_dir.as_str()];
    for (index, checkout) in run.checkouts.iter().enumerate() {
        if checkout.path != run.workspace_dir && !inside(&checkout.path, &run.workspace_dir) {
            plan.shared(&format!("checkout-{index}"), &checkout.path);
            directories.push(&checkout.path);
        }
    }

    plan.volumes.push(empty_dir("tools"));
    for mounts in [&mut plan.opencode, &mut plan.git, &mut plan.context] {
        mounts.push(mount("tools", handover::TOOLS_DIR));
    }
    plan.agent
        .push(read_only(mount("tools", handover::TOOLS_DIR)));
    if !directories.contains(&HOME) && !has_secret_at_home(&run.credentials) {
        // Sessions of agents: with the Pod, whoever the agent is, also where its image's files cannot be written.
        plan.volumes.push(empty_dir(TMP));
        plan.agent.push(mount(TMP, HOME));
    }
    if run.command.is_some() {
        plan.agent.push(VolumeMount {
            sub_path: Some(handover::BEGUN_DIR_IN_TOOLS.to_owned()),
            ..mount("tools", handover::BEGUN_DIR)
        });
    }
    for mounts in [&mut plan.git, &mut plan.context] {
        mounts.push(read_only(mount(CONTEXT, handover::CONTEXT_DIR)));
    }

    let checkouts = plan_checkouts(&mut plan, run);
    if run.pushes() {
        plan_push(&mut plan, &run.checkouts);
    }
    let files = plan_files(&mut plan, &run.files, &directories);
    if !checkouts.checkouts.is_empty() {
        let entry = config_maps::plan_entry(handover::GIT_PLAN, &checkouts);
        plan.contents.insert(0, entry);
    }
    let entry = config_maps::plan_entry(handover::CONTEXT_PLAN, &files);
    plan.contents.insert(0, entry);
    let credentials = plan_credentials(&mut plan, &run.credentials);
    if !credentials.credentials.is_empty() {
        let entry = config_maps::plan_entry(handover::CREDENTIALS_PLAN, &credentials);
        plan.contents.insert(0, entry);
    }
    // Not every container runtime sorts mounts; a parent mounted last would hide what is inside it.
    plan.agent.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
    plan
}

fn has_secret_at_home(credentials: &[Credential]) -> bool {
    let is_home = |credential: &Credential| match credential {
        Credential::Directory { path, .. } => path == HOME,
        Credential::Key { .. } | Credential::AllAsEnv { .. } => false,
    };
    credentials.iter().any(is_home)
}

fn plan_checkouts(plan: &mut Plan, run: &Run) -> GitPlan {
    let mut read = Secrets::below("git-secret", handover::GIT_SECRETS_DIR);
    let mut write = Secrets::below("push-secret", handover::PUSH_SECRETS_DIR);
    let mut repositories = Vec::new();
    let mut planned = Vec::with_capacity(run.checkouts.len());
    for (index, checkout) in run.checkouts.iter().enumerate() {
        let push = checkout.push.as_ref().filter(|_| run.pushes());
        let host = checkout.host_path.as_ref().map(|host_path| {
            let name = format!("repository-{index}");
            plan.volumes.push(Volume {
                name: name.clone(),
                host_path: Some(HostPathVolumeSource {
                    path: host_path.clone(),
                    type_: Some("Directory".to_owned()),
                }),
                ..Volume::default()
            });
            let path = format!("{}/{index}", handover::HOST_REPOSITORIES_DIR);
            repositories.push(read_only(mount(&name, &path)));
            format!("file://{path}")
        });
        planned.push(PlannedCheckout {
            path: checkout.path.clone(),
            origin: host.as_ref().map(|_| checkout.repository.clone()),
            repository: host.unwrap_or_else(|| checkout.repository.clone()),
            reference: checkout.reference.clone(),
            depth: checkout.depth,
            sub_path: checkout.sub_path.clone(),
            submodules: checkout.submodules,
            secret_dir: checkout.secret.as_deref().map(|secret| read.place(secret)),
            mode: checkout.mode,
            push: push.map(|push| PlannedPush {
                branch: push.branch.clone(),
                secret_dir: push.secret.as_deref().map(|secret| write.place(secret)),
                uncommitted: push.uncommitted,
                allow_base: push.allow_base,
            }),
        });
    }
    read.mount_in(&mut plan.volumes, &mut plan.git);
    plan.git.append(&mut repositories);
    write.mount_in(&mut plan.volumes, &mut plan.push);
    GitPlan { checkouts: planned }
}

/// Secrets that one container gets, each once, in directories below one.
struct Secrets<'r> {
    volume: &'static str,
    directory: &'static str,
    names: Vec<&'r str>,
}

impl<'r> Secrets<'r> {
    fn below(volume: &'static str, directory: &'static str) -> Self {
        Self {
            volume,
            directory,
            names: Vec::new(),
        }
    }

    /// The directory of this Secret.
    fn place(&mut self, secret: &'r str) -> String {
        let known = self.names.iter().position(|known| *known == secret);
        let number = known.unwrap_or_else(|| {
            self.names.push(secret);
            self.names.len() - 1
        });
        format!("{}/{number}", self.directory)
    }

    fn mount_in(self, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
        for (number, secret) in self.names.into_iter().enumerate() {
            let name = format!("{}-{number}", self.volume);
            volumes.push(Volume {
                name: name.clone(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.to_owned()),
                    default_mode: Some(SECRET_MODE),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            });
            let path = format!("{}/{number}", self.directory);
            mounts.push(read_only(mount(&name, &path)));
        }
    }
}

/// What git-push sees: the checkouts that it pushes, to read, and the volume that it shares with the agent, which can
/// write nothing there.
fn plan_push(plan: &mut Plan, checkouts: &[Checkout]) {
    let pushed: Vec<&Checkout> = checkouts
        .iter()
        .filter(|checkout| checkout.push.is_some())
        .collect();
    let holds_one = |volume: &&VolumeMount| {
        let path = &volume.mount_path;
        // The agent's home is its own; a checkout below it has a volume of its own.
        volume.name != TMP
            && pushed
                .iter()
                .any(|checkout| checkout.path == *path || inside(&checkout.path, path))
    };
    let places: Vec<VolumeMount> = plan.agent.iter().filter(holds_one).cloned().collect();
    plan.push.extend(places.into_iter().map(read_only));
    plan.push.extend([
        read_only(mount("tools", handover::TOOLS_DIR)),
        read_only(mount(CONTEXT, handover::CONTEXT_DIR)),
        mount(PUSH, handover::PUSH_DIR),
    ]);
    plan.push.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
    plan.volumes.push(empty_dir(PUSH));
    plan.agent.push(read_only(mount(PUSH, handover::PUSH_DIR)));
}

fn plan_files(plan: &mut Plan, files: &[File], directories: &[&str]) -> ContextPlan {
    let mut alone = 0_usize;
    let mut planned = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let key = config_maps::key(number, &file.path);
        let in_volume = directories
            .iter()
            .any(|directory| inside(&file.path, directory));
        let target = if in_volume {
            file.path.clone()
        } else {
            if alone == 0 {
                plan.volumes.push(empty_dir("files"));
                plan.context.push(mount("files", handover::FILES_DIR));
            }
            let sub_path = alone.to_string();
            alone += 1;
            let target = format!("{}/{sub_path}", handover::FILES_DIR);
            plan.agent.push(VolumeMount {
                sub_path: Some(sub_path),
                ..mount("files", &file.path)
            });
            target
        };
        planned.push(PlannedFile {
            source: key.clone(),
            path: file.path.clone(),
            target,
            mode: file.mode.unwrap_or(FILE_MODE),
        });
        plan.contents.push(Entry {
            key,
            path: file.path.clone(),
            content: file.content.clone(),
        });
    }
    ContextPlan { files: planned }
}

/// The kubelet gives files of a Secret to root, and which user the agent is only its image says. So they are copied, in
/// memory, by a container of that image: then they are the agent's own, with exactly the bits that were asked for.
fn plan_credentials(plan: &mut Plan, credentials: &[Credential]) -> CredentialsPlan {
    let mut planned = Vec::new();
    for (index, credential) in credentials.iter().enumerate() {
        let (secret, path, mode, key) = match credential {
            Credential::Directory { secret, path, mode } => (secret, path, *mode, None),
            Credential::Key {
                secret,
                key,
                file: Some((path, mode)),
                ..
            } => (secret, path, *mode, Some(key)),
            Credential::Key { file: None, .. } | Credential::AllAsEnv { .. } => continue,
        };
        if planned.is_empty() {
            plan.volumes.push(Volume {
                name: CREDENTIALS.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    medium: Some("Memory".to_owned()),
                    size_limit: None,
                }),
                ..Volume::default()
            });
            plan.credentials.extend([
                read_only(mount("tools", handover::TOOLS_DIR)),
                read_only(mount(CONTEXT, handover::CONTEXT_DIR)),
                mount(CREDENTIALS, handover::CREDENTIALS_DIR),
            ]);
        }
        let name = format!("secret-{index}");
        plan.volumes.push(Volume {
            name: name.clone(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.clone()),
                default_mode: Some(SECRET_MODE),
                items: key.map(|key| {
                    vec![KeyToPath {
                        key: key.clone(),
                        path: CREDENTIAL_FILE.to_owned(),
                        mode: None,
                    }]
                }),
                optional: None,
            }),
            ..Volume::default()
        });
        let source = format!("{}/{index}", handover::SECRETS_DIR);
        plan.credentials.push(read_only(mount(&name, &source)));
        let sub_path = match key {
            Some(_) => format!("{index}/{CREDENTIAL_FILE}"),
            None => index.to_string(),
        };
        plan.agent.push(VolumeMount {
            sub_path: Some(sub_path),
            ..read_only(mount(CREDENTIALS, path))
        });
        planned.push(PlannedCredential {
            path: path.clone(),
            source,
            target: format!("{}/{index}", handover::CREDENTIALS_DIR),
            mode,
        });
    }
    CredentialsPlan {
        credentials: planned,
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn read_only(mount: VolumeMount) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount
    }
}
