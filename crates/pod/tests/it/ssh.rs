//! `git-init` over SSH, against a real `sshd` on loopback. Needs `/usr/sbin/sshd` and `ssh-keygen`; without them these
//! tests say so on standard error and prove nothing.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};

use crate::world::World;

const SSHD: &str = "/usr/sbin/sshd";

/// How many tests need the directory that is missing, if it was made for them.
static SEPARATED: Mutex<usize> = Mutex::new(0);
const SEPARATION: &str = "/run/sshd";

/// The directory that an sshd of root locks itself into: there, or made while a test needs it.
struct Separation {
    made: bool,
}

impl Separation {
    fn new() -> Option<Self> {
        let mut tests = SEPARATED.lock().unwrap();
        let needed =
            nix::unistd::geteuid().is_root() && (*tests > 0 || !Path::new(SEPARATION).exists());
        if needed {
            if *tests == 0 {
                std::fs::create_dir(SEPARATION).ok()?;
            }
            *tests += 1;
        }
        Some(Self { made: needed })
    }
}

impl Drop for Separation {
    fn drop(&mut self) {
        let mut tests = SEPARATED.lock().unwrap();
        if self.made {
            *tests -= 1;
            if *tests == 0 {
                let _ = std::fs::remove_dir(SEPARATION);
            }
        }
    }
}

/// One `sshd -i` for each connection, so that nothing is left when a test ends.
struct Sshd {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _separation: Option<Separation>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keygen(world: &World, name: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(world.path(name))
        .status()
        .unwrap();
    assert!(status.success());
}

/// A world with keys, a Secret and a server that knows them. `None`, loudly: this machine cannot run one.
fn served() -> Option<(World, Sshd, String)> {
    let world = World::new();
    // As root, sshd wants a directory to lock itself into, which an installed service would have made.
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap();
    // Whoever may not log in cannot be logged in as.
    let user =
        user.filter(|user| !user.shell.ends_with("nologin") && !user.shell.ends_with("false"));
    let separation = Separation::new();
    let (true, Some(user), true) = (Path::new(SSHD).exists(), user, separation.is_some()) else {
        eprintln!(
            "NOT TESTED: git over SSH, because {SSHD} cannot be run here, or not log in this user"
        );
        return None;
    };
    world.repository("source");
    keygen(&world, "host");
    keygen(&world, "client");
    let user = user.name;
    world.write(
        "sshd_config",
        format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/client.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n",
            world.text("").trim_end_matches('/')
        ),
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let config = world.path("sshd_config");
    let thread = std::thread::spawn(move || {
        let mut children = Vec::new();
        for stream in listener.incoming().flatten() {
            if stopped.load(Ordering::SeqCst) {
                break;
            }
            let stream = OwnedFd::from(stream);
            let child = Command::new(SSHD)
                .args(["-i", "-e", "-f"])
                .arg(&config)
                .stdin(Stdio::from(stream.try_clone().unwrap()))
                .stdout(Stdio::from(stream))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            children.push(child);
        }
        for mut child in children {
            let _ = child.wait();
        }
    });
    let host = world.read("host.pub");
    world.write("secret/ssh-privatekey", world.read("client"));
    world.write(
        "secret/known_hosts",
        format!("[127.0.0.1]:{} {host}", address.port()),
    );
    let url = format!(
        "ssh://{user}@127.0.0.1:{}{}",
        address.port(),
        world.text("source")
    );
    let sshd = Sshd {
        address,
        stop,
        thread: Some(thread),
        _separation: separation,
    };
    Some((world, sshd, url))
}

fn checkout(world: &World, url: &str) -> Value {
    json!({ "repository": url, "secretDir": world.text("secret") })
}

#[test]
fn ssh_with_key_and_known_hosts() {
    let Some((world, _sshd, url)) = served() else {
        return;
    };
    world.cloned(checkout(&world, &url));
    assert_eq!(world.read("workspace/it/file"), "3\n");
    // As an editor on another system leaves a key.
    let key = world.read("client");
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
    keygen(&world, "other");
    let other = world.read("other.pub");
    world.write(
        "secret/known_hosts",
        format!("[127.0.0.1]:{} {other}", sshd.address.port()),
    );
    let output = world.failing(checkout(&world, &url));
    assert!(output.contains("is not the one in known_hosts"), "{output}");
}

#[test]
fn ssh_key_that_the_server_does_not_know_is_refused_and_not_shown() {
    let Some((world, _sshd, url)) = served() else {
        return;
    };
    keygen(&world, "other");
    let key = world.read("other");
    world.write("secret/ssh-privatekey", &key);
    let output = world.failing(checkout(&world, &url));
    assert!(output.contains("authentication failed"), "{output}");
    let line = key.lines().nth(1).unwrap();
    assert!(!output.contains(line), "{output}");
}
