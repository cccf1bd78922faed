//! `run` and `task create` in a cluster that has things in it already: of others, or of an earlier time.

use super::local::served::Local;
use crate::support::{GitDaemon, Outcome, Sandbox, can_run_pods, git};

const AGENT: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec: {serviceAccountName: default, command: [sh, -c, 'cat task.md']}
";

#[test]
fn an_agent_that_nobody_named_is_said_and_what_it_runs() {
    if !can_run_pods("run in a local with an Agent") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    sandbox.write("agent.yaml", AGENT);
    sandbox
        .run(&["task", "create", "-f", "agent.yaml"])
        .expect_code(0);
    let says = "uses the Agent default of namespace default, which runs `sh -c cat task.md`\n";
    let run = |name: &str, more: &[&str]| {
        let outcome = sandbox.run(&[&["run", "Do it", "--name", name], more].concat());
        outcome.expect_code(0).stderr
    };
    let unasked = run("unasked", &[]);
    assert!(unasked.starts_with(&format!("unasked {says}")), "{unasked}");
    // Where it is named, or given, nobody is surprised.
    for (name, more) in [
        ("named", &["--agent", "default"][..]),
        ("given", &["-f", "agent.yaml"]),
        ("own", &["--command", "true"]),
    ] {
        let said = run(name, more);
        assert!(!said.contains("uses the Agent"), "{said}");
    }
}

#[test]
fn a_path_is_for_run_alone() {
    if !can_run_pods("run and task create in a local") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let _local = Local::start(&sandbox.data()).expect("it serves");
    let file = |name: &str, repository: &str| {
        let task = format!(
            "{AGENT}---\napiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {{name: {name}}}\n\
             spec: {{description: Do it, contexts: [{{type: Git, mountPath: a, git: {{repository: '{repository}'}}}}]}}\n"
        );
        sandbox.write("it.yaml", &task);
    };
    file("by-path", "./repo");
    let refused = sandbox.run(&["task", "create", "-f", "it.yaml"]);
    let refused = refused.expect_code(2).stderr;
    let says = "error: it.yaml:9:71: spec.contexts[0].git.repository: \"./repo\" is a path";
    assert!(refused.starts_with(says), "{refused}");
    let listed = sandbox.run(&["agent", "list", "-o", "name"]).expect_code(0);
    assert_eq!(listed.stdout, "", "nothing was created");
    sandbox.run(&["run", "-f", "it.yaml"]).expect_code(0);
    file("by-url", &format!("file://{}", repository.display()));
    sandbox
        .run(&["task", "create", "-f", "it.yaml"])
        .expect_code(0);
}

/// A Secret, an Agent that uses it, and a Task.
fn with_a_secret(key: &str, task: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: model}}\nstringData: {{KEY: {key}}}\n---\n\
         apiVersion: kubeopencode.io/v1alpha1\nkind: Agent\nmetadata: {{name: keyed}}\n\
         spec: {{serviceAccountName: default, command: [sh, -c, 'test $$KEY = {key}'], credentials: [{{name: a, secretRef: {{name: model}}}}]}}\n---\n\
         apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {{name: {task}}}\nspec: {{description: Do it, agentRef: keyed}}\n"
    )
}

