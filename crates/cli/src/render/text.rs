//! Text of an agent made fit for a terminal.

use std::borrow::Cow;

/// The width of a line where nobody knows how wide it may be.
pub(super) const USUAL_WIDTH: usize = 100;
/// A terminal that is narrower gets lines of this width, which it wraps: less says nothing.
const LEAST_WIDTH: usize = 40;
/// Characters that a message has at most.
const LONGEST_MESSAGE: usize = 500;

/// Without escape sequences and control characters, but for newlines and tabs.
pub(super) fn tame(text: &str) -> String {
    anstream::adapter::strip_str(text)
        .to_string()
        .chars()
        .filter(|character| matches!(character, '\n' | '\t') || !character.is_control())
        .collect()
}

/// A line that is no event, as it is, unless there is more in it than colours: those leave the cursor and the terminal's
/// settings alone. One that is written over itself becomes several.
pub(super) fn harmless(line: &[u8]) -> Cow<'_, [u8]> {
    let whole = String::from_utf8_lossy(line);
    // The end of a line as Windows has it.
    let text = whole.strip_suffix('\r').unwrap_or(&whole);
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default();
    let plain = |part: &str| {
        let mut characters = part.chars();
        !characters.any(|character| character.is_control() && character != '\t')
    };
    let colored = |part: &str| {
        let end = part.find(|character: char| !matches!(character, '0'..='9' | ';' | ':'));
        end.is_some_and(|end| part[end..].starts_with('m')) && plain(part)
    };
    if plain(first) && parts.all(colored) {
        Cow::Borrowed(line)
    } else {
        // What a carriage return would write over is shown as well.
        Cow::Owned(tame(&text.replace('\r', "\n")).into_bytes())
    }
}

/// All of it in one line.
pub(super) fn message(text: &str) -> String {
    let words: Vec<String> = tame(text).split_whitespace().map(str::to_owned).collect();
    cut(&words.join(" "), LONGEST_MESSAGE)
}

/// The first line that says something, cut; an ellipsis says that there is more.
pub(super) fn one_line(text: &str, width: usize) -> String {
    let text = tame(text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let more = lines.next().is_some();
    let cut = cut(first, width);
    if more && !cut.ends_with('…') {
        format!("{cut} …")
    } else {
        cut
    }
}

/// A line that is not wider than this, on a terminal.
pub(super) fn cut(line: &str, width: usize) -> String {
    console::truncate_str(line, width.max(LEAST_WIDTH), "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_that_there_is_more() {
        assert_eq!(one_line("\n  a\n", 100), "a");
        assert_eq!(one_line("a\nb", 100), "a …");
        let cut = format!("{}…", "é".repeat(99));
        assert_eq!(one_line(&"é".repeat(101), 100), cut);
        assert_eq!(one_line(&"é".repeat(100), 100), "é".repeat(100));
        // Each of these is as wide as two.
        assert_eq!(
            one_line(&"修".repeat(51), 101),
            format!("{}…", "修".repeat(50))
        );
    }
}
