//! `git-push`: what the agent committed arrives, or is in the log.

#[path = "push/ended.rs"]
mod ended;
#[path = "push/kept.rs"]
mod kept;
#[path = "push/other_user.rs"]
mod other_user;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    sidecar::{
        AS_BEFORE, Sidecar, ask, ask_within, branches, check_out, checked_out, commit, executable,
        guarded, supervise, supervised,
    },
    world::{World, finish, run},
};

/// In the message of what did not arrive.
const IN_THE_LOG: &str =
    "; its commits are in the log of the Pod's container git-push, as a Git bundle";

#[test]
fn what_the_agent_committed_arrives_and_is_in_the_report() {
    for depth in [1, 0] {
        let world = checked_out(json!({ "depth": depth }));
        let (code, checkout) = supervised(
            &world,
            "echo one >> file; git commit -qam one; echo two >> file; git commit -qam two",
        );
        assert_eq!(code, 0, "{checkout}");
        let head = world.git("remote", &["rev-parse", "work"]);
        assert_eq!(checkout["commits"], 2);
        assert_eq!(
            checkout["pushed"],
            json!({ "branch": "work", "state": "Pushed", "head": head })
        );
        assert_eq!(
            world.git("remote", &["rev-list", "--count", "trunk..work"]),
            "2"
        );
        assert_eq!(
            world.git("remote", &["log", "-1", "--format=%s", "work"]),
            "two"
        );
    }
}

#[test]
fn a_repository_that_has_moved_on_meanwhile_takes_another_branch() {
    for depth in [1, 0] {
        let (world, _server) = guarded(json!({ "depth": depth }));
        world.git("served/source", &["config", "http.receivepack", "true"]);
        let head = commit(&world);
        world.write("served/source/file", "another\n");
        world.git("served/source", &["commit", "-qam", "another"]);
        let pushed = ask(&world);
        assert_eq!(pushed["head"], head, "{pushed}");
        assert_eq!(
            world.git("served/source", &["rev-list", "--count", "work"]),
            "4"
        );
        world.git(
            "served/source",
            &["fsck", "--strict", "--connectivity-only", "work"],
        );
    }
}

#[test]
fn what_came_by_a_merge_arrives_too() {
    let world = checked_out(json!({ "depth": 0, "reference": "feature/x" }));
    world.git(
        "workspace/it",
        &["merge", "-q", "--no-ff", "-m", "merged", "origin/trunk"],
    );
    let head = commit(&world);
    let (pushed, log) = ask_within(&world, Duration::from_mins(1));
    assert_eq!(pushed["head"], head);
    assert!(!log.contains("GIT BUNDLE"), "{log}");
    assert_eq!(world.git("remote", &["rev-list", "--count", "work"]), "5");
}

#[test]
fn a_repository_of_sha256_works_the_same() {
    let world = World::new();
    fs::create_dir_all(world.path("remote")).unwrap();
    let init = [
        "init",
        "-q",
        "--initial-branch=trunk",
        "--object-format=sha256",
    ];
    world.git("remote", &init);
    world.write("remote/file", "1\n");
    world.git("remote", &["add", "-A"]);
    world.git("remote", &["commit", "-q", "-m", "one"]);
    let repository = format!("file://{}", world.text("remote"));
    check_out(
        &world,
        &repository,
        json!({ "push": { "uncommitted": true } }),
    );
    commit(&world);
    world.write("workspace/it/file", "2\n");
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    assert_eq!(world.git("remote", &["rev-list", "--count", "work"]), "3");
}

#[test]
fn nothing_new_is_nothing_to_push_also_when_the_agent_went_back() {
    for agent in ["true", "git reset -q --hard HEAD~1", "echo left > left"] {
        let world = checked_out(json!({ "depth": 0 }));
        let (code, checkout) = supervised(&world, agent);
        assert_eq!(code, 0, "{agent}");
        let expected = json!({ "branch": "work", "state": "Nothing" });
        assert_eq!(checkout["pushed"], expected, "{agent}");
        assert_eq!(branches(&world), AS_BEFORE);
    }
}

