//! Where a reader of a log is, so that another connection goes on from there.
//!
//! In: the bytes of `timestamps=true`, in which each line begins with its time. Out: what the container printed, once.
//! What a later connection gives again is left out up to the last line that was read. A node gives the newest file of a log
//! alone, so counting bytes does not do: where that line is not in it any more, the file was rotated, and what came between
//! cannot be had.

use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// How far the lines of a log may be out of order: its two streams are written side by side.
const DISORDER: SignedDuration = SignedDuration::from_secs(1);

/// More than the time of a line has.
const LONGEST_TIME: usize = 40;

/// Where a reader is.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The line that is being read in this connection, or was last.
    line: Option<Line>,
    /// What comes next.
    next: Part,
    /// The beginning of a line, whose time has not come to its end.
    head: Vec<u8>,
    /// Whether lines have times: a server may know nothing of them.
    timed: bool,
    /// The latest time of what was read in the connections before: a clock may have been set back since.
    newest: Option<Timestamp>,
    /// The last line of the connections before, while it is looked for.
    sought: Option<Line>,
    /// What was read meanwhile.
    held: Vec<u8>,
    /// Whether it was not there.
    lost: bool,
}

/// Parts of a log as it is sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The beginning of a line: its time.
    #[default]
    Head,
    /// More of the line.
    Line,
    /// More of what is none of the log: the node's own word, or the rest of a line that began before what was asked for.
    Foreign,
}

/// A line, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line {
    /// As it stands there; empty where it has none.
    time: Vec<u8>,
    /// How many of the same time are before it.
    index: usize,
    /// Bytes of its content, the newline among them.
    length: usize,
    /// Of these bytes.
    hash: u64,
}

impl Line {
    fn timestamp(&self) -> Option<Timestamp> {
        parse(&self.time)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        // FNV-1a: whatever the pieces are that it comes in.
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn parse(time: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(time).ok()?.parse().ok()
}

impl Position {
    /// Another connection begins. Answers from when on the log is to be asked for, in whole seconds; None: all of it.
    pub(super) fn connect(&mut self) -> Option<Timestamp> {
        if self.sought.is_none() {
            self.sought = self.line.take();
        }
        self.line = None;
        self.next = Part::Head;
        self.head.clear();
        self.held.clear();
        let last = self.sought.as_ref()?.timestamp()?;
        let second = Timestamp::from_second(last.as_second()).ok()?;
        second.checked_sub(1.second()).ok()
    }

    /// Takes bytes of this connection, and answers those that were not read before.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut new = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.next != Part::Head {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let (content, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                self.content(content, &mut new);
                if end.is_some() {
                    self.next = Part::Head;
                }
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\n'));
            let (head, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            self.head.extend_from_slice(head);
            if end.is_some() || self.head.len() > LONGEST_TIME {
                self.begin(&mut new);
            }
            bytes = rest;
        }
        new
    }

    /// The log was read to its end. Answers what was held back. `broke`: the connection before this one did not end by
    /// itself.
    pub(super) fn finish(&mut self, broke: bool) -> Vec<u8> {
        let mut new = Vec::new();
        if !self.head.is_empty() {
            self.begin(&mut new);
        }
        // A new file in which there is nothing follows one of which everything was read.
        let is_complete = self.held.is_empty() && !broke;
        if self.sought.is_some() && !is_complete {
            self.give_up(&mut new);
        }
        new
    }

    /// Whether a part of the log was rotated away before it was read.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// A line begins: with its time, or what is none.
    fn begin(&mut self, new: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.head);
        let time = head.strip_suffix(b" ").unwrap_or_default();
        let Some(timestamp) = parse(time) else {
            if self.timed {
                self.next = Part::Foreign;
            } else {
                self.next_line(Vec::new());
            }
            self.content(&head, new);
            if head.ends_with(b"\n") {
                self.next = Part::Head;
            }
            return;
        };
        self.timed = true;
        self.next_line(time.to_owned());
        let is_past = |newest: Timestamp| timestamp.duration_since(newest) > DISORDER;
        if self.sought.is_some() && self.newest.is_none_or(is_past) {
            self.give_up(new);
        }
        if self.sought.is_none() {
            self.newest = self.newest.max(Some(timestamp));
        }
    }

    fn next_line(&mut self, time: Vec<u8>) {
        let before = self.line.take().filter(|before| before.time == time);
        self.line = Some(Line {
            index: before.map_or(0, |before| before.index + 1),
            time,
            ..Line::default()
        });
        self.next = Part::Line;
    }

    /// What is sought is not there: all that was read is new.
    fn give_up(&mut self, new: &mut Vec<u8>) {
        self.sought = None;
        self.lost = true;
        new.append(&mut self.held);
    }

