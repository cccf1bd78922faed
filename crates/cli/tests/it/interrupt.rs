//! `run` and signals: the first one stops the Task, the second one ends everything, and nothing is left.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::support::{Sandbox, can_run_pods, ended, signal, started};

#[test]
fn an_interrupt_stops_the_task_and_waits_for_it() {
    if !can_run_pods("run and Ctrl-C") {
        return;
    }
    let sandbox = Sandbox::new();
    let command = "trap 'echo asked to end; exit 3' TERM; echo working; sleep 1000 & wait";
    let (child, mut stdout, line) = started(&sandbox, &["run", "Wait", "--command", command]);
    assert_eq!(line, "working\n");
    signal(&child, "INT");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).expect("the rest");
    assert_eq!(rest, "asked to end\n");
    let outcome = ended(child).expect_code(3);
    assert!(outcome.stderr.contains("UserStopped"), "{}", outcome.stderr);
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

#[test]
fn until_something_is_created_one_signal_is_enough() {
    use std::os::unix::process::ExitStatusExt as _;
    // A cluster that takes connections and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let sandbox = Sandbox::new();
    let kubeconfig = format!(
        "clusters: [{{name: a, cluster: {{server: 'https://{address}'}}}}]\nusers: [{{name: a, user: {{token: x}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\ncurrent-context: a\n"
    );
    sandbox.write("kubeconfig", &kubeconfig);
    let arguments = [
        "run",
        "Do it",
        "--command",
        "true",
        "--kubeconfig",
        "kubeconfig",
    ];
    let mut child = sandbox
        .command(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let _connection = silent.accept().expect("it asks the cluster");
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("an end").signal(), Some(15));
}

#[test]
fn a_second_interrupt_ends_everything_at_once() {
    if !can_run_pods("run and Ctrl-C twice") {
        return;
    }
    let sandbox = Sandbox::new();
    // The agent holds standard output of nobody; it leaves a mark of its own in the argument list of its sleep.
    let mark = format!("1000.{}", std::process::id());
    let command = format!("trap '' TERM; echo working; sleep {mark}; sleep {mark}");
    let mut child = sandbox
        .command(&["run", "Wait", "--command", &command])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    signal(&child, "INT");
    while !line.contains("Ctrl-C again") {
        line.clear();
        assert_ne!(
            stderr.read_line(&mut line).expect("a line"),
            0,
            "it says what a second one does"
        );
    }
    // Those that come at once with the first are the same one.
    let begun = std::time::Instant::now();
    let ended = loop {
        signal(&child, "INT");
        if let Some(status) = child.try_wait().expect("its status") {
            break status;
        }
    };
    assert_eq!(ended.code(), Some(130));
    assert!(begun.elapsed() > std::time::Duration::from_millis(300));
    // Its processes die with it; the pipe of the node's helper is what tells them. They are gone when nobody has
    // the mark in its arguments any more.
    for _ in 0..1000 {
        if !is_running(&mark) {
            break;
        }
        std::thread::yield_now();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!is_running(&mark), "a process of the agent is still there");
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

/// Whether a process has this as one of its arguments.
fn is_running(argument: &str) -> bool {
    std::fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .any(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0)
                    .any(|word| word == argument.as_bytes())
            })
        })
}
