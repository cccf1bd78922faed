//! What went wrong, in one sentence: git's many ways of saying it, sorted into the few that a person can act on.

use crate::may_pass;

/// Why there is no checkout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}", .said.as_ref().map(|said| format!(" (git: {said})")).unwrap_or_default())]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// What git said, cleaned of secrets.
    pub said: Option<String>,
}

/// Kinds of failure; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// The plan asks for something that is refused.
    #[error("{0}")]
    Refused(String),
    /// No or wrong credentials.
    #[error("authentication failed: check the Secret named in git.secretRef")]
    Authentication,
    /// Credentials are needed, and there are none.
    #[error(
        "the server asks for credentials: name a Secret in git.secretRef, or check the URL (servers also ask for a repository that does not exist)"
    )]
    CredentialsNeeded,
    /// It does not exist, or one is not allowed to know that it does.
    #[error("the repository was not found, or these credentials may not read it")]
    NotFound,
    /// The name has no address.
    #[error("the host is unknown: its name does not resolve")]
    UnknownHost,
    /// Nobody answers.
    #[error("the server cannot be reached")]
    Unreachable,
    /// It stopped answering.
    #[error("the server took too long to answer")]
    TimedOut,
    /// There was too much to do on files of this machine.
    #[error("git was not done with the files in time")]
    TooSlow,
    /// It answered that it cannot answer.
    #[error("the server has a problem of its own, or too much to do")]
    ServerError,
    /// There is no space left.
    #[error("the disk of the node is full")]
    DiskFull,
    /// Its certificate is not trusted.
    #[error(
        "the server's certificate is not trusted: put the certificate of its CA into the Secret as ca.crt"
    )]
    Certificate,
    /// Its SSH host key is another.
    #[error("the server's SSH host key is not the one in known_hosts")]
    HostKey,
    /// There is no such ref.
    #[error("the repository has no branch, tag or commit {0}")]
    NoReference(String),
    /// There is no default branch.
    #[error("the repository is empty, or its HEAD names no branch: say which in git.ref")]
    NoHead,
    /// There is no such path.
    #[error("the repository has no {0} at that ref")]
    NoPath(String),
    /// The place is taken.
    #[error("{0}")]
    Place(String),
    /// git is not there.
    #[error("cannot run git: {0}")]
    NoGit(String),
    /// Anything else.
    #[error("git failed")]
    Other,
}

impl Kind {
    /// Something in the way of the files: a full disk, or what the error says, after `what` was tried.
    pub(crate) fn of_place(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        match what {
            _ if may_pass::is_full(error) => Self::DiskFull,
            "" => Self::Place(error.to_string()),
            what => Self::Place(format!("{what}: {error}")),
        }
    }

    /// Whether it may succeed the next time although nobody has changed anything. A name that does not resolve may be a
    /// typo or a name server that is down: git does not tell them apart.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::UnknownHost
            | Self::Unreachable
            | Self::TimedOut
            | Self::TooSlow
            | Self::ServerError
            | Self::DiskFull => true,
            Self::Refused(_)
            | Self::Authentication
            | Self::CredentialsNeeded
            | Self::NotFound
            | Self::Certificate
            | Self::HostKey
            | Self::NoReference(_)
            | Self::NoHead
            | Self::NoPath(_)
            | Self::Place(_)
            | Self::NoGit(_)
            | Self::Other => false,
        }
    }
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self { kind, said: None }
    }
}

/// Patterns in what git, curl and ssh print (in the C locale, lower case here), the more telling ones first.
const SIGNS: [(&str, Kind); 48] = [
    ("no space left on device", Kind::DiskFull),
    ("out of diskspace", Kind::DiskFull),
    ("host key verification failed", Kind::HostKey),
    ("ssl certificate problem", Kind::Certificate),
    ("server certificate verification failed", Kind::Certificate),
    ("certificate verify failed", Kind::Certificate),
    (
        "ssl: no alternative certificate subject name",
        Kind::Certificate,
    ),
    ("does not match target host name", Kind::Certificate),
    ("error setting certificate", Kind::Certificate),
    ("could not resolve host", Kind::UnknownHost),
    ("name or service not known", Kind::UnknownHost),
    ("temporary failure in name resolution", Kind::UnknownHost),
    ("unable to look up", Kind::UnknownHost),
    ("could not read username", Kind::CredentialsNeeded),
    ("could not read password", Kind::Authentication),
    ("unable to read askpass response", Kind::CredentialsNeeded),
    ("authentication failed", Kind::Authentication),
    ("permission denied (", Kind::Authentication),
    ("invalid credentials", Kind::Authentication),
    ("returned error: 401", Kind::Authentication),
    ("returned error: 403", Kind::Authentication),
    ("returned error: 404", Kind::NotFound),
    ("returned error: 429", Kind::ServerError),
    ("returned error: 5", Kind::ServerError),
    ("repository not found", Kind::NotFound),
    ("does not appear to be a git repository", Kind::NotFound),
    ("' not found", Kind::NotFound),
    ("connection refused", Kind::Unreachable),
    ("failed to connect", Kind::Unreachable),
    ("couldn't connect to server", Kind::Unreachable),
    ("network is unreachable", Kind::Unreachable),
    ("no route to host", Kind::Unreachable),
    ("timed out", Kind::TimedOut),
    ("operation too slow", Kind::TimedOut),
    ("connection timeout", Kind::TimedOut),
    ("timeout was reached", Kind::TimedOut),
    ("timeout, server", Kind::TimedOut),
    ("connection reset", Kind::Unreachable),
    ("connection closed by", Kind::Unreachable),
    ("empty reply from server", Kind::Unreachable),
    ("recv error", Kind::Unreachable),
    ("recv failure", Kind::Unreachable),
    ("transfer closed", Kind::Unreachable),
    ("not closed cleanly", Kind::Unreachable),
    ("non-properly terminated", Kind::Unreachable),
    ("ssl_error_syscall", Kind::Unreachable),
    ("early eof", Kind::Unreachable),
    ("unexpected disconnect", Kind::Unreachable),
];

