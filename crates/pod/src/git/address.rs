//! Which repositories, refs and paths git may be given at all. The engine checks the same before there is a Pod; this
//! is the side that runs git, and trusts nobody.

use std::path::{Component, Path};

use kubeopencode_api::v1alpha1::is_token;

/// How git reaches a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Ssh,
    Git,
    File,
}

/// A repository that git may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub transport: Transport,
    /// `scheme://host[:port]` as git names it when it asks for a password; empty for a file.
    pub host: String,
}

/// A repository of this machine.
pub(crate) const HERE: Address = Address {
    transport: Transport::File,
    host: String::new(),
};

/// What is wrong with an address, for a person. Never repeats it: there may be a password in it.
type Problem = &'static str;

const FORM: Problem =
    "the repository has to be a URL (https, http, ssh, git, file) or user@host:path";
const NO_HOST: Problem = "the repository's URL names no host";
const PASSWORD: Problem = "the repository's URL has a password or token in it, where everybody can read it: \
                           put it into a Secret and name that in git.secretRef";

/// Checks a repository.
pub(crate) fn repository(repository: &str) -> Result<Address, Problem> {
    if repository.starts_with('-') {
        return Err("the repository must not begin with '-'");
    }
    if repository.chars().any(|c| c.is_control() || c == '\\') {
        return Err("the repository's URL has a character in it that none may have");
    }
    let Some((scheme, rest)) = repository.split_once("://") else {
        return scp_like(repository);
    };
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "https" | "http" => Transport::Http,
        "ssh" => Transport::Ssh,
        "git" => Transport::Git,
        "file" => {
            let climbs = rest.split('/').any(|part| part == "..");
            return if rest.starts_with('/') && !climbs {
                Ok(Address {
                    transport: Transport::File,
                    host: String::new(),
                })
            } else {
                Err("a file:// repository needs an absolute path without '..'")
            };
        }
        _ => return Err("only https, http, ssh, git and file repositories are fetched"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    if user.contains(':') || is_token(user) {
        return Err(PASSWORD);
    }
    if user.starts_with('-') || user.contains('@') {
        return Err(
            "the user in the repository's URL must not begin with '-' or have an '@' in it",
        );
    }
    if host.is_empty() || host.starts_with(['-', ':']) {
        return Err(NO_HOST);
    }
    Ok(Address {
        transport,
        host: format!("{}://{host}", scheme.to_ascii_lowercase()),
    })
}

/// `user@host:path`. Two colons in a row name a command that git would run (`ext::sh -c …`).
fn scp_like(repository: &str) -> Result<Address, Problem> {
    let (host, path) = repository.split_once(':').ok_or(FORM)?;
    if host.contains('/')
        || host.contains(char::is_whitespace)
        || path.is_empty()
        || path.starts_with([':', '-'])
    {
        return Err(FORM);
    }
    let (user, name) = host.rsplit_once('@').unwrap_or(("", host));
    if name.is_empty() || name.starts_with('-') || user.starts_with('-') || user.contains('@') {
        return Err(NO_HOST);
    }
    Ok(Address {
        transport: Transport::Ssh,
        host: format!("ssh://{name}"),
    })
}

/// Checks a branch, tag or SHA by git's own rules for names (`git help check-ref-format`), so that none can be taken
/// for an option, a range or a pattern.
pub(crate) fn reference(reference: &str) -> Result<(), Problem> {
    if reference.starts_with('-') {
        return Err("the ref must not begin with '-'");
    }
    let strange = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad_part = |part: &str| {
        let lock = Path::new(part).extension().is_some_and(|end| end == "lock");
        part.is_empty() || part.starts_with('.') || lock
    };
    if reference.chars().any(strange)
        || reference.contains("..")
        || reference.contains("@{")
        || reference == "@"
        || reference.ends_with('.')
        || reference.split('/').any(bad_part)
    {
        return Err("the ref is not the name of a branch or tag, nor a commit SHA");
    }
    Ok(())
}

/// Checks the path of a file or directory of the repository.
pub(crate) fn sub_path(path: &str) -> Result<(), Problem> {
    if path.starts_with('-') {
        return Err("the path in the repository must not begin with '-'");
    }
    let plain = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(name) if name != ".git"));
    if path.is_empty() || !plain || path.chars().any(char::is_control) {
        return Err("the path in the repository has to be relative, without '..'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        for (good, host) in [
            ("https://git.example/a/b.git", "https://git.example"),
            ("HTTPS://git.example:8443/a@b", "https://git.example:8443"),
            ("https://someone@git.example/a", "https://git.example"),
            ("ssh://git@git.example:22/a", "ssh://git.example:22"),
            ("git@git.example:a/b.git", "ssh://git.example"),
            ("https://[::1]:8443/a", "https://[::1]:8443"),
            ("file:///srv/a b.git", ""),
        ] {
            assert_eq!(repository(good).unwrap().host, host, "{good}");
        }
        for bad in [
            "",
            "-u",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c touch% /tmp/x",
            "EXT::sh -c id",
            "fd::3",
            "ssh://-oProxyCommand=id/a",
            "ssh://git@-oProxyCommand=id/a",
            "-oProxyCommand=id:a",
            "git@-oProxyCommand=id:a",
            "ftp://git.example/a",
            "file://host/a",
            "file:///a/../b",
            "/srv/a",
            "../a",
            "a",
            "https:///a",
            "https://:80/a",
            "https://someone:secret@git.example/a",
            "https://ghp_abcdef@git.example/a",
            "https://git.example/a\nb",
            "ssh://git.example\\a/b",
        ] {
            assert!(repository(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn references() {
        for good in [
            "main",
            "feature/a-b",
            "v1.0",
            "refs/heads/main",
            "0123abcd",
            "ü",
        ] {
            assert_eq!(reference(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-f",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a:b",
            "+a^",
            "a~1",
            "/a",
            "a/",
            "a//b",
            "a.lock",
            ".a",
            "a/.b",
            "@",
            "a@{1}",
            "a\n",
            "a*",
            "a.",
        ] {
            assert!(reference(bad).is_err(), "{bad}");
        }
    }

    proptest! {
            /// Whatever passes means itself: no option, no other transport, no way up.
            #[test]
            fn what_passes_is_harmless(text in "[-a-z.@:/ +%]{0,24}|[a-z]{1,6}::?[-a-z/ ]{0,12}|(ssh|https)://[-a-z@:/.]{0,16}") {
                if repository(&text).is_ok() {
                    prop_assert!(!text.starts_with('-'));
    let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                    let helper = text.split_once("::").is_some_and(|(name, _)| name.chars().all(scheme));
                    prop_assert!(!helper, "git would run git-remote-…");
                    let place = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
                let place = place.split(['/', ':']).next().unwrap_or_default();
                prop_assert!(!place.starts_with('-') && !place.contains("@-"), "an option of ssh");
            }
            if reference(&text).is_ok() {
                    prop_assert!(!text.starts_with('-') && !text.contains("..") && !text.contains(':') && !text.contains(' '));
                }
                if sub_path(&text).is_ok() {
                    prop_assert!(!text.starts_with('-') && !text.starts_with('/') && !text.split('/').any(|part| part == ".."));
                }
            }
        }
}
