//! `supervise`: what the agent does comes out unchanged, what it leaves behind is gone, and the report says how it was.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::world::{AS_PID_1, Ran, World, finish, run, unshare};

pub(crate) fn supervised(world: &World, grace: u32, command: &[&str]) -> Command {
    let mut supervise = world.command([
        "supervise",
        "--tools-dir",
        &world.text("tools"),
        "--begun-dir",
        &world.text("tools/begun"),
        "--termination-log",
        &world.text("report"),
        "--grace-seconds",
        &grace.to_string(),
        "--",
    ]);
    supervise.args(command);
    supervise
}

pub(crate) fn script(world: &World, script: &str) -> Ran {
    run(&mut supervised(world, 30, &["sh", "-c", script]))
}

/// With a timeout of so many seconds.
fn limited(world: &World, timeout: u32, grace: u32, script: &str) -> Command {
    let mut supervise = supervised(world, grace, &["sh", "-c", script]);
    supervise.env("KUBEOPENCODE_TIMEOUT_SECONDS", timeout.to_string());
    supervise
}

pub(crate) fn report(world: &World) -> Value {
    serde_json::from_str(&world.read("report")).unwrap()
}

/// Starts a script, and waits until it has said `ready` so many times.
fn started(
    world: &World,
    grace: u32,
    script: &str,
    ready: usize,
) -> (Child, BufReader<ChildStdout>) {
    when_ready(&mut supervised(world, grace, &["sh", "-c", script]), ready)
}

fn when_ready(supervise: &mut Command, ready: usize) -> (Child, BufReader<ChildStdout>) {
    let mut child = supervise.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..ready {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
    (child, stdout)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Everything until every process that has the pipe is gone.
fn rest(mut stdout: BufReader<ChildStdout>) -> String {
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn the_exit_code_is_the_agents() {
    let world = World::new();
    for code in [0, 1, 3, 255] {
        assert_eq!(script(&world, &format!("exit {code}")).code, code);
        let report = report(&world);
        assert_eq!(report["exitCode"], code);
        assert_eq!(report.get("signal"), None);
    }
}

#[test]
fn a_signal_that_ends_the_agent_is_named() {
    let world = World::new();
    for (number, name) in [
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (15, "SIGTERM"),
        (40, "signal 40"),
    ] {
        let ran = script(&world, &format!("ulimit -c 0; kill -{number} $$"));
        assert_eq!(ran.code, 128 + number);
        let report = report(&world);
        assert_eq!(report["signal"], name);
        assert_eq!(report.get("exitCode"), None);
    }
}

#[test]
fn a_variable_that_is_there_comes_before_the_default_for_it() {
    let world = World::new();
    let shown = "echo \"$BROUGHT $FILLED_IN ${KUBEOPENCODE_DEFAULTS-gone}\"";
    let mut supervise = supervised(&world, 30, &["sh", "-c", shown]);
    supervise.env("BROUGHT", "theirs").env(
        "KUBEOPENCODE_DEFAULTS",
        r#"{"BROUGHT":"ours","FILLED_IN":"also ours"}"#,
    );
    let ran = run(&mut supervise);
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "theirs also ours gone\n"
    );
}

#[test]
fn both_streams_come_through_byte_for_byte() {
    let world = World::new();
    let ran = run(&mut supervised(
        &world,
        30,
        &[
            "sh",
            "-c",
            r"printf 'a\0\377\r\033[1m'; seq 1 1500000 | tr 5 '\0' & seq 1 700000 >&2; wait",
        ],
    ));
    assert_eq!(ran.code, 0);
    let mut out = b"a\0\xff\r\x1b[1m".to_vec();
    out.extend((1..=1_500_000).flat_map(|n| format!("{n}\n").replace('5', "\0").into_bytes()));
    assert!(
        ran.stdout == out,
        "standard output has {} bytes",
        ran.stdout.len()
    );
    let err: Vec<_> = (1..=700_000).map(|n| n.to_string()).collect();
    assert!(
        ran.stderr.lines().eq(err),
        "standard error has {} bytes",
        ran.stderr.len()
    );
}

#[test]
fn an_agent_that_cannot_start_is_told_from_one_that_failed() {
    let world = World::new();
    world.write("plain", "not a program");
    world.write("script", "#!/no/such/interpreter\n");
    let script = world.text("script");
    let chmod = Command::new("chmod").args(["+x", &script]).status();
    assert!(chmod.unwrap().success());
    let plain = world.text("plain");
    for (command, code, said) in [
        ("no-such-agent", 127, "no such program"),
        ("/no/such/agent", 127, "no such program"),
        (script.as_str(), 127, "interpreter"),
        (plain.as_str(), 126, "not executable"),
    ] {
        let ran = run(&mut supervised(&world, 30, &[command, "--token=hidden"]));
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(command) && ran.stderr.contains(said),
            "{}",
            ran.stderr
        );
        let report = report(&world);
        assert!(report["error"].as_str().unwrap().contains(said), "{report}");
        assert_eq!(report.get("exitCode"), None);
        assert!(!ran.stderr.contains("hidden") && !report.to_string().contains("hidden"));
    }
}

#[test]
fn a_signal_reaches_every_process_group() {
    let world = World::new();
    // The agent, a child in a session of its own, and a grandchild whose parent is gone.
    let script = r#"
        say='trap "echo $0; exit 0" TERM; trap "echo usr1-$0" USR1; echo ready; while :; do sleep 1000 & wait; done'
        setsid sh -c "$say" session &
        (setsid sh -c "$say" orphan &)
        trap "echo agent; exit 5" TERM
        trap "echo usr1-agent" USR1
        echo ready
        while :; do sleep 1000 & wait $!; done"#;
    let (child, mut stdout) = started(&world, 30, script, 3);
    signal(&child, Signal::SIGUSR1);
    let mut lines = Vec::new();
    for _ in 0..3 {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        lines.push(line);
    }
    lines.sort();
    assert_eq!(lines, ["usr1-agent\n", "usr1-orphan\n", "usr1-session\n"]);
    signal(&child, Signal::SIGTERM);
    let rest = rest(stdout);
    let mut lines: Vec<_> = rest.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["agent", "orphan", "session"]);
    assert_eq!(finish(child).status.code(), Some(5));
    assert_eq!(report(&world)["exitCode"], 5);
}

