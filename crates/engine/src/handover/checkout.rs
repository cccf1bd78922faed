//! What `supervise` reports of one checkout.

use serde::{Deserialize, Serialize};

use super::{CommitReport, PushReport, is_zero};

/// A checkout as the agent left it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutReport {
    /// Absolute path.
    pub path: String,
    /// Branch; absent when HEAD is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that the agent began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The commit that HEAD is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Commits that HEAD has, and neither the base nor the branch that was cloned, as far as the checkout knows where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<u32>,
    /// The newest of them first; ten at most, and as many as fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<CommitReport>,
    /// How many files differ between the base and HEAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u32>,
    /// Commits of local branches, or put aside, that neither HEAD nor the base nor a branch of the remote has. Where nobody
    /// could count them, there is an error.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_commits: u32,
    /// Whether something is uncommitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// Why the rest is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What became of its commits, where the plan says that they are pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<PushReport>,
}

impl CheckoutReport {
    /// Whether it is known that the agent left it as it was.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        // One may also go back to a commit that was there before.
        self.commits == Some(0)
            && self.head == self.base
            && self.dirty == Some(false)
            && self.other_commits == 0
            && self.error.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_at_another_commit_is_changed() {
        let at = |head: &str| CheckoutReport {
            base: Some("b".to_owned()),
            head: Some(head.to_owned()),
            commits: Some(0),
            dirty: Some(false),
            ..CheckoutReport::default()
        };
        assert!(at("b").is_unchanged());
        assert!(!at("a").is_unchanged());
    }
}
