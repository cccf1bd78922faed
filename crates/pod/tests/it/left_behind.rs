//! Agents that do not want to end: whatever they leave behind, `supervise` comes to its own end, and says what it found.
//!
//! Each runs in a PID namespace of its own, which ends with its first process: nothing is left on the machine, also when
//! a test fails. Needs unprivileged user namespaces, or root.

use std::process::{Command, Stdio};

use crate::{
    supervise::{report, supervised},
    world::{World, finish},
};

/// Forks and ends for ever, each in a session of its own, so that whoever looks for it finds one that has gone. There are
/// never more than a few dozen, and they end by themselves after a minute, with a file that says so.
const FORKS_FOR_EVER: &str = r#"
    use POSIX;
    my ($outlived, $until) = (shift, time + 60);
    $SIG{TERM} = "IGNORE";
    $| = 1;
    fork and exit;
    print "ready\n";
    open STDOUT, ">", "/dev/null";
    while (1) {
        if (time > $until) { open my $file, ">", $outlived; exit }
        opendir my $proc, "/proc";
        my $few = 24 > grep /^\d/, readdir $proc;
        closedir $proc;
        for (1 .. 5) {
            setsid;
            my $child = fork;
            POSIX::_exit(0) if $child and not $few;
            $few = 0;
        }
    }"#;

/// Runs it in a PID namespace: as PID 1, or below a shell that is. `None`: this machine cannot.
fn in_a_namespace(first: &[&str], inner: &Command) -> Option<std::process::Output> {
    let options = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let possible = Command::new("unshare")
        .args(options)
        .args(["perl", "-e", "use POSIX"])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: an agent that forks for ever: no user namespaces, or no perl");
        return None;
    }
    let mut unshare = Command::new("unshare");
    unshare
        .args(options)
        .args(first)
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(finish(unshare.spawn().unwrap()))
}

fn forks_for_ever(world: &World) -> Command {
    world.write("agent.pl", FORKS_FOR_EVER);
    let script = r#"perl "$0" "$1" | { read -r line; [ "$line" = ready ] && exit 7; }"#;
    let (agent, outlived) = (world.text("agent.pl"), world.text("outlived"));
    supervised(world, 30, &["sh", "-c", script, &agent, &outlived])
}

#[test]
fn an_agent_that_forks_for_ever_is_killed_by_pid_1() {
    let world = World::new();
    let Some(output) = in_a_namespace(&[], &forks_for_ever(&world)) else {
        return;
    };
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(report(&world)["exitCode"], 7);
    assert!(!world.path("outlived").exists());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Nobody but PID 1 can be sure to kill it. It is killed, or left behind; waited for it is not.
#[test]
fn an_agent_that_forks_for_ever_does_not_keep_the_report_back() {
    let world = World::new();
    let first = ["sh", "-c", r#""$@"; echo "code $?""#, "sh"];
    let Some(output) = in_a_namespace(&first, &forks_for_ever(&world)) else {
        return;
    };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "code 7\n",
        "{output:?}"
    );
    assert_eq!(report(&world)["exitCode"], 7);
    assert!(!world.path("outlived").exists());
}
