//! What KubeOpenCodeConfigs say, field by field: the namespace's own before that of the operator's namespace before
//! what is built in.

use std::time::Duration;

use kubeopencode_api::{
    names,
    v1alpha1::{ImageConfig, KubeOpenCodeConfigSpec, PullPolicy},
};

use super::Lookup;
use crate::{
    lower::{Found, Known, Reference, Setting, Settings, setting::Sourced},
    run::Image,
};

/// What holds for the Tasks of a namespace.
pub(super) struct Configuration {
    pub(super) system_image: ConfiguredImage,
    pub(super) opencode_image: ConfiguredImage,
    pub(super) reference_timeout: Sourced<Duration>,
}

/// An image, each part with its own source.
pub(super) struct ConfiguredImage {
    reference: Sourced<String>,
    pull_policy: Sourced<Option<String>>,
}

impl Configuration {
    /// Looks it up. What is not known yet counts as if it said nothing.
    pub(super) fn of(lookup: &mut Lookup<'_>, namespace: &str, settings: &Settings) -> Self {
        let found: Vec<(Reference, &KubeOpenCodeConfigSpec)> =
            [namespace, settings.system_namespace.as_str()]
                .into_iter()
                .filter_map(|namespace| {
                    let reference = Reference::config(namespace, names::DEFAULT);
                    match lookup.get(&reference) {
                        Known::Found(Found::KubeOpenCodeConfig(config)) => {
                            Some((reference, &config.spec))
                        }
                        _ => None,
                    }
                })
                .collect();
        Self {
            system_image: ConfiguredImage::of(&found, &settings.system_image, |spec| {
                spec.system_image.as_ref()
            }),
            opencode_image: ConfiguredImage::of(&found, &settings.opencode_image, |spec| {
                spec.opencode_image.as_ref()
            }),
            reference_timeout: nearest(&found, settings.reference_timeout, |spec| {
                let seconds = u64::try_from(spec.reference_timeout_seconds?).ok()?;
                Some(Duration::from_secs(seconds))
            }),
        }
    }

    /// For people. `opencode`: whether its image is used at all.
    pub(super) fn settings(&self, opencode: bool) -> Vec<Setting> {
        let mut settings = Vec::from(
            self.system_image
                .settings("systemImage.image", "systemImage.imagePullPolicy"),
        );
        if opencode {
            settings.extend(
                self.opencode_image
                    .settings("opencodeImage.image", "opencodeImage.imagePullPolicy"),
            );
        }
        settings.push(
            self.reference_timeout
                .setting("referenceTimeoutSeconds", |timeout| {
                    timeout.as_secs().to_string()
                }),
        );
        settings
    }
}

impl ConfiguredImage {
    fn of(
        found: &[(Reference, &KubeOpenCodeConfigSpec)],
        built_in: &Image,
        image: impl Fn(&KubeOpenCodeConfigSpec) -> Option<&ImageConfig>,
    ) -> Self {
        Self {
            reference: nearest(found, built_in.reference.clone(), |spec| {
                image(spec)?.image.clone()
            }),
            pull_policy: nearest(found, built_in.pull_policy.clone(), |spec| {
                let policy = match image(spec)?.image_pull_policy? {
                    PullPolicy::Always => "Always",
                    PullPolicy::Never => "Never",
                    PullPolicy::IfNotPresent => "IfNotPresent",
                };
                Some(Some(policy.to_owned()))
            }),
        }
    }

    pub(super) fn image(&self) -> Image {
        Image {
            reference: self.reference.value.clone(),
            pull_policy: self.pull_policy.value.clone(),
        }
    }

    fn settings(&self, image: &'static str, policy: &'static str) -> [Setting; 2] {
        [
            self.reference.setting(image, String::clone),
            self.pull_policy.setting(policy, |policy| {
                policy
                    .clone()
                    .unwrap_or_else(|| "as Kubernetes has it".to_owned())
            }),
        ]
    }
}

/// The field of the first configuration that has it.
fn nearest<T>(
    found: &[(Reference, &KubeOpenCodeConfigSpec)],
    built_in: T,
    field: impl Fn(&KubeOpenCodeConfigSpec) -> Option<T>,
) -> Sourced<T> {
    found
        .iter()
        .find_map(|(reference, spec)| Some(Sourced::from(field(spec)?, reference)))
        .unwrap_or_else(|| Sourced::built_in(built_in))
}
