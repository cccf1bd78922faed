//! The binary in an environment of its own, and repositories to work on.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

/// A folder with a home, data and temporary files of its own. Removed with its value.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["home", "data", "tmp", "work"] {
            std::fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        Self { folder }
    }

    /// Where commands run.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Where commands have their temporary files.
    pub fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Where `local` has its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file below the folder where commands run.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.work().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The binary with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubeopencode"));
        command
            .args(arguments)
            .current_dir(self.work())
            .env_remove("KUBECONFIG")
            .env_remove("RUST_LOG")
            .env("HOME", self.folder.path().join("home"))
            .env("XDG_DATA_HOME", self.data())
            .env("TMPDIR", self.temporary())
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&self.command(arguments).output().expect("the binary starts"))
    }

    /// A repository with two commits.
    pub fn repository(&self, name: &str) -> PathBuf {
        let path = self.work().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        for number in ["one", "two"] {
            std::fs::write(path.join("README.md"), format!("{number}\n")).expect("a file");
            git(&path, &["add", "--all"]);
            git(&path, &["commit", "--quiet", "--message", number]);
        }
        path
    }

    /// What is left in the folder for temporary files.
    pub fn leftovers(&self) -> Vec<String> {
        std::fs::read_dir(self.temporary())
            .expect("the folder is there")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }
}

/// How a command ended.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails with everything that was said if the exit status is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Git without anybody's configuration; what it prints, trimmed.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Test")
        .env("GIT_AUTHOR_EMAIL", "test@example.com")
        .env("GIT_COMMITTER_NAME", "Test")
        .env("GIT_COMMITTER_EMAIL", "test@example.com")
        .output()
        .expect("git is installed");
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether this machine can run Pods. Where it cannot, the test says so loudly and is left out; it fails where
/// `KUBEOPENCODE_TEST_REQUIRE` names `user-namespaces`.
#[expect(clippy::print_stderr, reason = "what is left out has to be seen")]
pub fn can_run_pods(test: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let helper = Path::new(env!("CARGO_BIN_EXE_kubeopencode"));
    let Err(error) = runtime.block_on(kubeopencode_embedded::node::sandbox::probe(helper)) else {
        return true;
    };
    let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE")
        .is_ok_and(|list| list.split(',').any(|item| item == "user-namespaces"));
    assert!(!required, "no user namespaces: {error}");
    eprintln!("LEFT OUT: {test} needs user namespaces, and this machine has none: {error}");
    false
}

/// `git daemon`: everybody may clone from it and push to it.
pub struct GitDaemon {
    child: Child,
    /// Closed, it would end the daemon at its next word.
    _said: BufReader<std::process::ChildStderr>,
    port: u16,
}

impl GitDaemon {
    /// Serves the repositories below a folder on a free port.
    pub fn start(folder: &Path) -> Self {
        // It cannot take any free port by itself, so one is found first.
        Self::at(folder, free_port())
    }

    /// The same on this port; returns when it answers.
    pub fn at(folder: &Path, port: u16) -> Self {
        // Not through `git daemon`, which starts this one and leaves it behind.
        let programs = Command::new("git").arg("--exec-path").output();
        let programs = String::from_utf8(programs.expect("git").stdout).expect("a path");
        let mut child = Command::new(format!("{}/git-daemon", programs.trim()))
            .args([
                "--verbose",
                "--reuseaddr",
                "--export-all",
                "--enable=receive-pack",
                "--listen=127.0.0.1",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("git daemon");
        let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("Ready to rumble") {
            line.clear();
            let count = said.read_line(&mut line).expect("a line");
            assert!(count > 0, "git daemon did not start");
        }
        Self {
            child,
            _said: said,
            port,
        }
    }

    /// The URL of a repository in the folder.
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on which nobody listens, for whoever is quick.
pub fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

/// Starts a command whose agent prints a first line, and waits for that line. What is printed after it is in the reader.
pub fn started(
    sandbox: &Sandbox,
    arguments: &[&str],
) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child = sandbox
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    (child, stdout, line)
}

/// Waits for its end.
pub fn ended(child: Child) -> Outcome {
    Outcome::of(&child.wait_with_output().expect("an end"))
}

/// Sends a signal, as a shell does.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .expect("kill is installed");
    assert!(status.success());
}
