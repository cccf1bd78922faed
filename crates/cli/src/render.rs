//! What an agent tells, for people: a line for each thing that it does, in place of the JSON of its events.
//!
//! Bytes in, text out, and nothing else: what the agent prints that is no event passes as it is, but for escape sequences
//! other than colours. Holds at most one line of the agent, and the calls that have not ended.

mod diff;
mod text;

use std::{collections::HashMap, fmt::Write as _};

use kubeopencode_agents::{
    Change, Event, Facts, FailureClass, LONGEST_LINE, Line, Lines, Profile, Reader, ToolOutcome,
    Usage,
};
use owo_colors::{OwoColorize as _, Style};

use crate::used::{Used, count};

use text::{harmless, message, one_line, tame};

/// Calls that are remembered until they end. An agent has as many at the same time as it has subagents.
const MOST_CALLS: usize = 256;
/// Of a call with a longer id nothing is remembered, in bytes.
const LONGEST_ID: usize = 200;

/// Columns before what belongs to a call.
const INDENT: usize = 4;

/// Lines of the output of a tool that failed.
const OUTPUT_LINES: usize = 5;

/// Renders the stream of one agent.
pub(crate) struct Rendering {
    lines: Lines,
    telling: Telling,
}

impl Rendering {
    /// For what this agent prints, with colours or without, in lines of this width, where one is known.
    pub(crate) fn new(profile: &Profile, color: bool, width: Option<usize>) -> Self {
        Self {
            lines: Lines::default(),
            telling: Telling {
                reader: Reader::new(profile),
                facts: Facts::default(),
                calls: HashMap::new(),
                last: String::new(),
                doing: String::new(),
                // Codex tells of its tokens at its end alone, and makes a step of each thing that it does.
                shows_steps: profile.holds.contains(&"tokens"),
                begun: None,
                color,
                width: width.unwrap_or(text::USUAL_WIDTH),
                out: Vec::new(),
            },
        }
    }

    /// The next piece of what the agent prints; answers what to show.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.lines.feed(bytes, |line| self.telling.line(line));
        std::mem::take(&mut self.telling.out)
    }

    /// The agent prints nothing more; answers what is left to show.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.lines.finish(|line| self.telling.line(line));
        std::mem::take(&mut self.telling.out)
    }

    /// What it is about right now and what it has used so far, in a few words; empty before it has told anything.
    pub(crate) fn state(&self) -> String {
        let facts = &self.telling.facts;
        let mut parts = Vec::new();
        if facts.steps > 0 {
            parts.push(format!("step {}", facts.steps));
        }
        if !self.telling.doing.is_empty() {
            parts.push(self.telling.doing.clone());
        }
        parts.extend(facts.usage.as_ref().map(used_words));
        parts.join(" · ")
    }

    /// What all of it came to, in one line; nothing where it told nothing of that.
    pub(crate) fn total(&self) -> Option<String> {
        Used::of_facts(&self.telling.facts).map(|used| used.line())
    }
}

/// What it has used so far, in short.
fn used_words(usage: &Usage) -> String {
    let mut text = count(usage.tokens(), "token");
    if let Some(cost) = &usage.cost {
        let _ = write!(text, ", {cost} dollars");
    }
    text
}

struct Telling {
    reader: Reader,
    facts: Facts,
    /// From the id of a call that has not ended to its tool and what it is about.
    calls: HashMap<String, (String, String)>,
    /// The call that was shown last, while nothing else was.
    last: String,
    /// The call that was made last, while it has not ended.
    doing: String,
    /// Whether it is shown where a step begins.
    shows_steps: bool,
    /// The number of the step that has begun, while nothing of it was shown.
    begun: Option<u64>,
    color: bool,
    /// Of a line, in columns.
    width: usize,
    out: Vec<u8>,
}

