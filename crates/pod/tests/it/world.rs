//! A directory with everything that a Pod would have: plans, tools, a workspace, Secrets, and a repository to clone.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

/// No test takes this long; one that does is killed instead of holding up all others.
const GUARD: Duration = Duration::from_mins(2);

/// The programs under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pod-programs");

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Waits for a process, with a guard.
pub fn finish(child: Child) -> Output {
    let pid = i32::try_from(child.id()).unwrap();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    receive
        .recv_timeout(GUARD)
        .unwrap_or_else(|_| {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("a process did not end");
        })
        .unwrap()
}

pub struct World {
    directory: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["context", "tools", "workspace", "tmp", "home"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        // What a user's machine or an image may bring along must not matter.
        fs::write(
            directory.path().join("home/.gitconfig"),
            "[url \"https://wrong.invalid/\"]\n\tinsteadOf = file://\n\tinsteadOf = https://\n\tinsteadOf = ssh://\n\
             [core]\n\thooksPath = /wrong\n[credential]\n\thelper = !echo username=wrong; echo password=wrong\n",
        )
        .unwrap();
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs git as a person would, in a directory of this world.
    pub fn git(&self, directory: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.path(directory))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Someone")))
            .envs(
                ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
                    .map(|name| (name, "someone@example.invalid")),
            )
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A repository with three commits on `trunk`, the first tagged `v1`, and a branch `feature/x`. Answers the SHAs.
    pub fn repository(&self, name: &str) -> [String; 3] {
        fs::create_dir_all(self.path(name)).unwrap();
        self.git(name, &["init", "-q", "--initial-branch=trunk"]);
        let commit = |number: u32| {
            self.write(&format!("{name}/file"), format!("{number}\n"));
            self.write(
                &format!("{name}/docs/guide/page.md"),
                format!("page {number}\n"),
            );
            self.git(name, &["add", "-A"]);
            self.git(name, &["commit", "-q", "-m", &format!("commit {number}")]);
            self.git(name, &["rev-parse", "HEAD"])
        };
        let one = commit(1);
        self.git(name, &["tag", "-a", "-m", "first", "v1"]);
        let two = commit(2);
        self.git(name, &["branch", "feature/x"]);
        let three = commit(3);
        [one, two, three]
    }

    /// What `git-init` is told to check out.
    pub fn plan_git(&self, checkouts: Vec<Value>) {
        let checkouts: Vec<Value> = checkouts
            .into_iter()
            .map(|mut checkout| {
                let path = checkout["path"].as_str().unwrap().to_owned();
                checkout["path"] = json!(self.text(&format!("workspace/{path}")));
                if checkout.get("depth").is_none() {
                    checkout["depth"] = json!(1);
                }
                checkout
            })
            .collect();
        self.write(
            "context/git.json",
            json!({ "checkouts": checkouts }).to_string(),
        );
    }

    /// Runs a program in an environment that is full of traps for git.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("GIT_DIR", "/wrong")
            .env("GIT_WORK_TREE", "/wrong")
            .env("GIT_SSH_COMMAND", "false")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "core.hooksPath")
            .env("GIT_CONFIG_VALUE_0", "/wrong")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn git_init_command(&self) -> Command {
        self.command([
            "git-init",
            "--context-dir",
            &self.text("context"),
            "--tools-dir",
            &self.text("tools"),
        ])
    }

    pub fn git_init(&self) -> Ran {
        let ran = run(&mut self.git_init_command());
        for (directory, expected) in [("tmp", 0), ("tools", 2)] {
            let left: Vec<_> = fs::read_dir(self.path(directory)).unwrap().collect();
            assert!(left.len() <= expected, "left in {directory}: {left:?}");
        }
        ran
    }

    /// Clones one repository to `workspace/it` and answers what was said when that failed, for good.
    pub fn failing(&self, checkout: Value) -> String {
        self.failing_with(1, checkout)
    }

    /// The same, of a failure that may pass by itself.
    pub fn failing_for_now(&self, checkout: Value) -> String {
        self.failing_with(75, checkout)
    }

    fn failing_with(&self, code: i32, mut checkout: Value) -> String {
        checkout["path"] = json!("it");
        self.plan_git(vec![checkout]);
        let ran = self.git_init();
        assert_eq!(ran.code, code, "{}", ran.stderr);
        ran.stderr
    }

    /// Runs a command where this directory of the world is a disk with room for so many KiB. `None`: this machine has no
    /// user namespaces, and nothing is tested.
    pub fn on_a_small_disk(&self, directory: &str, kib: u32, command: &Command) -> Option<Ran> {
        let options = ["--user", "--map-root-user", "--mount"];
        let mut unshare = unshare(&options, &["true"], "a full disk", "user-namespaces")?;
        unshare
            .args(["sh", "-c"])
            .arg(format!(
                r#"mount -t tmpfs -o size={kib}k none "$0" && exec "$@""#
            ))
            .arg(self.path(directory))
            .arg(command.get_program())
            .args(command.get_args());
        environment_of(&mut unshare, command);
        Some(run(&mut unshare))
    }

    pub fn cloned(&self, mut checkout: Value) -> String {
        checkout["path"] = json!("it");
        self.plan_git(vec![checkout]);
        let ran = self.git_init();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = finish(command.spawn().unwrap());
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether a file of this name is anywhere below.
pub fn anywhere(directory: &Path, mut found: impl FnMut(&Path) -> bool) -> bool {
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if found(&entry.path()) {
                return true;
            }
        }
    }
    false
}

/// A test is left out, which is said, unless `KUBEOPENCODE_TEST_REQUIRE` names what it needs.
pub fn not_tested(what: &str, needs: &str) {
    let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|item| item == needs);
    assert!(!is_required, "{what}: {needs} is required, and not there");
    eprintln!("NOT TESTED: {what}");
}

/// `unshare` for a process that is PID 1 of all that it starts.
pub const AS_PID_1: [&str; 6] = [
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// What runs a command in new namespaces. `None` where `probe` does not run in them: see [`not_tested`].
pub fn unshare(options: &[&str], probe: &[&str], what: &str, needs: &str) -> Option<Command> {
    let possible = Command::new("unshare").args(options).args(probe).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        not_tested(what, needs);
        return None;
    }
    let mut unshare = Command::new("unshare");
    unshare
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(unshare)
}

/// With the environment of that one, and no other.
pub fn environment_of(command: &mut Command, of: &Command) {
    let variables = of
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(variables);
}
