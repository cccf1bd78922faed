//! `git-init` with `file://` repositories: refs, depth, parts, submodules, places.

use std::fs;

use serde_json::{Value, json};

use crate::world::World;

fn source(world: &World) -> String {
    format!("file://{}", world.text("source"))
}

#[test]
fn the_default_branch_is_checked_out_as_a_local_branch() {
    let world = World::new();
    let [.., three] = world.repository("source");
    world.cloned(json!({
        "repository": source(&world),
        "origin": "https://git.example/project.git",
    }));
    assert_eq!(world.git("workspace/it", &["rev-parse", "HEAD"]), three);
    assert_eq!(
        world.git("workspace/it", &["rev-list", "--count", "HEAD"]),
        "1"
    );
    assert_eq!(
        world.git("workspace/it", &["status", "--porcelain=v2", "--branch"]),
        format!(
            "# branch.oid {three}\n# branch.head trunk\n# branch.upstream origin/trunk\n# branch.ab +0 -0"
        )
    );
    assert_eq!(
        world.git("workspace/it", &["remote", "get-url", "origin"]),
        "https://git.example/project.git"
    );
    let records: Value = serde_json::from_str(&world.read("tools/checkouts.json")).unwrap();
    assert_eq!(
        records,
        json!([{ "path": world.text("workspace/it"), "base": three, "branch": "trunk" }])
    );
}

#[test]
fn every_kind_of_ref_with_every_kind_of_depth() {
    let world = World::new();
    let [one, two, three] = world.repository("source");
    let abbreviated = &one[..8];
    let mut plan = Vec::new();
    let mut expected = Vec::new();
    for depth in [0, 1, 2] {
        for (name, reference, commit, history, branch) in [
            ("branch", "feature/x", &two, 2, Some("feature/x")),
            ("full-branch", "refs/heads/trunk", &three, 3, Some("trunk")),
            ("tag", "v1", &one, 1, None),
            ("sha", two.as_str(), &two, 2, None),
            ("abbreviated", abbreviated, &one, 1, None),
        ] {
            let path = format!("{name}-{depth}");
            plan.push(json!({
                "path": path, "repository": source(&world), "reference": reference, "depth": depth,
            }));
            let commits = if depth == 0 {
                history
            } else {
                history.min(depth)
            };
            expected.push((path, commit, commits, branch));
        }
    }
    world.plan_git(plan);
    let ran = world.git_init();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for (path, commit, commits, branch) in expected {
        let at = format!("workspace/{path}");
        assert_eq!(world.git(&at, &["rev-parse", "HEAD"]), *commit, "{path}");
        assert_eq!(
            world.git(&at, &["rev-list", "--count", "HEAD"]),
            commits.to_string(),
            "{path}"
        );
        assert_eq!(
            world.git(&at, &["rev-parse", "--abbrev-ref", "HEAD"]),
            branch.unwrap_or("HEAD"),
            "{path}"
        );
        assert_eq!(world.git(&at, &["status", "--porcelain"]), "", "{path}");
    }
}

#[test]
fn a_shallow_clone_is_a_source_like_any_other_and_is_never_written_to() {
    let world = World::new();
    let [.., three] = world.repository("full");
    let full = format!("file://{}", world.text("full"));
    world.git(".", &["clone", "-q", "--depth=2", &full, "source"]);
    let snapshot = || {
        let mut files = Vec::new();
        crate::world::anywhere(&world.path("source"), |path| {
            files.push((
                path.to_owned(),
                fs::metadata(path).unwrap().modified().unwrap(),
            ));
            false
        });
        files.sort();
        files
    };
    let before = snapshot();
    world.plan_git(vec![
        json!({ "path": "all", "repository": source(&world), "depth": 0 }),
        json!({ "path": "one", "repository": source(&world), "depth": 1 }),
    ]);
    let ran = world.git_init();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for at in ["workspace/all", "workspace/one"] {
        assert_eq!(world.git(at, &["rev-parse", "HEAD"]), three);
        assert!(!world.path(at).join(".git/objects/info/alternates").exists());
    }
    assert_eq!(
        world.git("workspace/all", &["rev-list", "--count", "HEAD"]),
        "2"
    );
    assert_eq!(snapshot(), before);
}

#[test]
fn a_part_of_a_repository_is_no_checkout() {
    let world = World::new();
    world.repository("source");
    world.plan_git(vec![
        json!({ "path": "directory", "repository": source(&world), "subPath": "docs", "mode": 0o640 }),
        json!({ "path": "deep/page.md", "repository": source(&world), "subPath": "docs/guide/page.md", "reference": "v1" }),
    ]);
    let ran = world.git_init();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.read("workspace/directory/guide/page.md"), "page 3\n");
    assert_eq!(world.mode("workspace/directory/guide/page.md"), 0o640);
    assert_eq!(world.read("workspace/deep/page.md"), "page 1\n");
    assert!(!world.path("workspace/directory/.git").exists());
    assert!(!world.path("workspace/directory/file").exists());
    assert_eq!(world.read("tools/checkouts.json"), "[]");
    let said = world.failing(json!({ "repository": source(&world), "subPath": "docs/none" }));
    assert!(
        said.contains("git-init: ") && said.contains("has no docs/none at that ref"),
        "{said}"
    );
}

