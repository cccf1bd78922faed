//! The Pod: its containers, their environment, and what the Agent says of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, EnvFromSource, EnvVar, EnvVarSource, PodSpec, SecretEnvSource,
    SecretKeySelector, VolumeMount,
};
use kubeopencode_agents::Profile;
use kubeopencode_api::names::container;

use super::{security, volumes};
use crate::{
    handover,
    run::{Credential, Image, Run},
};

/// Kubernetes' own default, in seconds.
const GRACE_SECONDS: i64 = 30;

/// How much longer than the agent's timeout the Pod may be active. `supervise` holds the timeout itself; this ends a Pod
/// that never gets to its agent, such as one whose clone hangs. Images are waited for half as long before the Run fails
/// ([`STALL_LIMIT`](crate::decide::STALL_LIMIT)), and the clone of a large repository takes minutes.
const AROUND_THE_AGENT: u64 = 3600;

/// Kubernetes keeps `activeDeadlineSeconds` in 32 bits.
const LONGEST_DEADLINE: u64 = i32::MAX as u64;

/// The Pod of a Run.
pub fn spec(run: &Run, volumes: volumes::Plan, config_maps: &[String]) -> PodSpec {
    let pod = &run.pod;
    let init_containers = init_containers(run, &volumes);
    let report_bytes = handover::termination_message(init_containers.len() + 1);
    PodSpec {
        volumes: Some(volumes.volumes(config_maps)),
        init_containers: Some(init_containers),
        containers: vec![agent(run, volumes.agent, report_bytes)],
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: active_deadline(run),
        automount_service_account_token: Some(pod.service_account_token),
        service_account_name: pod.service_account_name.clone(),
        enable_service_links: Some(false),
        node_selector: Some(pod.node_selector.clone()).filter(|labels| !labels.is_empty()),
        tolerations: Some(pod.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        affinity: pod
            .affinity
            .clone()
            .filter(|affinity| *affinity != Affinity::default()),
        runtime_class_name: pod.runtime_class_name.clone(),
        security_context: Some(security::of_pod(pod.pod_security_context.as_ref())),
        image_pull_secrets: Some(pod.image_pull_secrets.clone())
            .filter(|secrets| !secrets.is_empty()),
        termination_grace_period_seconds: pod.termination_grace_period_seconds,
        ..PodSpec::default()
    }
}

/// The timeout in whole seconds, at least one.
fn timeout_seconds(run: &Run) -> Option<u64> {
    run.timeout.map(|timeout| {
        let whole = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        whole.max(1)
    })
}

/// When the kubelet ends the Pod, counted from when it took it: for a Pod that never gets to its agent, or whose `supervise`
/// hangs. Where nothing supervises the agent, the kubelet alone can hold its timeout.
fn active_deadline(run: &Run) -> Option<i64> {
    let around = run.command.as_ref().map_or(0, |_| AROUND_THE_AGENT);
    let allowed = [timeout_seconds(run), run.limits.seconds];
    let deadline = allowed.into_iter().flatten().min()?.saturating_add(around);
    i64::try_from(deadline.min(LONGEST_DEADLINE)).ok()
}

/// In the order in which they run: git before context, so that files win over a checkout; credentials after it, because it
/// needs the program that context-init hands on; git-push last, so that it never runs beside an init container that fails.
fn init_containers(run: &Run, volumes: &volumes::Plan) -> Vec<Container> {
    let mut containers = Vec::with_capacity(5);
    if let Some(image) = &run.images.opencode {
        containers.push(init(
            run,
            container::OPENCODE_INIT,
            image,
            &["cp", handover::OPENCODE_PROGRAM, handover::OPENCODE],
            &volumes.opencode,
        ));
    }
    let system = &run.images.system;
    if !run.checkouts.is_empty() {
        containers.push(Container {
            env: Some(vec![value("HOME", "/tmp")]),
            ..init(
                run,
                container::GIT_INIT,
                system,
                &[handover::PROGRAM, "git-init"],
                &volumes.git,
            )
        });
    }
    containers.push(init(
        run,
        container::CONTEXT_INIT,
        system,
        &[handover::PROGRAM, "context-init"],
        &volumes.context,
    ));
    if !volumes.credentials.is_empty() {
        // The agent's image and security context: whoever the agent is, the files are its own.
        containers.push(Container {
            security_context: Some(security::of_agent(run.pod.security_context.as_ref())),
            ..init(
                run,
                container::CREDENTIALS_INIT,
                &run.images.agent,
                &[handover::SUPERVISOR, "credentials-init"],
                &volumes.credentials,
            )
        });
    }
    if run.pushes() {
        containers.push(Container {
            env: Some(vec![value("HOME", volumes::HOME), grace(run)]),
            restart_policy: Some("Always".to_owned()),
            ..init(
                run,
                container::GIT_PUSH,
                system,
                &[handover::PROGRAM, "git-push"],
                &volumes.push,
            )
        });
    }
    containers
}

fn init(
    run: &Run,
    name: &str,
    image: &Image,
    command: &[&str],
    mounts: &[VolumeMount],
) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.reference.clone()),
        image_pull_policy: image.pull_policy.clone(),
        command: Some(command.iter().map(|&word| word.to_owned()).collect()),
        volume_mounts: Some(mounts.to_vec()),
        security_context: Some(security::of_system(run.pod.security_context.as_ref())),
        // Their last lines say why they failed.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn agent(run: &Run, mounts: Vec<VolumeMount>, report_bytes: usize) -> Container {
    let command = run.command.as_ref().map(|command| {
        [handover::SUPERVISOR, "supervise", "--"]
            .into_iter()
            .map(str::to_owned)
            .chain(command.iter().cloned())
            .collect()
    });
    let env_from: Vec<EnvFromSource> = run
        .credentials
        .iter()
        .filter_map(|credential| match credential {
            Credential::AllAsEnv { secret } => Some(EnvFromSource {
                secret_ref: Some(SecretEnvSource {
                    name: secret.clone(),
                    optional: None,
                }),
                ..EnvFromSource::default()
            }),
            _ => None,
        })
        .collect();
    Container {
        name: container::AGENT.to_owned(),
        image: Some(run.images.agent.reference.clone()),
        image_pull_policy: run.images.agent.pull_policy.clone(),
        command,
        working_dir: Some(run.workspace_dir.clone()),
        env: Some(environment(run, report_bytes)),
        env_from: Some(env_from).filter(|sources| !sources.is_empty()),
        volume_mounts: Some(mounts),
        resources: run.pod.resources.clone(),
        security_context: Some(security::of_agent(run.pod.security_context.as_ref())),
        ..Container::default()
    }
}

