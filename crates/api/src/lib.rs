//! The resource types of KubeOpenCode: what a person writes, and what the system answers in `status`.
//!
//! Types, their schemas, the rules that the API server checks, and the names that the system uses on objects.
//! No I/O, no behaviour: `kubeopencode-engine` gives them meaning.

pub mod names;
pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Every CustomResourceDefinition of this system, in the order in which they are printed and installed.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        v1alpha1::Task::crd(),
        v1alpha1::Agent::crd(),
        v1alpha1::KubeOpenCodeConfig::crd(),
    ]
}
