//! `local`, and the commands that look at its Tasks.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, Stdio},
    time::{Duration, Instant},
};

#[path = "../support/local.rs"]
pub mod served;

use served::Local;

use crate::support::{Outcome, Sandbox, can_run_pods};

const MANIFESTS: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec: {serviceAccountName: default, command: [sh, -c, 'echo begun; cat task.md']}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: first}
spec: {description: Do it.}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: waits}
spec: {description: Do it., timeout: 1h, contexts: [{type: ConfigMap, configMap: {name: late}}]}
";

/// `task logs --follow`, while it goes on.
struct Following {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Following {
    fn of(sandbox: &Sandbox, task: &str) -> Self {
        let mut child = sandbox
            .command(&["task", "logs", "--follow", task])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, stderr }
    }

    /// The next line on standard error.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("a line");
        line
    }

    /// What it says until it ends.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("its end");
        rest
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tasks_are_created_listed_followed_explained_stopped_and_deleted() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    sandbox.write("all.yaml", MANIFESTS);
    let created = sandbox
        .run(&["task", "create", "-f", "all.yaml"])
        .expect_code(0);
    assert_eq!(
        created.stdout,
        "agent/default created\ntask/first created\ntask/waits created\n"
    );

    let logs = sandbox
        .run(&["task", "logs", "--follow", "first"])
        .expect_code(0);
    assert_eq!(logs.stdout.trim_end(), "begun\nDo it.");
    let got = sandbox.run(&["task", "get", "first"]).expect_code(0).stdout;
    assert!(
        got.contains("Completed") && got.contains("Succeeded"),
        "{got}"
    );
    let listed = sandbox.run(&["task", "list"]).expect_code(0).stdout;
    assert!(
        listed.starts_with("NAME") && listed.contains("first"),
        "{listed}"
    );
    let names = sandbox
        .run(&["task", "list", "-o", "name"])
        .expect_code(0)
        .stdout;
    assert_eq!(
        names,
        "task.kubeopencode.io/first\ntask.kubeopencode.io/waits\n"
    );
    let agents = sandbox.run(&["agent", "list"]).expect_code(0).stdout;
    assert!(agents.contains("default"), "{agents}");

    let why = sandbox.run(&["task", "why", "waits"]).expect_code(0).stdout;
    assert!(why.contains("ConfigMap default/late"), "{why}");
    let settings = why.lines().skip_while(|line| *line != "Settings:");
    let settings: Vec<String> = settings
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for setting in [
        "referenceTimeoutSeconds 300 built in",
        "timeout 1h its own spec",
    ] {
        assert!(settings.iter().any(|line| line == setting), "{why}");
    }
    let mut follow = Following::of(&sandbox, "waits");
    let line = follow.line();
    assert!(line.contains("ConfigMap default/late"), "{line}");
    let stopped = sandbox.run(&["task", "stop", "waits"]).expect_code(0);
    for said in ["kubeopencode.io/stop=true", "The operator does the rest"] {
        assert!(stopped.stderr.contains(said), "{}", stopped.stderr);
    }
    let rest = follow.rest();
    assert!(rest.contains("the Task waits has ended"), "{rest}");
    let followed = sandbox
        .run(&["task", "logs", "--follow", "waits"])
        .expect_code(1);
    let looked = sandbox.run(&["task", "logs", "waits"]).expect_code(1);
    for ended in [followed, looked] {
        assert_eq!(ended.stdout, "");
        assert!(
            ended.stderr.contains("the Task waits has ended")
                && ended.stderr.contains("UserStopped"),
            "{}",
            ended.stderr
        );
    }
    let got = sandbox
        .run(&["task", "get", "waits", "-o", "json"])
        .expect_code(0)
        .stdout;
    let task: serde_json::Value = serde_json::from_str(&got).expect("JSON");
    assert_eq!(task["status"]["reason"], "UserStopped");

    let missing = sandbox.run(&["task", "get", "frist"]).expect_code(1).stderr;
    assert!(missing.contains("did you mean first?"), "{missing}");
    // A Task runs only once: the same file again is refused, before anything is written.
    let again = sandbox
        .run(&["run", "-f", "all.yaml"])
        .expect_code(2)
        .stderr;
    assert!(
        again.contains("a Task runs only once") || again.contains("late"),
        "{again}"
    );
    sandbox.run(&["task", "delete", "first"]).expect_code(0);
    sandbox.run(&["task", "get", "first"]).expect_code(1);
}

