//! `run`: from manifests or words to the agent's exit status.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use crate::support::{GitDaemon, Outcome, Sandbox, can_run_pods, ended, free_port, git};

#[test]
fn output_is_the_agents_and_so_is_the_exit_status() {
    if !can_run_pods("run") {
        return;
    }
    let sandbox = Sandbox::new();
    let outcome = sandbox
        .run(&[
            "run",
            "Say it",
            "--command",
            "cat task.md; printf 'no newline'; exit 7",
        ])
        .expect_code(7);
    assert_eq!(outcome.stdout, "Say it\nno newline");
    assert!(
        outcome.stderr.contains("AgentExitNonZero"),
        "{}",
        outcome.stderr
    );
    let outcome = sandbox
        .run(&["run", "Say it", "--command", "kill -SEGV $$"])
        .expect_code(139);
    assert!(outcome.stderr.contains("SIGSEGV"), "{}", outcome.stderr);
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

#[test]
fn a_summary_for_programs_is_alone_on_standard_output() {
    if !can_run_pods("run -o json") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let arguments = [
        "run",
        "Do it",
        "-o",
        "json",
        "--repo",
        "repo",
        "--command",
        "echo told; git commit --quiet --allow-empty --message three",
    ];
    let outcome = sandbox.run(&arguments).expect_code(0);
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let task = &summary["tasks"][0];
    assert_eq!(task["name"], "do-it");
    assert_eq!(task["phase"], "Completed");
    assert_eq!(task["reason"], "Succeeded");
    assert_eq!(task["exitCode"], 0);
    assert_eq!(task["checkouts"][0]["commits"], 1);
    assert_eq!(
        task["checkouts"][0]["broughtBack"]["branch"],
        "kubeopencode/do-it"
    );
    assert!(outcome.stderr.contains("told"), "{}", outcome.stderr);
}

#[test]
fn what_an_agent_tells_of_its_work_is_readable_and_said_at_the_end() {
    if !can_run_pods("run --agent") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    // It stands in for OpenCode, of which the fixture is a recording.
    let events = include_str!("../../../agents/tests/fixtures/ok-write.jsonl");
    let work = "cat events.jsonl && git commit --quiet --allow-empty --message 'Say hello'";
    let agent = serde_json::json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
        "spec": {
            "serviceAccountName": "default", "profile": "OpenCode", "command": ["sh", "-c", work],
            "contexts": [{"type": "Text", "mountPath": "events.jsonl", "text": events}],
        },
    });
    let file = sandbox.write("agent.yaml", &agent.to_string());
    let file = file.to_string_lossy();
    let arguments = [
        "run", "Say it", "--repo", "repo", "--agent", "default", "--file", &file,
    ];
    let outcome = sandbox.run(&arguments).expect_code(0);
    let readable = "── step 1\n> write hello.txt (+1 -0)\n    + hello from the scripted model\n\
                    ── step 2 · 127 tokens, 0.000098 dollars so far\nCreated hello.txt.\n";
    assert_eq!(outcome.stdout, readable);
    let used = "2 steps, 1 tool call, 260 tokens in (80 from a cache), 14 out, 0.000216 dollars";
    for words in ["Completed", used, "1 new commit", " Say hello\n"] {
        assert!(
            outcome.stderr.contains(words),
            "{words}: {}",
            outcome.stderr
        );
    }
    let raw = sandbox.run(&[&arguments[..], &["--raw"]].concat());
    assert_eq!(raw.expect_code(0).stdout, events, "as it was");
}

