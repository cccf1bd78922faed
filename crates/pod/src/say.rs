//! Lines for people, on standard error. Standard output belongs to the agent.

use std::io::Write as _;

/// Writes `text` as one line, in one write, so that lines of several threads stay whole. What cannot be written is lost:
/// there is nobody else to tell.
pub(crate) fn line(text: &str) {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
