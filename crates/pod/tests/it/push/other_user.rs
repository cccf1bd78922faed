//! The agent is another user than `git-push`, and keeps files to itself.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    sidecar::{AS_BEFORE, Sidecar, ask, branches, checked_out, commit, connect},
    world::{World, environment_of, not_tested},
};

/// `git-push` as another user than the agent, as in most images. `None`: who is not root cannot be two users.
fn pushed_by_another_user(world: &World) -> Option<serde_json::Value> {
    const USER: &str = "12345";
    let become_another = ["--reuid", USER, "--regid", USER, "--clear-groups"];
    let probe = Command::new("setpriv")
        .args(become_another)
        .args(["test", "-x", crate::world::PROGRAM])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        not_tested("git-push as another user than the agent", "root");
        return None;
    }
    let inner = Sidecar::command(world);
    let mut command = Command::new("setpriv");
    command.args(become_another);
    command.arg(inner.get_program()).args(inner.get_args());
    environment_of(&mut command, &inner);
    command.stderr(Stdio::piped());
    let sidecar = Sidecar::begin(&mut command);
    let mut supervise = connect(world);
    writeln!(supervise, "{}", json!({ "withinMillis": 60_000 })).unwrap();
    let mut line = String::new();
    BufReader::new(supervise).read_line(&mut line).unwrap();
    let log = sidecar.end(world);
    let answers: serde_json::Value =
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}: {log}"));
    Some(answers[0]["pushed"].clone())
}

/// Everything may be read and written by everybody, as in the volumes of a Pod.
fn open_to_all(world: &World) {
    mode(world, "", "a+rwX");
}

fn mode(world: &World, name: &str, mode: &str) {
    let chmod = Command::new("chmod")
        .args(["-R", mode])
        .arg(world.path(name))
        .status();
    assert!(chmod.unwrap().success());
}

#[test]
fn files_that_another_user_cannot_read_do_not_keep_the_rest_back() {
    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    let head = commit(&world);
    for (name, content) in [
        ("file", "changed\n"),
        ("readable", "new\n"),
        ("secret/inside", "x\n"),
        ("\u{1b}]0;x", "x\n"),
        ("zzz", "x\n"),
    ] {
        world.write(&format!("workspace/it/{name}"), content);
    }
    world.write("workspace/it/.gitignore", "ignored\n");
    world.write("workspace/it/ignored/inside", "x\n");
    open_to_all(&world);
    // As mktemp makes them.
    for name in ["file", "\u{1b}]0;x", "zzz"] {
        mode(&world, &format!("workspace/it/{name}"), "600");
    }
    for name in ["secret", "ignored", "docs/guide"] {
        mode(&world, &format!("workspace/it/{name}"), "go-rwx");
    }
    let Some(pushed) = pushed_by_another_user(&world) else {
        return;
    };
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    assert_eq!(
        pushed["message"],
        "without ?]0;x, docs/guide, file and 2 more, which user 12345 cannot read"
    );
    assert_eq!(world.git("remote", &["rev-parse", "work^"]), head);
    assert_eq!(
        world.git("remote", &["diff", "--name-status", "work^", "work"]),
        "A\t.gitignore\nA\treadable"
    );
}

#[test]
fn where_there_is_nothing_but_what_another_user_cannot_read_the_push_has_failed() {
    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    world.write("workspace/it/report", "x\n");
    open_to_all(&world);
    mode(&world, "workspace/it/report", "600");
    let Some(pushed) = pushed_by_another_user(&world) else {
        return;
    };
    assert_eq!(
        pushed,
        json!({
            "branch": "work", "state": "Failed",
            "message": "user 12345 cannot read report; it is only in the Pod, and goes with it",
        })
    );
    assert_eq!(branches(&world), AS_BEFORE);
}

#[test]
fn objects_that_another_user_cannot_read_are_told_with_what_to_do() {
    for closed in [
        "workspace/it/.git/objects",
        "workspace/it/.git/HEAD",
        "files",
    ] {
        let world = checked_out(json!({}));
        commit(&world);
        open_to_all(&world);
        if closed == "files" {
            // Directories that were there before can be looked into.
            mode(&world, "workspace/it/.git/objects", "go-rwx");
            mode(&world, "workspace/it/.git/objects", "go+X");
            let find = [
                "workspace/it/.git/objects",
                "-type",
                "d",
                "-exec",
                "chmod",
                "755",
                "{}",
                "+",
            ];
            let open = Command::new("find")
                .args(find)
                .current_dir(world.path(""))
                .status();
            assert!(open.unwrap().success());
        } else {
            mode(&world, closed, "go-rwx");
        }
        let Some(pushed) = pushed_by_another_user(&world) else {
            return;
        };
        assert_eq!(pushed["state"], "Failed", "{closed}: {pushed}");
        let message = pushed["message"].as_str().unwrap();
        assert!(
            message.contains("only in the Pod, and goes with it"),
            "{message}"
        );
        assert!(
            message.ends_with("runAsUser in the Agent's podSecurityContext makes both the same"),
            "{closed}: {message}"
        );
        assert_eq!(branches(&world), AS_BEFORE);
    }
}

#[test]
fn what_cannot_be_committed_for_it_does_not_keep_back_what_the_agent_committed() {
    let wrong = |world: &World| {
        // git does not take a file that is not in the encoding which the agent says it has.
        world.write(
            "workspace/it/.gitattributes",
            "odd working-tree-encoding=UTF-16\n",
        );
        world.write("workspace/it/odd", "odd");
    };
    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    let head = commit(&world);
    wrong(&world);
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Failed", "{pushed}");
    assert_eq!(pushed["head"], head);
    let message = pushed["message"].as_str().unwrap();
    let said = "its commits were pushed, and what is uncommitted cannot be committed; it is only in the Pod, and goes with it: git failed";
    assert!(message.starts_with(said), "{message}");
    assert_eq!(world.git("remote", &["rev-parse", "work"]), head);

    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    wrong(&world);
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Failed", "{pushed}");
    assert_eq!(branches(&world), AS_BEFORE);
}
