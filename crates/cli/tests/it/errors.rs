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
    insta::assert_snapshot!(outcome.stderr, @"
    error: nowhere.yaml: there is no such file
    hint: paths are relative to the current directory; `-f -` reads standard input
    ");
}

#[test]
fn a_folder_without_manifests() {
    let sandbox = Sandbox::new();
    sandbox.write("folder/notes.txt", "");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "folder"]).expect_code(2).stderr, @"
    error: folder: there is no file in this directory that ends in .yaml, .yml or .json
    ");
}

#[test]
fn an_empty_file() {
    let sandbox = Sandbox::new();
    sandbox.write("task.yaml", "# nothing\n");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2).stderr, @"
    error: task.yaml: there is no object in it
    hint: a manifest begins with apiVersion and kind; docs/tasks.md has a Task to start from
    ");
}

#[test]
fn no_task_in_it() {
    let sandbox = Sandbox::new();
    sandbox.write("task.yaml", AGENT);
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2).stderr, @"
    error: task.yaml: there is no Task in it, so there is nothing to run
    ");
}

#[test]
fn no_yaml() {
    insta::assert_snapshot!(said("kind: [Task\n"), @"
    error: task.yaml:6:7: this is not YAML: unclosed bracket '['
    ");
}

#[test]
fn a_key_twice() {
    insta::assert_snapshot!(said("kind: Task\nkind: Agent\n"), @r#"
    error: task.yaml:7:1: this is not YAML: the key "kind" is there twice
    "#);
}

#[test]
fn no_utf8() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("task.yaml"), b"a: 1\nb: \xff\n").expect("a file");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "task.yaml"]).expect_code(2).stderr, @"
    error: task.yaml:2: this is not text in UTF-8
    ");
}

