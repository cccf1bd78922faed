//! render: from a Run to the ConfigMaps and the Job that Kubernetes is given. Deterministic: the same Run gives the same bytes.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use crate::run::{Owner, Run};

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
}

/// Name of the Job of an attempt, counted from 1. It follows from the owner's name, UID and the attempt, is at most 63
/// characters long (it becomes a label value) and a valid DNS label.
#[must_use]
pub fn job_name(_owner: &Owner, _attempt: u32) -> String {
    String::new()
}

/// Render one attempt, counted from 1.
pub fn render(_run: &Run, _attempt: u32) -> Result<Rendered, RenderError> {
    Ok(Rendered {
        config_maps: Vec::new(),
        job: Job::default(),
    })
}
