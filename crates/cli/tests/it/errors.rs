//! Bad input: one clear message with place and remedy, exit status 2, and nothing is created.

use crate::support::Sandbox;

const AGENT: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec: {serviceAccountName: default, command: [\"true\"]}
---
";

/// What `run` and `plan` say to a file, without the words in front.
fn said(text: &str) -> String {
    let sandbox = Sandbox::new();
    sandbox.write("task.yaml", &format!("{AGENT}{text}"));
    let planned = sandbox.run(&["plan", "-f", "task.yaml"]);
    let run = sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2);
    assert_eq!(run.stdout, "", "data");
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
    if planned.code == Some(2) {
        assert_eq!(run.stderr, planned.stderr, "run and plan say the same");
    }
    run.stderr
}

/// A Task with this spec; its first line is the sixth of the file.
fn task(spec: &str) -> String {
    format!(
        "apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {{name: it}}\nspec:\n{spec}\n"
    )
}

#[test]
fn no_such_file() {
    let outcome = Sandbox::new()
        .run(&["run", "-f", "nowhere.yaml"])
        .expect_code(2);
    insta::assert_snapshot!(outcome.stderr, @"");
}

#[test]
fn a_folder_without_manifests() {
    let sandbox = Sandbox::new();
    sandbox.write("folder/notes.txt", "");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "folder"]).expect_code(2).stderr, @"");
}

#[test]
fn an_empty_file() {
    let sandbox = Sandbox::new();
    sandbox.write("task.yaml", "# nothing\n");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2).stderr, @"");
}

#[test]
fn no_task_in_it() {
    let sandbox = Sandbox::new();
    sandbox.write("task.yaml", AGENT);
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2).stderr, @"");
}

#[test]
fn no_yaml() {
    insta::assert_snapshot!(said("kind: [Task\n"), @"");
}

#[test]
fn a_key_twice() {
    insta::assert_snapshot!(said("kind: Task\nkind: Agent\n"), @"");
}

#[test]
fn no_utf8() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("task.yaml"), b"a: 1\nb: \xff\n").expect("a file");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2).stderr, @"");
}

#[test]
fn an_unknown_field() {
    insta::assert_snapshot!(said(&task("  descripton: x\n  contexts:\n    - {type: Text, txt: x}")), @"");
}

#[test]
fn a_wrong_type() {
    insta::assert_snapshot!(said(&task("  description: [a]\n  timeout: 5")), @"");
}

#[test]
fn a_value_that_is_not_allowed() {
    insta::assert_snapshot!(said(&task("  timeout: soon\n  contexts:\n    - {type: Txt, text: x}")), @"");
}

#[test]
fn a_rule_that_is_broken() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - type: Git\n      git: {repository: 'https://example.com/a'}")), @"");
}

#[test]
fn an_unknown_kind() {
    insta::assert_snapshot!(said("apiVersion: kubeopencode.io/v1alpha1\nkind: Taks\nmetadata: {name: it}\n"), @"");
}

#[test]
fn a_kind_in_the_wrong_version() {
    insta::assert_snapshot!(said("apiVersion: v1\nkind: Job\nmetadata: {name: it}\n"), @"");
}

#[test]
fn no_kind() {
    insta::assert_snapshot!(said("apiVersion: v1\nmetadata: {name: it}\n"), @"");
}

#[test]
fn no_name() {
    insta::assert_snapshot!(said("apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nspec: {}\n"), @"");
}

#[test]
fn a_name_that_kubernetes_does_not_take() {
    insta::assert_snapshot!(said("apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {name: Fix It}\nspec: {}\n"), @"");
}

#[test]
fn the_same_object_twice() {
    insta::assert_snapshot!(said(&format!("{}---\n{}", task("  description: x"), task("  description: x"))), @"");
}

#[test]
fn two_items_on_one_path() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - {type: Text, mountPath: a, text: x}\n    - {type: Text, mountPath: /workspace/a, text: x}")), @"");
}

#[test]
fn a_missing_agent() {
    insta::assert_snapshot!(said(&task("  agentRef: nobody\n  description: x")), @"");
}

#[test]
fn a_missing_config_map() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - {type: ConfigMap, configMap: {name: nowhere}}")), @"");
}

#[test]
fn a_missing_secret() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - type: Git\n      mountPath: a\n      git: {repository: 'https://example.com/a', secretRef: {name: nowhere}}")), @"");
}

#[test]
fn a_description_that_no_config_map_holds() {
    let said = said(&task(&format!("  description: {}", "x".repeat(1_100_000))));
    insta::assert_snapshot!(said, @"");
}

#[test]
fn a_repository_that_is_none() {
    let sandbox = Sandbox::new();
    sandbox.write("folder/file", "");
    for (repository, code) in [("folder", 2), ("nowhere", 2)] {
        let outcome = sandbox
            .run(&["run", "do it", "--repo", repository, "--command", "true"])
            .expect_code(code);
        insta::assert_snapshot!(
            format!("a_repository_that_is_none_{repository}"),
            outcome.stderr
        );
    }
}

#[test]
fn a_secret_is_not_quoted() {
    let text = said(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: it}\ndata: {password: 'hunter2 hunter2'}\n",
    );
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text, @"");
}

#[test]
fn a_path_of_this_machine_on_another_cluster() {
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    sandbox.write(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n",
    );
    let arguments = [
        "run",
        "do it",
        "--repo",
        "repo",
        "--kubeconfig",
        "kubeconfig",
        "--context",
    ];
    let there = sandbox
        .run(&[&arguments[..], &["a"]].concat())
        .expect_code(2);
    insta::assert_snapshot!(there.stderr, @"");
    let nowhere = sandbox
        .run(&[&arguments[..], &["b"]].concat())
        .expect_code(2);
    insta::assert_snapshot!(nowhere.stderr, @"");
}

#[test]
fn no_cluster() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["task", "list"]).expect_code(1).stderr, @"");
}

#[test]
fn nothing_to_do() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["run"]).expect_code(2).stderr, @"");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "x", "--repo", "."]).expect_code(2).stderr, @"");
}
