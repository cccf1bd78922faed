//! What did not arrive: why, and where it is.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    time::Duration,
};

use serde_json::json;

use super::IN_THE_LOG;
use crate::{
    sidecar::{
        AS_BEFORE, Sidecar, ask, ask_within, branches, checked_out, commit, connect, executable,
        guarded, rescued, supervised_with_log,
    },
    world::World,
};

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
