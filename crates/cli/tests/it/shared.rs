//! `run` and `task create` in a cluster that has things in it already: of others, or of an earlier time.

use super::local::served::Local;
use crate::support::{Sandbox, can_run_pods};

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
