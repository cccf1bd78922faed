//! `git-push`: what the agent committed arrives, or is in the log.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    server::Server,
    sidecar::{
        AS_BEFORE, Sidecar, ask, ask_within, branches, check_out, checked_out, commit, connect,
        executable, guarded, rescued, supervise, supervised, supervised_with_log,
    },
    world::{World, environment_of, finish, run, unshare},
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
fn a_branch_with_other_commits_refuses_and_the_work_is_kept() {
    let world = checked_out(json!({}));
    world.git("remote", &["branch", "work", "feature/x"]);
    let (code, checkout, log) =
        supervised_with_log(&world, "echo one >> file; git commit -qam one");
    // So that its Job is not complete.
    assert_eq!(code, 73);
    let pushed = &checkout["pushed"];
    assert_eq!(pushed["state"], "Refused");
    let message = pushed["message"].as_str().unwrap();
    assert!(
        message.contains("at another commit than the agent began with"),
        "{message}"
    );
    assert!(message.contains(IN_THE_LOG), "{message}");
    let theirs = world.git("remote", &["rev-parse", "feature/x"]);
    assert_eq!(world.git("remote", &["rev-parse", "work"]), theirs);
    let rescued = rescued(&world, &log, "remote");
    assert_eq!(checkout["head"], rescued);
    let left: Vec<_> = fs::read_dir(world.path("push")).unwrap().collect();
    assert_eq!(left.len(), 1, "the mark: {left:?}");
}

/// Random bytes, which nothing makes smaller.
fn commit_bytes(world: &World, checkout: &str, count: usize) {
    let bytes: Vec<u8> = (0..count / 8)
        .flat_map(|number| {
            std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number).to_ne_bytes()
        })
        .collect();
    world.write(&format!("{checkout}/big"), bytes);
    world.git(checkout, &["add", "big"]);
    world.git(checkout, &["commit", "-q", "-m", "big"]);
}

#[test]
fn a_log_has_room_for_so_much_and_the_rest_is_said_to_be_lost() {
    let world = World::new();
    world.repository("remote");
    world.git("remote", &["branch", "one", "feature/x"]);
    world.git("remote", &["branch", "two", "feature/x"]);
    fs::create_dir_all(world.path("push")).unwrap();
    let repository = format!("file://{}", world.text("remote"));
    let checkout = |path: &str, branch: &str| json!({ "path": path, "repository": repository, "push": { "branch": branch } });
    world.plan_git(vec![checkout("it", "one"), checkout("other", "two")]);
    assert_eq!(world.git_init().code, 0);
    // Each would have room alone.
    for checkout in ["workspace/it", "workspace/other"] {
        commit_bytes(&world, checkout, 3 * 1024 * 1024);
    }
    let sidecar = Sidecar::start(&world);
    let mut supervise = connect(&world);
    writeln!(supervise, "{}", json!({ "withinMillis": 60_000 })).unwrap();
    let mut line = String::new();
    BufReader::new(supervise).read_line(&mut line).unwrap();
    let log = sidecar.end(&world);
    let answers: serde_json::Value = serde_json::from_str(&line).unwrap();
    let messages: Vec<_> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| {
            (
                answer["path"].as_str().unwrap(),
                answer["pushed"]["message"].as_str().unwrap(),
            )
        })
        .collect();
    let (kept, lost): (Vec<_>, Vec<_>) = messages
        .iter()
        .partition(|(_, message)| message.contains(IN_THE_LOG));
    let [(kept, _)] = kept[..] else {
        panic!("{messages:?}")
    };
    let [(_, lost)] = lost[..] else {
        panic!("{messages:?}")
    };
    assert!(lost.contains("goes with it: its bundle of 30"), "{lost}");
    assert!(lost.ends_with(" KiB is too large for the log"), "{lost}");
    assert!(log.contains(&format!("-----BEGIN GIT BUNDLE {kept}-----\n")));
    assert_eq!(log.matches("-----BEGIN").count(), 1);
    assert!(log.len() < 6 * 1024 * 1024, "{}", log.len());
    assert!(
        log.lines()
            .all(|line| line.len() <= 1024 || line.contains(": "))
    );
}

