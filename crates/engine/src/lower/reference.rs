//! What a resource refers to, and what is known of it.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::ConfigMap;
use kubeopencode_api::v1alpha1::{Agent, KubeOpenCodeConfig};

/// The kinds that resources refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// `agents.kubeopencode.io`.
    Agent,
    /// `configmaps`.
    ConfigMap,
    /// `kubeopencodeconfigs.kubeopencode.io`.
    KubeOpenCodeConfig,
}

impl fmt::Display for ReferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "Agent",
            Self::ConfigMap => "ConfigMap",
            Self::KubeOpenCodeConfig => "KubeOpenCodeConfig",
        })
    }
}

/// Something that a resource refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// A reference to an Agent.
    #[must_use]
    pub fn agent(namespace: &str, name: &str) -> Self {
        Self::new(ReferenceKind::Agent, namespace, name)
    }

    /// A reference to a ConfigMap.
    #[must_use]
    pub fn config_map(namespace: &str, name: &str) -> Self {
        Self::new(ReferenceKind::ConfigMap, namespace, name)
    }

    /// A reference to a configuration.
    #[must_use]
    pub fn config(namespace: &str, name: &str) -> Self {
        Self::new(ReferenceKind::KubeOpenCodeConfig, namespace, name)
    }

    fn new(kind: ReferenceKind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Whether an object can have this name: a DNS subdomain, as Kubernetes' "Object Names and IDs" has it. Any other
/// cannot even be asked for: it would be another URL.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
            && bytes.first().is_some_and(|byte| inner(*byte))
            && bytes.last().is_some_and(|byte| inner(*byte))
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// What to say of a name that none can have.
pub(super) const NO_OBJECT_NAME: &str =
    "is no name that an object can have: only lower-case letters, digits, '-' and '.'";

/// Something that was looked up and is not there as it would have to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Missing {
    /// What was looked up.
    pub reference: Reference,
    /// In which way it is missing.
    pub lack: Lack,
}

/// What is missing of a reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// All of it.
    Object,
    /// The ConfigMap exists, and this key of it is missing.
    Key(String),
    /// It exists, and this program cannot read it, as when it was written for a newer version. Says why.
    Form(String),
}

/// As in "it waits for …".
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = &self.reference;
        match &self.lack {
            Lack::Object => reference.fmt(f),
            Lack::Key(key) => write!(f, "key {key:?} of {reference}"),
            Lack::Form(why) => write!(f, "{reference} in a form that this version reads: {why}"),
        }
    }
}

/// An object that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// An Agent.
    Agent(Box<Agent>),
    /// A ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// A configuration.
    KubeOpenCodeConfig(Box<KubeOpenCodeConfig>),
    /// It exists, but not in a form that this program can read. Says why.
    Unreadable(String),
}

/// What is known of a reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known<'a> {
    /// It exists.
    Found(&'a Found),
    /// It was looked up and does not exist.
    Absent,
    /// Nobody has looked.
    Unknown,
}

/// What was looked up so far: each reference is found, known to be absent, or not in here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct References(BTreeMap<Reference, Option<Found>>);

impl References {
    /// Nothing was looked up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remember the answer of a look-up; None says that the API server does not have it.
    pub fn insert(&mut self, reference: Reference, found: Option<Found>) {
        self.0.insert(reference, found);
    }

    /// What is known of it.
    #[must_use]
    pub fn get(&self, reference: &Reference) -> Known<'_> {
        match self.0.get(reference) {
            Some(Some(found)) => Known::Found(found),
            Some(None) => Known::Absent,
            None => Known::Unknown,
        }
    }

    /// Everything that was looked up.
    pub fn keys(&self) -> impl Iterator<Item = &Reference> {
        self.0.keys()
    }
}
