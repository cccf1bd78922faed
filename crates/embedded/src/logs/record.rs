//! One record of a container's log file: a time, a stream, and a piece of a line.
//!
//! The form is the one that container runtimes write for Kubernetes (CRI logging), one record per
//! line of the file: `<RFC 3339 time> <stdout|stderr> <F|P> <bytes>\n`. `F` (full) means that the
//! bytes were followed by a newline, `P` (partial) that they were not. The bytes themselves never
//! contain a newline, so any output, binary too, survives unchanged.

use std::io::Write as _;

use jiff::Timestamp;

/// Where a program wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

impl Source {
    /// The word in the record.
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The most bytes of content in one record; longer lines become several partial records.
/// It bounds what a reader must hold, and is what container runtimes use.
pub const MAX_CONTENT: usize = 16 * 1024;

/// The longest record in the file: the content, and room for the time, stream and tag before it.
pub const MAX_RECORD: usize = MAX_CONTENT + 64;

/// A record as it stands in the file, without its final newline.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time, as text.
    pub time: &'a [u8],
    /// Which stream.
    pub source: Source,
    /// Whether a newline followed.
    pub full: bool,
    /// What was written.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads one record; `None` when the line is not one (a torn write at a crash).
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (time, source, tag) = (fields.next()?, fields.next()?, fields.next()?);
        let content = fields.next()?;
        let source = match source {
            b"stdout" => Source::Stdout,
            b"stderr" => Source::Stderr,
            _ => return None,
        };
        let full = match tag {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self {
            time,
            source,
            full,
            content,
        })
    }

    /// When it was written; `None` when the text is no time.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

/// Appends the records of `bytes`, which `source` wrote at `time`, to `out`.
pub fn encode(time: Timestamp, source: Source, mut bytes: &[u8], out: &mut Vec<u8>) {
    let head = format!("{time:.9} {}", source.word());
    while !bytes.is_empty() {
        let window = &bytes[..bytes.len().min(MAX_CONTENT)];
        let (content, tag, used) = match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&window[..end], 'F', end + 1),
            None => (window, 'P', window.len()),
        };
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{head} {tag} ");
        out.extend_from_slice(content);
        out.push(b'\n');
        bytes = &bytes[used..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(file: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            let record = Record::parse(&line[..line.len() - 1]).expect("a record");
            out.extend_from_slice(record.content);
            if record.full {
                out.push(b'\n');
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_unchanged(chunks: Vec<Vec<u8>>) {
            let mut file = Vec::new();
            for chunk in &chunks {
                encode(Timestamp::UNIX_EPOCH, Source::Stdout, chunk, &mut file);
            }
            prop_assert_eq!(decode(&file), chunks.concat());
        }
    }

    #[test]
    fn a_long_line_is_split_and_comes_back() {
        let line = vec![b'x'; 3 * MAX_CONTENT + 5];
        let mut file = Vec::new();
        encode(Timestamp::UNIX_EPOCH, Source::Stderr, &line, &mut file);
        assert_eq!(decode(&file), line);
        assert!(
            file.split(|byte| *byte == b'\n')
                .all(|record| record.len() <= MAX_RECORD)
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in [
            &b""[..],
            b"2026",
            b"t stdout F",
            b"t stdin F x",
            b"t stdout X x",
        ] {
            assert_eq!(Record::parse(line), None, "{line:?}");
        }
    }
}
