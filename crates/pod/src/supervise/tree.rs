//! The processes below this one, as `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgrp, getpid},
};

/// A process as far as signals need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
}

/// Sends a signal to every process group below this process, also those that an agent's tools made for themselves.
/// A group that this process is in gets it one by one.
pub(super) fn signal_all(signal: Signal) {
    let own = getpgrp().as_raw();
    let mut groups = BTreeSet::new();
    for process in descendants() {
        if process.group == own || process.group <= 1 {
            let _ = kill(Pid::from_raw(process.pid), signal);
        } else {
            groups.insert(process.group);
        }
    }
    for group in groups {
        let _ = killpg(Pid::from_raw(group), signal);
        if signal == Signal::SIGTERM {
            // A stopped process would keep it for later.
            let _ = killpg(Pid::from_raw(group), Signal::SIGCONT);
        }
    }
}

/// Kills every process below this one. As PID 1 with one call, which no fork can get away from: all that this process may
/// signal are below it, or came in from outside of the container. Else one by one, as they are seen.
pub(super) fn kill_all() {
    if getpid().as_raw() == 1 {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    } else {
        signal_all(Signal::SIGKILL);
    }
}

/// All processes below this one.
fn descendants() -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(process) = parse(&String::from_utf8_lossy(&stat)) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![getpid().as_raw()];
    while let Some(parent) = open.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            open.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// A line of `/proc/PID/stat`. The name in parentheses may itself hold anything, parentheses and spaces too.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(1);
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) R 1 (b)) S 7 40 40 0 -1 4194304";
        assert_eq!(
            parse(stat),
            Some(Process {
                pid: 42,
                parent: 7,
                group: 40
            })
        );
        assert_eq!(parse(""), None);
    }
}