#[test]
fn commits_come_back_as_a_branch_and_nothing_else_is_touched() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    // A hook of the repository, and one that the agent leaves in its checkout: neither may run.
    for (hook, mark) in [
        ("reference-transaction", "hook-ran"),
        ("post-checkout", "hook-ran"),
    ] {
        let path = repository.join(".git/hooks").join(hook);
        std::fs::write(
            &path,
            format!("#!/bin/sh\ntouch {}\n", sandbox.work().join(mark).display()),
        )
        .expect("a hook");
        std::process::Command::new("chmod")
            .arg("755")
            .arg(&path)
            .status()
            .expect("chmod");
    }
    std::fs::write(repository.join("README.md"), "not committed\n").expect("a file");
    let before = std::fs::read_to_string(repository.join(".git/config")).expect("a config");
    let work = "echo three > three && git add three && git commit --quiet --message three && git config core.fsmonitor 'touch /tmp/x' && git log --oneline | wc -l";
    let arguments = ["run", "Add three", "--repo", "repo", "--command", work];
    let outcome = sandbox.run(&arguments).expect_code(0);
    assert_eq!(outcome.stdout.trim(), "3", "the whole history is there");
    assert!(
        outcome.stderr.contains("kubeopencode/add-three"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("not committed"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        git(
            &repository,
            &["log", "--format=%s", "kubeopencode/add-three"]
        ),
        "three\ntwo\none"
    );
    assert_eq!(git(&repository, &["branch", "--show-current"]), "main");
    assert_eq!(
        git(&repository, &["log", "--format=%s", "main"]),
        "two\none"
    );
    assert_eq!(git(&repository, &["status", "--porcelain"]), "M README.md");
    assert_eq!(git(&repository, &["tag"]), "");
    assert_eq!(
        std::fs::read_to_string(repository.join(".git/config")).expect("a config"),
        before
    );
    assert!(!repository.join(".git/FETCH_HEAD").exists());
    assert!(!sandbox.work().join("hook-ran").exists(), "a hook ran");
    // Once more: the branch of the first time stays as it is.
    let outcome = sandbox.run(&arguments).expect_code(0);
    assert!(
        outcome.stderr.contains("kubeopencode/add-three-2"),
        "{}",
        outcome.stderr
    );
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

/// A link leads out of the workspace, so nobody follows it; the commits are still below it.
#[test]
fn commits_that_cannot_be_brought_back_stay_and_that_is_said() {
    if !can_run_pods("run -f with a repository") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let work = "cd repo && git commit --quiet --allow-empty --message three && cd .. && mv repo moved && ln -s /workspace/moved repo";
    let objects = [
        serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
            "spec": {"serviceAccountName": "default", "command": ["sh", "-c", work]},
        }),
        serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
            "spec": {"description": "Do it", "contexts": [
                {"type": "Git", "mountPath": "repo", "git": {"repository": "./repo"}},
            ]},
        }),
    ];
    sandbox.write("it.yaml", &objects.map(|it| it.to_string()).join("\n---\n"));
    let outcome = sandbox
        .run(&["run", "-f", "it.yaml", "-o", "json"])
        .expect_code(1);
    let why = "the agent's work could not be brought back to ";
    assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    assert_eq!(
        git(&repository, &["branch", "--format=%(refname:short)"]),
        "main"
    );
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let told = &summary["tasks"][0]["checkouts"][0]["notBroughtBack"];
    assert!(told.as_str().is_some_and(|told| told.starts_with(why)));
    let workspace = summary["tasks"][0]["workspace"].as_str().expect("a place");
    let moved = std::path::Path::new(workspace).join("moved");
    assert_eq!(git(&moved, &["log", "-1", "--format=%s"]), "three");
}

#[test]
fn the_repository_is_visible_to_the_clone_alone() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let look = format!(
        "ls {}/README.md; touch {}/new; true",
        repository.display(),
        repository.display()
    );
    sandbox
        .run(&["run", "Look", "--repo", "repo", "--command", &look])
        .expect_code(0);
    assert!(!repository.join("new").exists());
    assert_eq!(
        git(&repository, &["branch", "--format=%(refname:short)"]),
        "main"
    );
}

#[test]
fn a_linked_worktree_is_a_repository_too() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    git(
        &repository,
        &[
            "worktree",
            "add",
            "--quiet",
            "-b",
            "topic",
            "../linked",
            "HEAD~1",
        ],
    );
    let outcome = sandbox
        .run(&[
            "run",
            "Where",
            "--repo",
            "linked",
            "--command",
            "git branch --show-current; cat README.md; git commit --quiet --allow-empty -m x",
        ])
        .expect_code(0);
    assert_eq!(outcome.stdout, "topic\none\n");
    assert_eq!(
        git(&repository, &["log", "--format=%s", "kubeopencode/where"]),
        "x\none"
    );
}