const IN_THE_WAY: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec:
  serviceAccountName: default
  command: ['true']
  credentials: [{name: a, secretRef: {name: late}, mountPath: /late}]
---
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: plain}
spec: {serviceAccountName: default, command: ['true']}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: secret}
spec: {description: Do it.}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: git}
spec:
  agentRef: plain
  description: Do it.
  contexts: [{type: Git, mountPath: app, git: {repository: 'file://APP', ref: no-such-branch}}]
";

#[test]
fn what_stands_in_the_way_of_a_pod_is_said() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    let app = sandbox.repository("app");
    sandbox.write(
        "all.yaml",
        &IN_THE_WAY.replace("APP", &app.to_string_lossy()),
    );
    sandbox
        .run(&["task", "create", "-f", "all.yaml"])
        .expect_code(0);

    // It ends by itself; by then the other has complained.
    sandbox
        .run(&["task", "logs", "--follow", "git"])
        .expect_code(0);
    let logs = sandbox.run(&["task", "logs", "git"]).expect_code(1).stderr;
    for said in ["git-init failed", "task logs -c git-init git"] {
        assert!(logs.contains(said), "{logs}");
    }
    let got = sandbox.run(&["task", "get", "git"]).expect_code(0).stdout;
    assert!(
        got.contains("git-init failed: ") && !got.contains("git-init: "),
        "{got}"
    );
    let logs = sandbox
        .run(&["task", "logs", "-c", "git-init", "git"])
        .expect_code(0);
    assert!(logs.stdout.contains("no-such-branch"), "{}", logs.stdout);

    let guard = Instant::now() + Duration::from_mins(1);
    let why = loop {
        let why = sandbox
            .run(&["task", "why", "secret"])
            .expect_code(0)
            .stdout;
        if why.contains("FailedMount") || Instant::now() > guard {
            break why;
        }
    };
    assert_eq!(why.matches("\"late\"").count(), 1, "{why}");
    assert!(why.contains("s ago (FailedMount)"), "{why}");

    // Nothing in the status says why: whoever follows is told where to look, once.
    let mut follow = Following::of(&sandbox, "secret");
    let line = follow.line();
    assert!(
        line.contains("secret") && line.contains("kubeopencode task why secret"),
        "{line}"
    );
    sandbox.run(&["task", "delete", "secret"]).expect_code(0);
    assert!(!follow.rest().contains("task why"), "it was said already");
}

#[test]
fn run_uses_the_local_that_is_running() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let _local = Local::start(&sandbox.data()).expect("it serves");
    let work = "git commit --quiet --allow-empty -m three; echo here";
    let outcome = sandbox
        .run(&[
            "run",
            "Do it",
            "--name",
            "mine",
            "--repo",
            "repo",
            "--command",
            work,
        ])
        .expect_code(0);
    assert_eq!(outcome.stdout, "here\n");
    assert!(
        outcome.stderr.contains("kubeopencode/mine"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        sandbox.run(&["task", "list", "-o", "name"]).stdout,
        "task.kubeopencode.io/mine\n"
    );
    // What was made for it goes with it.
    let agents = || sandbox.run(&["agent", "list", "-o", "name"]).stdout;
    assert_eq!(agents(), "agent.kubeopencode.io/mine\n");
    sandbox.run(&["task", "delete", "mine"]).expect_code(0);
    let gone = std::iter::from_fn(|| Some(agents()))
        .take(1000)
        .any(|agents| agents.is_empty());
    assert!(gone, "its Agent is collected: {}", agents());
}