#[test]
fn who_ignores_sigterm_is_killed_before_the_grace_is_over() {
    let world = World::new();
    let script = r#"trap "" TERM INT; setsid sh -c 'echo ready; sleep 1000' & echo ready; sleep 1000; sleep 1000"#;
    let (child, stdout) = started(&world, 2, script, 2);
    let told = Instant::now();
    signal(&child, Signal::SIGTERM);
    assert_eq!(rest(stdout), "");
    let took = told.elapsed();
    assert!(
        took >= Duration::from_millis(1400),
        "{took:?}: the grace was not given"
    );
    assert_eq!(finish(child).status.code(), Some(137));
    assert_eq!(report(&world)["signal"], "SIGKILL");
}

#[test]
fn an_agent_whose_time_is_over_is_told_to_end_in_every_process_group() {
    let world = World::new();
    let script = r#"
        setsid sh -c 'trap "echo session; exit 0" TERM; echo ready; while :; do sleep 1000 & wait; done' &
        trap "echo agent; exit 0" TERM
        echo ready
        while :; do sleep 1000 & wait $!; done"#;
    let began = Instant::now();
    let (child, stdout) = when_ready(&mut limited(&world, 1, 30, script), 2);
    let rest = rest(stdout);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let mut lines: Vec<_> = rest.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["agent", "session"]);
    assert_eq!(
        finish(child).status.code(),
        Some(124),
        "with the agent's 0 the Job would be complete"
    );
    let report = report(&world);
    assert_eq!(report["timedOutAfterSeconds"], 1);
    assert_eq!(report["toldToEnd"], false);
    assert_eq!(report["exitCode"], 0);
}

