//! How git is run: with what it needs to reach one repository, and nothing else of the environment or the image.
//!
//! Credentials lie in files of a directory that only this user can read and that goes away with [`Access`]; the password
//! stays in the Secret's own file, where the askpass program reads it.

use std::{
    ffi::OsStr,
    fs, io,
    io::Write as _,
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{
    address::{Address, Transport},
    failure::{Failure, Kind, classify},
    interrupt::Running,
    search_path,
};
use crate::{
    askpass,
    run::{End, Limits, Output, run},
    scrub::Scrub,
};

/// Until when the first answer of a server has to be there.
const FIRST_ANSWER: Duration = Duration::from_mins(2);
/// For how long git may say nothing during a transfer or checkout, at which it reports progress all the time.
const SILENCE: Duration = Duration::from_mins(5);
/// For how long git may work on files of this machine where nobody says when everything has to be over: never for ever.
const LOCAL: Duration = Duration::from_hours(1);
/// How much git may answer; what it lists of a large repository is tens of megabytes.
const ANSWER: usize = 256 * 1024 * 1024;
/// Where systems keep the certificates that everybody trusts.
const SYSTEM_CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// What of the environment reaches git besides `PATH`: the way out of a closed network, and where the certificates are.
const KEPT: [&str; 9] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What a git process is for, which decides how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A question to a server: answered soon or never.
    Ask,
    /// A transfer or checkout: as long as it goes on.
    Transfer,
    /// Work on files of this machine, without a word while it goes on: as long as the size of a repository takes.
    Local,
}

impl Purpose {
    fn limits(self, until: Option<Instant>) -> Limits {
        let (longest, silence) = match self {
            Self::Ask => (Some(FIRST_ANSWER), None),
            Self::Transfer => (None, Some(SILENCE)),
            Self::Local => (Some(LOCAL), None),
        };
        let longest = longest.map(|longest| Instant::now() + longest);
        Limits {
            until: longest.into_iter().chain(until).min(),
            silence,
            output: ANSWER,
        }
    }
}

/// Access to one repository.
pub(crate) struct Access<'a> {
    /// Holds the copied key, the certificates and git's configuration.
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    running: &'a Running,
    pub scrub: Scrub,
    has_secret: bool,
    /// [`Address::host`].
    server: String,
    /// When every git is over, however long it might take for its purpose.
    pub until: Option<Instant>,
}

impl<'a> Access<'a> {
    /// Prepares the access to what is at `address`, with the credentials in the directory `secret`.
    pub fn new(
        secret: Option<&Path>,
        address: &Address,
        running: &'a Running,
    ) -> Result<Self, Failure> {
        Self::prepare(secret, address, running)
            .map_err(|error| Kind::of_place("cannot prepare the access", &error).into())
    }

