//! What a ref of the plan means in the repository, asked before anything is fetched.

use super::{
    access::{Access, Purpose},
    address,
    failure::{Failure, Kind},
};

/// What is to be checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A branch: it becomes the local branch.
    Branch(String),
    /// A tag: HEAD is detached.
    Tag(String),
    /// Any other ref by its full name (`refs/pull/1/head`, `HEAD`): HEAD is detached.
    Ref(String),
    /// A commit by its full SHA: HEAD is detached.
    Commit(String),
    /// The beginning of a SHA, which only the whole history can complete.
    Abbreviated(String),
}

impl Wanted {
    /// For progress lines.
    pub fn describe(&self) -> String {
        match self {
            Self::Branch(name) => format!("branch {name}"),
            Self::Tag(name) => format!("tag {name}"),
            Self::Ref(name) => name.clone(),
            Self::Commit(sha) | Self::Abbreviated(sha) => format!("commit {sha}"),
        }
    }
}

/// What is wanted, and whether the repository names its objects by SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub wanted: Wanted,
    pub sha256: bool,
}

/// Resolves `reference` in `repository`, with one question to the server, or none for a full SHA.
/// A branch comes before a tag of the same name.
pub(crate) fn resolve(
    access: &Access<'_>,
    repository: &str,
    reference: Option<&str>,
) -> Result<Resolved, Failure> {
    if let Some(sha) = reference.filter(|text| is_hex(text) && matches!(text.len(), 40 | 64)) {
        return Ok(Resolved {
            wanted: Wanted::Commit(sha.to_ascii_lowercase()),
            sha256: sha.len() == 64,
        });
    }
    let patterns = reference.map_or_else(
        || vec!["HEAD".to_owned()],
        |name| {
            if name == "HEAD" || name.starts_with("refs/") {
                vec![name.to_owned()]
            } else {
                vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
            }
        },
    );
    let mut arguments = vec!["ls-remote", "--symref", "--", repository];
    arguments.extend(patterns.iter().map(String::as_str));
    let answer = access.git(access.nowhere(), Purpose::Ask, arguments, &|_| {})?;
    let advertised = Advertised::parse(&answer);
    let wanted = match reference {
        None | Some("HEAD") => advertised.head(),
        Some(name) => advertised.named(name),
    };
    match (wanted, reference) {
        (Some(wanted), _) => Ok(Resolved {
            wanted,
            sha256: advertised.refs.iter().any(|(oid, _)| oid.len() == 64),
        }),
        (None, Some(name)) if is_hex(name) && name.len() >= 4 => Ok(Resolved {
            wanted: Wanted::Abbreviated(name.to_ascii_lowercase()),
            sha256: false,
        }),
        (None, Some(name)) => Err(Kind::NoReference(name.to_owned()).into()),
        (None, None) => Err(Kind::NoHead.into()),
    }
}

/// The repository's default branch.
pub(crate) fn default_branch(
    access: &Access<'_>,
    repository: &str,
) -> Result<Option<String>, Failure> {
    let arguments = ["ls-remote", "--symref", "--", repository, "HEAD"];
    let answer = access.git(access.nowhere(), Purpose::Ask, arguments, &|_| {})?;
    Ok(match Advertised::parse(&answer).head() {
        Some(Wanted::Branch(branch)) => Some(branch),
        _ => None,
    })
}

/// The commit that a branch is at, by its name without `refs/heads/`; `None`: there is no such branch.
pub(crate) fn branch_head(
    access: &Access<'_>,
    repository: &str,
    branch: &str,
) -> Result<Option<String>, Failure> {
    let name = format!("refs/heads/{branch}");
    let arguments = ["ls-remote", "--", repository, &name];
    let answer = access.git(access.nowhere(), Purpose::Ask, arguments, &|_| {})?;
    let advertised = Advertised::parse(&answer);
    let known = advertised.refs.iter().find(|(_, known)| *known == name);
    Ok(known.map(|(commit, _)| (*commit).to_owned()))
}

pub(crate) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The answer of `git ls-remote --symref`.
struct Advertised<'a> {
    /// Object and full name.
    refs: Vec<(&'a str, &'a str)>,
    /// Which branch HEAD is.
    head: Option<&'a str>,
}

impl<'a> Advertised<'a> {
    fn parse(answer: &'a str) -> Self {
        let mut advertised = Self {
            refs: Vec::new(),
            head: None,
        };
        for (object, name) in answer.lines().filter_map(|line| line.split_once('\t')) {
            match object.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" => advertised.head = Some(target),
                Some(_) => {}
                None => advertised.refs.push((object, name)),
            }
        }
        advertised
    }

    /// The default branch. A server that does not name it has it checked out without a branch.
    fn head(&self) -> Option<Wanted> {
        if !self.has("HEAD") {
            return None;
        }
        let branch = self
            .head
            .and_then(|target| target.strip_prefix("refs/heads/"))
            // The server chose this name.
            .filter(|branch| address::reference(branch).is_ok());
        Some(branch.map_or_else(
            || Wanted::Ref("HEAD".to_owned()),
            |branch| Wanted::Branch(branch.to_owned()),
        ))
    }

    fn named(&self, name: &str) -> Option<Wanted> {
        // ls-remote matches the ends of names too: `refs/x/refs/heads/main`.
        let full = |prefix: &str| self.has(&format!("{prefix}{name}"));
        if full("refs/heads/") {
            return Some(Wanted::Branch(name.to_owned()));
        }
        if full("refs/tags/") {
            return Some(Wanted::Tag(name.to_owned()));
        }
        if !self.has(name) {
            return None;
        }
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            return Some(Wanted::Branch(branch.to_owned()));
        }
        if let Some(tag) = name.strip_prefix("refs/tags/") {
            return Some(Wanted::Tag(tag.to_owned()));
        }
        Some(Wanted::Ref(name.to_owned()))
    }

    fn has(&self, name: &str) -> bool {
        self.refs.iter().any(|(_, known)| *known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_whole_and_branches_first() {
        let answer = "ref: refs/heads/main\tHEAD\n11\tHEAD\n11\trefs/heads/main\n22\trefs/tags/v1\n\
                      33\trefs/heads/v1\n44\trefs/x/refs/heads/other\n55\trefs/pull/1/head\n";
        let advertised = Advertised::parse(answer);
        assert_eq!(advertised.head(), Some(Wanted::Branch("main".into())));
        assert_eq!(advertised.named("v1"), Some(Wanted::Branch("v1".into())));
        assert_eq!(
            advertised.named("refs/tags/v1"),
            Some(Wanted::Tag("v1".into()))
        );
        assert_eq!(advertised.named("other"), None);
        assert_eq!(
            advertised.named("refs/pull/1/head"),
            Some(Wanted::Ref("refs/pull/1/head".into()))
        );
        assert_eq!(
            Advertised::parse("ref: refs/heads/-evil\tHEAD\n11\tHEAD\n").head(),
            Some(Wanted::Ref("HEAD".into()))
        );
    }
}
