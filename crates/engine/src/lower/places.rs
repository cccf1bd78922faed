//! Where things lie in the Pod: absolute paths, and that no two items want the same one.
//!
//! The rules are those of a file system: a path is one thing, and what lies inside another path needs a directory
//! there. Files may lie inside a checkout (they are written after it, and win), but a checkout may not lie inside
//! another, because all are cloned at the same time.

use std::collections::BTreeMap;

use super::LowerError;
use crate::handover;

/// What a path is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The directory in which the agent works.
    Workspace,
    /// One file.
    File,
    /// A directory with a clone of a repository.
    Checkout,
    /// A read-only directory with the keys of a Secret.
    SecretDirectory,
}

impl Place {
    fn what(self) -> &'static str {
        match self {
            Self::Workspace => "the workspace",
            Self::File => "the file",
            Self::Checkout => "the checkout",
            Self::SecretDirectory => "the directory",
        }
    }

    /// Whether something else may lie inside.
    fn may_hold(self, inner: Place) -> bool {
        match self {
            Self::Workspace => true,
            Self::File | Self::SecretDirectory => false,
            Self::Checkout => matches!(inner, Self::File | Self::SecretDirectory),
        }
    }
}

/// The paths that are taken so far, and by which item.
#[derive(Debug, Clone)]
pub struct Places {
    workspace: String,
    taken: BTreeMap<String, (Place, String)>,
}

impl Places {
    /// Only the workspace is taken. Fails when it cannot be one.
    pub fn new(workspace_dir: &str) -> Result<Self, LowerError> {
        let item = "workspaceDir";
        let workspace = absolute(item, "/", workspace_dir)?;
        check_mountable(item, &workspace)?;
        Ok(Self {
            taken: BTreeMap::from([(workspace.clone(), (Place::Workspace, item.to_owned()))]),
            workspace,
        })
    }

    /// The workspace: absolute, no trailing slash.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// Take a path for an item; relative paths are below the workspace. Answers the absolute path.
    pub fn take(&mut self, item: &str, path: &str, place: Place) -> Result<String, LowerError> {
        let path = absolute(item, &self.workspace, path)?;
        if !inside(&path, &self.workspace) && path != self.workspace {
            check_mountable(item, &path)?;
        }
        if let Some((other_place, other_item)) = self.taken.get(&path) {
            let checkout_of_workspace =
                *other_place == Place::Workspace && place == Place::Checkout;
            if !checkout_of_workspace {
                return Err(LowerError::PathTaken {
                    path,
                    first: other_item.clone(),
                    second: item.to_owned(),
                });
            }
        }
        // A ConfigMap can have a hundred thousand keys: no path is held against all others.
        let around = path.match_indices('/').rev().filter_map(|(end, _)| {
            let outer = path.get(..end)?;
            let (outer_place, outer_item) = self.taken.get(outer)?;
            (!outer_place.may_hold(place)).then(|| LowerError::PathInside {
                inner: item.to_owned(),
                inner_path: path.clone(),
                outer: outer_item.clone(),
                outer_path: outer.to_owned(),
                what: outer_place.what(),
            })
        });
        let within = self
            .taken
            .range(format!("{path}/")..)
            .take_while(|(inner, _)| inside(inner, &path))
            .filter(|(_, (inner_place, _))| !place.may_hold(*inner_place))
            .map(|(inner, (_, inner_item))| LowerError::PathInside {
                inner: inner_item.clone(),
                inner_path: inner.clone(),
                outer: item.to_owned(),
                outer_path: path.clone(),
                what: place.what(),
            });
        if let Some(error) = around.chain(within).next() {
            return Err(error);
        }
        self.taken.insert(path.clone(), (place, item.to_owned()));
        Ok(path)
    }
}

/// Whether `path` lies strictly inside `directory`; both absolute and normal.
#[must_use]
pub fn inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/') || (directory == "/" && !rest.is_empty()))
}

/// The absolute path, without `.`, doubled and trailing slashes.
fn absolute(item: &str, base: &str, path: &str) -> Result<String, LowerError> {
    let bad = |problem| LowerError::BadPath {
        item: item.to_owned(),
        path: path.to_owned(),
        problem,
    };
    if path.chars().any(char::is_control) {
        return Err(bad("has a control character in it"));
    }
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                return Err(bad(
                    "climbs out with '..': write where it is to be, without '..'",
                ));
            }
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A path outside the workspace is mounted: there, what the image and the system need has to stay visible.
fn check_mountable(item: &str, path: &str) -> Result<(), LowerError> {
    const RESERVED: [&str; 8] = [
        "/proc",
        "/sys",
        "/dev",
        "/var/run/secrets/kubernetes.io",
        "/run/secrets/kubernetes.io",
        handover::PROGRAM,
        handover::OPENCODE_PROGRAM,
        handover::TOOLS_DIR,
    ];
    let problem = if path == "/" {
        "is the root directory, which nothing can replace"
    } else if path.contains(':') {
        "has a ':' in it, which Kubernetes does not mount"
    } else if path.starts_with("/kubeopencode-")
        || RESERVED
            .iter()
            .any(|reserved| path == *reserved || inside(path, reserved))
    {
        "is reserved for the system: choose another"
    } else {
        return Ok(());
    };
    Err(LowerError::BadPath {
        item: item.to_owned(),
        path: path.to_owned(),
        problem,
    })
}
