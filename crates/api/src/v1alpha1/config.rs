//! KubeOpenCodeConfig: settings of the system.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings. Looked up as `default` in the Task's namespace, then in the operator's, then built in; field by field.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[kube(
    group = "kubeopencode.io",
    version = "v1alpha1",
    kind = "KubeOpenCodeConfig",
    plural = "kubeopencodeconfigs",
    singular = "kubeopencodeconfig",
    shortname = "kocc",
    category = "kubeopencode",
    namespaced,
    derive = "PartialEq",
    doc = "KubeOpenCodeConfig has the settings of the system for one namespace, or, in the operator's namespace, for all.",
    printcolumn(name = "System-Image", type_ = "string", json_path = ".spec.systemImage.image"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'").message("metadata.name must be 'default': no other name is ever looked up"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubeOpenCodeConfigSpec {
    /// Image of the system's own containers (git-init, context-init, git-push).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_image: Option<ImageConfig>,
    /// Image that brings OpenCode (opencode-init).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opencode_image: Option<ImageConfig>,
    /// How long a Task waits for an Agent or ConfigMap that does not exist. Default 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub reference_timeout_seconds: Option<i32>,
}

/// An image and when to pull it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageConfig {
    /// The image. Default: built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When it is pulled. Default IfNotPresent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
}

/// When an image is pulled.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Never: it has to be on the node.
    Never,
    /// When the node does not have it.
    IfNotPresent,
}