/// Whoever comes while the agent has its grace is too late: it was not told to end by them.
#[test]
fn an_agent_that_is_told_to_end_after_its_time_was_over_is_late() {
    let world = World::new();
    let script = r#"trap "echo over; read -r line; exit 0" TERM; echo ready; sleep 1000 & wait"#;
    let (mut child, mut stdout) =
        when_ready(limited(&world, 1, 30, script).stdin(Stdio::piped()), 1);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "over\n");
    signal(&child, Signal::SIGTERM);
    drop(child.stdin.take());
    rest(stdout);
    assert_eq!(finish(child).status.code(), Some(124));
    let report = report(&world);
    assert_eq!(report["timedOutAfterSeconds"], 1);
    assert_eq!(report["toldToEnd"], false);
}

#[test]
fn an_agent_whose_time_is_over_is_killed_after_the_grace_and_cannot_hide_it() {
    let world = World::new();
    let script = format!(
        r#"trap "" TERM; echo '{{"exitCode":0}}' > {}; echo ready; sleep 1000; sleep 1000"#,
        world.text("report")
    );
    let began = Instant::now();
    let (child, stdout) = when_ready(&mut limited(&world, 1, 2, &script), 1);
    assert_eq!(rest(stdout), "");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(2400),
        "{took:?}: the grace was not given"
    );
    assert_eq!(finish(child).status.code(), Some(124));
    let report = report(&world);
    assert_eq!(report["timedOutAfterSeconds"], 1);
    assert_eq!(report["signal"], "SIGKILL");
}

#[test]
fn an_agent_that_ended_in_time_is_not_late_because_of_what_it_left_behind() {
    let world = World::new();
    // What is left behind ignores SIGTERM: it is killed after two seconds, and the time is over after one.
    let script = r#"(setsid sh -c 'trap "" TERM; echo ready; sleep 1000' &) | read -r line"#;
    let began = Instant::now();
    let ran = run(&mut limited(&world, 1, 30, script));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(ran.code, 0);
    assert_eq!(report(&world).get("timedOutAfterSeconds"), None);
}

#[test]
fn an_agent_that_somebody_else_told_to_end_first_is_not_late() {
    let world = World::new();
    let script = r#"trap "sleep 2; exit 5" TERM; echo ready; sleep 1000 & wait; wait"#;
    let (child, stdout) = when_ready(&mut limited(&world, 1, 30, script), 1);
    signal(&child, Signal::SIGTERM);
    assert_eq!(rest(stdout), "");
    assert_eq!(finish(child).status.code(), Some(5));
    let report = report(&world);
    assert_eq!(report.get("timedOutAfterSeconds"), None);
    assert_eq!(report["toldToEnd"], true);
}

/// A machine that was paused, or that is slow, does not make too long short enough.
#[test]
fn an_agent_that_ended_too_late_by_itself_is_late() {
    let world = World::new();
    let script = "echo ready; sleep 1.2; echo late";
    let (child, mut stdout) = when_ready(&mut limited(&world, 1, 30, script), 1);
    signal(&child, Signal::SIGSTOP);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "late\n");
    signal(&child, Signal::SIGCONT);
    assert_eq!(rest(stdout), "");
    assert_eq!(finish(child).status.code(), Some(124));
    assert_eq!(report(&world)["timedOutAfterSeconds"], 1);
}