    /// Takes a piece of the content of the present line.
    fn content(&mut self, bytes: &[u8], new: &mut Vec<u8>) {
        let line = self.line.as_mut().filter(|_| self.next == Part::Line);
        let Some(sought) = &self.sought else {
            new.extend_from_slice(bytes);
            if let Some(line) = line {
                line.add(bytes);
            }
            return;
        };
        let Some(line) = line else {
            self.held.extend_from_slice(bytes);
            return;
        };
        let missing = sought.length.saturating_sub(line.length).min(bytes.len());
        let (first, rest) = bytes.split_at(missing);
        line.add(first);
        if line == sought {
            self.sought = None;
            self.held.clear();
            line.add(rest);
            new.extend_from_slice(rest);
        } else {
            line.add(rest);
            self.held.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of this second.
    fn line(second: i64, content: &str) -> String {
        let time = Timestamp::from_second(second).expect("a time");
        format!("{time:.9} {content}")
    }

    /// What is read of these connections, each in pieces of so many bytes; the last is complete.
    fn read(connections: &[String], piece: usize) -> (String, bool) {
        let mut position = Position::default();
        let mut read = Vec::new();
        for connection in connections {
            position.connect();
            for piece in connection.as_bytes().chunks(piece) {
                read.extend(position.feed(piece));
            }
        }
        read.extend(position.finish(true));
        (String::from_utf8(read).expect("text"), position.lost())
    }

    #[track_caller]
    fn expect(connections: &[String], text: &str, lost: bool) {
        for piece in [1, 2, 7, 33, 1000] {
            let (read, is_lost) = read(connections, piece);
            assert_eq!((read.as_str(), is_lost), (text, lost), "{piece}");
        }
    }

    #[test]
    fn a_connection_may_break_anywhere() {
        let all = [
            line(1, "one\n"),
            line(1, "one\n"),
            line(1, "\n"),
            line(2, "2026-01-01T00:00:00Z is no time of ours\n"),
            line(3, "a line "),
            "that was written in pieces\n".to_owned(),
            line(3, "no newline"),
        ];
        let all = all.concat();
        let text = "one\none\n\n2026-01-01T00:00:00Z is no time of ours\na line that was written in pieces\nno newline";
        for end in 0..=all.len() {
            expect(&[all[..end].to_owned(), all.clone()], text, false);
            expect(
                &[
                    all[..end].to_owned(),
                    all[..end / 2].to_owned(),
                    all.clone(),
                ],
                text,
                false,
            );
        }
    }

    /// The connection before was the last that had a longer one.
    #[test]
    fn what_went_with_its_file_is_missed_only_where_it_was_not_read() {
        let [one, two, three] = [line(1, "one\n"), line(2, "two\n"), line(100, "three\n")];
        let before = [one.as_str(), &two].concat();
        let text = "one\ntwo\nthree\n";
        expect(
            &[before.clone(), [two, three.clone()].concat()],
            text,
            false,
        );
        expect(&[before.clone(), three.clone()], text, true);
        // A file that is longer than what was read.
        let four = line(101, "four\n");
        let more = [three, four].concat();
        expect(&[before.clone(), more], "one\ntwo\nthree\nfour\n", true);
        // Soon after.
        expect(
            &[before.clone(), line(2, "other\n")],
            "one\ntwo\nother\n",
            true,
        );
        expect(&[before.clone(), String::new()], "one\ntwo\n", true);
        // Rotated after all of it was read, and nothing was printed since.
        let mut position = Position::default();
        position.connect();
        position.feed(before.as_bytes());
        position.connect();
        assert_eq!(position.finish(false), b"");
        assert!(!position.lost());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_new() {
        let all = [line(100, "one\n"), line(101, "two\n"), line(5, "three\n")].concat();
        let more = [all.as_str(), &line(6, "four\n")].concat();
        expect(&[all, more], "one\ntwo\nthree\nfour\n", false);
    }

    #[test]
    fn it_is_asked_for_from_a_little_before_its_last_line() {
        let mut position = Position::default();
        assert_eq!(position.connect(), None);
        position.feed(line(9, "one\n").as_bytes());
        position.feed(line(10, "tw").as_bytes());
        let from = Timestamp::from_second(9).ok();
        assert_eq!(position.connect(), from);
        assert_eq!(position.connect(), from, "it is not forgotten");
    }

    /// As a node says it where it cannot go on, and a server that knows of no times.
    #[test]
    fn lines_without_a_time_are_passed_on() {
        let note = "failed to watch the file\n";
        let first = [&line(1, "one\n"), note].concat();
        let all = [line(1, "one\n"), line(2, "two\n")].concat();
        expect(&[first, all], "one\nfailed to watch the file\ntwo\n", false);
        let plain = "one\n\none\nand a half\nlast";
        for end in 0..=plain.len() {
            // No piece of the last word is known to be one before it is all there.
            let mut position = Position::default();
            position.connect();
            let mut read = position.feed(&plain.as_bytes()[..end]);
            assert_eq!(position.connect(), None);
            read.extend(position.feed(plain.as_bytes()));
            read.extend(position.finish(false));
            assert_eq!(String::from_utf8(read).expect("text"), plain, "{end}");
            assert!(!position.lost());
        }
    }
}