/// What begins there now would not come to its end.
#[test]
fn run_does_not_use_a_local_that_is_about_to_end() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    // As it says when it was told to end, and waits for its Pods.
    let ending = sandbox.data().join("kubeopencode/ending");
    std::fs::write(&ending, "").expect("written");
    let outcome = sandbox.run(&["run", "Do it", "--command", "echo here"]);
    assert_eq!(outcome.expect_code(0).stdout, "here\n");
    std::fs::remove_file(&ending).expect("removed");
    assert_eq!(sandbox.run(&["task", "list", "-o", "name"]).stdout, "");
}

#[test]
fn a_second_local_is_told_of_the_first_which_goes_on() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let local = Local::start(&sandbox.data()).expect("it serves");
    let before = std::fs::read_to_string(local.kubeconfig()).expect("a kubeconfig");
    let second = sandbox.run(&["local"]).expect_code(1).stderr;
    assert!(
        second.contains("in use by process") && second.contains("running already"),
        "{second}"
    );
    assert_eq!(
        std::fs::read_to_string(local.kubeconfig()).expect("a kubeconfig"),
        before
    );
    sandbox.run(&["task", "list"]).expect_code(0);
}

#[test]
fn objects_are_there_after_a_restart() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("all.yaml", MANIFESTS);
    let local = Local::start(&sandbox.data()).expect("it serves");
    sandbox
        .run(&["task", "create", "-f", "all.yaml"])
        .expect_code(0);
    sandbox
        .run(&["task", "logs", "--follow", "first"])
        .expect_code(0);
    let kubeconfig = std::fs::read_to_string(local.kubeconfig()).expect("a kubeconfig");
    drop(local);
    let again = Local::start(&sandbox.data()).expect("it serves again");
    assert_eq!(
        std::fs::read_to_string(again.kubeconfig()).expect("a kubeconfig"),
        kubeconfig
    );
    let got = sandbox.run(&["task", "get", "first"]).expect_code(0).stdout;
    assert!(got.contains("Completed"), "{got}");
    let logs = sandbox
        .run(&["task", "logs", "first"])
        .expect_code(0)
        .stdout;
    assert_eq!(logs.trim_end(), "begun\nDo it.");
}

/// Its key is in what it says, in the output of a tool, and between the colours of a line that is no event. The file that
/// it is from is JSON, as agents have them.
#[test]
fn logs_are_for_people_and_without_secrets_unless_the_bytes_are_asked_for() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    let key = "sk-hush-hush-0123456789";
    let event = |kind: &str, part: serde_json::Value| {
        serde_json::json!({"type": kind, "sessionID": "s", "part": part}).to_string()
    };
    let state = serde_json::json!({
        "status": "completed", "input": {"command": "env"}, "output": format!("KEY={key}\n"), "metadata": {"exit": 3},
    });
    let events = [
        event("step_start", serde_json::json!({})),
        event(
            "tool_use",
            serde_json::json!({"tool": "bash", "callID": "c", "state": state}),
        ),
        "\u{1b}[1msk-hush\u{1b}[0m-hush-0123456789 \u{1b}[2J".to_owned(),
        event(
            "text",
            serde_json::json!({"text": format!("The key is {key}.")}),
        ),
    ];
    let events = events.join("\n") + "\n";
    let objects = [
        serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "stringData": {"auth.json": format!(r#"{{"api":{{"type":"api","key":"{key}"}}}}"#)},
        }),
        serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
            "spec": {
                "serviceAccountName": "default", "profile": "OpenCode", "command": ["cat", "events"],
                "contexts": [{"type": "Text", "mountPath": "events", "text": events}],
                "credentials": [{
                    "name": "auth", "secretRef": {"name": "keys", "key": "auth.json"}, "mountPath": "/tmp/auth.json",
                }],
            },
        }),
        serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "tells"},
            "spec": {"description": "Tell it."},
        }),
    ];
    let objects = objects.map(|object| object.to_string());
    sandbox.write("all.yaml", &objects.join("\n---\n"));
    sandbox
        .run(&["task", "create", "-f", "all.yaml"])
        .expect_code(0);

    let readable = "── step 1\n> bash env\n  exit code 3\n    KEY=***\n*** \nThe key is ***.\n\
                    1 step, 1 tool call\n";
    for arguments in [
        &["task", "logs", "--follow", "tells"][..],
        &["task", "logs", "tells"],
    ] {
        let logs = sandbox.run(arguments).expect_code(0);
        assert_eq!(logs.stdout, readable, "{arguments:?}");
    }
    let raw = sandbox.run(&["task", "logs", "--raw", "tells"]);
    assert_eq!(raw.expect_code(0).stdout, events);
    let got = sandbox.run(&["task", "get", "tells", "-o", "json"]);
    let got = got.expect_code(0).stdout;
    assert!(
        got.contains("The key is ***.") && !got.contains(key),
        "{got}"
    );
}

