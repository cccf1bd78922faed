//! `context-init`: where files go, and where they do not.

use std::{fs, os::unix::fs::symlink, process::Command};

use kubeopencode_engine::handover::BEGUN_BEFORE;
use serde_json::json;

use crate::{
    supervise::{report, supervised},
    world::{self, PROGRAM, Ran, World},
};

/// A plan of files below the workspace, each with its own path as content.
fn write(world: &World, files: &[(&str, u32)]) -> Ran {
    let files: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(number, (path, mode))| {
            world.write(&format!("context/content-{number}"), path);
            let path = world.text(&format!("workspace/{path}"));
            json!({ "source": format!("content-{number}"), "path": path, "target": path, "mode": mode })
        })
        .collect();
    world.write(
        "context/context.json",
        json!({ "files": files }).to_string(),
    );
    run(world)
}

fn run(world: &World) -> Ran {
    world::run(&mut command(world))
}

fn command(world: &World) -> Command {
    world.command([
        "context-init",
        "--context-dir",
        &world.text("context"),
        "--tools-dir",
        &world.text("tools"),
    ])
}

#[test]
fn files_have_their_content_and_mode_and_the_program_is_there() {
    let world = World::new();
    let ran = write(
        &world,
        &[("task.md", 0o644), ("a/b/run.sh", 0o755), ("secret", 0o600)],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.read("workspace/a/b/run.sh"), "a/b/run.sh");
    assert_eq!(world.mode("workspace/task.md"), 0o644);
    assert_eq!(world.mode("workspace/a/b/run.sh"), 0o755);
    assert_eq!(world.mode("workspace/secret"), 0o600);
    assert_eq!(world.mode("workspace/a"), 0o777);
    assert_eq!(world.mode("tools/kubeopencode"), 0o755);
    assert!(fs::read(world.path("tools/kubeopencode")).unwrap() == fs::read(PROGRAM).unwrap());
    assert_eq!(
        fs::read_dir(world.path("workspace")).unwrap().count(),
        3,
        "nothing else"
    );
    assert_eq!(
        fs::read_dir(world.path("tools")).unwrap().count(),
        2,
        "the program, and room for the mark that the agent has begun"
    );
}

/// A node that has lost the agent's container takes it for one that was never started, and begins with the Pod anew.
#[test]
fn an_agent_that_has_begun_in_this_pod_is_not_started_again_nor_prepared_for() {
    let world = World::new();
    world.repository("source");
    world.cloned(json!({ "repository": format!("file://{}", world.text("source")) }));
    assert_eq!(run(&world).code, 0);
    // The one who runs the agent may be another than the one who prepared.
    assert_eq!(world.mode("tools/begun"), 0o777);
    let work = ["sh", "-c", "echo ran >> ran; echo work > it/work"];
    let mut agent = supervised(&world, 30, &work);
    agent.current_dir(world.path("workspace"));
    assert_eq!(world::run(&mut agent).code, 0);

    let again = world::run(&mut agent);
    assert_eq!(again.code, 126, "{}", again.stderr);
    assert!(again.stderr.contains("not started a second time"));
    assert_eq!(report(&world)["begunBefore"], true);
    for program in ["git-init", "context-init"] {
        let tools = world.text("tools");
        let context = world.text("context");
        let words = [program, "--context-dir", &context, "--tools-dir", &tools];
        let again = world::run(&mut world.command(words));
        assert_eq!(again.code, i32::from(BEGUN_BEFORE), "{}", again.stderr);
        assert!(again.stderr.contains("not started a second time"));
    }
    assert_eq!(world.read("workspace/ran"), "ran\n");
    assert_eq!(world.read("workspace/it/work"), "work\n");
}

#[test]
fn a_link_in_a_repository_does_not_lead_out_of_it() {
    let world = World::new();
    world.repository("source");
    fs::create_dir(world.path("elsewhere")).unwrap();
    world.write("elsewhere/file", "untouched");
    symlink(world.path("elsewhere"), world.path("source/linked")).unwrap();
    symlink(world.path("elsewhere/file"), world.path("source/alias")).unwrap();
    world.git("source", &["add", "-A"]);
    world.git("source", &["commit", "-q", "-m", "links"]);
    world.cloned(json!({ "repository": format!("file://{}", world.text("source")) }));

    let ran = write(&world, &[("it/linked/new", 0o644)]);
    assert_eq!(ran.code, 1);
    let link = world.text("workspace/it/linked");
    assert!(
        ran.stderr
            .contains(&format!("{link}/new: {link} is a symbolic link to ")),
        "{}",
        ran.stderr
    );
    assert!(!world.path("elsewhere/new").exists());

    let ran = write(&world, &[("it/alias", 0o644)]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.read("elsewhere/file"), "untouched");
    assert_eq!(world.read("workspace/it/alias"), "it/alias");
    assert!(!world.path("workspace/it/alias").is_symlink());
}

#[test]
fn a_link_outside_of_every_repository_is_the_images_own() {
    let world = World::new();
    fs::create_dir(world.path("workspace/real")).unwrap();
    symlink("real", world.path("workspace/link")).unwrap();
    let ran = write(&world, &[("link/file", 0o644)]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.read("workspace/real/file"), "link/file");
}