impl Telling {
    fn line(&mut self, line: Line<'_>) {
        let Line::Whole(bytes) = line else {
            let limit = LONGEST_LINE >> 20;
            self.say(&self.paint(
                &format!("(a line of more than {limit} MiB is left out; --raw shows it)"),
                Style::new().dimmed(),
            ));
            return;
        };
        let mut events = Vec::new();
        self.reader.read(line, |event| events.push(event));
        if events.is_empty() && !is_an_event(bytes) {
            self.last.clear();
            self.out.extend_from_slice(&harmless(bytes));
            self.out.push(b'\n');
        }
        for event in events {
            self.facts.note(&event);
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Message(text) => {
                self.last.clear();
                self.doing.clear();
                let text = tame(&text);
                if !text.trim().is_empty() {
                    self.say(text.trim_end());
                }
            }
            Event::Thought(text) => {
                let text = one_line(&text, self.width.saturating_sub(2));
                if !text.is_empty() {
                    self.last.clear();
                    self.say(&self.paint(&format!("({text})"), Style::new().dimmed()));
                }
            }
            Event::ToolCalled {
                id,
                tool,
                about,
                change,
            } => self.called(id, &tool, &about, change.as_ref()),
            Event::ToolEnded {
                id,
                outcome,
                output,
            } => self.ended(&id, outcome, &output),
            Event::Notice(text) => {
                let label = self.paint("note:", Style::new().yellow());
                self.last.clear();
                self.say(&format!("{label} {}", message(&text)));
            }
            Event::Failed(failure) => {
                let label = self.paint("error:", Style::new().red().bold());
                self.last.clear();
                let text = message(&failure.message);
                let class = match failure.class {
                    FailureClass::Unknown => String::new(),
                    class => format!(" {}:", class.as_str()),
                };
                self.say(&format!("{label}{class} {text}"));
            }
            Event::Unread => self.say(&self.paint(
                "(a line with too many parts to be read is left out; --raw shows it)",
                Style::new().dimmed(),
            )),
            Event::StepBegan => self.begun = self.shows_steps.then_some(self.facts.steps),
            Event::Session(_) | Event::StepEnded { .. } | Event::Finished { .. } => {}
        }
    }

    fn called(&mut self, id: String, tool: &str, about: &str, change: Option<&Change>) {
        let tool = one_line(tool, self.width);
        let diff = change.map(|change| diff::of(change, self.width.saturating_sub(INDENT)));
        let size = diff.as_ref().map_or_else(String::new, |diff| {
            format!(" (+{} -{})", diff.added, diff.removed)
        });
        let around = "> ".len() + tool.chars().count() + " ".len() + size.len();
        let about = one_line(about, self.width.saturating_sub(around));
        let mark = self.paint(">", Style::new().cyan());
        let name = self.paint(&tool, Style::new().bold());
        self.say(format!("{mark} {name} {about}{size}").trim_end());
        if let Some(diff) = diff {
            for line in diff.lines {
                let style = match line.as_bytes().first() {
                    Some(b'+') => Style::new().green(),
                    Some(b'-') => Style::new().red(),
                    _ => Style::new().dimmed(),
                };
                self.say(&format!("    {}", self.paint(&line, style)));
            }
        }
        format!("{tool} {about}")
            .trim_end()
            .clone_into(&mut self.doing);
        // An agent may make up ids of any length.
        if id.len() > LONGEST_ID {
            self.last.clear();
            return;
        }
        self.last.clone_from(&id);
        if self.calls.len() < MOST_CALLS {
            self.calls.insert(id, (tool, about));
        }
    }

