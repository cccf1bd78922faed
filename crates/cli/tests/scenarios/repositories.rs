//! Git repositories for scenarios, made with the real git, and the servers that Pods clone them from.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::Cluster,
    https::Server,
    scenario::{Over, Repository},
    ssh::Sshd,
};

/// The login of every repository over HTTPS.
const USER: &str = "scenario";
const PASSWORD: &str = "pass/word %with@everything";

/// Repositories that Pods can clone, as long as this value lives.
pub struct Repositories {
    /// `NAME.WHAT` and what it stands for.
    variables: Vec<(String, String)>,
    _servers: Vec<Serving>,
}

/// What serves a repository: ends with its value.
enum Serving {
    Https { _server: Server },
    Ssh { _server: Sshd },
    Git { _server: Daemon },
}

impl Repositories {
    /// Makes them below `folder`, and serves them.
    pub fn make(cluster: &Cluster, folder: &Path, wanted: &[Repository]) -> Result<Self> {
        let address = cluster.address();
        let mut variables = Vec::new();
        let mut servers = Vec::new();
        for repository in wanted {
            let made = make(folder, repository)?;
            let mut set = |what: &str, value: String| {
                variables.push((format!("{}.{what}", repository.name), value));
            };
            let url = match repository.over {
                Some(Over::Https) => {
                    let pause = Duration::from_secs(repository.first_answer_after);
                    let login = format!("{USER}:{PASSWORD}");
                    let server = Server::at(address, folder.to_owned(), &login, pause);
                    let url = server.url(&format!("{}/.git", repository.name));
                    set("user", USER.to_owned());
                    set("password", PASSWORD.to_owned());
                    set("ca", server.ca.clone());
                    servers.push(Serving::Https { _server: server });
                    url
                }
                Some(Over::Ssh) => {
                    let keys = folder.join(format!("{}-sshd", repository.name));
                    let server = Sshd::start(address, &keys).context("there is no sshd")?;
                    set("key", server.key());
                    set("knownHosts", server.known_hosts());
                    let url = server.url(&made.path);
                    servers.push(Serving::Ssh { _server: server });
                    url
                }
                None if cluster.has_directories() => format!("file://{}", made.path.display()),
                None => {
                    let server = Daemon::start(address, folder)?;
                    let url = format!("git://{}/{}", server.address, repository.name);
                    servers.push(Serving::Git { _server: server });
                    url
                }
            };
            set("url", url);
            set("first", made.first);
            set("head", made.head);
        }
        Ok(Self {
            variables,
            _servers: servers,
        })
    }

    /// The scenario with `${NAME.WHAT}` replaced. A value of several lines is written as in a JSON string: it has to
    /// stand between double quotes.
    pub fn fill(&self, text: &str) -> Result<String> {
        self.variables
            .iter()
            .try_fold(text.to_owned(), |text, (name, value)| {
                let quoted = serde_json::to_string(value)?;
                Ok(text.replace(&format!("${{{name}}}"), quoted.trim_matches('"')))
            })
    }
}

/// `git daemon`: serves repositories to everybody.
struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    /// Starts one for the repositories below `folder`, and returns when it answers.
    fn start(address: IpAddr, folder: &Path) -> Result<Self> {
        // git daemon cannot take any free port by itself, so it is found first, and asked for at once.
        let free = TcpListener::bind((address, 0))?.local_addr()?;
        let child = Command::new("git")
            .args([
                "daemon",
                "--reuseaddr",
                "--export-all",
                "--informative-errors",
            ])
            .arg(format!("--listen={}", free.ip()))
            .arg(format!("--port={}", free.port()))
            .arg(format!("--base-path={}", folder.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("git daemon")?;
        let mut daemon = Self {
            child,
            address: free,
        };
        while TcpStream::connect(free).is_err() {
            ensure!(daemon.child.try_wait()?.is_none(), "git daemon has ended");
            std::thread::yield_now();
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A repository that was made.
struct Made {
    /// Where it is.
    path: PathBuf,
    /// Its first commit.
    first: String,
    /// The last commit on `main`.
    head: String,
}

/// Makes the repository below `folder`. Its commits are the same in every run.
fn make(folder: &Path, repository: &Repository) -> Result<Made> {
    let path = folder.join(&repository.name);
    std::fs::create_dir_all(&path)?;
    git(&path, &["init", "--quiet", "--initial-branch=main"])?;
    for commit in &repository.commits {
        if let Some(branch) = &commit.branch
            && git(&path, &["switch", "--quiet", branch]).is_err()
        {
            git(&path, &["switch", "--quiet", "--create", branch])?;
        }
        for (name, content) in &commit.files {
            let file = path.join(name);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, &file)?,
                None => std::fs::write(&file, content)?,
            }
        }
        git(&path, &["add", "--all"])?;
        git(&path, &["commit", "--quiet", "--message", "A commit"])?;
        if let Some(tag) = &commit.tag {
            git(&path, &["tag", tag])?;
        }
    }
    git(&path, &["switch", "--quiet", "main"])?;
    if matches!(repository.over, Some(Over::Https)) {
        // Whoever has the login may push.
        git(&path, &["config", "http.receivepack", "true"])?;
    }
    let first = git(&path, &["rev-list", "--max-parents=0", "HEAD"])?;
    let head = git(&path, &["rev-parse", "HEAD"])?;
    Ok(Made { path, first, head })
}

/// Runs git with an identity and a date of its own and nothing of the user's configuration; its output, trimmed.
fn git(path: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(path)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([
            ("GIT_AUTHOR_NAME", "Scenario"),
            ("GIT_AUTHOR_EMAIL", "scenario@example.com"),
            ("GIT_COMMITTER_NAME", "Scenario"),
            ("GIT_COMMITTER_EMAIL", "scenario@example.com"),
            ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z"),
            ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z"),
        ])
        .output()?;
    ensure!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