#[test]
fn files_in_a_checkout_do_not_make_it_dirty() {
    let world = World::new();
    world.repository("library");
    world.repository("source");
    let library = format!("file://{}", world.text("library"));
    let add = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        &library,
        "lib",
    ];
    world.git("source", &add);
    world.git("source", &["commit", "-q", "-m", "library"]);
    world.cloned(json!({
        "repository": format!("file://{}", world.text("source")), "submodules": true,
    }));
    let ran = write(
        &world,
        &[
            ("it/task.md", 0o644),
            ("it/docs/[a] *?#!.md", 0o644),
            ("it/ends with space ", 0o644),
            ("it/#comment", 0o644),
            ("it/!negated", 0o644),
            ("it/lib/in-submodule", 0o644),
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.git("workspace/it", &["status", "--porcelain"]), "");
    // Only these: what the agent makes is seen.
    world.write("workspace/it/docs/[a] x.md", "");
    world.write("workspace/it/lib/other", "");
    let status = world.git("workspace/it", &["status", "--porcelain"]);
    assert!(
        status.contains("[a] x.md") && status.contains(" lib"),
        "{status}"
    );
    // Again is the same.
    let before = world.read("workspace/it/.git/info/exclude");
    assert_eq!(write(&world, &[("it/task.md", 0o644)]).code, 0);
    assert_eq!(world.read("workspace/it/.git/info/exclude"), before);
}

#[test]
fn what_cannot_be_written_is_named() {
    let world = World::new();
    world.write("workspace/file", "");
    fs::create_dir(world.path("workspace/directory")).unwrap();
    for (path, said) in [
        ("file/below", "is not a directory"),
        ("directory", "there is a directory of that name"),
        ("a/../b", "without '.' and '..'"),
    ] {
        let ran = write(&world, &[(path, 0o644)]);
        assert_eq!(ran.code, 1);
        let named = world.text(&format!("workspace/{path}"));
        assert!(
            ran.stderr.contains(&named) && ran.stderr.contains(said),
            "{}",
            ran.stderr
        );
    }
    write(&world, &[("task.md", 0o644)]);
    fs::remove_file(world.path("context/content-0")).unwrap();
    let ran = run(&world);
    assert!(
        ran.stderr
            .contains("task.md: cannot read its content, content-0: No such file"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_full_disk_may_have_room_later() {
    let world = World::new();
    world.write("context/content", vec![b'x'; 100_000]);
    let path = world.text("workspace/large");
    let file = json!({ "source": "content", "path": path, "target": path, "mode": 0o644 });
    world.write(
        "context/context.json",
        json!({ "files": [file] }).to_string(),
    );
    for directory in ["workspace", "tools"] {
        let Some(ran) = world.on_a_small_disk(directory, 16, &command(&world)) else {
            return;
        };
        assert_eq!(ran.code, 75, "{}", ran.stderr);
        assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
    }
}

#[test]
fn a_plan_that_cannot_be_read_is_an_error_and_none_is_nothing_to_do() {
    let world = World::new();
    assert_eq!(run(&world).code, 0);
    world.write("context/context.json", "{\"files\": [{}]}");
    let ran = run(&world);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("context.json"), "{}", ran.stderr);
}

#[test]
fn files_that_replace_the_repositorys_own_are_no_change_and_no_commit_takes_them() {
    let world = World::new();
    world.repository("library");
    world.repository("source");
    let library = format!("file://{}", world.text("library"));
    let add = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        &library,
        "lib",
    ];
    world.git("source", &add);
    world.write("source/task.md", "the repository's own\n");
    world.write("source/docs/[a]*.md", "the repository's own\n");
    world.write("source/docs/ab.md", "the repository's own\n");
    world.write("source/work.txt", "before\n");
    world.git("source", &["add", "-A"]);
    world.git("source", &["commit", "-q", "-m", "files"]);
    world.cloned(json!({
        "repository": format!("file://{}", world.text("source")), "submodules": true,
    }));
    let ran = write(
        &world,
        &[
            ("it/task.md", 0o755),
            ("it/docs/[a]*.md", 0o644),
            ("it/new.md", 0o644),
            ("it/lib/README.md", 0o644),
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.read("workspace/it/task.md"), "it/task.md");
    assert_eq!(world.git("workspace/it", &["status", "--porcelain"]), "");

    // Its neighbour, and what the agent does, are changes as ever.
    world.write("workspace/it/docs/ab.md", "the agent's\n");
    world.write("workspace/it/work.txt", "after\n");
    world.git("workspace/it", &["add", "-A"]);
    world.git("workspace/it", &["commit", "-q", "-a", "-m", "work"]);
    assert_eq!(
        world.git("workspace/it", &["diff", "--name-only", "HEAD~1", "HEAD"]),
        "docs/ab.md\nwork.txt"
    );
    assert_eq!(
        world.git("workspace/it", &["show", "HEAD:task.md"]),
        "the repository's own"
    );
    // Again is the same.
    assert_eq!(write(&world, &[("it/task.md", 0o644)]).code, 0);
    assert_eq!(world.git("workspace/it", &["status", "--porcelain"]), "");
}