/// Sorts a failure by what was printed, which has to be clean of secrets already. `has_secret`: whether credentials
/// were given at all. `server`: who was asked, as in `git://host:port`; git does not always say which port it was.
pub(crate) fn classify(said: &str, has_secret: bool, server: &str) -> Failure {
    let lower = said.to_ascii_lowercase();
    let kind = SIGNS
        .iter()
        .find(|(sign, _)| lower.contains(sign))
        .map_or(Kind::Other, |(_, kind)| kind.clone());
    let kind = match kind {
        Kind::Other if lower.contains("would be overwritten by checkout") => {
            Kind::Place("files of the repository are already there".to_owned())
        }
        Kind::CredentialsNeeded if has_secret => Kind::Authentication,
        Kind::Authentication if !has_secret => Kind::CredentialsNeeded,
        other => other,
    };
    let line = telling_line(said).map(|line| match port(server) {
        Some(port) if kind.may_pass() && !names(&line, port) => {
            format!("{line}; asked: {server}")
        }
        _ => line,
    });
    Failure { kind, said: line }
}

/// As a URL has it, and as curl and ssh say it.
fn names(line: &str, port: &str) -> bool {
    [":", "port "]
        .iter()
        .any(|before| line.contains(&format!("{before}{port}")))
}

/// `scheme://host:port` has one.
fn port(server: &str) -> Option<&str> {
    let (_, port) = server.rsplit_once(':')?;
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some(port).filter(digits)
}

/// The line of the output that says most: the first `fatal:` or `error:`, or else the last that is not advice.
fn telling_line(said: &str) -> Option<String> {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines()
        .find(|line| {
            line.starts_with("ssh: ")
                || line.contains("ermission denied")
                || line.contains("key verification")
        })
        .or_else(|| lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:")))
        .or_else(|| lines().next_back())?;
    // Where it ends with a colon, the next one goes on.
    let more = telling
        .ends_with(':')
        .then(|| lines().skip_while(|line| *line != telling).nth(1))
        .flatten();
    let line = more.map_or_else(|| telling.to_owned(), |more| format!("{telling} {more}"));
    Some(line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_telling_line_is_kept() {
        let failure = classify(
            "Cloning...\nfatal: unable to access 'https://h/': Could not resolve host: h\nmore\n",
            false,
            "https://h",
        );
        assert_eq!(failure.kind, Kind::UnknownHost);
        assert_eq!(
            failure.said.as_deref(),
            Some("fatal: unable to access 'https://h/': Could not resolve host: h")
        );
    }

    #[test]
    fn a_line_that_goes_on_is_kept_whole_and_the_port_is_named() {
        let said = "fatal: unable to connect to h:\nh[0: 192.0.2.1]: errno=Connection refused\n\n";
        let failure = classify(said, false, "git://h:9418");
        assert_eq!(failure.kind, Kind::Unreachable);
        assert_eq!(
            failure.said.as_deref(),
            Some(
                "fatal: unable to connect to h: h[0: 192.0.2.1]: errno=Connection refused; asked: git://h:9418"
            )
        );
    }

    #[test]
    fn who_gave_no_credentials_is_told_to() {
        let said = "fatal: could not read Username for 'https://h': terminal prompts disabled";
        assert_eq!(
            classify(said, false, "https://h").kind,
            Kind::CredentialsNeeded
        );
        assert_eq!(classify(said, true, "https://h").kind, Kind::Authentication);
    }
}
