//! `git-init` over SSH, against a real `sshd` on loopback. Needs `/usr/sbin/sshd` and `ssh-keygen`; without them these
//! tests say so on standard error and prove nothing.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::{
    sshd::{Sshd, keygen},
    world::World,
};

/// A world with keys, a Secret and a server that knows them.
fn served() -> Option<(World, Sshd, String)> {
    let world = World::new();
    let sshd = Sshd::start(Ipv4Addr::LOCALHOST.into(), &world.path("sshd"))?;
    world.repository("source");
    world.write("secret/ssh-privatekey", sshd.key());
    world.write("secret/known_hosts", sshd.known_hosts());
    let url = sshd.url(&world.path("source"));
    Some((world, sshd, url))
}

fn checkout(world: &World, url: &str) -> Value {
    json!({ "repository": url, "secretDir": world.text("secret") })
}

#[test]
fn ssh_with_key_and_known_hosts() {
    let Some((world, sshd, url)) = served() else {
        return;
    };
    world.cloned(checkout(&world, &url));
    assert_eq!(world.read("workspace/it/file"), "3\n");
    // As an editor on another system leaves a key.
    let key = sshd.key();
    world.write(
        "secret/ssh-privatekey",
        key.trim_end().replace('\n', "\r\n"),
    );
    let mut tag = checkout(&world, &url);
    tag["reference"] = json!("v1");
    world.cloned(tag);
    assert_eq!(world.read("workspace/it/file"), "1\n");
}

#[test]
fn ssh_without_known_hosts_trusts_the_first_key() {
    let Some((world, _sshd, url)) = served() else {
        return;
    };
    std::fs::remove_file(world.path("secret/known_hosts")).unwrap();
    world.cloned(checkout(&world, &url));
}

#[test]
fn ssh_host_key_that_is_not_known_is_refused() {
    let Some((world, sshd, url)) = served() else {
        return;
    };
    keygen(&world.path("other"));
    let other = world.read("other.pub");
    world.write("secret/known_hosts", sshd.known_as(&other));
    let output = world.failing(checkout(&world, &url));
    assert!(output.contains("is not the one in known_hosts"), "{output}");
}

#[test]
fn ssh_key_that_the_server_does_not_know_is_refused_and_not_shown() {
    let Some((world, _sshd, url)) = served() else {
        return;
    };
    keygen(&world.path("other"));
    let key = world.read("other");
    world.write("secret/ssh-privatekey", &key);
    let output = world.failing(checkout(&world, &url));
    assert!(output.contains("authentication failed"), "{output}");
    let line = key.lines().nth(1).unwrap();
    assert!(!output.contains(line), "{output}");
}
