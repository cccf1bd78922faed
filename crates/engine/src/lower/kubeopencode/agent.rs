//! What an Agent says: command, image, credentials, the Pod around it.

use std::{num::NonZeroUsize, time::Duration};

use kubeopencode_agents::Profile;
use kubeopencode_api::v1alpha1::{self as api, AgentSpec};

use crate::{
    handover,
    lower::{
        LowerError,
        places::{Place, Places},
    },
    run::{Credential, Image, PodOptions},
};

/// Permission bits of a credential file when nothing is said.
const CREDENTIAL_MODE: u32 = 0o600;

/// Kubernetes keeps `activeDeadlineSeconds` in 32 bits.
const LONGEST_TIMEOUT: u64 = i32::MAX as u64;

/// The Agent that is used when there is none: all defaults, and the namespace's default service account.
pub fn built_in() -> AgentSpec {
    AgentSpec {
        agent_image: None,
        workspace_dir: None,
        command: Vec::new(),
        contexts: Vec::new(),
        credentials: Vec::new(),
        pod_spec: None,
        service_account_name: String::new(),
        max_concurrent_tasks: None,
        timeout: None,
        profile: None,
        limits: None,
    }
}

/// Which agent it is, as far as its events can be read. That each word of the API but Command has a profile is for a test
/// to hold (`tests/it/limits.rs`).
pub fn profile(spec: &AgentSpec) -> Option<&'static Profile> {
    match spec.profile {
        Some(api::AgentProfile::Command) => None,
        Some(profile) => Profile::named(profile.as_str()),
        None if spec.command.is_empty() => Some(Profile::usual()),
        None => Profile::of_command(&spec.command),
    }
}

/// The Agent's command; by default that of its profile, with `task.md` on its standard input: an argument ends at 128 KiB.
pub fn command(agent: &str, spec: &AgentSpec) -> Result<Vec<String>, LowerError> {
    if !spec.command.is_empty() {
        return Ok(spec.command.clone());
    }
    let profile = profile(spec).ok_or_else(|| LowerError::BadField {
        field: format!("{agent}: command"),
        problem: "has to be there for the profile Command".to_owned(),
    })?;
    let program = if profile.in_tools {
        handover::OPENCODE
    } else {
        profile.program
    };
    let run = format!(
        r#"exec {program} {} < "$WORKSPACE_DIR/task.md""#,
        profile.arguments.join(" ")
    );
    Ok(vec!["sh".to_owned(), "-c".to_owned(), run])
}

/// Whether the command names OpenCode in the tools volume; only then is it copied there.
pub fn uses_opencode(command: &[String]) -> bool {
    command.iter().any(|word| word.contains(handover::OPENCODE))
}

/// How many Tasks may run at once; 0 is as good as nothing said.
pub fn limit(spec: &AgentSpec) -> Option<NonZeroUsize> {
    let most = usize::try_from(spec.max_concurrent_tasks?).ok()?;
    NonZeroUsize::new(most)
}

/// The image of the agent container, if the Agent names one.
pub fn image(spec: &AgentSpec) -> Option<Image> {
    spec.agent_image.as_ref().map(|image| Image {
        reference: image.clone(),
        pull_policy: None,
    })
}

/// The Pod around the agent. Its service account's token is given when the Agent says so, or when a Runtime context
/// tells the agent to ask the API server.
pub fn pod_options(spec: &AgentSpec, runtime: bool) -> PodOptions {
    let pod = spec.pod_spec.clone().unwrap_or_default();
    let scheduling = pod.scheduling.unwrap_or_default();
    PodOptions {
        labels: pod.labels,
        annotations: pod.annotations,
        node_selector: scheduling.node_selector,
        tolerations: scheduling.tolerations,
        affinity: scheduling.affinity,
        runtime_class_name: pod.runtime_class_name,
        resources: pod.resources,
        security_context: pod.security_context,
        pod_security_context: pod.pod_security_context,
        image_pull_secrets: pod.image_pull_secrets,
        termination_grace_period_seconds: pod.termination_grace_period_seconds,
        service_account_name: Some(spec.service_account_name.clone())
            .filter(|name| !name.is_empty()),
        service_account_token: pod.automount_service_account_token.unwrap_or(runtime),
    }
}

/// The credentials, in order; those with a mountPath take their place.
pub fn credentials(
    agent: &str,
    spec: &AgentSpec,
    places: &mut Places,
) -> Result<Vec<Credential>, LowerError> {
    let mut variables: Vec<(&str, String)> = Vec::new();
    let mut credentials = Vec::with_capacity(spec.credentials.len());
    for (index, credential) in spec.credentials.iter().enumerate() {
        let item = format!("{agent}: credentials[{index}] ({})", credential.name);
        if let Some(variable) = &credential.env {
            if let Some((_, first)) = variables.iter().find(|(name, _)| name == variable) {
                return Err(LowerError::BadItem {
                    problem: format!("the variable {variable} is already set by {first}"),
                    item,
                });
            }
            variables.push((variable, item.clone()));
        }
        credentials.push(lower_credential(&item, credential, places)?);
    }
    Ok(credentials)
}

fn lower_credential(
    item: &str,
    credential: &api::Credential,
    places: &mut Places,
) -> Result<Credential, LowerError> {
    let bad = |problem: &str| LowerError::BadItem {
        item: item.to_owned(),
        problem: problem.to_owned(),
    };
    let secret = credential.secret_ref.name.clone();
    let mode = credential
        .file_mode
        .and_then(|mode| u32::try_from(mode).ok())
        .unwrap_or(CREDENTIAL_MODE);
    match (
        &credential.secret_ref.key,
        &credential.env,
        &credential.mount_path,
    ) {
        (None, Some(_), _) => Err(bad(
            "env needs secretRef.key: without a key every key becomes a variable of its own name",
        )),
        (None, None, None) => Ok(Credential::AllAsEnv { secret }),
        (None, None, Some(path)) => Ok(Credential::Directory {
            secret,
            path: places.take(item, path, Place::SecretDirectory)?,
            mode,
        }),
        (Some(_), None, None) => Err(bad("secretRef.key needs env, mountPath or both")),
        (Some(key), env, path) => Ok(Credential::Key {
            secret,
            key: key.clone(),
            env: env.clone(),
            file: match path {
                Some(path) => Some((places.take(item, path, Place::File)?, mode)),
                None => None,
            },
        }),
    }
}

/// A duration as in `1h30m`: whole hours, minutes, seconds, in this order, at least one second.
pub fn duration(field: &str, text: &str) -> Result<Duration, LowerError> {
    let bad = |problem: &str| LowerError::BadField {
        field: field.to_owned(),
        problem: format!("{text:?} {problem}"),
    };
    let shape = || bad("is not a duration such as 1h30m, 45m or 90s");
    let mut rest = text;
    let mut seconds: u64 = 0;
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((number, after)) = rest.split_once(unit) else {
            continue;
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(shape());
        }
        let number: u64 = number.parse().map_err(|_| bad("is too long"))?;
        seconds = number
            .checked_mul(length)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(|| bad("is too long"))?;
        rest = after;
    }
    if !rest.is_empty() || text.is_empty() {
        return Err(shape());
    }
    match seconds {
        0 => Err(bad("is no time at all: at least 1s")),
        seconds if seconds > LONGEST_TIMEOUT => Err(bad("is too long")),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}
