//! `git-init` over HTTPS: credentials, certificates, redirects; and no secret anywhere.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    server::Server,
    world::{World, anywhere, finish},
};

const PASSWORD: &str = "pass/w@rd wïth %everything";

/// A world with a repository on a server that wants a login, and the Secret for it.
fn guarded() -> (World, Server) {
    let world = World::new();
    world.repository("served/source");
    let server = Server::start(
        world.path("served"),
        Some(&format!("someone:{PASSWORD}")),
        None,
    );
    world.write("secret/username", "someone\n");
    world.write("secret/password", format!("{PASSWORD}\n"));
    world.write("secret/ca.crt", &server.ca);
    (world, server)
}

fn checkout(world: &World, server: &Server) -> Value {
    json!({ "repository": server.url("source/.git"), "secretDir": world.text("secret") })
}

/// No file of the world but the Secret has the password, in any of its forms, nor has the output.
fn no_trace(world: &World, output: &str) {
    let forms = [PASSWORD, "pass%2F", "d2l0aCA", "everything"];
    for form in forms {
        assert!(!output.contains(form), "{output}");
    }
    for directory in ["workspace", "tools", "tmp", "home", "context"] {
        let found = anywhere(&world.path(directory), |path| {
            let content = fs::read(path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            forms.iter().any(|form| content.contains(form))
        });
        assert!(!found, "the password is in a file below {directory}");
    }
}

#[test]
fn with_user_password_and_ca_it_clones_and_leaves_no_trace_of_them() {
    let (world, server) = guarded();
    let output = world.cloned(checkout(&world, &server));
    assert_eq!(world.read("workspace/it/file"), "3\n");
    let config = world.read("workspace/it/.git/config");
    assert!(config.contains(&server.url("source/.git")), "{config}");
    assert!(!config.contains("someone"), "{config}");
    no_trace(&world, &output);
}

#[test]
fn single_commits_and_depths_work_over_https() {
    let (world, server) = guarded();
    let sha = world.git("served/source", &["rev-parse", "v1^{commit}"]);
    for (reference, depth) in [
        (sha.as_str(), 1),
        (&sha[..9], 1),
        ("v1", 0),
        ("feature/x", 2),
    ] {
        let mut one = checkout(&world, &server);
        one["reference"] = json!(reference);
        one["depth"] = json!(depth);
        world.cloned(one);
        let expected = world.git(
            "served/source",
            &["rev-parse", &format!("{reference}^{{commit}}")],
        );
        assert_eq!(
            world.git("workspace/it", &["rev-parse", "HEAD"]),
            expected,
            "{reference}"
        );
    }
}

#[test]
fn a_server_that_gives_out_no_single_commits_is_asked_for_all() {
    let world = World::new();
    world.repository("served/source");
    let server = Server::old(world.path("served"));
    world.write("secret/ca.crt", &server.ca);
    let sha = world.git("served/source", &["rev-parse", "v1^{commit}"]);
    let mut one = checkout(&world, &server);
    one["reference"] = json!(sha);
    let output = world.cloned(one);
    assert!(output.contains("fetching the whole history"), "{output}");
    assert_eq!(world.git("workspace/it", &["rev-parse", "HEAD"]), sha);
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    let (world, server) = guarded();
    world.write("secret/password", "wrong-but-secret");
    let output = world.failing(checkout(&world, &server));
    assert!(
        output.contains("authentication failed: check the Secret"),
        "{output}"
    );
    assert!(!output.contains("wrong-but-secret"), "{output}");
    assert!(
        server
            .credentials
            .lock()
            .unwrap()
            .contains(&"someone:wrong-but-secret".to_owned()),
        "it was tried"
    );
}

#[test]
fn without_credentials_it_says_that_some_are_needed_and_does_not_wait() {
    let (world, server) = guarded();
    fs::remove_file(world.path("secret/password")).unwrap();
    fs::remove_file(world.path("secret/username")).unwrap();
    let output = world.failing(checkout(&world, &server));
    assert!(
        output.contains("the server asks for credentials: name a Secret"),
        "{output}"
    );
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused() {
    let (world, server) = guarded();
    let other = Server::start(world.path("served"), None, None);
    world.write("secret/ca.crt", &other.ca);
    let output = world.failing(checkout(&world, &server));
    assert!(output.contains("certificate is not trusted"), "{output}");
    assert!(
        server.credentials.lock().unwrap().is_empty(),
        "nothing was sent"
    );
}

#[test]
fn a_repository_that_is_not_there_is_said() {
    let (world, server) = guarded();
    let mut none = checkout(&world, &server);
    none["repository"] = json!(server.url("none"));
    let output = world.failing(none);
    assert!(output.contains("was not found"), "{output}");
    no_trace(&world, &output);
}

#[test]
fn a_server_with_a_problem_of_its_own_may_have_none_later() {
    let world = World::new();
    world.repository("served/source");
    for status in [
        "503 Service Unavailable",
        "500 Internal Server Error",
        "429 Too Many Requests",
    ] {
        let server = Server::broken(world.path("served"), status);
        world.write("secret/ca.crt", &server.ca);
        let output = world.failing_for_now(checkout(&world, &server));
        assert!(
            output.contains("the server has a problem of its own"),
            "{output}"
        );
        let number = &status[..3];
        let gits_words = format!("returned error: {number}");
        assert!(output.contains(&gits_words), "{output}");
    }
}

#[test]
fn a_server_that_hangs_up_may_answer_later() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for transport in ["http", "https", "git", "ssh"] {
        let url = format!("{transport}://127.0.0.1:{port}/x");
        let output = world.failing_for_now(json!({ "repository": url }));
        assert!(output.contains("cannot be reached"), "{output}");
    }
}

#[test]
fn a_redirect_is_followed_but_the_password_goes_to_no_other_host() {
    let (world, thief) = guarded();
    // The same CA would not do: trust both, so that only the host is what differs.
    let honest = Server::start(world.path("served"), None, Some(thief.url("")));
    world.write("secret/ca.crt", format!("{}{}", honest.ca, thief.ca));
    let moved = json!({
        "repository": honest.url("moved/source/.git"), "secretDir": world.text("secret"),
    });
    let output = world.failing(moved);
    assert!(output.contains("authentication failed"), "{output}");
    assert!(thief.credentials.lock().unwrap().is_empty());
    no_trace(&world, &output);

    let free = Server::start(world.path("served"), None, None);
    let honest = Server::start(world.path("served"), None, Some(free.url("")));
    world.write("secret/ca.crt", format!("{}{}", honest.ca, free.ca));
    world.cloned(json!({
        "repository": honest.url("moved/source/.git"), "secretDir": world.text("secret"),
    }));
}

#[test]
fn a_submodule_elsewhere_gets_no_password_and_no_files_of_this_machine() {
    let (world, server) = guarded();
    world.repository("local");
    let thief = Server::start(world.path("served"), Some("x:y"), None);
    world.write("secret/ca.crt", format!("{}{}", server.ca, thief.ca));
    for url in [
        thief.url("source/.git"),
        format!("file://{}", world.text("local")),
    ] {
        world.write(
            "served/source/.gitmodules",
            format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n"),
        );
        let sha = world.git("served/source", &["rev-parse", "v1^{commit}"]);
        let entry = format!("160000,{sha},m");
        world.git(
            "served/source",
            &["update-index", "--add", "--cacheinfo", &entry],
        );
        world.git("served/source", &["add", ".gitmodules"]);
        world.git("served/source", &["commit", "-q", "-m", "module"]);
        let mut with = checkout(&world, &server);
        with["submodules"] = json!(true);
        let output = world.failing(with);
        no_trace(&world, &output);
        assert!(!world.path("workspace/it/m/file").exists());
    }
    assert!(thief.credentials.lock().unwrap().is_empty());
}

#[test]
fn told_to_end_while_a_server_does_not_answer_it_ends_at_once_and_leaves_nothing() {
    let world = World::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    world.plan_git(vec![
        json!({ "path": "it", "repository": format!("https://127.0.0.1:{port}/x") }),
    ]);
    let child = world.git_init_command().spawn().unwrap();
    let (mut connection, _) = silent.accept().unwrap();
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    // To the end of the connection: whoever had it is gone.
    std::io::copy(&mut connection, &mut std::io::sink()).unwrap();
    let output = finish(child);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}
