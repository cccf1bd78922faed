//! `credentials-init`: files of Secrets become the files of whoever runs it.

use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::json;

use crate::world::{self, Ran, World};

/// A Secret as the kubelet shows it: files that are links through a directory of its own.
fn secret(world: &World) {
    world.write("secret/..data/id_rsa", "the key\n");
    world.write("secret/..data/other", "the other\n");
    for name in ["id_rsa", "other"] {
        symlink(
            format!("..data/{name}"),
            world.path(&format!("secret/{name}")),
        )
        .unwrap();
    }
    let plan = json!({"credentials": [{
        "path": "/home/agent/.ssh", "source": world.text("secret"), "target": world.text("tmp/0"), "mode": 0o400,
    }]});
    world.write("context/credentials.json", plan.to_string());
}

fn run(world: &World) -> Ran {
    let context = world.text("context");
    world::run(&mut world.command(["credentials-init", "--context-dir", &context]))
}

#[test]
fn files_have_their_content_mode_and_owner_and_nothing_is_printed() {
    let world = World::new();
    secret(&world);
    // Again: as after a node that lost the Pod's sandbox.
    for _ in 0..2 {
        let ran = run(&world);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!((ran.stdout.as_slice(), ran.stderr.as_str()), (&b""[..], ""));
    }
    assert_eq!(world.read("tmp/0/id_rsa"), "the key\n");
    assert_eq!(world.read("tmp/0/other"), "the other\n");
    assert_eq!(world.mode("tmp/0/id_rsa"), 0o400);
    let owner = std::fs::metadata(world.path("tmp/0/id_rsa")).unwrap().uid();
    assert_eq!(owner, nix::unistd::geteuid().as_raw());
    let names = std::fs::read_dir(world.path("tmp/0")).unwrap();
    assert_eq!(names.count(), 2, "nothing else");
}

#[test]
fn what_is_missing_is_named_by_its_place_and_no_content_is_shown() {
    let world = World::new();
    secret(&world);
    std::fs::remove_file(world.path("secret/..data/id_rsa")).unwrap();
    let ran = run(&world);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains("/home/agent/.ssh: cannot copy the Secret's id_rsa"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("the other"), "{}", ran.stderr);
}
