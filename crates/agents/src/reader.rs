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

    /// How many lines were too long to be read, or had too many parts: what was in them is missing in the events.
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
                if has_too_many_parts(line) {
                    self.unread(each);
                } else if let Ok(value) = serde_json::from_slice(line) {
                    self.read_line.read(&value, each);
                }
            }
            Line::Whole(_) => {}
            Line::TooLong => self.unread(each),
        }
    }

    fn unread(&mut self, each: &mut dyn FnMut(Event)) {
        self.unread = self.unread.saturating_add(1);
        each(Event::Unread);
    }
}

/// Lists and objects that a line may have. Each takes hundreds of bytes where it is read, and two where it is written.
const MOST_LISTS: usize = 4096;
/// Values that a line may have; each takes some fifty bytes.
const MOST_VALUES: usize = 65_536;

/// Whether reading the line would take much more memory than the line does: a few MiB are what the limits come to. Real
/// events have long texts, and few parts.
fn has_too_many_parts(line: &[u8]) -> bool {
    let (mut lists, mut values) = (0, 1);
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| b"\"[{,".contains(byte)) {
        let found = rest[at];
        rest = &rest[at + 1..];
        match found {
            b'"' => rest = behind_the_text(rest),
            b',' => values += 1,
            _ => lists += 1,
        }
    }
    lists > MOST_LISTS || lists + values > MOST_VALUES
}

fn behind_the_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let behind = &rest[at + 1..];
        if rest[at] == b'"' {
            return behind;
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(line: &str) -> u64 {
        let mut reader = Reader::new(Profile::usual());
        reader.feed(format!("{line}\n").as_bytes(), |_| {});
        reader.unread()
    }

    #[test]
    fn a_line_with_too_many_parts_is_not_read() {
        let many = |part: &str, count: usize| {
            let parts = vec![part; count].join(",");
            format!(r#"{{"type":"text","part":[{parts}]}}"#)
        };
        assert_eq!(unread(&many("{\"\":0}", MOST_LISTS - 2)), 0);
        assert_eq!(unread(&many("{\"\":0}", MOST_LISTS)), 1);
        assert_eq!(unread(&many("[]", MOST_LISTS)), 1);
        assert_eq!(unread(&many("0", MOST_VALUES / 2)), 0);
        assert_eq!(unread(&many("0", MOST_VALUES)), 1);
        // What stands in a text is no part.
        assert_eq!(
            unread(&many(&format!(r#""\\\"{}""#, "[{,".repeat(100_000)), 1)),
            0
        );
    }
}
