//! What an agent may leave behind to get at the credentials of `git-push`: nothing of it is run, followed or pushed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{fs::symlink, net::UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    server::Server,
    sidecar::{
        AS_BEFORE, Sidecar, ask, ask_within, branches, checked_out, commit, connect, executable,
        guarded, supervise, supervised,
    },
    world::{World, environment_of, finish, unshare},
};

/// It could change what is read. Needs root: a process that cannot be killed is one of another user.
#[test]
fn a_process_that_cannot_be_killed_keeps_everything_from_being_pushed() {
    let world = checked_out(json!({}));
    let sidecar = Sidecar::start(&world);
    let inner = supervise(
        &world,
        "echo one >> file; git commit -qam one
         setpriv --reuid=12345 --clear-groups sh -c 'echo ready; exec sleep 1000' | { read -r line; kill -TERM $PPID; sleep 1000; }",
    );
    let without_kill = ["--bounding-set=-kill", "--inh-caps=-kill"];
    // A short grace: then it is given up soon.
    let arguments = inner
        .get_args()
        .map(|it| if it == "30" { OsStr::new("2") } else { it });
    let namespace = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut probe = vec!["setpriv"];
    probe.extend(without_kill);
    probe.extend(["setpriv", "--reuid=12345", "--clear-groups", "true"]);
    let why = "a process that cannot be killed";
    let Some(mut unshare) = unshare(&namespace, &probe, why, "root") else {
        return;
    };
    // What is left behind ends with the namespace.
    unshare
        .args(["sh", "-c", r#""$@"; exit $?"#, "sh", "setpriv"])
        .args(without_kill)
        .arg(inner.get_program())
        .args(arguments)
        .current_dir(world.path("workspace/it"));
    environment_of(&mut unshare, &inner);
    let output = finish(unshare.spawn().unwrap());
    sidecar.end(&world);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let pushed: Value = serde_json::from_str(&world.read("report")).unwrap();
    let pushed = &pushed["checkouts"][0]["pushed"];
    assert_eq!(pushed["state"], "Failed", "{pushed}");
    let message = pushed["message"].as_str().unwrap();
    assert!(message.contains("could not be ended"), "{message}");
    assert_eq!(branches(&world), AS_BEFORE);
}

/// A world where `canary` is made when anything that the agent configured is run, with a commit to push.
fn trapped(more: Value) -> (World, String) {
    let world = checked_out(more);
    let head = commit(&world);
    let script = format!("#!/bin/sh\ntouch {}\n", world.text("canary"));
    executable(&world, "trap", &script);
    for hook in [
        "pre-push",
        "reference-transaction",
        "post-index-change",
        "pre-commit",
        "post-commit",
    ] {
        executable(&world, &format!("workspace/it/.git/hooks/{hook}"), &script);
    }
    (world, head)
}

/// Something runs what the agent left there, so that its absence means something.
fn springs(world: &World, directory: &str, arguments: &[&str]) {
    let _ = Command::new("git")
        .args([
            "-c",
            "user.name=Agent",
            "-c",
            "user.email=agent@example.invalid",
        ])
        .args(arguments)
        .current_dir(world.path(directory))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    assert!(
        world.path("canary").exists(),
        "git {arguments:?} does not run it"
    );
    fs::remove_file(world.path("canary")).unwrap();
}

/// The work arrives, and nothing was run.
fn arrives_untouched(world: &World, head: &str) {
    let pushed = ask(world);
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    assert_eq!(world.git("remote", &["rev-parse", "work"]), head);
    assert!(
        !world.path("canary").exists(),
        "something of the agent was run"
    );
}

#[test]
fn hooks_of_the_checkout_are_not_run() {
    let (world, head) = trapped(json!({}));
    springs(&world, "workspace/it", &["push", "origin", "HEAD:other"]);
    arrives_untouched(&world, &head);
}

#[test]
fn programs_that_its_configuration_names_are_not_run() {
    // What springs the trap, where an ordinary command does.
    let status: &[&str] = &["status"];
    let fetch: &[&str] = &["fetch", "origin"];
    for (key, control) in [
        ("core.fsmonitor", Some(status)),
        ("core.sshCommand", Some(&["fetch", "ssh://localhost/x"][..])),
        ("remote.origin.uploadpack", Some(fetch)),
        (
            "remote.origin.receivepack",
            Some(&["push", "origin", "HEAD:other"][..]),
        ),
        ("core.alternateRefsCommand", None),
        ("uploadpack.packObjectsHook", None),
        ("core.gitProxy", None),
        ("core.askPass", None),
        ("core.pager", None),
        (
            "gpg.program",
            Some(&["commit", "--allow-empty", "-S", "-m", "x"][..]),
        ),
        ("diff.external", Some(&["diff", "HEAD~1", "--ext-diff"][..])),
    ] {
        let (world, head) = trapped(json!({ "depth": 2 }));
        fs::remove_dir_all(world.path("workspace/it/.git/hooks")).unwrap();
        world.git("workspace/it", &["config", key, &world.text("trap")]);
        for (name, value) in [("commit.gpgSign", "true"), ("push.gpgSign", "if-asked")] {
            world.git("workspace/it", &["config", name, value]);
        }
        if let Some(control) = control {
            springs(&world, "workspace/it", control);
            world.git("workspace/it", &["update-ref", "HEAD", &head]);
        }
        arrives_untouched(&world, &head);
    }
}

#[test]
fn credentials_and_addresses_are_not_for_the_checkout_to_choose() {
    let (world, server) = guarded(json!({}));
    world.git("served/source", &["config", "http.receivepack", "true"]);
    let thief = Server::start(world.path("served"), Some("x:y"), None);
    world.write("secret/ca.crt", format!("{}{}", server.ca, thief.ca));
    let head = commit(&world);
    let config = format!(
        "[url \"{}\"]\n\tinsteadOf = {}\n\tpushInsteadOf = {}\n\
         [credential]\n\thelper = !touch {}\n\
         [http]\n\tproxy = {}\n\tsslVerify = false\n\textraHeader = X: y\n\
         [remote \"origin\"]\n\tpushurl = {}\n",
        thief.url(""),
        server.url(""),
        server.url(""),
        world.text("canary"),
        thief.url(""),
        thief.url("source/.git"),
    );
    let before = world.read("workspace/it/.git/config");
    world.write("workspace/it/.git/config", before + &config);
    let url = thief.url("source/.git");
    springs(
        &world,
        "workspace/it",
        &["-c", "http.proxy=", "push", &url, "HEAD:x"],
    );
    thief.credentials.lock().unwrap().clear();

    let (pushed, log) = ask_within(&world, Duration::from_mins(1));
    assert_eq!(pushed["head"], head, "{pushed} {log}");
    assert!(!world.path("canary").exists());
    assert_eq!(*thief.credentials.lock().unwrap(), Vec::<String>::new());
    assert!(!log.contains("secret-word"), "{log}");
    assert_eq!(world.git("served/source", &["rev-parse", "work"]), head);
}

#[test]
fn filters_of_the_checkout_are_not_run_when_its_files_are_committed() {
    let (world, _) = trapped(json!({ "push": { "uncommitted": true } }));
    fs::remove_dir_all(world.path("workspace/it/.git/hooks")).unwrap();
    world.write("workspace/it/.gitattributes", "* filter=trap diff=trap\n");
    let script = format!("touch {}; cat", world.text("canary"));
    for key in [
        "filter.trap.clean",
        "filter.trap.smudge",
        "filter.trap.process",
        "diff.trap.textconv",
    ] {
        world.git("workspace/it", &["config", key, &script]);
    }
    world.git("workspace/it", &["config", "filter.trap.required", "true"]);
    world.write("workspace/it/file", "as it is\n");
    springs(&world, "workspace/it", &["add", "file"]);

    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    assert!(!world.path("canary").exists(), "a filter was run");
    assert_eq!(world.git("remote", &["show", "work:file"]), "as it is");
}

#[test]
fn what_looking_at_the_checkout_may_run_is_run_after_the_push() {
    let (world, _server) = guarded(json!({}));
    world.git("served/source", &["config", "http.receivepack", "true"]);
    let canary = world.text("canary");
    executable(
        &world,
        "served/source/.git/hooks/pre-receive",
        &format!("#!/bin/sh\n[ ! -e {canary} ]\n"),
    );
    let (code, checkout) = supervised(
        &world,
        &format!(
            "git init -q module; cd module; echo one > file; git add file; git commit -qm one; \
             git -C .. add module; git -C .. commit -qm one; git config filter.trap.clean 'touch {canary}; cat'; \
             echo '* filter=trap' > .gitattributes; touch -d '1 hour ago' file"
        ),
    );
    assert!(
        world.path("canary").exists(),
        "git status runs it in a submodule"
    );
    assert_eq!(checkout["pushed"]["state"], "Pushed", "{code} {checkout}");
}

#[test]
fn repositories_inside_of_it_are_not_entered() {
    let (world, _) = trapped(json!({ "push": { "uncommitted": true } }));
    // A submodule with settings of its own, and a change.
    world.repository("workspace/it/module");
    world.git(
        "workspace/it/module",
        &[
            "config",
            "core.fsmonitor",
            &format!("touch {}", world.text("canary")),
        ],
    );
    world.git(
        "workspace/it",
        &["-c", "core.hooksPath=/dev/null", "add", "module"],
    );
    world.git(
        "workspace/it",
        &[
            "-c",
            "core.hooksPath=/dev/null",
            "commit",
            "-q",
            "-m",
            "module",
        ],
    );
    let head = world.git("workspace/it", &["rev-parse", "HEAD"]);
    world.write("workspace/it/module/file", "changed\n");
    let _ = fs::remove_file(world.path("canary"));
    springs(
        &world,
        "workspace/it",
        &["-c", "core.hooksPath=/dev/null", "status"],
    );
    arrives_untouched(&world, &head);
}

#[test]
fn a_checkout_that_leads_elsewhere_is_not_followed() {
    type Trick = fn(&World);
    let tricks: [(&str, &str, Trick); 9] = [
        ("a .git file", "is not a directory", |world| {
            fs::rename(world.path("workspace/it/.git"), world.path("elsewhere")).unwrap();
            world.write(
                "workspace/it/.git",
                format!("gitdir: {}\n", world.text("elsewhere")),
            );
        }),
        ("a link for .git", "is a symbolic link", |world| {
            fs::rename(world.path("workspace/it/.git"), world.path("elsewhere")).unwrap();
            symlink(world.path("elsewhere"), world.path("workspace/it/.git")).unwrap();
        }),
        ("a link for the checkout", "is a symbolic link", |world| {
            fs::rename(world.path("workspace/it"), world.path("elsewhere")).unwrap();
            symlink(world.path("elsewhere"), world.path("workspace/it")).unwrap();
        }),
        ("a link for the objects", "is a symbolic link", |world| {
            fs::rename(
                world.path("workspace/it/.git/objects"),
                world.path("elsewhere"),
            )
            .unwrap();
            symlink(
                world.path("elsewhere"),
                world.path("workspace/it/.git/objects"),
            )
            .unwrap();
        }),
        ("a link among the objects", "is a symbolic link", |world| {
            let pack = world.path("workspace/it/.git/objects/pack");
            fs::rename(&pack, world.path("elsewhere")).unwrap();
            symlink(world.path("elsewhere"), pack).unwrap();
        }),
        ("a pipe among the objects", "is not a file", |world| {
            let pipe = world.path("workspace/it/.git/objects/pack/pack-1.idx");
            nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("alternates", "its objects are elsewhere", |world| {
            let objects = world.text("remote/.git/objects");
            world.write("workspace/it/.git/objects/info/alternates", objects);
        }),
        ("a pipe for HEAD", "is not a file", |world| {
            let head = world.path("workspace/it/.git/HEAD");
            fs::remove_file(&head).unwrap();
            nix::unistd::mkfifo(&head, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("a HEAD that climbs", "names no commit", |world| {
            world.write(
                "workspace/it/.git/HEAD",
                "ref: refs/heads/../../../../secret\n",
            );
        }),
    ];
    for (name, words, trick) in tricks {
        let world = checked_out(json!({ "push": { "uncommitted": true } }));
        let head = commit(&world);
        world.write("secret", head);
        trick(&world);
        let pushed = ask(&world);
        assert_eq!(pushed["state"], "Failed", "{name}: {pushed}");
        let message = pushed["message"].as_str().unwrap();
        assert!(message.contains(words), "{name}: {message}");
        assert!(message.contains("only in the Pod"), "{name}: {message}");
        assert_eq!(branches(&world), AS_BEFORE, "{name}");
    }
}

#[test]
fn files_that_a_link_leads_to_are_not_committed() {
    let world = checked_out(json!({ "push": { "uncommitted": true } }));
    world.write("secret/password", "secret-word");
    world.write("workspace/it/data/password", "harmless\n");
    world.git("workspace/it", &["add", "data"]);
    world.git("workspace/it", &["commit", "-q", "-m", "data"]);
    // What was a directory of the checkout is now the directory of the Secret.
    fs::remove_dir_all(world.path("workspace/it/data")).unwrap();
    symlink(world.path("secret"), world.path("workspace/it/data")).unwrap();
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Pushed", "{pushed}");
    let tree = world.git(
        "remote",
        &["ls-tree", "-r", "--format=%(objectmode) %(path)", "work"],
    );
    assert!(tree.contains("120000 data"), "{tree}");
    assert!(!tree.contains("data/password"), "{tree}");
    let search = Command::new("git")
        .args(["grep", "-q", "secret-word", "work"])
        .current_dir(world.path("remote"))
        .status();
    assert_eq!(search.unwrap().code(), Some(1));
}

#[test]
fn what_git_would_show_instead_is_not_what_is_pushed() {
    let world = checked_out(json!({ "depth": 0 }));
    let head = commit(&world);
    let other = world.git("workspace/it", &["rev-parse", "v1^{commit}"]);
    world.git("workspace/it", &["replace", &head, &other]);
    world.write("workspace/it/.git/info/grafts", format!("{head}\n"));
    let pushed = ask(&world);
    assert_eq!(pushed["head"], head, "{pushed}");
    assert_eq!(world.git("remote", &["show", "work:new"]), "new");
}

#[test]
fn objects_that_are_not_what_they_are_called_do_not_arrive() {
    let world = checked_out(json!({}));
    let head = commit(&world);
    let blob = world.git("workspace/it", &["rev-parse", "HEAD:new"]);
    let other = world.git("workspace/it", &["hash-object", "-w", "--stdin-paths"]);
    assert_eq!(other, "");
    world.write("workspace/it/other", "something else\n");
    let other = world.git("workspace/it", &["hash-object", "-w", "other"]);
    let object = |id: &str| {
        world.path(&format!(
            "workspace/it/.git/objects/{}/{}",
            &id[..2],
            &id[2..]
        ))
    };
    fs::remove_file(object(&blob)).unwrap();
    fs::copy(object(&other), object(&blob)).unwrap();
    let pushed = ask(&world);
    assert_eq!(pushed["state"], "Failed", "{head} {pushed}");
    assert_eq!(branches(&world), AS_BEFORE);
}

#[test]
fn only_the_first_to_come_is_served() {
    let world = checked_out(json!({}));
    let sidecar = Sidecar::start(&world);
    let supervise = connect(&world);
    let waited = connect_again(&world);
    assert!(waited.is_none(), "the agent got a connection of its own");
    drop(supervise);
    sidecar.end(&world);
    // Also when it was started again, which happens after a crash.
    let mut again = Sidecar::start(&world);
    again.says("started again");
    assert!(!world.path("push/socket").exists());
    again.end(&world);
}

/// A second connection, once the first was taken.
fn connect_again(world: &World) -> Option<UnixStream> {
    let served = world.path("push/served");
    while !Path::exists(&served) || world.path("push/socket").exists() {
        std::thread::yield_now();
    }
    UnixStream::connect(world.path("push/socket")).ok()
}