#[test]
fn an_unknown_field() {
    insta::assert_snapshot!(said(&task("  descripton: x\n  contexts:\n    - {type: Text, txt: x}")), @r#"
    error: task.yaml:10:3: Task has no field "spec.descripton"
    hint: did you mean "description"?
    error: task.yaml:12:20: Task has no field "spec.contexts[0].txt"
    hint: did you mean "text"?
    error: task.yaml:12:7: spec.contexts[0].text: text is required when type is Text
    "#);
}

#[test]
fn a_wrong_type() {
    insta::assert_snapshot!(said(&task("  description: [a]\n  timeout: 5")), @r#"
    error: task.yaml:10:3: spec.description: must be of type string: "array"
    error: task.yaml:11:3: spec.timeout: must be of type string: "integer"
    hint: a duration is hours, minutes and seconds, as in `1h30m`
    "#);
}

#[test]
fn a_value_that_is_not_allowed() {
    insta::assert_snapshot!(said(&task("  timeout: soon\n  contexts:\n    - {type: Txt, text: x}")), @r#"
    error: task.yaml:12:8: spec.contexts[0].type: Unsupported value: "Txt": supported values: "Text", "ConfigMap", "Git", "Runtime"
    error: task.yaml:10:3: spec.timeout: should match '^([0-9]+h)?([0-9]+m)?([0-9]+s)?$'
    hint: a duration is hours, minutes and seconds, as in `1h30m`
    "#);
}

#[test]
fn a_rule_that_is_broken() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - type: Git\n      git: {repository: 'https://example.com/a'}")), @"
    error: task.yaml:11:7: spec.contexts[0].mountPath: mountPath is required when type is Git: a repository has no place in task.md
    ");
}

#[test]
fn an_unknown_kind() {
    insta::assert_snapshot!(said("apiVersion: kubeopencode.io/v1alpha1\nkind: Taks\nmetadata: {name: it}\n"), @r#"
    error: task.yaml:7:1: there is no kind "Taks" in "kubeopencode.io/v1alpha1"
    hint: did you mean Task?
    "#);
}

#[test]
fn a_kind_in_the_wrong_version() {
    insta::assert_snapshot!(said("apiVersion: v1\nkind: Job\nmetadata: {name: it}\n"), @r#"
    error: task.yaml:7:1: there is no kind "Job" in "v1"
    hint: Job is in `apiVersion: batch/v1`
    "#);
}

#[test]
fn no_kind() {
    insta::assert_snapshot!(said("apiVersion: v1\nmetadata: {name: it}\n"), @"
    error: task.yaml:6:1: this object has no kind
    hint: a manifest begins with apiVersion and kind, for example `apiVersion: kubeopencode.io/v1alpha1` and `kind: Task`
    ");
}

#[test]
fn no_name() {
    insta::assert_snapshot!(said("apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nspec: {}\n"), @"
    error: task.yaml:6:1: this Task has no metadata.name
    hint: every object needs a name: lower-case letters, digits and '-'
    ");
}

#[test]
fn a_name_that_kubernetes_does_not_take() {
    insta::assert_snapshot!(said("apiVersion: kubeopencode.io/v1alpha1\nkind: Task\nmetadata: {name: Fix It}\nspec: {}\n"), @r"
    error: task.yaml:8:12: metadata.name: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    ");
}

#[test]
fn the_same_object_twice() {
    insta::assert_snapshot!(said(&format!("{}---\n{}", task("  description: x"), task("  description: x"))), @"
    error: task.yaml:14:12: Task it is already at task.yaml:6:1
    hint: give one of them another name
    ");
}

#[test]
fn two_items_on_one_path() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - {type: Text, mountPath: a, text: x}\n    - {type: Text, mountPath: /workspace/a, text: x}")), @"
    error: task.yaml:12:7: Task it: contexts[0] (Text) and Task it: contexts[1] (Text) both want the path /workspace/a: give one of them another mountPath
    ");
}

#[test]
fn a_missing_agent() {
    insta::assert_snapshot!(said(&task("  agentRef: nobody\n  description: x")), @"
    error: task.yaml:10:3: Task it needs Agent default/nobody, which is in none of the files
    hint: put it into one of the files, or give its file with another -f
    ");
}

#[test]
fn a_missing_config_map() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - {type: ConfigMap, configMap: {name: nowhere}}")), @"
    error: task.yaml:10:3: Task it needs ConfigMap default/nowhere, which is in none of the files
    hint: put it into one of the files, or give its file with another -f
    ");
}

#[test]
fn a_missing_secret() {
    insta::assert_snapshot!(said(&task("  contexts:\n    - type: Git\n      mountPath: a\n      git: {repository: 'https://example.com/a', secretRef: {name: nowhere}}")), @"
    error: task.yaml:10:3: Task it needs Secret default/nowhere, which is in none of the files
    hint: put it into one of the files, or give its file with another -f
    ");
}

#[test]
fn a_description_that_no_config_map_holds() {
    let said = said(&task(&format!("  description: {}", "x".repeat(1_100_000))));
    insta::assert_snapshot!(said, @"
    error: task.yaml:9:1: Task it: /workspace/task.md is 1100001 bytes, and no file may have more than 1048576 (the limit of a ConfigMap): shorten it, or bring it in a Git repository
    ");
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
    insta::assert_snapshot!(text, @"
    error: task.yaml:6:1: this is no valid Secret: illegal base64 data at input byte 7
    ");
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
    insta::assert_snapshot!(there.stderr, @r#"
    error: the command line: "./repo" is a directory of this machine, which the cluster cannot see
    hint: give the URL of a repository that the cluster can reach, with `--push` so that what the agent commits gets there, or run it on this machine, without --context and --kubeconfig
    "#);
    let nowhere = sandbox
        .run(&[&arguments[..], &["b"]].concat())
        .expect_code(2);
    insta::assert_snapshot!(nowhere.stderr, @r#"
    error: kubeconfig: there is no context "b"
    hint: there are: a
    "#);
}

#[test]
fn a_push_of_a_directory() {
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    for option in ["--push", "--repo-secret=a"] {
        let arguments = [
            "run",
            "do it",
            "--repo",
            "repo",
            option,
            "--command",
            "true",
        ];
        let said = sandbox.run(&arguments).expect_code(2).stderr;
        let words = "is for a URL, and \"repo\" is a directory of this machine";
        assert!(said.contains(words) && said.contains("hint: "), "{said}");
    }
    let said = sandbox
        .run(&["run", "do it", "--push"])
        .expect_code(2)
        .stderr;
    assert!(said.contains("--repo <DIR|URL>"), "{said}");
}

/// Nobody is asked for it: it goes for every cluster, the local one too.
#[test]
fn a_path_for_task_create() {
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    sandbox.write(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n",
    );
    let git = "  contexts:\n    - {type: Git, mountPath: a, git: {repository: ./repo}}\n    - {type: Git, mountPath: b, git: {repository: /srv/b}}";
    sandbox.write("task.yaml", &task(git));
    let arguments = [
        "task",
        "create",
        "-f",
        "task.yaml",
        "--kubeconfig",
        "kubeconfig",
        "--context",
        "a",
    ];
    insta::assert_snapshot!(sandbox.run(&arguments).expect_code(2).stderr, @r#"
    error: task.yaml:6:39: spec.contexts[0].git.repository: "./repo" is a path, which only `kubeopencode run` takes
    error: task.yaml:7:39: spec.contexts[1].git.repository: "/srv/b" is a path, which only `kubeopencode run` takes
    hint: give the URL of a repository that the cluster can reach, or use `kubeopencode run -f`, which brings new commits back
    "#);
}

#[test]
fn no_cluster() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["task", "list"]).expect_code(1).stderr, @"
    error: there is no cluster: no kubeopencode local is running, and there is no kubeconfig
    hint: `kubeopencode local` serves one on this machine; `kubeopencode run` needs none
    ");
}

#[test]
fn nothing_to_do() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["run"]).expect_code(2).stderr, @"
    error: the following required arguments were not provided:
      <WHAT TO DO>

    Usage: kubeopencode run [OPTIONS] <WHAT TO DO>
           kubeopencode run [OPTIONS] --file <FILE>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.run(&["run", "-f", "x", "--repo", "."]).expect_code(2).stderr, @"
    error: the following required arguments were not provided:
      <WHAT TO DO>

    Usage: kubeopencode run [OPTIONS] <WHAT TO DO>
           kubeopencode run [OPTIONS] --file <FILE>...

    For more information, try '--help'.
    ");
}

#[test]
fn a_cluster_that_is_not_there() {
    let sandbox = Sandbox::new();
    // Nobody listens on port 1.
    sandbox.write(
        "kubeconfig",
        "clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: a, user: {token: x}}]\n\
         contexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n",
    );
    let outcome = sandbox
        .run(&["task", "list", "--kubeconfig", "kubeconfig"])
        .expect_code(1);
    assert_eq!(outcome.stderr.lines().count(), 2, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("Connection refused")
            && outcome.stderr.contains("kubeopencode local"),
        "{}",
        outcome.stderr
    );
}
