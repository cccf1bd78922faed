//! What a Pod asks for that this node cannot give: found before anything starts, all of it, and
//! said in one message, so that a Pod fails at once instead of hanging.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};

use super::env::DEFAULT_PATH;
use super::image::{self, HostFiles, HostImage};
use super::sandbox::host_has_program;

/// The reason in the status of a Pod that was refused.
pub const REASON: &str = "UnsupportedByNode";

/// What the node has, as far as a refusal depends on it.
pub(super) struct Offer<'a> {
    pub(super) files: HostFiles,
    pub(super) visible: &'a [PathBuf],
}

/// Everything that stands against running this Pod, in words; empty when nothing does.
pub(super) fn objections(pod: &Pod, offer: &Offer<'_>) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return vec!["the Pod has no spec".to_owned()];
    };
    let mut found = pod_objections(spec);
    found.extend(spec.volumes.iter().flatten().filter_map(volume_objection));
    let init = spec.init_containers.iter().flatten();
    for (container, is_init) in init
        .map(|container| (container, true))
        .chain(spec.containers.iter().map(|container| (container, false)))
    {
        let name = &container.name;
        found.extend(
            container_objections(container, is_init)
                .into_iter()
                .chain(program_objection(container, offer))
                .map(|objection| format!("container {name:?}: {objection}")),
        );
    }
    found
}