#[test]
fn the_example_works_in_a_fresh_shallow_clone() {
    if !can_run_pods("run -f examples/first-task.yaml") {
        return;
    }
    let sandbox = Sandbox::new();
    let origin = sandbox.repository("origin");
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/first-task.yaml"
    );
    std::fs::create_dir(origin.join("examples")).expect("a folder");
    std::fs::copy(example, origin.join("examples/first-task.yaml")).expect("the example");
    git(&origin, &["add", "--all"]);
    git(&origin, &["commit", "--quiet", "--message", "three"]);
    let url = format!("file://{}", origin.display());
    git(
        &sandbox.work(),
        &["clone", "--quiet", "--depth", "1", &url, "clone"],
    );
    let outcome = sandbox
        .run(&["run", "-f", "clone/examples/first-task.yaml"])
        .expect_code(0);
    assert!(
        outcome.stdout.contains("how many files of each kind"),
        "{}",
        outcome.stdout
    );
    let clone = sandbox.work().join("clone");
    assert_eq!(
        git(
            &clone,
            &[
                "show",
                "--format=%s",
                "--name-only",
                "kubeopencode/first-task"
            ]
        ),
        "docs: count the files of each kind\n\nINVENTORY.md"
    );
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    if !can_run_pods("two runs at once") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let children: Vec<Child> = ["a", "b"]
        .iter()
        .map(|name| {
            let command = format!("echo {name} > {name}; git add .; git commit --quiet --message {name}; echo done {name}");
            sandbox
                .command(&["run", "Both", "--repo", "repo", "--command", &command])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary starts")
        })
        .collect();
    for (child, name) in children.into_iter().zip(["a", "b"]) {
        assert_eq!(ended(child).expect_code(0).stdout, format!("done {name}\n"));
    }
    let mut subjects = [
        git(
            &repository,
            &["log", "-1", "--format=%s", "kubeopencode/both"],
        ),
        git(
            &repository,
            &["log", "-1", "--format=%s", "kubeopencode/both-2"],
        ),
    ];
    subjects.sort();
    assert_eq!(subjects, ["a", "b"]);
}

#[test]
fn what_is_kept_is_named() {
    if !can_run_pods("run --keep") {
        return;
    }
    let sandbox = Sandbox::new();
    let outcome = sandbox
        .run(&[
            "run",
            "Keep",
            "--keep",
            "-o",
            "json",
            "--command",
            "echo kept > file",
        ])
        .expect_code(0);
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let workspace = summary["tasks"][0]["workspace"].as_str().expect("a place");
    assert_eq!(
        std::fs::read_to_string(format!("{workspace}/file")).expect("the file"),
        "kept\n"
    );
}

/// What is said where the `PATH` has nothing at all.
fn without_agents(sandbox: &Sandbox, arguments: &[&str]) -> Outcome {
    let bin = sandbox.work().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    let output = sandbox.command(arguments).env("PATH", &bin).output();
    Outcome::of(&output.expect("the binary starts"))
}