    fn prepare(secret: Option<&Path>, address: &Address, running: &'a Running) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("kubeopencode-git-")
            .tempdir()?;
        let mut access = Self {
            directory,
            environment: Vec::new(),
            running,
            scrub: Scrub::new(),
            has_secret: false,
            server: address.host.clone(),
            until: None,
        };
        access.hide(secret);
        access.configure(secret)?;
        // A repository from elsewhere must not name files of this machine as its submodules.
        let protocols = match address.transport {
            Transport::File => "file:git:http:https:ssh",
            _ => "git:http:https:ssh",
        };
        access.set("GIT_ALLOW_PROTOCOL", protocols);
        if let Some(secret) = secret
            && address.transport == Transport::Http
        {
            let program = std::env::current_exe()?;
            access.set("GIT_ASKPASS", &program.to_string_lossy());
            access.set(askpass::SECRET_DIR_VARIABLE, &secret.to_string_lossy());
            access.set(askpass::HOST_VARIABLE, &address.host);
        }
        let ssh = access.ssh(secret)?;
        access.set("GIT_SSH_COMMAND", &ssh);
        Ok(access)
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    fn hide(&mut self, secret: Option<&Path>) {
        self.has_secret = secret.is_some_and(|secret| secret.join("ssh-privatekey").exists());
        if let Some(secret) = secret
            && let Some(password) = askpass::secret(secret, "password")
        {
            self.has_secret = true;
            let user = askpass::secret(secret, "username").unwrap_or_default();
            self.scrub.hide(&user, &password);
        }
    }

    /// Git's whole configuration. `safe.directory`: a repository of the host may have another owner, and is only read.
    fn configure(&mut self, secret: Option<&Path>) -> io::Result<()> {
        let mut config = String::from(
            "[safe]\n\tdirectory = *\n\
             [core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\
             [init]\n\tdefaultBranch = main\n\ttemplateDir =\n\
             [advice]\n\tdetachedHead = false\n\
             [gc]\n\tauto = 0\n\
             [maintenance]\n\tauto = false\n\
             [credential]\n\thelper =\n\
             [http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 120\n",
        );
        if let Some(ca) = secret.map(|secret| secret.join("ca.crt"))
            && ca.exists()
        {
            let mut bundle = fs::read(ca)?;
            bundle.push(b'\n');
            // A submodule may come from a public host.
            if let Some(system) = SYSTEM_CERTIFICATES
                .iter()
                .find_map(|path| fs::read(path).ok())
            {
                bundle.extend(system);
            }
            let file = self.write("ca.crt", &bundle)?;
            config.push_str("\tsslCAInfo = ");
            config.push_str(&quoted(&file));
            config.push('\n');
        }
        let file = self.write("config", config.as_bytes())?;
        self.set("GIT_CONFIG_GLOBAL", &file);
        Ok(())
    }

    /// The command that git runs for SSH. With `known_hosts` in the Secret, exactly these are trusted; without, the first
    /// key that the host shows is, for the length of this one checkout.
    fn ssh(&self, secret: Option<&Path>) -> io::Result<String> {
        use std::fmt::Write as _;
        let mut command = String::from(
            "ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none \
             -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no -o LogLevel=ERROR -o ForwardAgent=no \
             -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
        );
        let given = |name: &str| secret.and_then(|secret| fs::read(secret.join(name)).ok());
        let (strict, hosts) = match given("known_hosts") {
            Some(hosts) => ("yes", hosts),
            None => ("accept-new", Vec::new()),
        };
        let hosts = self.write("known_hosts", &hosts)?;
        let _ = write!(
            command,
            " -o StrictHostKeyChecking={strict} -o UserKnownHostsFile={}",
            shell(&hosts)
        );
        match given("ssh-privatekey") {
            Some(key) => {
                // ssh wants unix line ends, and one after the last line.
                let mut key: Vec<u8> = key.into_iter().filter(|byte| *byte != b'\r').collect();
                key.push(b'\n');
                let key = self.write("key", &key)?;
                let _ = write!(command, " -i {}", shell(&key));
            }
            None => command.push_str(" -o IdentityFile=none"),
        }
        Ok(command)
    }

    /// A directory that is in no repository, for questions about none.
    pub fn nowhere(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<String> {
        let path = self.directory.path().join(name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(content)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Runs git in `directory` and answers its standard output. `progress` gets git's own lines, clean of secrets.
    pub fn git<I, S>(
        &self,
        directory: &Path,
        purpose: Purpose,
        arguments: I,
        progress: &dyn Fn(&str),
    ) -> Result<String, Failure>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let output = self.run(directory, purpose, arguments, Stdio::null(), progress)?;
        self.judge(&output, purpose)
    }

    /// Asks git in `directory` something about files of this machine that it answers by its exit code: 1 is no. One that
    /// cannot answer has not said no.
    pub fn is_so(&self, directory: &Path, question: &[&str]) -> Result<bool, Failure> {
        let purpose = Purpose::Local;
        let output = self.run(directory, purpose, question, Stdio::null(), &|_| {})?;
        match output.end {
            End::Exited(status) if status.code() == Some(1) => Ok(false),
            _ => self.judge(&output, purpose).map(|_| true),
        }
    }

    /// Runs git in `directory` with that standard input, and answers how it ended.
    pub fn run<I, S>(
        &self,
        directory: &Path,
        purpose: Purpose,
        arguments: I,
        stdin: Stdio,
        progress: &dyn Fn(&str),
    ) -> Result<Output, Failure>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(directory)
            .stdin(stdin)
            .env_clear()
            .envs(search_path().map(|path| ("PATH", path)))
            .envs(KEPT.iter().filter_map(|name| {
                let value = std::env::var_os(name)?;
                Some((name, value))
            }))
            .env("HOME", self.directory.path())
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GCM_INTERACTIVE", "never")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut lines = Lines::default();
        run(
            &mut command,
            purpose.limits(self.until),
            self.running,
            |bytes| {
                lines.feed(bytes, |line| progress(&self.scrub.clean(line)));
            },
        )
        .map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "it is not in the image".to_owned(),
                _ => error.to_string(),
            };
            Kind::NoGit(why).into()
        })
    }

    /// The standard output of a git that ended well, or else what went wrong.
    pub fn judge(&self, output: &Output, purpose: Purpose) -> Result<String, Failure> {
        let is_local = purpose == Purpose::Local;
        match output.end {
            End::Exited(status) if status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            End::TimedOut if is_local => Err(Kind::TooSlow.into()),
            End::TimedOut => Err(Kind::TimedOut.into()),
            // It says nothing then. Whatever else it writes to, we read to the end.
            End::Exited(status) if status.signal() == Some(Signal::SIGPIPE as i32) && !is_local => {
                Err(Kind::Unreachable.into())
            }
            End::TooMuch | End::Exited(_) => {
                let said = self.scrub.clean(&String::from_utf8_lossy(&output.stderr));
                let failure = classify(&said, self.has_secret, &self.server);
                Err(match failure.kind {
                    // There is no server that could have said it.
                    ref kind if is_local && *kind != Kind::DiskFull => Failure {
                        kind: Kind::Other,
                        ..failure
                    },
                    _ => failure,
                })
            }
        }
    }
}