/// The variables in a fixed order. A name that a credential sets is the credential's.
fn environment(run: &Run, report_bytes: usize) -> Vec<EnvVar> {
    let credentials: Vec<EnvVar> = run
        .credentials
        .iter()
        .filter_map(|credential| match credential {
            Credential::Key {
                secret,
                key,
                env: Some(name),
                ..
            } => Some(EnvVar {
                name: name.clone(),
                value: None,
                value_from: Some(EnvVarSource {
                    secret_key_ref: Some(SecretKeySelector {
                        name: secret.clone(),
                        key: key.clone(),
                        optional: None,
                    }),
                    ..EnvVarSource::default()
                }),
            }),
            _ => None,
        })
        .collect();

    let before = vec![
        value("HOME", volumes::HOME),
        value("SHELL", "/bin/bash"),
        value("TASK_NAME", &run.owner.name),
        value("TASK_NAMESPACE", &run.owner.namespace),
        value("WORKSPACE_DIR", &run.workspace_dir),
    ];
    let mut after = Vec::new();
    if !run.checkouts.is_empty() {
        // Not GIT_CONFIG_GLOBAL: that file is the agent's own, and it may write to it.
        after.push(value("GIT_CONFIG_SYSTEM", handover::GIT_CONFIG));
    }
    after.extend(known(run));
    if run.command.is_some() {
        after.push(grace(run));
        after.push(value(
            handover::REPORT_BYTES_VARIABLE,
            &report_bytes.to_string(),
        ));
        if let Some(seconds) = timeout_seconds(run) {
            after.push(value(handover::TIMEOUT_VARIABLE, &seconds.to_string()));
        }
        if let Some(profile) = run.profile {
            after.push(value(handover::PROFILE_VARIABLE, profile.name));
        }
        if run.limits != handover::Limits::default()
            && let Ok(limits) = serde_json::to_string(&run.limits)
        {
            after.push(value(handover::LIMITS_VARIABLE, &limits));
        }
        if !run.credentials.is_empty()
            && let Ok(secrets) = serde_json::to_string(&secrets(&run.credentials))
        {
            after.push(value(handover::SECRETS_VARIABLE, &secrets));
        }
        if run.pushes() {
            after.push(value(handover::PUSH_VARIABLE, handover::PUSH_SOCKET));
        }
    }
    let ours = |variable: &EnvVar| {
        !credentials
            .iter()
            .any(|theirs| theirs.name == variable.name)
    };
    let before: Vec<EnvVar> = before.into_iter().filter(&ours).collect();
    let after: Vec<EnvVar> = after.into_iter().filter(&ours).collect();
    [before, credentials, after].concat()
}

/// What is known to be needed by the agent that runs. Where a Secret gives all its keys as variables it may bring these, too,
/// and would lose to them unseen, as to all that stand in the Pod itself; so `supervise` fills in what is not there.
fn known(run: &Run) -> Vec<EnvVar> {
    let Some(profile) = program(run) else {
        return Vec::new();
    };
    let unseen = |credential: &Credential| matches!(credential, Credential::AllAsEnv { .. });
    if run.command.is_some() && run.credentials.iter().any(unseen) {
        let defaults: BTreeMap<&str, &str> = profile.variables.iter().copied().collect();
        let defaults = serde_json::to_string(&defaults).ok();
        let defaults = defaults.map(|defaults| value(handover::DEFAULTS_VARIABLE, &defaults));
        return defaults.into_iter().collect();
    }
    let variables = profile.variables.iter();
    variables.map(|(name, known)| value(name, known)).collect()
}

/// The known agent that runs, also where nobody wants its events to be read: without its variables it would refuse itself
/// what it has to ask for, and still exit with 0.
fn program(run: &Run) -> Option<&'static Profile> {
    let command = run.command.as_deref();
    run.profile
        .or_else(|| command.and_then(Profile::of_command))
}

/// Where they are in the agent's container.
fn secrets(credentials: &[Credential]) -> handover::Secrets {
    let mut secrets = handover::Secrets::default();
    for credential in credentials {
        match credential {
            Credential::AllAsEnv { .. } => secrets.all_variables = true,
            Credential::Directory { path, .. } => secrets.files.push(path.clone()),
            Credential::Key { env, file, .. } => {
                secrets.variables.extend(env.clone());
                secrets
                    .files
                    .extend(file.as_ref().map(|(path, _)| path.clone()));
            }
        }
    }
    secrets
}

fn grace(run: &Run) -> EnvVar {
    let seconds = run.pod.termination_grace_period_seconds;
    let seconds = seconds.unwrap_or(GRACE_SECONDS).to_string();
    value(handover::GRACE_VARIABLE, &seconds)
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}
