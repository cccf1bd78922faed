//! `push` of a Git context: to which branch, and to which never.

use std::path::Path;

use kubeopencode_api::v1alpha1::{GitContext, GitPush, Uncommitted};

use crate::run::{Checkout, Owner, Push};

/// Where commits go when nothing is said.
const DEFAULT_BRANCH: &str = "kubeopencode/{{.taskName}}";

/// What a Git context asks for, or what is wrong with it.
pub fn push(asked: &GitPush, git: &GitContext, owner: &Owner) -> Result<Push, &'static str> {
    if git.path.as_ref().is_some_and(|path| !path.is_empty()) {
        return Err("git.push is not possible with git.path: \
             a part of a repository is no checkout that one could commit in");
    }
    if git.repository.to_ascii_lowercase().starts_with("file:") {
        return Err(
            "git.push is not possible to a file:// repository: `run --repo` brings commits back by itself",
        );
    }
    let branch = expand(asked.branch.as_deref().unwrap_or(DEFAULT_BRANCH), owner)?;
    if !is_branch_name(&branch) {
        return Err("git.push.branch is not the name of a branch");
    }
    let allow_base = asked.allow_base.unwrap_or(false);
    let reference = git.ref_.as_deref().unwrap_or_default();
    let cloned = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    if cloned == branch && !allow_base {
        return Err("git.push.branch is the branch that git.ref names: \
             choose another one, or say git.push.allowBase: true");
    }
    Ok(Push {
        branch,
        secret: asked
            .secret_ref
            .as_ref()
            .or(git.secret_ref.as_ref())
            .map(|secret| secret.name.clone()),
        uncommitted: asked.uncommitted == Some(Uncommitted::Commit),
        allow_base,
    })
}

/// The checkout among these that pushes to the same branch of the same repository: the second push would be refused.
pub fn same_place<'c>(checkouts: &'c [Checkout], new: &Checkout) -> Option<&'c Checkout> {
    let push = new.push.as_ref()?;
    checkouts.iter().find(|known| {
        known.repository == new.repository
            && known
                .push
                .as_ref()
                .is_some_and(|other| other.branch == push.branch)
    })
}

/// The template with the names in it.
fn expand(template: &str, owner: &Owner) -> Result<String, &'static str> {
    let mut branch = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (variable, after) = after.split_once("}}").unwrap_or((after, ""));
        branch.push_str(before);
        branch.push_str(match variable.trim() {
            ".taskName" => &owner.name,
            ".taskNamespace" => &owner.namespace,
            _ => {
                return Err("git.push.branch may have {{.taskName}} and {{.taskNamespace}} in it, and no other braces");
            }
        });
        rest = after;
    }
    branch.push_str(rest);
    Ok(branch)
}

/// Whether git takes it for a branch (`git help check-ref-format`), and nobody for anything else.
fn is_branch_name(name: &str) -> bool {
    let strange = |c: char| c.is_control() || " ~^:?*[\\{}".contains(c);
    let bad_part = |part: &str| {
        let lock = Path::new(part).extension().is_some_and(|end| end == "lock");
        part.is_empty() || part.starts_with('.') || lock
    };
    !(name == "HEAD"
        || name == "@"
        || name.len() > 255
        || name.starts_with('-')
        || name.starts_with("refs/")
        || name.ends_with('.')
        || name.contains("..")
        || name.contains("@{")
        || name.chars().any(strange)
        || name.split('/').any(bad_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_would_take_for_something_else_are_no_branches() {
        for good in ["kubeopencode/fix-1.2", "main", "a/b/c", "ü"] {
            assert!(is_branch_name(good), "{good}");
        }
        for bad in [
            "",
            "HEAD",
            "@",
            "-d",
            "refs/heads/main",
            "a..b",
            "a/",
            "/a",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a b",
            "a:b",
            "+a^",
            "a@{1}",
            "a\\b",
            "a\nb",
            "a.",
            "{a}",
        ] {
            assert!(!is_branch_name(bad), "{bad}");
        }
    }
}