/// A value in a git configuration file.
pub(crate) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word for the shell that git hands the SSH command to.
fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Whole lines out of pieces. What a carriage return overwrites on a terminal is left out.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Longest line that is waited for.
    const LONGEST: usize = 8 * 1024;

    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            match byte {
                b'\r' => self.0.clear(),
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.0);
                    let line = line.trim_end();
                    if !line.is_empty() {
                        each(line);
                    }
                    self.0.clear();
                }
                byte if self.0.len() < Self::LONGEST => self.0.push(*byte),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reads every file of a large checkout takes minutes, and says nothing meanwhile.
    #[test]
    fn work_on_files_is_not_held_to_what_a_server_has() {
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        for purpose in [Purpose::Ask, Purpose::Transfer, Purpose::Local] {
            assert_eq!(purpose.limits(Some(soon)).until, Some(soon));
        }
        let limits = Purpose::Local.limits(None);
        assert!(limits.until >= Some(now + LOCAL) && limits.silence.is_none());
        assert!(Purpose::Ask.limits(None).until < Some(now + 2 * FIRST_ANSWER));
    }

    #[test]
    fn files_that_take_too_long_are_no_fault_of_a_server() {
        let running = Running::default();
        let address = &super::super::address::HERE;
        let access = Access::new(None, address, &running).expect("an access");
        let output = Output {
            end: End::TimedOut,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let kind = |purpose| {
            access
                .judge(&output, purpose)
                .map_err(|failure| failure.kind)
        };
        assert_eq!(kind(Purpose::Local), Err(Kind::TooSlow));
        assert_eq!(kind(Purpose::Ask), Err(Kind::TimedOut));
    }
}
