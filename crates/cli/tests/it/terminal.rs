//! `run` as a person sees it: on a terminal of 24 lines, of which a program keeps what would be on the screen.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    num::NonZero,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use nix::pty::{OpenptyResult, Winsize, openpty};
use vt100::Parser;

use crate::support::{Sandbox, can_run_pods};

const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();

/// A command on a terminal of its own.
struct Terminal {
    child: Child,
    output: File,
    screen: Parser,
}

impl Terminal {
    fn start(command: &mut Command) -> Self {
        let size = Winsize {
            ws_row: ROWS.get(),
            ws_col: COLUMNS.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a terminal");
        let of_slave = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("a descriptor"));
        let child = command
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .stdin(of_slave(&slave))
            .stdout(of_slave(&slave))
            .stderr(of_slave(&slave))
            .spawn()
            .expect("the binary starts");
        // The command has descriptors of its own in it: the terminal ends with whoever still has one.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        drop(slave);
        Self {
            child,
            output: File::from(master),
            screen: Parser::new(ROWS, COLUMNS, 200),
        }
    }

    /// Reads until the screen is as is wanted; false at the end of all output.
    fn shows(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let mut piece = [0; 4096];
        loop {
            if wanted(&self.screen.screen().contents()) {
                return true;
            }
            match self.output.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => self.screen.process(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux says so where nobody writes any more.
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
                    return false;
                }
            }
        }
    }
}

#[test]
fn a_terminal_shows_what_is_done_right_now_and_is_left_clean() {
    if !can_run_pods("run on a terminal") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    // It stands in for Claude Code, of which the fixture is a recording, and waits in the middle of a tool call.
    let events = include_str!("../../../agents/tests/fixtures/claude-code-stream-json-ok.jsonl");
    let told = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = told.local_addr().expect("an address").port();
    let work = format!(
        "head -n 4 events.jsonl; exec 3<>/dev/tcp/127.0.0.1/{port}; read -r <&3; tail -n +5 events.jsonl"
    );
    let agent = serde_json::json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
        "spec": {
            "serviceAccountName": "default", "profile": "ClaudeCode", "command": ["bash", "-c", work],
            "contexts": [{"type": "Text", "mountPath": "events.jsonl", "text": events}],
            // Should it never be told to go on.
            "timeout": "2m",
        },
    });
    let file = sandbox.write("agent.yaml", &agent.to_string());
    let arguments = [
        "run",
        "Say it",
        "--repo",
        "repo",
        "--agent",
        "default",
        "--file",
        &file.to_string_lossy(),
    ];
    let mut terminal = Terminal::start(&mut sandbox.command(&arguments));

    let doing = "step 2 · Bash echo via-bash > bash.txt; id -u · 234 tokens";
    let is_doing = |screen: &str| {
        let last = screen.trim_end().lines().last().unwrap_or_default();
        last.contains(doing)
    };
    assert!(
        terminal.shows(is_doing),
        "it was never the last line:\n{}",
        terminal.screen.screen().contents()
    );
    let screen = terminal.screen.screen().contents();
    assert!(screen.contains("> Write /workspace/hello.txt"), "{screen}");
    let (mut agent, _) = told.accept().expect("the agent waits");
    agent.write_all(b"go on\n").expect("it is told");

    terminal.shows(|_| false);
    let status = terminal.child.wait().expect("an end");
    let screen = terminal.screen.screen();
    let text = screen.contents();
    assert_eq!(status.code(), Some(0), "{text}");
    // What was said of a moment is gone, and nothing else with it.
    assert!(!text.contains(doing), "{text}");
    let mut rest = text.as_str();
    for words in [
        "> Write /workspace/hello.txt",
        "> Bash echo via-bash > bash.txt; id -u",
        "Created.",
        "Completed",
    ] {
        let (_, after) = rest
            .split_once(words)
            .unwrap_or_else(|| panic!("{words} is not there, or not in this order:\n{text}"));
        rest = after;
    }
    // A shell can go on: in a line of its own, with a cursor that is seen, in no colour.
    let (row, column) = screen.cursor_position();
    let below = text.lines().skip(usize::from(row)).collect::<String>();
    assert_eq!((column, below.trim()), (0, ""), "{text}");
    assert!(!screen.hide_cursor(), "{text}");
    assert_eq!(screen.fgcolor(), vt100::Color::Default, "{text}");
    assert!(!screen.bold() && !screen.dim(), "{text}");
}