fn pod_objections(spec: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(class) = spec
        .runtime_class_name
        .as_deref()
        .filter(|class| !class.is_empty())
    {
        found.push(format!(
            "runtimeClassName {class:?}: this node has no runtime classes"
        ));
    }
    let affinity = spec.affinity.as_ref();
    let together = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|pods| {
            pods.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let apart = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|pods| {
            pods.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    for (asked, what) in [
        (spec.host_pid, "hostPID"),
        (spec.host_ipc, "hostIPC"),
        (spec.share_process_namespace, "shareProcessNamespace"),
        (Some(windows), "os.name windows"),
        (
            together.map(|terms| !terms.is_empty()),
            "a required podAffinity",
        ),
        (
            apart.map(|terms| !terms.is_empty()),
            "a required podAntiAffinity",
        ),
        (
            spec.resource_claims
                .as_ref()
                .map(|claims| !claims.is_empty()),
            "resourceClaims",
        ),
        (
            spec.host_aliases
                .as_ref()
                .map(|aliases| !aliases.is_empty()),
            "hostAliases",
        ),
    ] {
        if asked == Some(true) {
            found.push(format!("{what} is not possible on this node"));
        }
    }
    found
}

fn volume_objection(volume: &Volume) -> Option<String> {
    let name = &volume.name;
    if let Some(host) = &volume.host_path {
        let path = Path::new(&host.path);
        return match path.try_exists() {
            Ok(true) => None,
            _ => Some(format!("volume {name:?}: the host has no {}", host.path)),
        };
    }
    let known = volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    (!known).then(|| {
        format!(
            "volume {name:?}: this node has emptyDir, configMap, secret, projected, downwardAPI \
             and hostPath volumes only"
        )
    })
}

fn container_objections(container: &Container, is_init: bool) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(policy) = container
        .restart_policy
        .as_deref()
        .filter(|policy| !is_init || *policy != "Always")
    {
        found.push(format!(
            "restartPolicy {policy} of a container is not possible on this node"
        ));
    }
    if container.restart_policy_rules.is_some() {
        found.push("restartPolicyRules is not possible on this node".to_owned());
    }
    if let Some(security) = &container.security_context {
        if security.privileged == Some(true) {
            found.push("privileged is not possible on this node".to_owned());
        }
        let added = security
            .capabilities
            .as_ref()
            .and_then(|caps| caps.add.as_ref());
        if added.is_some_and(|added| !added.is_empty()) {
            found.push("capabilities cannot be added on this node".to_owned());
        }
        if security.proc_mount.as_deref() == Some("Unmasked") {
            found.push("procMount Unmasked is not possible on this node".to_owned());
        }
    }
    let ports = container.ports.iter().flatten();
    if ports
        .filter_map(|port| port.host_port)
        .any(|port| port != 0)
    {
        found.push("host ports cannot be mapped: Pods share the host's network here".to_owned());
    }
    for (asked, what) in [
        (container.liveness_probe.is_some(), "livenessProbe"),
        (container.readiness_probe.is_some(), "readinessProbe"),
        (container.startup_probe.is_some(), "startupProbe"),
        (container.lifecycle.is_some(), "lifecycle"),
        (container.volume_devices.is_some(), "volumeDevices"),
        (container.tty == Some(true), "tty"),
    ] {
        if asked {
            found.push(format!("{what} is not possible on this node"));
        }
    }
    found
}

/// What the container runs: its command, or its image's entrypoint, and the arguments.
/// `None` when nobody says it.
pub(super) fn command(container: &Container, images: &[HostImage]) -> Option<Vec<String>> {
    let image = image::find(images, container.image.as_deref().unwrap_or_default());
    let command = container
        .command
        .iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>();
    let command = if command.is_empty() {
        image
            .map(|image| image.entrypoint.clone())
            .unwrap_or_default()
    } else {
        command
    };
    if command.is_empty() {
        return None;
    }
    let args = container.args.iter().flatten().cloned();
    Some(command.into_iter().chain(args).collect())
}

/// Why the program cannot be there. What only a volume can bring is let through.
fn program_objection(container: &Container, offer: &Offer<'_>) -> Option<String> {
    let reference = container.image.as_deref().unwrap_or_default();
    let image = image::find(&offer.files.images, reference);
    if let Some(image) = image {
        if let Some(message) = &image.missing {
            return Some(format!("image {reference:?}: {message}"));
        }
        if let Some((_, source)) = image.files.iter().find(|(_, source)| !source.exists()) {
            return Some(format!(
                "image {reference:?}: the host has no {}",
                source.display()
            ));
        }
    }
    let Some(command) = command(container, &offer.files.images) else {
        return Some(format!(
            "it names no command, and this node does not have the image {reference:?} to know its \
             entrypoint: images are not pulled here, the host's own programs serve; name a command"
        ));
    };
    let program = command[0].as_str();
    let brought = |path: &Path| {
        let files = image.iter().flat_map(|image| &image.files);
        let mounts = container.volume_mounts.iter().flatten();
        files
            .chain(&offer.files.everywhere)
            .map(|(inside, _)| inside.as_path())
            .any(|inside| inside == path)
            || mounts
                .map(|mount| Path::new(&mount.mount_path))
                .any(|at| path.starts_with(at))
    };
    let present = |path: &Path| brought(path) || host_has_program(path, offer.visible);
    // Only the environment, which is not known yet, or the working directory can tell.
    if program.contains("$(") || (program.contains('/') && !program.starts_with('/')) {
        return None;
    }
    let found = if program.starts_with('/') {
        present(Path::new(program))
    } else {
        let variables = container.env.iter().flatten();
        let path = variables
            .filter(|variable| variable.name == "PATH")
            .map(|variable| variable.value.as_deref().unwrap_or("$("))
            .next_back()
            .unwrap_or(DEFAULT_PATH);
        path.contains("$(")
            || path
                .split(':')
                .map(|directory| Path::new(directory).join(program))
                .any(|at| present(&at))
    };
    (!found).then(|| {
        format!(
            "the program {program:?} is not installed on this host where Pods can see it \
             (image {reference:?} is not pulled, the host's own programs serve)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(yaml: &str) -> String {
        let pod: Pod = serde_saphyr::from_str(yaml).unwrap();
        let images = [
            HostImage {
                name: "example.org/tool".into(),
                files: vec![("/tool".into(), "/bin/sh".into())],
                entrypoint: vec!["/tool".into()],
                missing: None,
            },
            HostImage {
                name: "example.org/absent".into(),
                missing: Some("install it".into()),
                ..HostImage::default()
            },
        ];
        let offer = Offer {
            files: HostFiles {
                images: images.into(),
                everywhere: Vec::new(),
            },
            visible: &[],
        };
        objections(&pod, &offer).join("; ")
    }

    fn container(fields: &str) -> String {
        said(&format!("spec: {{containers: [{{name: c, {fields}}}]}}"))
    }

    #[test]
    fn what_runs_here_is_let_through() {
        for fields in [
            "image: any, command: [sh, -c, 'true']",
            "image: any, command: [/bin/sh]",
            "image: 'example.org/tool:v1'",
            "image: 'example.org/tool:v1', args: [x]",
            "image: any, command: [/tools/x], volumeMounts: [{name: t, mountPath: /tools}]",
            "image: any, command: [x], env: [{name: PATH, value: '/tools:/bin'}], volumeMounts: [{name: t, mountPath: /tools}]",
            "image: any, command: [./run]",
            "image: any, command: ['$(SHELL)']",
        ] {
            assert_eq!(container(fields), "", "{fields}");
        }
    }

    #[test]
    fn what_does_not_is_named() {
        for (fields, words) in [
            ("image: any", "it names no command"),
            ("image: any, args: [x]", "it names no command"),
            (
                "image: any, command: [no-such-program]",
                "\"no-such-program\" is not installed",
            ),
            (
                "image: any, command: [/no/such]",
                "\"/no/such\" is not installed",
            ),
            ("image: any, command: [/etc/passwd]", "is not installed"),
            (
                "image: 'example.org/absent:1', command: [sh]",
                "image \"example.org/absent:1\": install it",
            ),
            (
                "image: any, command: [sh], securityContext: {privileged: true}",
                "privileged",
            ),
            (
                "image: any, command: [sh], ports: [{containerPort: 1, hostPort: 80}]",
                "host ports",
            ),
            (
                "image: any, command: [sh], restartPolicy: Always",
                "restartPolicy Always of a container",
            ),
            (
                "image: any, command: [sh], livenessProbe: {exec: {command: [x]}}",
                "livenessProbe",
            ),
        ] {
            let said = container(fields);
            assert!(
                said.starts_with("container \"c\": ") && said.contains(words),
                "{fields}: {said}"
            );
        }
        let said = said(
            "
spec:
  runtimeClassName: gvisor
  hostPID: true
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: x}]}}
  containers: [{name: c, image: any, command: [sh]}]
  volumes: [{name: v, nfs: {server: s, path: /}}, {name: h, hostPath: {path: /no/such}}]
",
        );
        for words in [
            "\"gvisor\"",
            "hostPID",
            "a required podAntiAffinity",
            "volume \"v\"",
            "the host has no /no/such",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
