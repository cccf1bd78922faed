//! render: from a Run to the ConfigMaps and the Job that Kubernetes is given. Deterministic: the same Run gives the
//! same bytes.
//!
//! The Job is rendered suspended; [`decide`](crate::decide) says when it is released. Names follow from what they name:
//! the Job's from the owner's UID and the attempt, a ConfigMap's from the Job and from its own content. So a Job always
//! finds the files that it was rendered with, even when an Agent changed between two attempts to create it.

mod config_maps;
mod name;
mod pod;
mod security;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{ConfigMap, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kubeopencode_api::names;

use crate::run::{Owner, Run};

pub use name::{job_name, label_value};

/// What Kubernetes is given for one attempt of a Run.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The files, in one or more ConfigMaps; created before the Job.
    pub config_maps: Vec<ConfigMap>,
    /// The Job, suspended.
    pub job: Job,
}

/// Why a Run cannot be rendered. It is the owner's spec that has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A file that no ConfigMap can hold.
    #[error(
        "{path} is {size} bytes, and no file may have more than {limit} (the limit of a ConfigMap): shorten it, or bring it in a Git repository"
    )]
    FileTooLarge {
        /// Path in the agent container.
        path: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More files than a Pod can be given one by one.
    #[error(
        "{count} context files, and no more than {limit} are possible: bring them in a Git repository"
    )]
    TooManyFiles {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Render one attempt, counted from 1.
pub fn render(run: &Run, attempt: u32) -> Result<Rendered, RenderError> {
    let job_name = job_name(&run.owner, attempt);
    let volumes = volumes::plan(run);
    let config_maps = config_maps::render(&job_name, &volumes.contents).map(|contents| {
        contents
            .into_iter()
            .map(|config_map| ConfigMap {
                metadata: ObjectMeta {
                    name: config_map.metadata.name,
                    ..metadata(run, attempt)
                },
                ..config_map
            })
            .collect::<Vec<_>>()
    })?;
    let config_map_names: Vec<String> = config_maps
        .iter()
        .filter_map(|config_map| config_map.metadata.name.clone())
        .collect();

    let template = ObjectMeta {
        labels: Some(over(&run.pod.labels, labels(&run.owner, &run.agent.name))),
        annotations: Some(over(&run.pod.annotations, annotations(run, attempt))),
        ..ObjectMeta::default()
    };
    let job = Job {
        metadata: ObjectMeta {
            name: Some(job_name),
            annotations: Some(over(&annotations(run, attempt), generation(&run.owner))),
            ..metadata(run, attempt)
        },
        spec: Some(JobSpec {
            suspend: Some(true),
            backoff_limit: Some(0),
            pod_failure_policy: Some(never_again()),
            completions: Some(1),
            parallelism: Some(1),
            // A Pod that is on its way out may still be at work: no other one beside it.
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(template),
                spec: Some(pod::spec(run, volumes, &config_map_names)),
            },
            ..JobSpec::default()
        }),
        status: None,
    };
    Ok(Rendered { config_maps, job })
}

/// `backoffLimit` can be raised by anybody who may edit the Job; this cannot be changed any more.
fn never_again() -> PodFailurePolicy {
    let fail = || PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        ..PodFailurePolicyRule::default()
    };
    let exits = PodFailurePolicyRule {
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "NotIn".to_owned(),
            values: vec![0],
        }),
        ..fail()
    };
    let disrupted = PodFailurePolicyRule {
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            status: Some("True".to_owned()),
            type_: "DisruptionTarget".to_owned(),
        }]),
        ..fail()
    };
    PodFailurePolicy {
        rules: vec![exits, disrupted],
    }
}

fn generation(owner: &Owner) -> BTreeMap<String, String> {
    let generation = owner.generation.to_string();
    BTreeMap::from([(names::ANNOTATION_GENERATION.to_owned(), generation)])
}

/// Everything but the name, for the objects that the owner controls.
fn metadata(run: &Run, attempt: u32) -> ObjectMeta {
    let owner = &run.owner;
    ObjectMeta {
        namespace: Some(owner.namespace.clone()),
        labels: Some(labels(owner, &run.agent.name)),
        annotations: Some(annotations(run, attempt)),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", owner.group, owner.version),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn labels(owner: &Owner, agent: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (
            names::LABEL_MANAGED_BY.to_owned(),
            names::MANAGER.to_owned(),
        ),
        (
            format!("{}/{}", owner.group, owner.kind.to_ascii_lowercase()),
            label_value(&owner.name),
        ),
        (format!("{}/agent", owner.group), label_value(agent)),
        (names::LABEL_OWNER_UID.to_owned(), owner.uid.clone()),
    ])
}

fn annotations(run: &Run, attempt: u32) -> BTreeMap<String, String> {
    let owner = &run.owner;
    let mut annotations = BTreeMap::from([
        (
            names::ANNOTATION_OWNER.to_owned(),
            format!(
                "{}/{}/{}/{}",
                owner.group, owner.version, owner.plural, owner.name
            ),
        ),
        (names::ANNOTATION_ATTEMPT.to_owned(), attempt.to_string()),
        (names::ANNOTATION_AGENT.to_owned(), run.agent.name.clone()),
    ]);
    if let Some(generation) = run.agent.generation {
        annotations.insert(
            names::ANNOTATION_AGENT_GENERATION.to_owned(),
            generation.to_string(),
        );
    }
    if run.limit.is_some() {
        annotations.insert(names::ANNOTATION_LIMITED.to_owned(), "true".to_owned());
    }
    annotations
}

/// The user's entries with the system's over them.
fn over(
    user: &BTreeMap<String, String>,
    system: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = user.clone();
    all.extend(system);
    all
}
