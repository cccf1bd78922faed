//! Lines out of a stream of bytes, in bounded memory.

/// The longest line that is read, in bytes. What agents print in one line is an event with the output of a tool, which
/// most of them shorten; what is longer is told as [`Line::TooLong`].
pub const LONGEST_LINE: usize = 1 << 20;

/// A line of the stream, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// It is whole.
    Whole(&'a [u8]),
    /// It is longer than [`LONGEST_LINE`]; what there was of it has been let go.
    TooLong,
}

/// Cuts a stream into lines, whatever pieces it comes in. Holds at most [`LONGEST_LINE`] bytes.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// The next piece of the stream; `each` gets every line that ends in it.
    pub fn feed(&mut self, mut piece: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(at) = memchr::memchr(b'\n', piece) {
            let (rest, after) = (&piece[..at], &piece[at + 1..]);
            piece = after;
            if self.begun.is_empty() && !self.too_long && rest.len() <= LONGEST_LINE {
                each(Line::Whole(rest));
            } else {
                self.keep(rest);
                self.end_line(&mut each);
            }
        }
        self.keep(piece);
    }

    /// The end of the stream: what was begun is a line too.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.too_long || !self.begun.is_empty() {
            self.end_line(&mut each);
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.too_long || self.begun.len() + piece.len() > LONGEST_LINE {
            self.too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self, each: &mut impl FnMut(Line<'_>)) {
        if std::mem::take(&mut self.too_long) {
            each(Line::TooLong);
        } else {
            each(Line::Whole(&self.begun));
        }
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut found = Vec::new();
        let mut note = |line: Line<'_>| {
            found.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        };
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, &mut note);
        }
        lines.finish(&mut note);
        found
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        let long = vec![b'x'; LONGEST_LINE + 1];
        let exact = vec![b'y'; LONGEST_LINE];
        let found = lines(&[b"a\n", &long, &long, b"\nb\n", &exact, b"\nc"]);
        let expected = [
            Some(b"a".to_vec()),
            None,
            Some(b"b".to_vec()),
            Some(exact),
            Some(b"c".to_vec()),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab\n]{0,40}", cuts in prop::collection::vec(0..40_usize, 0..5)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let expected: Vec<_> = text.lines().map(|line| Some(line.as_bytes().to_vec())).collect();
            prop_assert_eq!(lines(&pieces), expected);
        }
    }
}
