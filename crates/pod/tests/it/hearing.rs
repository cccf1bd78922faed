//! What the agent prints is listened to: it comes out as it was, is in the report, and holds the agent to its limits.

use std::{
    fs,
    io::Read as _,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};

use crate::{
    supervise::{report, supervised},
    world::{World, finish, run},
};

/// Whose events are read, with these limits as JSON.
fn listened(world: &World, limits: &str, script: &str) -> Command {
    let mut supervise = supervised(world, 30, &["sh", "-c", script]);
    supervise
        .env("KUBEOPENCODE_PROFILE", "OpenCode")
        .env("KUBEOPENCODE_LIMITS", limits)
        .env("FIXTURES", fixtures());
    supervise
}

/// Streams that real agents printed.
fn fixtures() -> String {
    format!("{}/../agents/tests/fixtures", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn what_the_agent_tells_is_in_the_report_and_comes_out_as_it_was() {
    let world = World::new();
    let ran = run(&mut listened(
        &world,
        "{}",
        "cat \"$FIXTURES\"/ok-write.jsonl; printf 'no end \\377'",
    ));
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = fs::read(format!("{}/ok-write.jsonl", fixtures())).unwrap();
    assert_eq!(ran.stdout, [&told[..], b"no end \xff"].concat());
    let agent = &report(&world)["agent"];
    assert_eq!(agent["session"], "ses_e060c7f00ffeon0j7Aklf5VU1V");
    assert_eq!((&agent["steps"], &agent["tools"]), (&json!(2), &json!(1)));
    assert_eq!(
        agent["usage"],
        json!({"input": 180, "output": 14, "cached": 80, "cost": "0.000216"})
    );
    assert_eq!(agent["message"], "Created hello.txt.");
    assert_eq!(agent["stopped"], Value::Null);
}

#[test]
fn an_agent_that_tells_nothing_although_it_was_asked_to_does_not_succeed() {
    let world = World::new();
    let asked = "exit $0 && opencode run --format json";
    let ran = run(&mut listened(&world, "{}", &asked.replace("$0", "0")));
    assert_eq!(ran.code, 70, "{ran:?}");
    let agent = &report(&world)["agent"];
    assert_eq!(agent["stopped"], "before it told anything of its work");
    // Its own exit code says more.
    let ran = run(&mut listened(&world, "{}", &asked.replace("$0", "3")));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(report(&world)["agent"], Value::Null);
    // One that nobody asked for events may print what it likes.
    let ran = run(&mut listened(&world, "{}", "exit 0 && opencode run"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(report(&world)["agent"], Value::Null);
}

#[test]
fn an_agent_is_not_started_with_a_variable_that_cannot_be_read() {
    for (name, value) in [
        ("KUBEOPENCODE_LIMITS", r#"{"newer": 1}"#),
        ("KUBEOPENCODE_SECRETS", "{"),
        ("KUBEOPENCODE_DEFAULTS", "[]"),
        ("KUBEOPENCODE_PROFILE", "Newer"),
        ("KUBEOPENCODE_TIMEOUT_SECONDS", "1h"),
        ("KUBEOPENCODE_REPORT_BYTES", ""),
    ] {
        let world = World::new();
        let mut supervise = supervised(&world, 30, &["touch", &world.text("started")]);
        let ran = run(supervise.env(name, value));
        assert_eq!(ran.code, 126, "{ran:?}");
        let report = report(&world);
        let error = report["error"].as_str().unwrap();
        let said = format!(
            "{name} cannot be read: the operator and the system image are of different versions"
        );
        assert!(error.starts_with(&said), "{error}");
        assert!(!world.path("started").exists());
    }
}

#[test]
fn an_agent_that_is_content_with_half_its_work_does_not_succeed() {
    let world = World::new();
    let ran = run(&mut listened(
        &world,
        "{}",
        "cat \"$FIXTURES\"/permission-auto-rejected-rc0.jsonl",
    ));
    assert_eq!(ran.code, 70, "{ran:?}");
    let report = report(&world);
    assert_eq!(report["exitCode"], 0);
    assert_eq!(report["agent"]["stopped"], "after a tool call");
    assert_eq!(report["agent"]["refused"], 1);
    let failure = &report["agent"]["failure"];
    assert_eq!(failure["class"], "PermissionRefused");
    let said = failure["message"].as_str().unwrap();
    assert!(said.contains("rejected permission"), "{said}");
    // Its own exit code says more.
    let ran = run(&mut listened(
        &world,
        "{}",
        "cat \"$FIXTURES\"/http401-rc1.jsonl; exit 1",
    ));
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn a_limit_that_is_passed_ends_the_agent_as_a_stop_does() {
    let step = r#"echo '{"type":"step_start","sessionID":"s","part":{}}'; echo '{"type":"step_finish","part":{"reason":"tool-calls","tokens":{"input":5,"output":5,"cache":{"read":90}},"cost":0.5}}'"#;
    for (limits, limit, reached) in [
        (r#"{"steps":3}"#, "steps", "4"),
        (r#"{"tokens":250}"#, "tokens", "300"),
        (r#"{"cost":"1.25"}"#, "cost", "1.5"),
        (r#"{"seconds":1}"#, "duration", "1 s"),
    ] {
        let world = World::new();
        let steps = if limit == "duration" { "" } else { step };
        // It goes on when it has been told to end, and is asked what it heard.
        let ended = world.text("told");
        let script = format!(
            "trap 'echo TERM > {ended}; exit 0' TERM; for i in 1 2 3 4; do {steps}; done; sleep 60 & wait"
        );
        let script = if limit == "duration" {
            format!("trap 'echo TERM > {ended}; exit 0' TERM; sleep 60 & wait")
        } else {
            script
        };
        let ran = run(&mut listened(&world, limits, &script));
        assert_eq!(ran.code, 124, "{ran:?}");
        let passed = &report(&world)["passed"];
        assert_eq!(passed["limit"], limit);
        assert_eq!(passed["reached"], reached, "{limit}");
        assert_eq!(world.read("told"), "TERM\n", "{limit}");
        // Who reads the log need not wonder why nothing comes any more.
        let said =
            format!("supervise: the agent is told to end at {limit} {reached}: limits.{limit} is ");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    }
}

/// Its lines do not tell which step was the last: 119, 115 and 105 tokens of three, each of which is seen only when the next
/// thing begins.
#[test]
fn an_agent_that_passed_a_limit_with_its_last_step_is_done() {
    let world = World::new();
    let listened = |tokens: u64| {
        let script = "cat \"$FIXTURES\"/claude-code-stream-json-ok.jsonl";
        let limits = json!({"tokens": tokens}).to_string();
        let mut supervise = listened(&world, &limits, script);
        supervise.env("KUBEOPENCODE_PROFILE", "ClaudeCode");
        run(&mut supervise)
    };
    let ran = listened(338);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(report(&world)["passed"], Value::Null);
    for (tokens, reached) in [(233, "234"), (118, "119")] {
        let ran = listened(tokens);
        assert_eq!(ran.code, 124, "{}", ran.stderr);
        assert_eq!(report(&world)["passed"]["reached"], reached);
    }
}

#[test]
fn a_stream_of_any_size_goes_through_in_little_memory() {
    let world = World::new();
    // One line that would take a hundred times the memory when it is read, one of 20 MB, then 200 MB of others, then an event.
    let script = r#"printf '{"a":['; yes '{"":0},' | tr -d '\n' | head -c 980000; echo '{}]}'; head -c 20000000 /dev/zero | tr '\0' x; echo; yes '{"type":"text","part":{"text":"hello"}}' | head -c 200000000; echo; cat "$FIXTURES"/ok-write.jsonl; grep VmHWM /proc/$PPID/status >&2"#;
    let mut supervise = listened(&world, "{}", script);
    let mut child = supervise.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut bytes = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        match stdout.read(&mut piece).unwrap() {
            0 => break,
            read => bytes += read,
        }
    }
    let mut most = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut most)
        .unwrap();
    assert!(child.wait().unwrap().success());
    let fixture = fs::metadata(format!("{}/ok-write.jsonl", fixtures()))
        .unwrap()
        .len();
    assert_eq!(bytes as u64, 220_000_002 + 980_011 + fixture);
    let agent = &report(&world)["agent"];
    assert_eq!(agent["unread"], 2, "the first two");
    assert_eq!(agent["steps"], 2);
    let kilobytes: u64 = most.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 32 * 1024, "{most}");
}

#[test]
fn an_agent_that_closes_its_output_costs_nothing_while_it_works_on() {
    let world = World::new();
    // The clock ticks of its supervisor, in user and system mode: none to speak of while nothing happens.
    let script = "exec >&-; sleep 2; cut -d' ' -f14,15 /proc/$PPID/stat >&2";
    let ran = run(&mut listened(&world, "{}", script));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ticks: Vec<u32> = ran
        .stderr
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(ticks.iter().sum::<u32>() < 20, "{ticks:?}");
}

/// As a program further down does that shares the pipe with us: the agent itself, on a standard error that is the same.
#[test]
fn an_output_that_does_not_block_loses_nothing() {
    let world = World::new();
    let (mut read, write) = std::io::pipe().unwrap();
    let write = OwnedFd::from(write);
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let said = world.text("said");
    let script = format!("yes hello | head -c 10000000; echo $? > {said}");
    let mut supervise = listened(&world, "{}", &script);
    let child = supervise.stdout(Stdio::from(write)).spawn().unwrap();
    drop(supervise);
    let mut out = Vec::new();
    read.read_to_end(&mut out).unwrap();
    assert_eq!(finish(child).status.code(), Some(0));
    assert_eq!(out.len(), 10_000_000);
    assert_eq!(world.read("said"), "0\n");
}

#[test]
fn an_agent_whose_output_nobody_reads_any_more_hears_of_it() {
    let world = World::new();
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let mut supervise = listened(&world, "{}", "exec yes");
    let child = supervise
        .stdout(Stdio::from(OwnedFd::from(write)))
        .spawn()
        .unwrap();
    assert_eq!(finish(child).status.code(), Some(128 + 13));
    assert_eq!(report(&world)["signal"], "SIGPIPE");
}

/// However fast it was: what it prints is read only after it has printed it.
#[test]
fn an_agent_that_passed_a_limit_and_ended_at_once_is_over_it_too() {
    for _ in 0..20 {
        let world = World::new();
        let script = "cat \"$FIXTURES\"/ok-write.jsonl";
        let ran = run(&mut listened(&world, r#"{"steps":1}"#, script));
        assert_eq!(ran.code, 124, "{}", ran.stderr);
        let passed = &report(&world)["passed"];
        let said = ["limit", "allowed", "reached"].map(|field| &passed[field]);
        assert_eq!(said, ["steps", "1", "2"], "{passed}");
    }
}

#[test]
fn a_stream_that_is_cut_is_work_that_is_not_done() {
    let world = World::new();
    let script = "head -c -40 \"$FIXTURES\"/ok-write.jsonl";
    let ran = run(&mut listened(&world, "{}", script));
    assert_eq!(ran.code, 70, "{ran:?}");
    assert_eq!(
        report(&world)["agent"]["stopped"],
        "in the middle of a step"
    );
}

/// What a session was about is in its last line, and can be of any length.
#[test]
fn an_end_that_is_too_long_to_be_read_is_no_failure() {
    let world = World::new();
    let mut supervise = listened(
        &world,
        "{}",
        "head -n -1 \"$FIXTURES\"/claude-code-stream-json-ok.jsonl
         printf '{\"type\":\"result\",\"result\":\"'; head -c 2000000 /dev/zero | tr '\\0' x; echo '\"}'",
    );
    let ran = run(supervise.env("KUBEOPENCODE_PROFILE", "ClaudeCode"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let agent = &report(&world)["agent"];
    assert_eq!(
        (&agent["unread"], &agent["endIsUnread"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(agent["stopped"], Value::Null);
}

#[test]
fn a_session_without_an_end_is_work_that_is_not_done() {
    let world = World::new();
    let script = "head -n 1 \"$FIXTURES\"/claude-code-stream-json-ok.jsonl";
    let ran = run(listened(&world, "{}", script).env("KUBEOPENCODE_PROFILE", "ClaudeCode"));
    assert_eq!(ran.code, 70, "{ran:?}");
    assert_eq!(
        report(&world)["agent"]["stopped"],
        "before it told of its end"
    );
}

#[test]
fn without_a_profile_the_output_is_the_agents_own() {
    let world = World::new();
    let script = "readlink /proc/self/fd/1 /proc/$PPID/fd/1";
    let same = |out: Vec<u8>| {
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<String> = out.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2, "{out}");
        lines[0] == lines[1]
    };
    assert!(same(
        run(&mut supervised(&world, 30, &["sh", "-c", script])).stdout
    ));
    assert_eq!(report(&world)["agent"], Value::Null);
    assert!(!same(run(&mut listened(&world, "{}", script)).stdout));
}