#[test]
fn a_part_is_not_taken_through_a_link_out_of_the_repository() {
    let world = World::new();
    world.repository("source");
    world.write("secrets/password", "letmein");
    let link = world.path("source/docs-link");
    std::os::unix::fs::symlink(world.path("secrets"), link).unwrap();
    world.git("source", &["add", "-A"]);
    world.git("source", &["commit", "-q", "-m", "link"]);
    for submodules in [false, true] {
        world.failing(json!({
            "repository": source(&world), "submodules": submodules, "subPath": "docs-link/password",
        }));
        assert!(!world.path("workspace/it").exists());
    }
}

#[test]
fn submodules_come_when_they_are_asked_for() {
    let world = World::new();
    world.repository("library");
    world.repository("source");
    let library = format!("file://{}", world.text("library"));
    world.git(
        "source",
        &[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            &library,
            "lib",
        ],
    );
    world.git("source", &["commit", "-q", "-m", "library"]);
    world.plan_git(vec![
        json!({ "path": "with", "repository": source(&world), "submodules": true }),
        json!({ "path": "without", "repository": source(&world) }),
        json!({ "path": "part", "repository": source(&world), "submodules": true, "subPath": "lib/docs" }),
    ]);
    let ran = world.git_init();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.read("workspace/with/lib/file"), "3\n");
    assert_eq!(world.git("workspace/with", &["status", "--porcelain"]), "");
    assert!(!world.path("workspace/without/lib/file").exists());
    assert_eq!(world.read("workspace/part/guide/page.md"), "page 3\n");
    let config = world.read("tools/gitconfig");
    for path in ["with", "with/lib", "without"] {
        let path = world.text(&format!("workspace/{path}"));
        assert!(
            config.contains(&format!("directory = \"{path}\"\n")),
            "{config}"
        );
    }
}

#[test]
fn a_checkout_in_a_checkout_does_not_make_it_dirty() {
    let world = World::new();
    world.repository("source");
    world.plan_git(vec![
        json!({ "path": "outer/vendor/inner", "repository": source(&world), "reference": "v1" }),
        json!({ "path": "outer", "repository": source(&world) }),
    ]);
    let ran = world.git_init();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(world.git("workspace/outer", &["status", "--porcelain"]), "");
    assert_eq!(world.read("workspace/outer/vendor/inner/file"), "1\n");
}

