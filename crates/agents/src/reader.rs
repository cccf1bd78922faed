//! From the bytes that an agent prints to [`Event`]s.

use serde_json::Value;

use crate::{Event, Line, Lines, Profile};

/// Understands the lines of one agent.
pub(crate) trait ReadLine: Send {
    /// What the line says; nothing, where it says nothing that is known.
    fn read(&mut self, line: &Value, each: &mut dyn FnMut(Event));
}

/// Reads the stream of an agent. Holds at most one line.
pub struct Reader {
    lines: Lines,
    reading: Reading,
}

struct Reading {
    read_line: Box<dyn ReadLine>,
    unread: u64,
}

impl Reader {
    /// A reader for what this agent prints.
    #[must_use]
    pub fn new(profile: &Profile) -> Self {
        Self {
            lines: Lines::default(),
            reading: Reading {
                read_line: (profile.reader)(),
                unread: 0,
            },
        }
    }

    /// The next piece of what the agent prints.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(Event)) {
        self.lines
            .feed(piece, |line| self.reading.line(line, &mut each));
    }

    /// One line, for whoever cuts the stream into lines and has a use for those that are no events.
    pub fn read(&mut self, line: Line<'_>, mut each: impl FnMut(Event)) {
        self.reading.line(line, &mut each);
    }

    /// The agent prints nothing more.
    pub fn finish(&mut self, mut each: impl FnMut(Event)) {
        self.lines.finish(|line| self.reading.line(line, &mut each));
    }

    /// How many lines were too long to be read: what was in them is missing in the events.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.reading.unread
    }
}

impl Reading {
    fn line(&mut self, line: Line<'_>, each: &mut dyn FnMut(Event)) {
        match line {
            // Agents print other things too: only objects are events.
            Line::Whole(line) if line.trim_ascii_start().starts_with(b"{") => {
                if let Ok(value) = serde_json::from_slice(line) {
                    self.read_line.read(&value, each);
                }
            }
            Line::Whole(_) => {}
            Line::TooLong => {
                self.unread = self.unread.saturating_add(1);
                each(Event::Unread);
            }
        }
    }
}
