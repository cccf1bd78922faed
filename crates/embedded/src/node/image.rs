//! What stands in for images: nothing is pulled, the host's own programs serve.
//!
//! The caller names the images whose files it has itself (its own binary, an agent's binary of the
//! host); they are bound into the container at the image's paths. For every other image the
//! host's root serves as it is.
//!
//! What the host has is asked for anew with every Pod: somebody may install what was missing.

use std::{fmt, path::PathBuf, sync::Arc};

/// What the host has for Pods in place of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFiles {
    /// Images whose files this host has itself.
    pub images: Vec<HostImage>,
    /// Files of the host that every container sees, whatever its image: path in the container, file of the host.
    pub everywhere: Vec<(PathBuf, PathBuf)>,
}

/// Looks what the host has right now.
#[derive(Clone)]
pub struct LookUp(Arc<dyn Fn() -> HostFiles + Send + Sync>);

impl LookUp {
    /// By this function, which is called for every Pod and every start of a container.
    pub fn new(look_up: impl Fn() -> HostFiles + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }

    /// Does it.
    pub(super) fn now(&self) -> HostFiles {
        (self.0)()
    }
}

/// A host that has nothing but its root.
impl Default for LookUp {
    fn default() -> Self {
        Self::new(HostFiles::default)
    }
}

impl fmt::Debug for LookUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LookUp")
    }
}

/// Files that stand for an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostImage {
    /// The image's name without tag and digest, such as `ghcr.io/example/tool`.
    pub name: String,
    /// The image's files: path in the container, file of the host.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// What runs when the container names no command.
    pub entrypoint: Vec<String>,
    /// Set when this host does not have the files: why, and what to do. Pods that use the image
    /// fail with it before anything starts.
    pub missing: Option<String>,
}

impl HostImage {
    /// Whether a container's `image` means this one, with any tag or digest.
    #[must_use]
    pub fn matches(&self, image: &str) -> bool {
        name_of(image) == name_of(&self.name)
    }
}

/// An image reference without its tag and digest. A colon before the last slash is a port.
fn name_of(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let slash = image.rfind('/').map_or(0, |slash| slash + 1);
    image[slash..]
        .find(':')
        .map_or(image, |colon| &image[..slash + colon])
}

/// The stand-in for `image`, if the caller gave one.
#[must_use]
pub fn find<'a>(images: &'a [HostImage], image: &str) -> Option<&'a HostImage> {
    images.iter().find(|candidate| candidate.matches(image))
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_tag_is_not_a_port() {
        for (image, name) in [
            ("a", "a"),
            ("a:1", "a"),
            ("host:5000/a", "host:5000/a"),
            ("host:5000/a:1@sha256:00", "host:5000/a"),
            ("ghcr.io/x/a@sha256:00", "ghcr.io/x/a"),
        ] {
            assert_eq!(name_of(image), name);
        }
    }
}