#[test]
fn run_replaces_nothing_that_is_there() {
    if !can_run_pods("run -f in a local with a Secret") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    let run = |key: &str, task: &str| {
        sandbox.write("it.yaml", &with_a_secret(key, task));
        sandbox.run(&["run", "-f", "it.yaml"])
    };
    run("first-key", "first").expect_code(0);
    // What is there is what the file says: it is used.
    run("first-key", "second").expect_code(0);
    let refused = run("other-key", "third").expect_code(2).stderr;
    insta::assert_snapshot!(refused, @"
    error: it.yaml:3:12: Secret model is in namespace default already, with other content than here; others may use it, so it is not changed
    error: it.yaml:8:12: Agent keyed is in namespace default already, with other content than here; others may use it, so it is not changed
    hint: give this one another name, or leave it out and use the one that is there; `kubectl apply --server-side --force-conflicts -f FILE` replaces it
    ");
    let tasks = sandbox.run(&["task", "list", "-o", "name"]).expect_code(0);
    assert_eq!(
        tasks.stdout,
        "task.kubeopencode.io/first\ntask.kubeopencode.io/second\n"
    );
    run("first-key", "fourth").expect_code(0);
}

/// Whoever asks has another `PATH`: what counts is that of the process which runs Pods.
#[test]
fn an_agent_is_looked_for_where_local_looks() {
    if !can_run_pods("run in a local with another PATH") {
        return;
    }
    let sandbox = Sandbox::new();
    let (with, without) = (sandbox.work().join("with"), sandbox.work().join("without"));
    for folder in [&with, &without] {
        std::fs::create_dir(folder).expect("a folder");
    }
    let program = std::fs::canonicalize("/bin/true").expect("true is installed");
    std::fs::copy(program, with.join("opencode")).expect("a copy");
    let (with, without) = (with.to_string_lossy(), without.to_string_lossy());
    let run = |path: &str, arguments: &[&str]| {
        let output = sandbox.command(arguments).env("PATH", path).output();
        Outcome::of(&output.expect("the binary starts"))
    };
    {
        let _local = Local::start_with(&sandbox.data(), &[("PATH", &with)]).expect("it serves");
        let ran = run(&without, &["run", "Do it"]).expect_code(1);
        // What stands in for it tells nothing.
        let said = "before it told anything of its work";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let _local = Local::start_with(&sandbox.data(), &[("PATH", &without)]).expect("it serves");
    let asked = ["run", "Do it", "--name", "it"];
    insta::assert_snapshot!(run(&with, &asked).expect_code(1).stderr, @"
    error: the Task it runs OpenCode, which is not on the PATH of `kubeopencode local`, the process that runs it
    hint: it is on the PATH of this shell: end `kubeopencode local`, and start it again from here; --command, or an Agent with a command, runs something else
    ");
    insta::assert_snapshot!(run(&without, &asked).expect_code(1).stderr, @"
    error: the Task it runs OpenCode, which is not on the PATH of `kubeopencode local`, the process that runs it
    hint: `npm install -g opencode-ai` installs it (a script that starts it does not count); where that is not on its PATH, restart `kubeopencode local` with a PATH that has it; --command, or an Agent with a command, runs something else
    ");
    // Where nobody has looked before, the Task says it.
    sandbox.write(
        "it.yaml",
        "apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {name: it}\nspec: {description: Do it}\n",
    );
    run(&with, &["task", "create", "-f", "it.yaml"]).expect_code(0);
    sandbox.run(&["task", "logs", "--follow", "it"]);
    let got = sandbox.run(&["task", "get", "it"]).expect_code(0).stdout;
    let says = "OpenCode is not on the PATH of `kubeopencode local`";
    assert!(got.contains(says), "{got}");
}

/// A `local` that is named by its kubeconfig is a cluster as any other: nobody looks into its Pods.
fn run_elsewhere(sandbox: &Sandbox, local: &Local, arguments: &[&str]) -> Outcome {
    let kubeconfig = local.kubeconfig().to_string_lossy().into_owned();
    let named = ["run", "--kubeconfig", &kubeconfig];
    sandbox.run(&[&named[..], arguments].concat())
}

const STAYS: &str =
    "what the agent commits in /workspace is not pushed: it stays in its Pod, and goes with it";
const LOST: &str = "  this is not pushed anywhere, and goes with its Pod";

#[test]
fn what_is_not_pushed_from_another_cluster_is_said_before_and_after() {
    if !can_run_pods("run --kubeconfig --repo URL") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("app");
    let daemon = GitDaemon::start(&sandbox.work());
    let url = daemon.url("app");
    let local = Local::start(&sandbox.data()).expect("it serves");
    let run = |work: &str| {
        let arguments = ["Do it", "--repo", &url, "-o", "json", "--command", work];
        let outcome = run_elsewhere(&sandbox, &local, &arguments).expect_code(0);
        let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let checkout = &summary["tasks"][0]["checkouts"][0];
        (outcome.stderr, checkout["onlyInPod"].clone())
    };
    for work in [
        "git commit --quiet --allow-empty --message three",
        "git checkout --quiet -b x && git commit --quiet --allow-empty --message three && git checkout --quiet main",
        "echo new > new",
    ] {
        let (said, only) = run(work);
        let (before, after) = said.split_once("Running").expect("it runs");
        assert!(
            before.contains(STAYS) && before.contains("`--push`"),
            "{said}"
        );
        assert!(after.contains(LOST), "{work}: {said}");
        assert_eq!(only, true);
    }
    let (said, only) = run("true");
    assert!(said.contains(STAYS) && !said.contains(LOST), "{said}");
    assert_eq!(only, serde_json::Value::Null);
    // In a file it is said with the words of a file.
    let task = serde_json::json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
        "spec": {"description": "Do it", "contexts": [
            {"type": "Git", "mountPath": "app", "git": {"repository": url}},
        ]},
    });
    sandbox.write("it.yaml", &format!("{AGENT}---\n{task}\n"));
    let said = run_elsewhere(&sandbox, &local, &["-f", "it.yaml"]).expect_code(0);
    let words = "commits in /workspace/app is not pushed: it stays in its Pod";
    let said = said.stderr;
    assert!(
        said.contains(words) && said.contains("`push` in the Git item"),
        "{said}"
    );
}

#[test]
fn what_is_pushed_from_another_cluster_is_there_and_the_rest_is_named() {
    if !can_run_pods("run --kubeconfig --repo URL --push") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("app");
    let daemon = GitDaemon::start(&sandbox.work());
    let url = daemon.url("app");
    let local = Local::start(&sandbox.data()).expect("it serves");
    let commit = "git commit --quiet --allow-empty --message three";
    let run = |name: &str, push: &str, work: &str| {
        let arguments = [
            "Do it",
            "--name",
            name,
            "--repo",
            &url,
            push,
            "--command",
            work,
        ];
        run_elsewhere(&sandbox, &local, &arguments)
            .expect_code(0)
            .stderr
    };
    let subjects = |branch: &str| git(&repository, &["log", "--format=%s", branch]);
    let said = run("first", "--push", commit);
    assert!(
        said.contains("; pushed to branch kubeopencode/first"),
        "{said}"
    );
    for words in [STAYS, "goes with its Pod"] {
        assert!(!said.contains(words), "{said}");
    }
    assert_eq!(subjects("kubeopencode/first"), "three\ntwo\none");
    let said = run(
        "second",
        "--push=topic",
        &format!("{commit} && echo new > new"),
    );
    let rest =
        "  what is not committed, or not on this branch, is not pushed, and goes with its Pod";
    assert!(
        said.contains("; pushed to branch topic") && said.contains(rest),
        "{said}"
    );
    assert_eq!(subjects("topic"), "three\ntwo\none");
}

#[test]
fn a_secret_for_the_repository_has_to_be_there() {
    if !can_run_pods("run --kubeconfig --repo-secret") {
        return;
    }
    let sandbox = Sandbox::new();
    let local = Local::start(&sandbox.data()).expect("it serves");
    let url = "https://git.example.com/app.git";
    let arguments = [
        "Do it",
        "--name",
        "it",
        "--repo",
        url,
        "--push",
        "--repo-secret",
        "nowhere",
        "--command",
        "true",
    ];
    let said = run_elsewhere(&sandbox, &local, &arguments).expect_code(2);
    insta::assert_snapshot!(said.stderr, @"
    error: the command line: Task it needs Secret default/nowhere, which is neither in the files nor in the cluster
    hint: put it into one of the files, or give its file with another -f
    ");
    let task = serde_json::json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
        "spec": {"description": "Do it", "contexts": [
            {"type": "Git", "mountPath": "app", "git": {"repository": url, "push": {"secretRef": {"name": "nowhere"}}}},
        ]},
    });
    sandbox.write("it.yaml", &format!("{AGENT}---\n{task}\n"));
    let said = run_elsewhere(&sandbox, &local, &["-f", "it.yaml"]).expect_code(2);
    let needs =
        "Task it needs Secret default/nowhere, which is neither in the files nor in the cluster";
    assert!(said.stderr.contains(needs), "{}", said.stderr);
}