#[test]
fn an_agent_that_was_not_started_pushes_nothing() {
    let world = checked_out(json!({}));
    commit(&world);
    let sidecar = Sidecar::start(&world);
    let mut none = supervise(&world, "");
    none.env("PATH", "/nonexistent");
    let ran = run(&mut none);
    assert_eq!(ran.code, 127, "{}", ran.stderr);
    let log = sidecar.end(&world);
    assert!(log.contains("nothing is pushed"), "{log}");
    assert_eq!(branches(&world), AS_BEFORE);
    assert!(!world.read("report").contains("pushed"));
}

#[test]
fn the_agents_own_failure_stays_its_own_and_its_commits_arrive() {
    let world = checked_out(json!({}));
    let (code, checkout) = supervised(&world, "echo one >> file; git commit -qam one; exit 3");
    assert_eq!(code, 3);
    assert_eq!(checkout["pushed"]["state"], "Pushed");
}

#[test]
fn told_to_end_while_the_agent_works_its_commits_arrive() {
    let world = checked_out(json!({}));
    let sidecar = Sidecar::start(&world);
    let mut supervise = supervise(
        &world,
        "echo one >> file; git commit -qam one; echo ready; sleep 1000",
    );
    let mut child = supervise.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let output = finish(child);
    sidecar.end(&world);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert!(world.read("report").contains(r#""state":"Pushed""#));
    assert_eq!(
        world.git("remote", &["rev-list", "--count", "trunk..work"]),
        "1"
    );
}

#[test]
fn a_push_that_finds_its_commits_there_is_done() {
    let world = checked_out(json!({}));
    let head = commit(&world);
    world.git("workspace/it", &["push", "-q", "origin", "HEAD:work"]);
    assert_eq!(ask(&world)["head"], head);
}

#[test]
fn the_base_is_pushed_to_only_when_that_is_said() {
    let world = World::new();
    world.repository("remote");
    let repository = format!("file://{}", world.text("remote"));
    for (reference, branch) in [
        (None, "trunk"),
        (Some("feature/x"), "feature/x"),
        (Some("feature/x"), "trunk"),
        (Some("v1"), "trunk"),
    ] {
        let said = world.failing(json!({
            "repository": repository, "reference": reference, "push": { "branch": branch },
        }));
        assert!(said.contains("say git.push.allowBase"), "{said}");
    }
    world.git("remote", &["switch", "-q", "--detach"]);
    check_out(
        &world,
        &repository,
        json!({ "reference": "trunk", "push": { "branch": "trunk", "allowBase": true } }),
    );
    let head = commit(&world);
    assert_eq!(ask(&world)["head"], head);
    assert_eq!(world.git("remote", &["rev-parse", "trunk"]), head);
}

#[test]
fn a_branch_that_has_become_the_default_is_left_alone() {
    let world = checked_out(json!({}));
    commit(&world);
    world.git("remote", &["switch", "-q", "-c", "work"]);
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Failed");
    let message = pushed["message"].as_str().unwrap();
    assert!(message.contains("default branch"), "{message}");
}

#[test]
fn what_is_uncommitted_becomes_one_commit_when_that_is_said() {
    let world = World::new();
    world.repository("remote");
    world.write("remote/.gitignore", "ignored\n");
    world.write("remote/gone", "gone\n");
    world.write("remote/becomes/a/file", "x\n");
    world.write("remote/becomes-a-directory", "x\n");
    world.write("remote/context-replaces", "theirs\n");
    world.git("remote", &["add", "-A"]);
    world.git("remote", &["commit", "-q", "-m", "more"]);
    let repository = format!("file://{}", world.text("remote"));
    check_out(
        &world,
        &repository,
        json!({ "push": { "uncommitted": true } }),
    );
    let file = |name: &str| json!({ "source": "0-x", "path": world.text(name), "target": world.text(name), "mode": 0o644 });
    world.write(
        "context/context.json",
        json!({ "files": [file("workspace/it/context"), file("workspace/it/context-replaces")] })
            .to_string(),
    );
    world.write(
        "context/credentials.json",
        json!({ "credentials": [{
            "path": world.text("workspace/it/.npmrc"), "source": "/s", "target": "/t", "mode": 0o400,
        }] })
        .to_string(),
    );

    let committed = commit(&world);
    for (name, content) in [
        ("file", "changed\n"),
        ("added/deep ü/\u{1}", "added\n"),
        ("ignored", "ignored\n"),
        ("context", "ours\n"),
        ("context-replaces", "ours\n"),
        (".npmrc", ""),
        ("excluded", "excluded\n"),
    ] {
        world.write(&format!("workspace/it/{name}"), content);
    }
    executable(&world, "workspace/it/script", "#!/bin/sh\n");
    let at = |name: &str| world.path(&format!("workspace/it/{name}"));
    world.write("workspace/it/.git/info/exclude", "excluded\n");
    fs::remove_file(at("gone")).unwrap();
    fs::remove_dir_all(at("becomes")).unwrap();
    world.write("workspace/it/becomes", "a file\n");
    fs::remove_file(at("becomes-a-directory")).unwrap();
    world.write("workspace/it/becomes-a-directory/inside", "x\n");
    symlink("/etc/passwd", at("link")).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    world.repository("workspace/it/nested");

    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    assert_eq!(
        pushed["message"],
        "without nested, where there is another repository"
    );
    assert_eq!(world.git("remote", &["rev-parse", "work^"]), committed);
    let difference = world.git(
        "remote",
        &[
            "-c",
            "core.quotePath=false",
            "diff",
            "--raw",
            "--abbrev=4",
            "--no-renames",
            "work^",
            "work",
        ],
    );
    let difference: Vec<_> = difference
        .lines()
        .map(|line| {
            let mut words = line[1..].splitn(5, ' ');
            let (_, mode) = (words.next(), words.next().unwrap());
            format!("{mode} {}", words.nth(2).unwrap().replace('\t', " "))
        })
        .collect();
    assert_eq!(
        difference,
        [
            r#"100644 A "added/deep ü/\001""#,
            "100644 A becomes",
            "000000 D becomes-a-directory",
            "100644 A becomes-a-directory/inside",
            "000000 D becomes/a/file",
            "100644 M file",
            "000000 D gone",
            "120000 A link",
            "100755 A script",
        ]
    );
    let author = world.git("remote", &["log", "-1", "--format=%an <%ae> %s", "work"]);
    assert_eq!(
        author,
        "KubeOpenCode <agent@kubeopencode.invalid> What the agent left uncommitted"
    );
}

#[test]
fn with_nothing_uncommitted_there_is_no_such_commit() {
    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    assert_eq!(ask(&world)["state"], "Nothing");
    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    let head = commit(&world);
    assert_eq!(ask(&world)["head"], head);
}

/// What a server does after it has taken the commits, before anybody asks it again.
fn pushed_and_then(hook: &str) -> (World, String, serde_json::Value) {
    let (world, _server) = guarded(json!({}));
    world.git("served/source", &["config", "http.receivepack", "true"]);
    let hook = format!("#!/bin/sh\n{hook}\n");
    executable(&world, "served/source/.git/hooks/post-receive", &hook);
    let head = commit(&world);
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    (world, head, pushed)
}

#[test]
fn a_push_that_the_server_accepted_and_does_not_confirm_has_no_head() {
    let (world, head, pushed) = pushed_and_then("mv HEAD gone");
    assert_eq!(pushed["head"], serde_json::Value::Null);
    let message = pushed["message"].as_str().unwrap();
    let said = "the server accepted it; not confirmed";
    assert!(message.starts_with(said), "{message}");
    let work = world.read("served/source/.git/refs/heads/work");
    assert_eq!(work.trim(), head);
}

#[test]
fn a_branch_that_has_moved_on_since_the_push_is_told() {
    let (world, head, pushed) = pushed_and_then("git update-ref refs/heads/work trunk");
    let trunk = world.git("served/source", &["rev-parse", "trunk"]);
    assert_eq!(pushed["head"], trunk);
    let message = pushed["message"].as_str().unwrap();
    let said = format!("the server accepted {}, and", &head[..10]);
    assert!(message.starts_with(&said), "{message}");
}