#[test]
fn a_server_that_protects_a_branch_says_why() {
    let (world, _server) = guarded(json!({}));
    world.git("served/source", &["config", "http.receivepack", "true"]);
    executable(
        &world,
        "served/source/.git/hooks/pre-receive",
        "#!/bin/sh\necho 'error: this branch is protected' >&2\nexit 1\n",
    );
    commit(&world);
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Refused");
    let message = pushed["message"].as_str().unwrap();
    assert!(message.contains("pre-receive hook declined"), "{message}");
    assert!(message.contains("this branch is protected"), "{message}");
}

#[test]
fn a_remote_that_is_away_is_no_refusal_and_the_work_is_kept() {
    let world = checked_out(json!({}));
    let head = commit(&world);
    fs::rename(world.path("remote"), world.path("away")).unwrap();
    let (pushed, log) = ask_within(&world, Duration::from_mins(1));
    assert_eq!(pushed["state"], "Failed");
    let message = pushed["message"].as_str().unwrap();
    assert!(message.contains("was not found"), "{message}");
    assert_eq!(rescued(&world, &log, "away"), head);
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

#[test]
fn a_secret_that_may_not_write_is_told_from_a_refusal() {
    let (world, _server) = guarded(json!({}));
    let head = commit(&world);
    let (pushed, log) = ask_within(&world, Duration::from_mins(1));
    assert_eq!(pushed["state"], "Failed");
    let message = pushed["message"].as_str().unwrap();
    assert!(message.contains("that it may write"), "{message}");
    assert_eq!(rescued(&world, &log, "served/source"), head);
}

#[test]
fn without_time_it_says_so_and_pushes_nothing() {
    let world = checked_out(json!({}));
    commit(&world);
    let (pushed, _) = ask_within(&world, Duration::ZERO);
    assert_eq!(pushed["state"], "Failed");
    let message = pushed["message"].as_str().unwrap();
    assert!(message.contains("no time left"), "{message}");
    assert_eq!(branches(&world), AS_BEFORE);
}

#[test]
fn a_git_push_that_ends_before_it_answers_is_a_failure_at_once() {
    let world = checked_out(json!({}));
    let sidecar = Sidecar::start(&world);
    let pid = sidecar.child.as_ref().unwrap().id();
    let ran = run(&mut supervise(
        &world,
        &format!("echo one >> file; git commit -qam one; kill -9 {pid}"),
    ));
    assert_eq!(ran.code, 73, "{}", ran.stderr);
    assert!(
        world
            .read("report")
            .contains("ended before it had answered")
    );
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

/// In the middle of a push: the server has the commits, and waits for a word, `yes` or another, before it takes them. It says
/// nothing more until [`answered`].
fn in_the_middle(grace: &str) -> (World, String, Sidecar, Server) {
    let (world, server) = guarded(json!({}));
    world.git("served/source", &["config", "http.receivepack", "true"]);
    for name in ["here", "answer"] {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&world.path(name), mode).unwrap();
    }
    let hook = format!(
        "#!/bin/sh\necho here > {}\nread -r word < {}\n[ \"$word\" = yes ]\n",
        world.text("here"),
        world.text("answer")
    );
    executable(&world, "served/source/.git/hooks/pre-receive", &hook);
    let head = commit(&world);
    let mut sidecar = Sidecar::command(&world);
    let sidecar = Sidecar::begin(sidecar.args(["--grace-seconds", grace]));
    let mut supervise = connect(&world);
    writeln!(supervise, "{}", json!({ "withinMillis": 60_000 })).unwrap();
    assert_eq!(fs::read_to_string(world.path("here")).unwrap(), "here\n");
    (world, head, sidecar, server)
}

#[test]
fn who_is_told_to_end_in_the_middle_of_a_push_has_kept_the_work_and_goes_on() {
    let (world, head, mut sidecar, _server) = in_the_middle("60");
    sidecar.tell(Signal::SIGTERM);
    sidecar.says("-----END GIT BUNDLE");
    fs::write(world.path("answer"), "yes\n").unwrap();
    let log = sidecar.ended(&world);
    assert!(log.contains("pushed to branch work"), "{log}");
    let theirs = world.git("served/source", &["rev-parse", "work"]);
    assert_eq!(theirs, head);
    assert_eq!(rescued(&world, &log, "served/source"), head);
}

#[test]
fn a_push_that_does_not_end_in_time_has_kept_the_work() {
    let (world, head, sidecar, _server) = in_the_middle("2");
    let log = sidecar.end(&world);
    fs::write(world.path("answer"), "no\n").unwrap();
    assert!(
        log.contains("there was no time left; its commits are in"),
        "{log}"
    );
    assert_eq!(log.matches("-----BEGIN").count(), 1, "{log}");
    assert_eq!(rescued(&world, &log, "served/source"), head);
}

/// As the kernel does with a container that needs too much memory. Needs user namespaces, or root.
#[test]
fn an_agent_that_is_killed_with_all_that_is_in_its_container_has_its_commits_pushed() {
    let world = checked_out(json!({}));
    let inner = supervise(
        &world,
        "echo one >> file; git commit -qam one; git rev-parse HEAD; sleep 1000",
    );
    let container = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let why =
        "an agent that is killed with its container, because this machine has no user namespaces";
    let Some(mut container) = unshare(&container, &["true"], why) else {
        return;
    };
    container.arg(inner.get_program()).args(inner.get_args());
    container.current_dir(world.path("workspace/it"));
    environment_of(&mut container, &inner);
    let mut sidecar = Sidecar::start(&world);
    let mut container = container.spawn().unwrap();
    let mut head = String::new();
    let mut stdout = BufReader::new(container.stdout.take().unwrap());
    stdout.read_line(&mut head).unwrap();
    container.kill().unwrap();
    container.wait().unwrap();
    sidecar.says("pushed to branch work");
    let log = sidecar.end(&world);
    assert!(
        log.contains("supervise was killed, and everything in its container"),
        "{log}"
    );
    assert!(!log.contains("GIT BUNDLE"), "{log}");
    assert_eq!(world.git("remote", &["rev-parse", "work"]), head.trim());
    assert!(!world.path("report").exists());
}

#[test]
fn an_agent_that_kills_supervise_alone_has_nothing_pushed() {
    let world = checked_out(json!({}));
    let mut sidecar = Sidecar::command(&world);
    let sidecar = Sidecar::begin(sidecar.args(["--grace-seconds", "1"]));
    let ran = run(&mut supervise(
        &world,
        "echo one >> file; git commit -qam one; kill -9 $PPID",
    ));
    assert_eq!(ran.code, -1, "{}", ran.stderr);
    let log = sidecar.end(&world);
    assert!(log.contains("a process of the agent may be left"), "{log}");
    assert_eq!(branches(&world), AS_BEFORE);
}

/// `git-push` as another user than the agent, as in most images. `None`: who is not root cannot be two users.
fn pushed_by_another_user(world: &World) -> Option<serde_json::Value> {
    const USER: &str = "12345";
    let become_another = ["--reuid", USER, "--regid", USER, "--clear-groups"];
    let probe = Command::new("setpriv")
        .args(become_another)
        .args(["test", "-x", crate::world::PROGRAM])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE")
            .is_ok_and(|list| list.split(',').any(|item| item == "root"));
        assert!(!required, "cannot become another user");
        eprintln!("NOT TESTED: git-push as another user than the agent, because that takes root");
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
