//! lower: the front ends, one for each API group. Each turns its own resource, with everything that it refers to, into
//! a [`Run`], and maps [`RunState`] to and from its own status.
//!
//! Lowering is asked again and again, with more [`References`] each time, until nothing is unknown any more: it answers
//! [`Lowered::Needs`] with what has to be looked up, and its caller, who may do I/O, looks. Nothing behind the
//! [`FrontEnd`] trait knows an API group.

pub mod context;
pub mod kubeopencode;
pub mod places;
mod reference;
mod setting;

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    queue::{Slot, Turn},
    run::{Image, Owner, Run},
    state::RunState,
};

pub use reference::{Found, Known, Lack, Missing, Reference, ReferenceKind, References};
pub use setting::{Setting, Source};

/// What an installation is set up with; the same for every API group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the operator: its configuration holds where a Task's own namespace says nothing.
    pub system_namespace: String,
    /// Image of git-init and context-init, unless configured.
    pub system_image: Image,
    /// Image of opencode-init, unless configured.
    pub opencode_image: Image,
    /// Image of the agent, unless its Agent names one.
    pub agent_image: Image,
    /// Whether `file://` repositories are directories of the node's host. True on the embedded cluster alone: on any
    /// other it would let whoever may create a Task read the nodes' disks.
    pub host_repositories: bool,
    /// How long a reference may be missing, unless configured.
    pub reference_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let image = |name: &str| Image {
            reference: format!("quay.io/kubeopencode/{name}:latest"),
            pull_policy: Some("IfNotPresent".to_owned()),
        };
        Self {
            system_namespace: kubeopencode_api::names::SYSTEM_NAMESPACE.to_owned(),
            system_image: image("kubeopencode"),
            opencode_image: image("kubeopencode-opencode"),
            agent_image: Image {
                pull_policy: None,
                ..image("kubeopencode-agent-devbox")
            },
            host_repositories: false,
            reference_timeout: Duration::from_mins(5),
        }
    }
}

/// What lowering came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Lowered {
    /// These have to be looked up before anything can be said.
    Needs(Vec<Reference>),
    /// Everything was found and is valid.
    Ready(Box<Run>),
    /// These were looked up and do not exist (yet).
    Missing {
        /// What is missing, in the order of the resource.
        missing: Vec<Missing>,
        /// How long the resource waits for them.
        timeout: Duration,
    },
    /// This can never run as it is written.
    Invalid(LowerError),
}

/// Why a resource can never run as it is written. Each message names the item and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// It has no name, namespace or UID: the API server never accepted it.
    #[error("the resource has no metadata.{0}: it was not read from an API server")]
    NotAdmitted(&'static str),
    /// Two items want one path.
    #[error("{first} and {second} both want the path {path}: give one of them another mountPath")]
    PathTaken {
        /// The path.
        path: String,
        /// The item that came first.
        first: String,
        /// The item that came second.
        second: String,
    },
    /// One item needs a directory where another one is something else.
    #[error(
        "{inner} wants {inner_path}, which lies inside {outer_path}, {what} of {outer}: move one of them"
    )]
    PathInside {
        /// The item whose path lies inside.
        inner: String,
        /// That path.
        inner_path: String,
        /// The item around it.
        outer: String,
        /// Its path.
        outer_path: String,
        /// What the outer path is: a file, a checkout, a directory with credentials.
        what: &'static str,
    },
    /// A path that cannot be used.
    #[error("{item}: the path {path:?} {problem}")]
    BadPath {
        /// The item.
        item: String,
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An item that is not complete or contradicts itself; the CRD's rules refuse it at apply.
    #[error("{item}: {problem}")]
    BadItem {
        /// The item.
        item: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A field of the resource or its Agent.
    #[error("{field}: {problem}")]
    BadField {
        /// The field.
        field: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// One API group's kind of task, as the engine sees it.
pub trait FrontEnd {
    /// The resource that people write.
    type Resource;

    /// Who it is. None for a resource that no API server has accepted (no UID).
    fn owner(resource: &Self::Resource) -> Option<Owner>;

    /// Into a Run, as far as the references are known.
    fn lower(resource: &Self::Resource, references: &References, settings: &Settings) -> Lowered;

    /// Everything it refers to, directly or through something known, whether it exists or not: a change of any of
    /// these is a reason to look at the resource again while it has not started.
    fn references(
        resource: &Self::Resource,
        references: &References,
        settings: &Settings,
    ) -> Vec<Reference>;

    /// What it is executed with and who said so, as far as the references are known: for people, who wonder why.
    fn settings(
        resource: &Self::Resource,
        references: &References,
        settings: &Settings,
    ) -> Vec<Setting>;

    /// What its status remembers.
    fn state(resource: &Self::Resource) -> RunState;

    /// The same resource with a status that remembers this; `state` of it is the same state again.
    fn with_state(resource: &Self::Resource, state: &RunState) -> Self::Resource;

    /// Whether a person asked for it to be stopped.
    fn stop_requested(resource: &Self::Resource) -> bool;

    /// What limits how many of them run at once. Its status lists those that do.
    type Agent;

    /// Name of the Agent, in the resource's namespace, that it uses, or that it was started with.
    fn agent(resource: &Self::Resource) -> &str;

    /// When it is its turn, where there is a limit.
    fn turn(resource: &Self::Resource) -> Turn;

    /// How many may run at once; None is no limit.
    fn limit(agent: &Self::Agent) -> Option<NonZeroUsize>;

    /// Who holds its slots.
    fn slots(agent: &Self::Agent) -> Vec<Slot>;

    /// The same Agent with these holders in its status.
    fn with_slots(agent: &Self::Agent, slots: &[Slot]) -> Self::Agent;
}
