//! `git-push` beside an agent: what its tests share.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    server::Server,
    world::{World, finish, run},
};

/// A repository at `remote` and a checkout of it at `workspace/it`, with a plan that pushes it to `work`.
pub fn checked_out(more: Value) -> World {
    let world = World::new();
    world.repository("remote");
    let repository = format!("file://{}", world.text("remote"));
    check_out(&world, &repository, more);
    world
}

/// The checkout alone, of any repository.
pub fn check_out(world: &World, repository: &str, more: Value) {
    fs::create_dir_all(world.path("push")).unwrap();
    let mut checkout =
        json!({ "path": "it", "repository": repository, "push": { "branch": "work" } });
    merge(&mut checkout, more);
    world.plan_git(vec![checkout]);
    let ran = world.git_init();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    fs::create_dir_all(world.path("tools/begun")).unwrap();
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// `git-push` while it runs. Its log is read all the time, as that of a container is.
pub struct Sidecar {
    pub child: Option<Child>,
    lines: mpsc::Receiver<String>,
    log: String,
}

impl Sidecar {
    pub fn start(world: &World) -> Self {
        Self::begin(&mut Self::command(world))
    }

    pub fn command(world: &World) -> Command {
        world.command([
            "git-push",
            "--context-dir",
            &world.text("context"),
            "--tools-dir",
            &world.text("tools"),
            "--push-dir",
            &world.text("push"),
        ])
    }

    pub fn begin(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines() {
                let _ = send.send(line.unwrap());
            }
        });
        Self {
            child: Some(child),
            lines,
            log: String::new(),
        }
    }

    /// Waits until it has said this.
    pub fn says(&mut self, text: &str) {
        loop {
            let line = self.lines.recv();
            let line = line.unwrap_or_else(|_| panic!("it has not said {text:?}: {}", self.log));
            self.log += &line;
            self.log.push('\n');
            if line.contains(text) {
                return;
            }
        }
    }

    pub fn tell(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    /// Tells it to end as a kubelet does, and answers its log.
    pub fn end(self, world: &World) -> String {
        self.tell(Signal::SIGTERM);
        self.ended(world)
    }

    /// Waits for its end, and answers its log.
    pub fn ended(mut self, world: &World) -> String {
        let output = finish(self.child.take().unwrap());
        for line in &self.lines {
            self.log += &line;
            self.log.push('\n');
        }
        assert_eq!(output.status.code(), Some(0), "{output:?}: {}", self.log);
        assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
        std::mem::take(&mut self.log)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes the work of the checkout at `workspace/it` out of the log of `git-push` with the commands of docs/tasks.md, into
/// the branch `rescued` of a repository. Answers its commit.
pub fn rescued(world: &World, log: &str, repository: &str) -> String {
    let page = include_str!("../../../../docs/tasks.md");
    let commands = |begin: &str| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("$ ")?.strip_prefix(begin));
        line.unwrap_or_else(|| panic!("docs/tasks.md has no such command: {begin}"))
    };
    world.write(&format!("{repository}/log"), log);
    let (_, take_out) = commands("kubectl logs ").split_once(" | ").unwrap();
    let fetch = commands("git fetch work.bundle ");
    let script = format!("cat log | {take_out} && git fetch -q work.bundle {fetch}");
    assert!(script.contains("/workspace/repo-----"), "{script}");
    let script = script
        .replace("/workspace/repo", &world.text("workspace/it"))
        .replace("agents/fix-the-build", "work:rescued");
    let ran = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(world.path(repository))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{script}: {ran:?}: {log}");
    world.git(repository, &["rev-parse", "rescued"])
}

/// Connects as soon as it listens, and waits until nobody else can.
pub fn connect(world: &World) -> UnixStream {
    let socket = world.path("push/socket");
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => std::thread::yield_now(),
        }
    };
    stream.read_exact(&mut [0]).unwrap();
    assert!(!socket.exists());
    stream
}

/// Asks `git-push` as `supervise` does, and answers what became of the only checkout.
pub fn ask(world: &World) -> Value {
    let (answer, _) = ask_within(world, Duration::from_mins(1));
    answer
}

pub fn ask_within(world: &World, within: Duration) -> (Value, String) {
    let sidecar = Sidecar::start(world);
    let mut supervise = connect(world);
    writeln!(
        supervise,
        "{}",
        json!({ "withinMillis": within.as_millis() })
    )
    .unwrap();
    let mut line = String::new();
    BufReader::new(supervise).read_line(&mut line).unwrap();
    let log = sidecar.end(world);
    let answers: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}: {log}"));
    assert_eq!(answers.as_array().unwrap().len(), 1, "{answers}");
    assert_eq!(answers[0]["path"], world.text("workspace/it"));
    (answers[0]["pushed"].clone(), log)
}

/// Runs an agent under `supervise`, with `git-push` beside it: its exit code, and the report of the only checkout.
pub fn supervised(world: &World, agent: &str) -> (i32, Value) {
    let (code, checkout, _) = supervised_with_log(world, agent);
    (code, checkout)
}

/// The same, with the log of `git-push`.
pub fn supervised_with_log(world: &World, agent: &str) -> (i32, Value, String) {
    let sidecar = Sidecar::start(world);
    let mut supervise = supervise(world, agent);
    let ran = run(&mut supervise);
    let log = sidecar.end(world);
    let report: Value = serde_json::from_str(&world.read("report")).unwrap();
    (ran.code, report["checkouts"][0].clone(), log)
}

pub fn supervise(world: &World, agent: &str) -> Command {
    let mut supervise = world.command([
        "supervise",
        "--tools-dir",
        &world.text("tools"),
        "--begun-dir",
        &world.text("tools/begun"),
        "--termination-log",
        &world.text("report"),
        "--grace-seconds",
        "30",
        "--",
        "sh",
        "-ec",
        agent,
    ]);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_CONFIG_COUNT"] {
        supervise.env_remove(name);
    }
    supervise
        .current_dir(world.path("workspace/it"))
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_SYSTEM", world.path("tools/gitconfig"))
        .env("KUBEOPENCODE_PUSH_SOCKET", world.path("push/socket"));
    supervise
}

/// The agent commits something; answers the commit.
pub fn commit(world: &World) -> String {
    world.write("workspace/it/new", "new\n");
    world.git("workspace/it", &["add", "new"]);
    world.git("workspace/it", &["commit", "-q", "-m", "new"]);
    world.git("workspace/it", &["rev-parse", "HEAD"])
}

pub fn executable(world: &World, name: &str, script: &str) {
    world.write(name, script);
    let chmod = Command::new("chmod")
        .arg("+x")
        .arg(world.path(name))
        .status();
    assert!(chmod.unwrap().success());
}

/// A checkout of a repository on a server that wants a login, and answers 403 to every push until it is told otherwise.
pub fn guarded(more: Value) -> (World, Server) {
    let world = World::new();
    world.repository("served/source");
    let server = Server::start(world.path("served"), Some("someone:secret-word"), None);
    world.write("secret/username", "someone");
    world.write("secret/password", "secret-word");
    world.write("secret/ca.crt", &server.ca);
    let secret = world.text("secret");
    let mut with_login = json!({ "secretDir": secret, "push": { "secretDir": secret } });
    merge(&mut with_login, more);
    check_out(&world, &server.url("source/.git"), with_login);
    (world, server)
}

pub fn branches(world: &World) -> String {
    world.git(
        "remote",
        &["for-each-ref", "--format=%(refname:short)", "refs/heads"],
    )
}

pub const AS_BEFORE: &str = "feature/x\ntrunk";