#[test]
fn without_opencode_it_says_how_to_get_it() {
    let outcome = without_agents(&Sandbox::new(), &["run", "Do it"]).expect_code(1);
    insta::assert_snapshot!(outcome.stderr, @"
    error: the Task do-it runs OpenCode, which is not installed on this machine
    hint: `npm install -g opencode-ai` installs it (a script that starts it does not count); --command, or an Agent with a command, runs something else
    ");
}

#[test]
fn without_an_agent_it_says_how_to_get_it_whoever_starts_it() {
    let sandbox = Sandbox::new();
    for (profile, package, commands) in [
        (
            "OpenCode",
            "opencode-ai",
            ["opencode run --format json", "exec /tools/opencode run"],
        ),
        (
            "ClaudeCode",
            "@anthropic-ai/claude-code",
            ["claude -p < task.md", "exec claude -p < task.md"],
        ),
        (
            "Codex",
            "@openai/codex",
            ["codex exec --json - < task.md", "exec codex exec -"],
        ),
    ] {
        let said = [
            format!("runs {profile}, which is not installed on this machine"),
            format!("`npm install -g {package}` installs it"),
        ];
        let agent = serde_json::json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
            "spec": {"serviceAccountName": "default", "profile": profile},
        });
        let file = sandbox.write("agent.yaml", &agent.to_string());
        let file = file.to_string_lossy();
        let by_profile = vec!["run", "Do it", "--agent", "default", "-f", &file];
        let by_command = commands.map(|command| vec!["run", "Do it", "--command", command]);
        for arguments in by_command.into_iter().chain([by_profile]) {
            let outcome = without_agents(&sandbox, &arguments).expect_code(1);
            for said in &said {
                assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
            }
        }
    }
}

/// Another command may do without it, or bring it.
#[test]
fn a_command_that_only_names_an_agent_is_run_with_a_warning() {
    if !can_run_pods("run --command") {
        return;
    }
    let sandbox = Sandbox::new();
    let arguments = ["run", "Do it", "--command", "command -v codex || echo none"];
    let outcome = without_agents(&sandbox, &arguments).expect_code(0);
    assert_eq!(outcome.stdout, "none\n");
    let said = "warning: the command of the Task do-it names Codex, which is not installed on this machine";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
}

/// The manifests that the design document prints, except those that clone from the network or need Secrets. What they
/// call OpenCode is a program that does nothing, and does not say that it did.
#[test]
fn manifests_of_the_document_run() {
    if !can_run_pods("run -f with the manifests of the document") {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/data");
    let mut ran = 0;
    for entry in std::fs::read_dir(folder).expect("the engine's test data") {
        let path = entry.expect("an entry").path();
        let is_manifest = path.extension().is_some_and(|ending| ending == "yaml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if !is_manifest || text.contains("https://") || text.contains("secretRef") {
            continue;
        }
        let sandbox = Sandbox::new();
        let bin = sandbox.work().join("bin");
        std::fs::create_dir(&bin).expect("a folder");
        let program = std::fs::canonicalize("/bin/true").expect("true is installed");
        std::fs::copy(program, bin.join("opencode")).expect("a copy");
        let search = format!(
            "{}:{}",
            bin.display(),
            std::env::var("PATH").expect("a PATH")
        );
        let mut command = sandbox.command(&["run", "-f", &path.display().to_string()]);
        let output = command
            .env("PATH", search)
            .output()
            .expect("the binary starts");
        let outcome = Outcome::of(&output);
        let is_silent = outcome.code == Some(1)
            && outcome
                .stderr
                .contains("(AgentUnfinished): the agent ended with exit code 0, and stopped before it told anything of its work");
        assert!(
            is_silent || (outcome.code == Some(0) && outcome.stderr.contains("Succeeded")),
            "{}: {}",
            path.display(),
            outcome.stderr
        );
        ran += 1;
    }
    assert!(ran >= 4, "{ran}");
}

/// Nobody answers when the first attempt clones, so its agent is never started; the second one finds a server there.
#[test]
fn the_agent_of_a_second_attempt_is_heard_too() {
    if !can_run_pods("run --repo URL") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("app");
    let port = free_port();
    let url = format!("git://127.0.0.1:{port}/app");
    let arguments = ["run", "Say it", "--repo", &url, "--command", "echo heard"];
    let mut run = sandbox.command(&arguments);
    let mut run = run
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stderr = BufReader::new(run.stderr.take().expect("it is piped"));
    let mut lines = stderr.lines().map(|line| line.expect("a line"));
    let spent = lines.find(|line| line.contains("another one begins"));
    assert!(spent.is_some(), "the first attempt fails");
    let _daemon = GitDaemon::at(&sandbox.work(), port);
    let rest: Vec<String> = lines.collect();
    let output = run.wait_with_output().expect("it ends");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "heard\n", "{}", rest.join("\n"));
}
