//! Lines for people, on standard error. Standard output belongs to the agent.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use crate::run::timespec;

/// Writes `text` as one line, in one write, so that lines of several threads stay whole. What cannot be written is lost:
/// there is nobody else to tell.
pub(crate) fn line(text: &str) {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Writes a text of several lines, so that no other comes in between.
pub(crate) fn whole(text: &str) -> io::Result<()> {
    io::stderr().lock().write_all(text.as_bytes())
}

/// The same as [`line`], from one who has something to hold meanwhile: where nobody takes the lines away, it is lost.
pub(crate) fn unless_full(text: &str) {
    let stderr = std::io::stderr();
    let mut there = [PollFd::new(&stderr, PollFlags::OUT)];
    // A pipe that is ready has room for a line of ours.
    if poll(&mut there, timespec(Duration::ZERO).as_ref()).is_ok_and(|ready| ready > 0) {
        line(text);
    }
}