#[test]
fn a_link_in_a_repository_leads_no_other_checkout_out_of_it() {
    let world = World::new();
    world.repository("source");
    fs::create_dir(world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path("source/vendor")).unwrap();
    world.git("source", &["add", "-A"]);
    world.git("source", &["commit", "-q", "-m", "link"]);
    world.plan_git(vec![
        json!({ "path": "outer", "repository": source(&world) }),
        json!({ "path": "outer/vendor/inner", "repository": source(&world) }),
        json!({ "path": "outer/vendor/part", "repository": source(&world), "subPath": "docs" }),
    ]);
    let ran = world.git_init();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(
        ran.stderr.matches("is a symbolic link to").count(),
        2,
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_dir(world.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn started_again_it_begins_anew_but_leaves_other_repositories_alone() {
    let world = World::new();
    let [one, ..] = world.repository("source");
    world.cloned(json!({ "repository": source(&world) }));
    world.cloned(json!({ "repository": source(&world), "reference": "v1" }));
    assert_eq!(world.git("workspace/it", &["rev-parse", "HEAD"]), one);

    world.write("workspace/it/mine", "kept");
    fs::remove_file(world.path("workspace/it/.git/kubeopencode-git-init")).unwrap();
    let said = world.failing(json!({ "repository": source(&world) }));
    assert!(said.contains("there already is a repository"), "{said}");
    assert_eq!(world.read("workspace/it/mine"), "kept");
}

#[test]
fn what_git_would_take_for_something_else_is_refused() {
    let world = World::new();
    world.repository("source");
    let source = source(&world);
    let touched = world.text("touched");
    for (checkout, said) in [
        (
            json!({ "repository": format!("ext::sh -c touch% {touched}") }),
            "has to be a URL",
        ),
        (
            json!({ "repository": format!("--upload-pack=touch {touched}") }),
            "must not begin with '-'",
        ),
        (
            json!({ "repository": "ssh://-oProxyCommand=x/y" }),
            "names no host",
        ),
        (
            json!({ "repository": source, "reference": format!("--upload-pack=touch {touched}") }),
            "must not begin with '-'",
        ),
        (
            json!({ "repository": source, "reference": "a..b" }),
            "not the name of a branch",
        ),
        (
            json!({ "repository": source, "subPath": "../x" }),
            "without '..'",
        ),
        (
            json!({ "repository": source, "subPath": "-x" }),
            "must not begin with '-'",
        ),
        (
            json!({ "repository": "https://me:hidden@git.example/x" }),
            "git.secretRef",
        ),
    ] {
        let output = world.failing(checkout);
        assert!(output.contains(said), "{output}");
        assert!(!output.contains("hidden"), "{output}");
    }
    assert!(!world.path("touched").exists());
}

#[test]
fn what_is_not_there_is_said() {
    let world = World::new();
    world.repository("source");
    fs::create_dir(world.path("empty")).unwrap();
    world.git("empty", &["init", "-q"]);
    for (checkout, said) in [
        (
            json!({ "repository": source(&world), "reference": "none" }),
            "no branch, tag or commit none",
        ),
        (
            json!({ "repository": source(&world), "reference": "0123456789" }),
            "no branch, tag or commit 0123456789",
        ),
        (
            json!({ "repository": source(&world), "reference": "0123456789012345678901234567890123456789" }),
            "no branch, tag or commit 0123456789012345678901234567890123456789",
        ),
        (
            json!({ "repository": format!("file://{}", world.text("none")) }),
            "was not found",
        ),
        (
            json!({ "repository": format!("file://{}", world.text("empty")) }),
            "say which in git.ref",
        ),
    ] {
        let output = world.failing(checkout);
        let last = output.lines().last().unwrap();
        assert!(
            last.starts_with(&format!("git-init: {}: ", world.text("workspace/it"))),
            "{output}"
        );
        assert!(last.contains(said), "{output}");
    }
}

#[test]
fn a_server_that_is_not_there_may_be_there_later() {
    let world = World::new();
    for (transport, said) in [
        ("https://127.0.0.1:1/x", "cannot be reached (git: "),
        ("git://127.0.0.1:1/x", "cannot be reached (git: "),
        ("https://no-such-host.invalid/x", "does not resolve (git: "),
        ("git://no-such-host.invalid/x", "does not resolve (git: "),
        // git names no port there, and says why in a second line.
        (
            "git://127.0.0.1:1/x",
            "Connection refused; asked: git://127.0.0.1:1)",
        ),
        ("https://127.0.0.1:1/x", "port 1 after"),
    ] {
        let output = world.failing_for_now(json!({ "repository": transport }));
        let last = output.lines().last().unwrap();
        assert!(last.contains(said), "{output}");
    }
}

#[test]
fn a_full_disk_may_have_room_later() {
    let world = World::new();
    world.repository("source");
    let noise: Vec<u8> = (0..1_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    world.write("source/large", noise);
    world.git("source", &["add", "-A"]);
    world.git("source", &["commit", "-q", "-m", "large"]);
    for part in [None, Some("large")] {
        let repository = source(&world);
        world.plan_git(vec![
            json!({ "path": "it", "repository": repository, "subPath": part }),
        ]);
        let Some(ran) = world.on_a_small_disk("workspace", 256, &world.git_init_command()) else {
            return;
        };
        assert_eq!(ran.code, 75, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("the disk of the node is full"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn what_passes_by_itself_is_nothing_to_wait_for_when_something_else_does_not() {
    let world = World::new();
    world.repository("source");
    let unreachable = json!({ "path": "far", "repository": "https://127.0.0.1:1/x" });
    let wrong = json!({ "path": "bad", "repository": source(&world), "reference": "none" });
    for (checkouts, code) in [
        (vec![unreachable.clone(), wrong], 1),
        (vec![unreachable], 75),
    ] {
        world.plan_git(checkouts);
        assert_eq!(world.git_init().code, code);
    }
}

#[test]
fn one_that_fails_does_not_keep_the_others_back() {
    let world = World::new();
    world.repository("source");
    world.plan_git(vec![
        json!({ "path": "good", "repository": source(&world) }),
        json!({ "path": "bad", "repository": source(&world), "reference": "none" }),
    ]);
    let ran = world.git_init();
    assert_eq!(ran.code, 1);
    assert_eq!(world.read("workspace/good/file"), "3\n");
    assert!(
        ran.stderr
            .contains("workspace/good: checked out branch trunk"),
        "{}",
        ran.stderr
    );
}

#[test]
fn another_user_can_work_in_the_checkout_and_commit() {
    let world = World::new();
    world.repository("source");
    world.cloned(json!({ "repository": source(&world) }));
    for path in ["workspace/it", "workspace/it/.git", "workspace/it/docs"] {
        assert_eq!(world.mode(path), 0o777, "{path}");
    }
    assert_eq!(world.mode("workspace/it/file"), 0o666);
    // With nothing but the configuration that the agent gets, which it cannot write to.
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .current_dir(world.path("workspace/it"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", world.path("workspace"))
            .env("GIT_CONFIG_SYSTEM", world.path("tools/gitconfig"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let author = ["log", "-1", "--format=%an"];
    let commit = ["commit", "--quiet", "--allow-empty", "-m", "work"];
    git(&commit);
    assert_eq!(git(&author), "KubeOpenCode");
    git(&["config", "--global", "user.name", "An agent"]);
    git(&commit);
    assert_eq!(git(&author), "An agent");
}
