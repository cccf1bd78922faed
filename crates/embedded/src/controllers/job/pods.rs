//! What the Job controller wants to know about a Pod, and the Pod that it makes of a Job.
//!
//! Pure functions of one Pod or one Job.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::ResourceExt as _;

/// Keeps a finished Pod until the Job's status has counted it.
pub(crate) const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// A name made from `generateName` has at most 63 characters, five of them random.
const MAX_NAME_BASE: usize = 58;

/// The uid of a Pod; empty for one that never was in the API.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether the Job's status has not let go of this Pod yet.
pub(crate) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == TRACKING_FINALIZER)
}

/// The owner reference of the one that controls this Pod, if that is a Job.
pub(crate) fn controlling_job(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "Job"
                && owner.api_version.starts_with("batch/")
        })
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether every container ended well.
pub(crate) fn has_succeeded(pod: &Pod) -> bool {
    phase(pod) == "Succeeded"
}

/// Whether the Pod ended and one container did not end well.
pub(crate) fn has_failed(pod: &Pod) -> bool {
    phase(pod) == "Failed"
}

/// Neither ended nor asked to end.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !has_succeeded(pod) && !has_failed(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Asked to end, and not there yet.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !has_succeeded(pod) && !has_failed(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// Whether the Pod's condition Ready is True.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// How often containers of this Pod were started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().map_or(0, |status| {
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
            .map(|container| container.restart_count)
            .sum()
    })
}

/// When the Pod ended: the last end of a container, or else when it was asked to go.
pub(crate) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let ended = pod.status.as_ref().and_then(|status| {
        status
            .container_statuses
            .iter()
            .flatten()
            .filter_map(|container| {
                container
                    .state
                    .as_ref()?
                    .terminated
                    .as_ref()?
                    .finished_at
                    .as_ref()
            })
            .map(|time| time.0)
            .max()
    });
    ended.or_else(|| {
        let grace = pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or_default();
        let deadline = pod.metadata.deletion_timestamp.as_ref()?.0;
        deadline.checked_sub(SignedDuration::from_secs(grace)).ok()
    })
}

/// Puts first what costs least to lose: not scheduled, then not ready, then the youngest.
pub(crate) fn by_cost_of_deletion(a: &Pod, b: &Pod) -> std::cmp::Ordering {
    let cost = |pod: &Pod| {
        let scheduled = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.as_ref().is_some_and(|node| !node.is_empty()));
        (scheduled, phase(pod) == "Running", is_ready(pod))
    };
    cost(a)
        .cmp(&cost(b))
        .then_with(|| {
            b.metadata
                .creation_timestamp
                .cmp(&a.metadata.creation_timestamp)
        })
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

/// A name for one more Pod of this Job. `suffix` is the random part.
pub(crate) fn name(job: &Job, suffix: &str) -> String {
    let mut base = format!("{}-", job.name_any());
    if base.len() > MAX_NAME_BASE {
        let mut end = MAX_NAME_BASE;
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        base.truncate(end);
    }
    base + suffix
}

/// The Pod that the template of this Job asks for, tracked and owned by the Job.
pub(crate) fn from_template(job: &Job, name: String) -> Pod {
    let template = job
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut pod = Pod {
        spec: template.spec,
        ..Pod::default()
    };
    let job_name = job.name_any();
    let job_uid = job.metadata.uid.clone().unwrap_or_default();
    let mut labels = meta.labels.unwrap_or_default();
    if job
        .spec
        .as_ref()
        .is_none_or(|spec| spec.manual_selector != Some(true))
    {
        labels.extend(BTreeMap::from([
            (
                "batch.kubernetes.io/controller-uid".to_owned(),
                job_uid.clone(),
            ),
            ("batch.kubernetes.io/job-name".to_owned(), job_name.clone()),
            ("controller-uid".to_owned(), job_uid.clone()),
            ("job-name".to_owned(), job_name.clone()),
        ]));
    }
    let mut finalizers = meta.finalizers.unwrap_or_default();
    if !finalizers
        .iter()
        .any(|finalizer| finalizer == TRACKING_FINALIZER)
    {
        finalizers.push(TRACKING_FINALIZER.to_owned());
    }
    pod.metadata.generate_name = Some(format!("{job_name}-"));
    pod.metadata.name = Some(name);
    pod.metadata.namespace.clone_from(&job.metadata.namespace);
    pod.metadata.labels = Some(labels);
    pod.metadata.annotations = meta.annotations;
    pod.metadata.finalizers = Some(finalizers);
    pod.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: job_name,
        uid: job_uid,
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    pod
}

/// What of a Pod the controller keeps in memory: all that the functions of this module look at.
pub(crate) fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    pod.metadata.labels = None;
    pod.spec = pod
        .spec
        .take()
        .map(|spec| k8s_openapi::api::core::v1::PodSpec {
            node_name: spec.node_name,
            ..Default::default()
        });
}
