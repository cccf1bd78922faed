//! Git items: what is cloned, and what is pushed.

use super::{
    super::fixture::{Cluster, NAMESPACE},
    task,
};

#[test]
fn repositories_that_run_commands_or_carry_passwords_are_refused_without_being_repeated() {
    for repository in [
        "ext::sh -c id",
        "-uhttps://h/r",
        "https://user:hunter2@h/r",
        "file:///srv/r",
        "file://relative",
        "javascript://h/r",
        "/srv/r",
        "https://-h/r",
        "h::x",
    ] {
        let item =
            format!("contexts: [{{type: Git, mountPath: r, git: {{repository: '{repository}'}}}}]");
        let error = task(&item).error();
        assert!(
            error.starts_with("Task fix: contexts[0] (Git): git.repository"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    for repository in [
        "https://h/r",
        "https://token@h/r",
        "ssh://git@h:22/r",
        "git@h:org/r.git",
        "git://h/r",
    ] {
        let item =
            format!("contexts: [{{type: Git, mountPath: r, git: {{repository: '{repository}'}}}}]");
        let run = task(&item).run();
        assert_eq!(run.checkouts[0].repository, repository);
        assert_eq!(run.checkouts[0].depth, 1);
        assert_eq!(run.checkouts[0].host_path, None);
    }
}

#[test]
fn host_repositories_are_for_the_embedded_cluster_alone() {
    let mut cluster =
        task("contexts: [{type: Git, mountPath: r, git: {repository: 'file:///srv/r'}}]");
    assert!(
        cluster
            .error()
            .contains("only the embedded cluster can reach")
    );
    cluster.settings.host_repositories = true;
    let run = cluster.run();
    assert_eq!(run.checkouts[0].host_path.as_deref(), Some("/srv/r"));
}

fn push(spec: &str) -> Cluster {
    task(&format!(
        "contexts: [{{type: Git, mountPath: r, git: {{repository: 'https://h/r', {spec}}}}}]"
    ))
}

#[test]
fn commits_go_to_a_branch_of_the_tasks_own_with_the_credentials_that_it_is_cloned_with() {
    let asked = |spec: &str| push(spec).run().checkouts[0].push.clone().expect("a push");
    let plain = asked("secretRef: {name: s}, push: {}");
    assert_eq!(plain.branch, "kubeopencode/fix");
    assert_eq!(plain.secret.as_deref(), Some("s"));
    assert!(!plain.uncommitted && !plain.allow_base);
    let full = asked(
        "secretRef: {name: s}, push: {branch: 'a/{{.taskNamespace}}/{{ .taskName }}.x', secretRef: {name: w}, uncommitted: Commit}",
    );
    assert_eq!(full.branch, format!("a/{NAMESPACE}/fix.x"));
    assert_eq!(full.secret.as_deref(), Some("w"));
    assert!(full.uncommitted);
    assert_eq!(push("ref: main").run().checkouts[0].push, None);
}

#[test]
fn a_push_that_must_not_be_is_refused_before_there_is_a_pod() {
    for (spec, words) in [
        ("ref: main, push: {branch: main}", "say git.push.allowBase"),
        (
            "ref: refs/heads/main, push: {branch: main}",
            "say git.push.allowBase",
        ),
        ("path: docs, push: {}", "not possible with git.path"),
        ("push: {branch: 'x..y'}", "not the name of a branch"),
        (
            "push: {branch: 'a/{{.taskName}}.lock'}",
            "not the name of a branch",
        ),
        ("push: {branch: '{{.agent}}'}", "and no other braces"),
    ] {
        let error = push(spec).error();
        assert!(
            error.contains("contexts[0] (Git)") && error.contains(words),
            "{spec}: {error}"
        );
    }
    let run = push("ref: main, push: {branch: main, allowBase: true}").run();
    assert!(
        run.checkouts[0]
            .push
            .as_ref()
            .is_some_and(|push| push.allow_base)
    );

    let mut local =
        task("contexts: [{type: Git, mountPath: r, git: {repository: 'file:///srv/r', push: {}}}]");
    local.settings.host_repositories = true;
    assert!(
        local
            .error()
            .contains("not possible to a file:// repository")
    );

    let twice = task(
        "contexts:
- {type: Git, mountPath: a, git: {repository: 'https://h/r', ref: main, push: {}}}
- {type: Git, mountPath: b, git: {repository: 'https://h/r', ref: v1, push: {}}}",
    );
    let error = twice.error();
    assert!(
        error.contains("/workspace/a is pushed to as well"),
        "{error}"
    );
}

#[test]
fn git_items_say_all_that_is_to_be_fetched() {
    let run = task(
        "contexts:
- type: Git
  mountPath: r
  fileMode: 0755
  git: {repository: 'https://h/r', path: ./.claude//x/, ref: v1, depth: 0, submodules: true, secretRef: {name: s}}",
    )
    .run();
    insta::assert_debug_snapshot!(run.checkouts[0], @r#"
    Checkout {
        path: "/workspace/r",
        repository: "https://h/r",
        reference: Some(
            "v1",
        ),
        depth: 0,
        sub_path: Some(
            ".claude/x",
        ),
        submodules: true,
        secret: Some(
            "s",
        ),
        host_path: None,
        mode: Some(
            493,
        ),
        push: None,
    }
    "#);
}