#[test]
fn what_is_in_the_cluster_is_not_replaced_unasked() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    let agent = |command: &str| {
        format!(
            "apiVersion: kubeopencode.io/v1alpha1\nkind: Agent\nmetadata: {{name: default}}\n\
             spec: {{serviceAccountName: default, command: [{command}]}}\n"
        )
    };
    sandbox.write("agent.yaml", &agent("echo, ours"));
    let create = |file: &str| sandbox.run(&["task", "create", "-f", file]);
    let first = create("agent.yaml").expect_code(0).stdout;
    let second = create("agent.yaml").expect_code(0).stdout;
    sandbox.write("agent.yaml", &agent("echo, changed"));
    let third = create("agent.yaml").expect_code(0).stdout;
    assert_eq!(
        [first.as_str(), second.as_str(), third.as_str()],
        [
            "agent/default created\n",
            "agent/default unchanged\n",
            "agent/default configured\n"
        ]
    );
    // A name that is mistyped makes nothing.
    let typo = sandbox
        .run(&["run", "Do it", "--command", "true", "-n", "typo"])
        .expect_code(2)
        .stderr;
    assert!(
        typo.contains("there is no namespace \"typo\"") && typo.contains("hint:"),
        "{typo}"
    );
}

#[test]
fn an_agent_that_is_installed_while_it_serves_is_found() {
    if !can_run_pods("local") {
        return;
    }
    let sandbox = Sandbox::new();
    let bin = sandbox.work().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let path = bin.to_string_lossy().into_owned();
    let _local = Local::start_with(&sandbox.data(), &[("PATH", &path)]).expect("it serves");
    for (agent, program, package) in [
        ("OpenCode", "opencode", "opencode-ai"),
        ("ClaudeCode", "claude", "@anthropic-ai/claude-code"),
        ("Codex", "codex", "@openai/codex"),
    ] {
        let run = |name: &str| {
            let name = format!("{program}-{name}");
            let objects = [
                serde_json::json!({
                    "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": program},
                    "spec": {"serviceAccountName": "default", "profile": agent},
                }),
                serde_json::json!({
                    "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": name},
                    "spec": {"description": "Do it", "agentRef": program},
                }),
            ];
            let text = objects.map(|it| it.to_string()).join("\n---\n");
            sandbox.write("it.yaml", &text);
            let created = sandbox
                .command(&["task", "create", "-f", "it.yaml"])
                .env("PATH", &path)
                .output();
            let created = Outcome::of(&created.expect("the binary starts")).expect_code(0);
            // Its end is what is waited for.
            sandbox.run(&["task", "logs", "--follow", &name]);
            let got = sandbox.run(&["task", "get", &name]).expect_code(0).stdout;
            (created.stderr, got)
        };
        let (said, got) = run("before");
        let install = format!("`npm install -g {package}` installs it");
        assert!(said.contains(&install), "{said}");
        assert!(got.contains("Failed"), "{got}");
        let program_file = std::fs::canonicalize("/bin/true").expect("true is installed");
        std::fs::copy(program_file, bin.join(program)).expect("a copy");
        let (said, got) = run("after");
        assert_eq!(said, "");
        // It was run, and what stands in for it tells nothing.
        assert!(got.contains("before it told anything of its work"), "{got}");
    }
}
