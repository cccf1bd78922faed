//! What git asks for a user name or a password, instead of a person: this same binary, which answers from the files of
//! the Secret.
//!
//! Git starts the program that `GIT_ASKPASS` names with the question as its only argument. Nothing secret is in the
//! arguments or the environment of any process; the answer goes through a pipe to git alone. Only questions of the host
//! that the Secret is for are answered: a submodule or a redirect may name another one.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Environment variable: the directory of the Secret. Its presence is what makes the process answer.
pub(crate) const SECRET_DIR_VARIABLE: &str = "KUBEOPENCODE_ASKPASS_DIR";
/// Environment variable: `scheme://host[:port]` that the Secret is for.
pub(crate) const HOST_VARIABLE: &str = "KUBEOPENCODE_ASKPASS_HOST";
/// Who asks for a password alone is told to be this: hosts that take tokens ignore it, but want some name.
const DEFAULT_USER: &str = "git";

/// Answers git's question, when git has started this process to ask one.
pub(crate) fn main() -> Option<ExitCode> {
    let directory = PathBuf::from(std::env::var_os(SECRET_DIR_VARIABLE)?);
    let host = std::env::var(HOST_VARIABLE).unwrap_or_default();
    let question = std::env::args().nth(1).unwrap_or_default();
    let answered = answer(&question, &directory, &host)
        .is_some_and(|answer| writeln!(std::io::stdout(), "{answer}").is_ok());
    Some(if answered {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The answer to `Username for 'https://host': ` or `Password for 'https://user@host': `; `None` to everything else.
fn answer(question: &str, directory: &Path, host: &str) -> Option<String> {
    let (what, url) = question.split_once(" for '")?;
    let (url, _) = url.rsplit_once('\'')?;
    if !asks_for(url, host) {
        return None;
    }
    match what {
        "Username" => {
            Some(secret(directory, "username").unwrap_or_else(|| DEFAULT_USER.to_owned()))
        }
        "Password" => secret(directory, "password"),
        _ => None,
    }
}

/// Whether `url` (`scheme://[user@]host[:port][/…]`) is at `host` (`scheme://host[:port]`).
fn asks_for(url: &str, host: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let name = authority.rsplit('@').next().unwrap_or_default();
    !host.is_empty() && format!("{scheme}://{name}").eq_ignore_ascii_case(host)
}

/// A key of the Secret, less the line end that an editor left behind. `None`: not there, empty, or more than one line,
/// which git cannot be told.
pub(crate) fn secret(directory: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(directory.join(key)).ok()?;
    let text = text.trim_end_matches(['\n', '\r']);
    (!text.is_empty() && !text.contains(['\n', '\0'])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_the_secret_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("username"), "someone").unwrap();
        fs::write(directory.path().join("password"), "letmein\n").unwrap();
        let ask = |question: &str| answer(question, directory.path(), "https://git.example:8443");
        assert_eq!(
            ask("Username for 'https://git.example:8443': ").as_deref(),
            Some("someone")
        );
        assert_eq!(
            ask("Password for 'https://someone@git.example:8443': ").as_deref(),
            Some("letmein")
        );
        assert_eq!(
            ask("Password for 'https://a@b@git.example:8443': ").as_deref(),
            Some("letmein"),
            "an @ in the user name"
        );
        for other in [
            "Password for 'https://someone@evil.example': ",
            "Password for 'http://someone@git.example:8443': ",
            "Password for 'https://someone@git.example': ",
            "Password for 'https://git.example:8443@evil.example': ",
            "Enter passphrase for key '/key': ",
            "Password: ",
            "",
        ] {
            assert_eq!(ask(other), None, "{other}");
        }
    }
}