#[test]
fn what_the_agent_leaves_behind_ends_with_it() {
    let world = World::new();
    // One ends when it is told to, one only when it is killed. Both have the pipe that the test reads to its end.
    let script = r#"
        (setsid sh -c 'trap "echo told; exit" TERM; echo ready; while :; do sleep 1000 & wait; done' &)
        (setsid sh -c 'trap "" TERM; echo ready; sleep 1000' &)
        read -r line < "$0.fifo"
        exit 4"#;
    let fifo = world.path("agent.fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let agent = world.text("agent");
    let mut child = supervised(&world, 30, &["sh", "-c", script, &agent])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
    fs::write(&fifo, "go\n").unwrap();
    assert_eq!(rest(stdout), "told\n");
    assert_eq!(finish(child).status.code(), Some(4));
    let report = report(&world);
    assert_eq!(report["exitCode"], 4);
}

#[test]
fn orphans_are_reaped_while_the_agent_runs() {
    let world = World::new();
    let ran = script(
        &world,
        r#"for i in 1 2 3 4 5 6 7 8 9; do (true &); done
           until [ "$(cat /proc/$PPID/task/$PPID/children)" = "$$ " ]; do :; done; echo alone"#,
    );
    assert_eq!(
        (ran.code, ran.stdout.as_slice()),
        (0, b"alone\n".as_slice())
    );
}

/// Needs unprivileged user namespaces, or root.
#[test]
fn as_pid_1_it_does_the_same() {
    let world = World::new();
    let Some(mut unshare) = unshare(
        &AS_PID_1,
        &["true"],
        "supervise as PID 1",
        "user-namespaces",
    ) else {
        return;
    };
    let inner = supervised(
        &world,
        30,
        &[
            "sh",
            "-c",
            "echo parent $PPID; trap 'echo told; exit 7' TERM; kill -TERM 1; sleep 1000 & wait",
        ],
    );
    unshare.arg(inner.get_program()).args(inner.get_args());
    let output = finish(unshare.spawn().unwrap());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "parent 1\ntold\n");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(report(&world)["exitCode"], 7);
}

/// The same, with no signal ignored. What runs in the background of a shell, as tests may, ignores some; a supervisor that
/// passes them on cannot hand that down, and in a container there is nothing of it.
fn as_in_a_container(command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped
        .arg("--default-signal=HUP,INT,QUIT")
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap_or_default());
    }
    wrapped
}

/// Lines of `/proc/self/status` about signals, without 32 and 33: those are the C library's own.
fn signals(lines: &[u8]) -> Vec<(String, u64)> {
    let lines = String::from_utf8_lossy(lines).into_owned();
    let line = |line: &str| {
        let (name, set) = line.split_once(":\t").unwrap_or((line, "0"));
        let set = u64::from_str_radix(set, 16).unwrap();
        (name.to_owned(), set & !(0b11 << 31))
    };
    lines.lines().map(line).collect()
}

#[test]
fn the_agent_starts_as_it_would_without_a_supervisor() {
    let world = World::new();
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; env | grep ^KUBEOPENCODE_; cat";
    let mut supervised = limited(&world, 1000, 30, script);
    let ran = run(&mut as_in_a_container(
        supervised.env("KUBEOPENCODE_GRACE_SECONDS", "30"),
    ));
    let mut plain = Command::new("sh");
    plain
        .args(["-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status"])
        .env("PATH", std::env::var_os("PATH").unwrap());
    let plain = as_in_a_container(&plain).output().unwrap();
    assert_eq!(signals(&ran.stdout), signals(&plain.stdout));
}

/// A world with a checkout, made by `git-init`.
pub(crate) fn with_checkout() -> (World, String) {
    let world = World::new();
    let [.., base] = world.repository("source");
    world.cloned(json!({ "repository": format!("file://{}", world.text("source")) }));
    (world, base)
}

#[test]
fn an_agent_that_had_to_be_killed_has_its_work_reported_too() {
    let (world, base) = with_checkout();
    let it = world.text("workspace/it");
    let script = format!(r#"trap "" TERM; touch {it}/new; echo ready; sleep 1000"#);
    let (child, stdout) = started(&world, 4, &script, 1);
    signal(&child, Signal::SIGTERM);
    assert_eq!(rest(stdout), "");
    assert_eq!(finish(child).status.code(), Some(137));
    let report = report(&world);
    assert_eq!(
        report["checkouts"],
        json!([{ "path": it, "branch": "trunk", "base": base, "head": base, "commits": 0, "dirty": true }]),
        "{report}"
    );
}
