//! Git context: which repositories may be named, and how a checkout is asked for.

use kubeopencode_api::v1alpha1::{GitContext, is_token};

use crate::{
    lower::{LowerError, Settings, kubeopencode::push},
    run::{Checkout, Owner},
};

/// A checkout at `path` (already absolute and taken).
pub fn checkout(
    item: &str,
    git: &GitContext,
    path: String,
    mode: Option<u32>,
    owner: &Owner,
    settings: &Settings,
) -> Result<Checkout, LowerError> {
    let bad = |problem: &str| LowerError::BadItem {
        item: item.to_owned(),
        problem: problem.to_owned(),
    };
    let host_path = check_repository(&git.repository)
        .map_err(&bad)?
        .map(str::to_owned);
    if host_path.is_some() && !settings.host_repositories {
        return Err(bad(
            "git.repository is a file:// URL, which only the embedded cluster can reach: \
             use the address of a server",
        ));
    }
    if git.ref_.as_ref().is_some_and(|ref_| ref_.starts_with('-')) {
        return Err(bad("git.ref must not begin with '-'"));
    }
    let sub_path = git
        .path
        .as_deref()
        .map(|path| check_sub_path(path).map_err(&bad))
        .transpose()?
        .flatten();
    let push = git
        .push
        .as_ref()
        .map(|asked| push::push(asked, git, owner).map_err(&bad))
        .transpose()?;
    Ok(Checkout {
        path,
        repository: git.repository.clone(),
        reference: git.ref_.clone().filter(|ref_| !ref_.is_empty()),
        depth: git
            .depth
            .map_or(1, |depth| u32::try_from(depth).unwrap_or(1)),
        sub_path,
        submodules: git.submodules.unwrap_or(false),
        secret: git.secret_ref.as_ref().map(|secret| secret.name.clone()),
        host_path,
        mode,
        push,
    })
}

/// Refuses what git would run a command for, and passwords. Answers the directory of a `file://` repository.
/// No message repeats the URL: it may have a password in it.
fn check_repository(repository: &str) -> Result<Option<&str>, &'static str> {
    if repository.starts_with('-') {
        return Err("git.repository must not begin with '-'");
    }
    if repository.chars().any(char::is_control) {
        return Err("git.repository has a control character in it");
    }
    let Some((scheme, rest)) = repository.split_once("://") else {
        // scp-like: user@host:path. `ext::` and the like have two colons before any slash.
        let Some((host, path)) = repository.split_once(':') else {
            return Err("git.repository must be a URL (https, http, ssh, git) or user@host:path");
        };
        if host.is_empty() || host.contains('/') || path.is_empty() || path.starts_with(':') {
            return Err("git.repository must be a URL (https, http, ssh, git) or user@host:path");
        }
        return Ok(None);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            return if rest.starts_with('/') && !rest.split('/').any(|part| part == "..") {
                Ok(Some(rest))
            } else {
                Err("git.repository must be file:/// and an absolute path without '..'")
            };
        }
        "https" | "http" | "ssh" | "git" => {}
        _ => return Err("git.repository: only https, http, ssh and git URLs are fetched"),
    }
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') || is_token(user) => Err(
            "git.repository has a password or token in its URL, where everybody can read it: \
             put it into a Secret and name that in git.secretRef",
        ),
        Some((_, host)) if host.is_empty() || host.starts_with('-') => {
            Err("git.repository has no host")
        }
        None if authority.is_empty() || authority.starts_with('-') => {
            Err("git.repository has no host")
        }
        _ => Ok(None),
    }
}

/// Refuses what leads out of the repository. None: all of it.
fn check_sub_path(path: &str) -> Result<Option<String>, &'static str> {
    if path.starts_with('-') || path.starts_with('/') {
        return Err("git.path must be relative and must not begin with '-'");
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err("git.path must not contain '..'");
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}
