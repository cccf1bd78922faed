//! Who is told to end, or killed, while there is something to push.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    server::Server,
    sidecar::{
        AS_BEFORE, Sidecar, branches, checked_out, commit, connect, executable, guarded, rescued,
        supervise,
    },
    world::{AS_PID_1, World, environment_of, run, unshare},
};

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
    let why = "an agent that is killed with its container";
    let Some(mut container) = unshare(&AS_PID_1, &["true"], why, "user-namespaces") else {
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
