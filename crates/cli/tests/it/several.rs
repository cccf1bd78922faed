//! `run` with several Tasks.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::support::{Sandbox, can_run_pods, ended, signal};

#[test]
fn lines_of_several_tasks_tell_whose_they_are() {
    if !can_run_pods("run with several Tasks") {
        return;
    }
    let sandbox = Sandbox::new();
    let task = |name: &str| {
        format!(
            "---\napiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {{name: {name}, namespace: team}}\nspec: {{description: {name}}}\n"
        )
    };
    sandbox.write(
        "tasks.yaml",
        &format!(
            "apiVersion: kubeopencode.io/v1alpha1\nkind: Agent\nmetadata: {{name: default, namespace: team}}\nspec: {{serviceAccountName: default, command: [sh, -c, 'cat task.md; echo; grep -q one task.md']}}\n{}{}",
            task("one"),
            task("two")
        ),
    );
    let outcome = sandbox.run(&["run", "-f", "tasks.yaml"]).expect_code(1);
    let mut lines: Vec<&str> = outcome
        .stdout
        .lines()
        .filter(|line| line.len() > 6)
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[one] one", "[two] two"]);
}

/// The other one goes on until it is stopped, which is after the end of the first was said.
#[test]
fn each_is_summed_up_when_it_ends() {
    if !can_run_pods("run with several Tasks") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let both = |name: &str, command: &str| {
        format!(
            "apiVersion: kubeopencode.io/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
             spec: {{serviceAccountName: default, command: [sh, -c, '{command}']}}\n---\n\
             apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {{name: {name}}}\n\
             spec: {{agentRef: {name}, description: Do it, contexts: [{{type: Git, mountPath: repo, git: {{repository: ./repo}}}}]}}\n"
        )
    };
    let quick = both(
        "quick",
        "cd repo && git commit --quiet --allow-empty --message three",
    );
    let late = both("late", "echo working; exec sleep 1000");
    sandbox.write("it.yaml", &format!("{late}---\n{quick}"));
    let mut run = sandbox.command(&["run", "-f", "it.yaml", "-o", "json"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut run = run.expect("the binary starts");
    let stderr = BufReader::new(run.stderr.take().expect("it is piped"));
    let mut lines = stderr.lines().map(|line| line.expect("a line"));
    let mut said = String::new();
    for words in [
        "[late] working",
        "quick Completed",
        ", 1 new commit\n",
        " three\n",
        "branch kubeopencode/quick of ",
    ] {
        while !said.contains(words) {
            let line = lines.next();
            said.push_str(&line.unwrap_or_else(|| panic!("{words}: {said}")));
            said.push('\n');
        }
    }
    assert!(!said.contains("late Completed"), "{said}");
    signal(&run, "INT");
    let rest: Vec<String> = lines.collect();
    let rest = rest.join("\n");
    assert!(rest.contains("late Completed"), "{rest}");
    assert!(!rest.contains("quick Completed"), "it was said: {rest}");
    let outcome = ended(run).expect_code(143);
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let names = [&summary["tasks"][0]["name"], &summary["tasks"][1]["name"]];
    assert_eq!(names, ["late", "quick"]);
}
