//! What the report says of the checkouts.

use std::fs;

use serde_json::{Value, json};

use crate::{
    supervise::{report, script, supervised, with_checkout},
    world::{World, run},
};

/// Has the agent do this in the checkout, with git as it finds it. Answers the report of it.
fn worked(world: &World, work: &str) -> Value {
    let script_of = format!(
        "cd {}; export GIT_CONFIG_GLOBAL={}; unset GIT_DIR GIT_WORK_TREE GIT_CONFIG_COUNT; {work}",
        world.text("workspace/it"),
        world.text("tools/gitconfig")
    );
    let ran = script(world, &script_of);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    report(world)["checkouts"][0].clone()
}

/// A world with a checkout that has all of its history.
fn with_history() -> (World, [String; 3]) {
    let world = World::new();
    let commits = world.repository("source");
    let url = format!("file://{}", world.text("source"));
    world.cloned(json!({"repository": url, "depth": 0}));
    (world, commits)
}

#[test]
fn commits_that_were_pulled_are_not_the_agents() {
    let (world, [.., base]) = with_history();
    world.git("source", &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let theirs = world.git("source", &["rev-parse", "HEAD"]);
    let checkout = worked(&world, "git pull -q");
    assert_eq!(
        [&checkout["base"], &checkout["head"]],
        [&json!(base), &json!(theirs)]
    );
    assert_eq!(checkout["commits"], 0);
    assert_eq!(checkout.get("newest"), None);
    let checkout = worked(&world, "git commit -q --allow-empty -m ours");
    assert_eq!(checkout["commits"], 1);
    let newest = checkout["newest"].as_array().unwrap();
    let subjects: Vec<&Value> = newest.iter().map(|commit| &commit["subject"]).collect();
    assert_eq!(subjects, ["ours"]);
}

/// Only the repository that it was cloned from is known to have what is there.
#[test]
fn commits_that_were_pushed_elsewhere_are_the_agents() {
    let (world, _) = with_history();
    let work = "git commit -q --allow-empty -m ours && git init -q --bare ../other && \
                git remote add other ../other && git push -q other HEAD:refs/heads/kept";
    assert_eq!(worked(&world, work)["commits"], 1);
}

#[test]
fn commits_that_the_agent_has_pushed_to_a_branch_of_its_own_are_its_own() {
    let (world, _) = with_history();
    let work = "git commit -q --allow-empty -m ours && git push -q origin HEAD:refs/heads/theirs";
    assert_eq!(worked(&world, work)["commits"], 1);
}

#[test]
fn a_checkout_that_was_put_back_has_no_new_commit_and_another_head() {
    let (world, [_, before, base]) = with_history();
    let checkout = worked(&world, "git reset -q --hard HEAD~1");
    assert_eq!(
        [&checkout["base"], &checkout["head"]],
        [&json!(base), &json!(before)]
    );
    assert_eq!(
        (&checkout["commits"], &checkout["dirty"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(checkout["files"], 2);
}

#[test]
fn commits_that_are_not_on_the_branch_it_ended_on_are_counted_apart() {
    let (world, _) = with_checkout();
    let it = world.text("workspace/it");
    let work = format!(
        "cd {it}; export GIT_CONFIG_GLOBAL={}; unset GIT_DIR GIT_WORK_TREE GIT_CONFIG_COUNT; \
         git checkout -q -b aside && git commit -q --allow-empty -m one && git checkout -q trunk && \
         echo x >> file && git stash -q",
        world.text("tools/gitconfig")
    );
    let ran = script(&world, &work);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let checkout = &report(&world)["checkouts"][0];
    assert_eq!(
        (&checkout["commits"], &checkout["dirty"]),
        (&json!(0), &json!(false))
    );
    // The commit, and the two that a stash is made of.
    assert_eq!(checkout["otherCommits"], 3);
}

#[test]
fn the_report_says_what_is_in_each_checkout() {
    let (world, base) = with_checkout();
    let it = world.text("workspace/it");
    assert_eq!(script(&world, "true").code, 0);
    assert_eq!(
        report(&world)["checkouts"],
        json!([{ "path": it, "branch": "trunk", "base": base, "head": base, "commits": 0, "dirty": false }])
    );
    let work = format!(
        "cd {it}; export GIT_CONFIG_GLOBAL={}; unset GIT_DIR GIT_WORK_TREE GIT_CONFIG_COUNT; \
         git checkout -q -b work && echo x >> file && git commit -qam one && git commit -q --allow-empty -m two && touch new",
        world.text("tools/gitconfig")
    );
    let ran = script(&world, &work);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let head = world.git("workspace/it", &["rev-parse", "HEAD"]);
    let log = world.git("workspace/it", &["log", "--format=%h %s", "-2"]);
    let newest: Vec<Value> = log
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, subject)| json!({"id": id, "subject": subject}))
        .collect();
    assert_eq!(newest[0]["subject"], "two");
    assert_eq!(
        report(&world)["checkouts"],
        json!([{ "path": it, "branch": "work", "base": base, "head": head, "commits": 2, "newest": newest, "files": 1, "dirty": true }])
    );
    world.git("workspace/it", &["checkout", "-q", "--detach"]);
    fs::remove_file(world.path("workspace/it/new")).unwrap();
    script(&world, "false");
    let report = report(&world);
    assert_eq!(report["exitCode"], 1);
    assert_eq!(
        report["checkouts"],
        json!([{ "path": it, "base": base, "head": head, "commits": 2, "newest": newest, "files": 1, "dirty": false }])
    );
}

#[test]
fn a_checkout_that_cannot_be_looked_at_says_why() {
    let (world, base) = with_checkout();
    let it = world.text("workspace/it");
    let sh = ["/bin/sh", "-c", "true"];
    run(supervised(&world, 30, &sh).env("PATH", "/nonexistent"));
    let said = report(&world);
    assert_eq!(
        said["checkouts"],
        json!([{ "path": it, "base": base, "error": "there is no git in the agent's image to ask" }])
    );
    script(&world, &format!("rm -rf {it}/.git"));
    let said = report(&world);
    assert_eq!(
        said["checkouts"][0]["error"],
        "there is no repository any more"
    );
    assert_eq!(said["exitCode"], 0);
}

#[test]
fn looking_at_a_checkout_runs_and_changes_nothing_in_it() {
    let (world, _) = with_checkout();
    let trap = format!("touch {}", world.text("touched"));
    for key in [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "alias.status",
    ] {
        world.git("workspace/it", &["config", key, &trap]);
    }
    world.write("workspace/it/file", "changed");
    let index = || {
        fs::metadata(world.path("workspace/it/.git/index"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = index();
    script(&world, "true");
    assert_eq!(report(&world)["checkouts"][0]["dirty"], true);
    assert!(!world.path("touched").exists());
    assert_eq!(index(), before);
}