    fn ended(&mut self, id: &str, outcome: ToolOutcome, output: &str) {
        self.doing.clear();
        let call = self.calls.remove(id);
        let (word, lines) = match outcome {
            ToolOutcome::Done(None | Some(0)) => return,
            ToolOutcome::Done(Some(code)) => (format!("exit code {code}"), OUTPUT_LINES),
            ToolOutcome::Failed => ("failed".to_owned(), OUTPUT_LINES),
            ToolOutcome::Refused => ("refused".to_owned(), 1),
        };
        // Of several at the same time, which one it was.
        let which = call
            .filter(|_| self.last != id)
            .map_or_else(String::new, |(tool, about)| format!("{tool} {about}: "));
        self.say(&format!(
            "  {which}{}",
            self.paint(&word, Style::new().red())
        ));
        let output = tame(output);
        let shown: Vec<&str> = output
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        for line in &shown[shown.len().saturating_sub(lines)..] {
            self.say(&format!(
                "    {}",
                self.paint(
                    &text::cut(line, self.width.saturating_sub(INDENT)),
                    Style::new().dimmed()
                )
            ));
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(step) = self.begun.take() {
            let used = self.facts.usage.as_ref();
            let used = used.map_or_else(String::new, |usage| {
                format!(" · {} so far", used_words(usage))
            });
            let line = self.paint(&format!("── step {step}{used}"), Style::new().dimmed());
            self.out.extend_from_slice(line.as_bytes());
            self.out.push(b'\n');
        }
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
    }

    fn paint(&self, text: &str, style: Style) -> String {
        if self.color {
            text.style(style).to_string()
        } else {
            text.to_owned()
        }
    }
}

/// An object with a type, as all of these agents print them. One that says nothing to us says nothing to people either.
fn is_an_event(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<serde_json::Value>(line)
            .is_ok_and(|value| value["type"].is_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn rendered(profile: &str, bytes: &[u8]) -> String {
        rendered_in(profile, bytes, None)
    }

    fn rendered_in(profile: &str, bytes: &[u8], width: Option<usize>) -> String {
        let profile = Profile::named(profile).expect("a profile");
        let mut rendering = Rendering::new(profile, false, width);
        let mut out = Vec::new();
        for piece in bytes.chunks(7) {
            out.extend(rendering.feed(piece));
        }
        out.extend(rendering.finish());
        let mut text = String::from_utf8_lossy(&out).into_owned();
        let _ = write!(
            text,
            "\n[state] {}\n[total] {}\n",
            rendering.state(),
            rendering.total().unwrap_or_default()
        );
        text
    }

    /// What real agents printed, as people see it.
    #[test]
    fn recorded_streams_are_readable() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../agents/tests/fixtures");
        let mut seen = 0;
        for entry in fs::read_dir(folder).expect("the recorded streams") {
            let path = entry.expect("a file").path();
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let profile = Profile::of_recording(&name).name;
            let bytes = fs::read(&path).expect("it can be read");
            insta::assert_snapshot!(format!("render-{name}"), rendered(profile, &bytes));
            seen += 1;
        }
        assert!(seen > 10, "{seen}");
    }

    #[test]
    fn what_is_no_event_passes_as_it_is() {
        let text = b"plain \x1b[1mbold\x1b[0m\n{\"no\": \"event\"}\nhalf a line";
        let shown = rendered("OpenCode", text);
        assert!(
            shown.starts_with("plain \x1b[1mbold\x1b[0m\n{\"no\": \"event\"}\nhalf a line\n"),
            "{shown:?}"
        );
    }

    /// It titles the window, clears the screen, writes the clipboard.
    #[test]
    fn what_is_no_event_has_no_power_over_the_terminal_either() {
        let text =
            b"\x1b[31mred\x1b[0m \x1b]0;title\x07a\x1b[2Jb\n\x1b]52;c;aGk=\x1b\\c\n\xc2\x9b2Jd\n";
        let shown = rendered("OpenCode", text);
        assert!(shown.starts_with("red ab\nc\n"), "{shown:?}");
        assert!(
            !shown.contains(|it: char| it.is_control() && it != '\n'),
            "{shown:?}"
        );
    }

    /// Neither hides what came before.
    #[test]
    fn a_line_that_is_no_event_hides_nothing() {
        let shown = rendered("OpenCode", b"evil\rgood\n10%\r20%\r\nof Windows\r\n");
        assert!(
            shown.starts_with("evil\ngood\n10%\n20%\nof Windows\r\n"),
            "{shown:?}"
        );
    }

    /// What an agent says comes from a model, which read it somewhere: it does not get hold of the terminal.
    #[test]
    fn an_event_has_no_power_over_the_terminal() {
        let line = r#"{"type":"text","sessionID":"s","part":{"text":"a\u001b]0;title\u0007b\u001b[2Jc\rd\u0008"}}"#;
        let shown = rendered("OpenCode", line.as_bytes());
        assert!(shown.starts_with("abcd\n"), "{shown:?}");
    }

    #[test]
    fn lines_are_as_wide_as_the_terminal() {
        let event = |command: &str| {
            let part = serde_json::json!({
                "tool": "bash", "callID": "c",
                "state": {"status": "completed", "input": {"command": command}, "output": command, "metadata": {"exit": 1}},
            });
            serde_json::json!({"type": "tool_use", "sessionID": "s", "part": part}).to_string()
        };
        let long = event(&"word ".repeat(100));
        for width in [60, 100, 200] {
            let shown = rendered_in("OpenCode", long.as_bytes(), Some(width));
            let widths = shown.lines().take(3).map(|line| line.chars().count());
            assert_eq!(widths.max(), Some(width), "{shown}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told() {
        let mut line = vec![b'x'; LONGEST_LINE + 1];
        line.push(b'\n');
        let shown = rendered("Codex", &line);
        assert!(shown.contains("left out; --raw shows it"), "{shown}");
    }
}
