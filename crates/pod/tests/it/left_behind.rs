//! Agents that do not want to end: whatever they leave behind, `supervise` comes to its own end, and says what it found.
//!
//! Those that fork for ever run in a PID namespace of its own, which ends with its first process: nothing is left on the
//! machine, also when a test fails. Needs unprivileged user namespaces, or root.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Read as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{signal::kill, stat::Mode},
    unistd::Pid,
};

use crate::{
    supervise::{report, script, supervised, with_checkout},
    world::{AS_PID_1, World, environment_of, finish, unshare},
};

/// Forks and ends for ever, each in a session of its own, so that whoever looks for it finds one that has gone. There are
/// never more than a dozen, and they end by themselves after ten minutes, with a file that says so.
const FORKS_FOR_EVER: &str = r#"
    use POSIX;
    my ($outlived, $until) = (shift, time + 600);
    $SIG{TERM} = "IGNORE";
    $| = 1;
    fork and exit;
    print "ready\n";
    open STDOUT, ">", "/dev/null";
    while (1) {
        if (time > $until) { open my $file, ">", $outlived; exit }
        opendir my $proc, "/proc";
        my $few = 8 > grep /^\d/, readdir $proc;
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
    let why = "an agent that forks for ever";
    let mut unshare = unshare(
        &AS_PID_1,
        &["perl", "-e", "use POSIX"],
        why,
        "user-namespaces",
    )?;
    unshare
        .args(first)
        .arg(inner.get_program())
        .args(inner.get_args());
    environment_of(&mut unshare, inner);
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

/// A filter is a program that git runs, so whatever it leaves behind comes after the agent.
#[test]
fn filters_of_a_checkout_are_not_run_when_it_is_looked_at() {
    let (world, _) = with_checkout();
    let canary = world.text("canary");
    let trap = format!("touch {canary}; cat");
    for name in ["trap", "with.dots=and \"more\""] {
        for kind in ["clean", "smudge", "process"] {
            world.git(
                "workspace/it",
                &["config", &format!("filter.{name}.{kind}"), &trap],
            );
        }
        world.git(
            "workspace/it",
            &["config", &format!("filter.{name}.required"), "true"],
        );
    }
    world.write("workspace/it/.gitattributes", "* filter=trap\n");
    world.write("workspace/it/file", "changed\n");
    assert_eq!(script(&world, "true").code, 0);
    let checkout = &report(&world)["checkouts"][0];
    assert_eq!(checkout["dirty"], true, "{checkout}");
    assert!(!world.path("canary").exists());
}

/// In a submodule git runs what is configured there, whoever asks. It waits for the report, and puts another in its place.
#[test]
fn what_git_runs_in_a_submodule_cannot_outlive_the_look_at_it() {
    let (world, _) = with_checkout();
    world.repository("workspace/it/module");
    world.git("workspace/it", &["add", "module"]);
    let (alive, report_file) = (world.text("alive"), world.text("report"));
    nix::unistd::mkfifo(&world.path("alive"), Mode::S_IRWXU).unwrap();
    let mut ended = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&alive)
        .unwrap();
    world.write(
        "forges",
        format!(
            "exec 9<> {alive}; touch {alive}.once
             setsid sh -c 'until [ -s {report_file} ] || [ ! -p {alive} ]; do :; done; echo forged > {report_file}' \
             > /dev/null 2>&1 < /dev/null &
             cat"
        ),
    );
    let forges = format!("sh {}", world.text("forges"));
    world.git(
        "workspace/it/module",
        &["config", "filter.trap.clean", &forges],
    );
    world.write("workspace/it/module/.gitattributes", "* filter=trap\n");
    // As long as it was: git has to read it, to see whether it has changed.
    world.write("workspace/it/module/file", "4\n");
    let ran = script(&world, "true");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(world.path("alive.once").exists(), "git has run it");
    // The end of this comes with the end of the last one that has it open.
    fcntl(&ended, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    ended.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(report(&world)["exitCode"], 0);
}

/// What is in the checkouts is asked of the git in the agent's image, which the agent may have replaced: by one that tells
/// that it has no more to say, leaves its process group, and does not end.
#[test]
fn a_git_that_closes_its_output_and_does_not_end_does_not_keep_the_report_back() {
    let (world, base) = with_checkout();
    let pid = world.text("pid");
    fs::create_dir(world.path("bin")).unwrap();
    world.write(
        "bin/git",
        format!(
            "#!/usr/bin/env perl\nuse POSIX;\nopen my $file, '>', '{pid}'; print $file $$; close $file;\n\
             my $child = fork; if (!$child) {{ setpgid(0, 0); sleep 600; exit }}\n\
             setpgid($child, $child); setpgid(0, $child);\n\
             close STDOUT; close STDERR; sleep 600;\n"
        ),
    );
    fs::set_permissions(world.path("bin/git"), Permissions::from_mode(0o755)).unwrap();
    let mut supervise = supervised(
        &world,
        4,
        &["sh", "-c", "kill -TERM $PPID; sleep 60 & wait"],
    );
    let path = std::env::var("PATH").unwrap();
    supervise.env("PATH", format!("{}:{path}", world.text("bin")));
    let output = finish(supervise.spawn().unwrap());
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let checkout = &report(&world)["checkouts"][0];
    assert_eq!(checkout["base"], base);
    assert_eq!(checkout["error"], "git took too long to answer");
    let pid = Pid::from_raw(world.read("pid").parse().unwrap());
    assert_eq!(kill(pid, None), Err(Errno::ESRCH), "it is killed");
}
