//! The kernel's table of mounts (`mountinfo`), and making mounts read-only.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// One mount of this mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) parent: u64,
    /// Where it is mounted, from this process's root.
    pub(super) path: PathBuf,
    /// The flags of the mount itself (not of its file system).
    pub(super) flags: MsFlags,
}

/// All mounts that this process can reach. `proc` is where a proc file system is mounted.
pub(super) fn read(proc: &str) -> io::Result<Vec<Entry>> {
    let text = fs::read(format!("{proc}/self/mountinfo"))?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// A line: id, parent, device, root, path, options, …
fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let path = unescape(fields.nth(2)?);
    let options = std::str::from_utf8(fields.next()?).ok()?;
    let flags = options
        .split(',')
        .map(|option| match option {
            "ro" => MsFlags::MS_RDONLY,
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        })
        .collect();
    Some(Entry {
        id,
        parent,
        path: PathBuf::from(OsString::from_vec(path)),
        flags,
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

/// The id of the mount that an open file is on.
pub(super) fn mount_of(proc: &str, file: BorrowedFd<'_>) -> io::Result<u64> {
    let text = fs::read_to_string(format!("{proc}/self/fdinfo/{}", file.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no mnt_id in fdinfo"))
}

/// The mount `id` and everything mounted below it, from a table.
pub(super) fn tree(table: &[Entry], id: u64) -> Vec<&Entry> {
    let mut ids = vec![id];
    let mut found = Vec::new();
    let mut next = 0;
    while next < ids.len() {
        let id = ids[next];
        next += 1;
        found.extend(table.iter().filter(|entry| entry.id == id));
        ids.extend(
            table
                .iter()
                .filter(|entry| entry.parent == id && entry.id != id)
                .map(|entry| entry.id),
        );
    }
    found
}

/// Adds flags to mounts; the flags they have stay, or the kernel says EPERM.
pub(super) fn add_flags(entries: &[&Entry], flags: MsFlags) -> Result<(), (PathBuf, Errno)> {
    for entry in entries.iter().filter(|entry| !entry.flags.contains(flags)) {
        let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | entry.flags | flags;
        match mount(
            None::<&str>,
            &entry.path,
            None::<&str>,
            remount,
            None::<&str>,
        ) {
            // Behind a directory that this user cannot enter, or covered, or deleted:
            // the program cannot get there either.
            Ok(()) | Err(Errno::EACCES | Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => return Err((entry.path.clone(), errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_flags() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\0402 ro,nosuid,noexec,relatime master:1 - ext3 /dev/root rw";
        assert_eq!(
            parse(line),
            Some(Entry {
                id: 36,
                parent: 35,
                path: "/mnt 2".into(),
                flags: MsFlags::MS_RDONLY
                    | MsFlags::MS_NOSUID
                    | MsFlags::MS_NOEXEC
                    | MsFlags::MS_RELATIME,
            })
        );
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_tree_is_a_mount_and_its_descendants() {
        let entry = |id, parent| Entry {
            id,
            parent,
            path: format!("/{id}").into(),
            flags: MsFlags::empty(),
        };
        let table = [
            entry(1, 1),
            entry(2, 1),
            entry(3, 2),
            entry(4, 1),
            entry(5, 3),
        ];
        let ids: Vec<_> = tree(&table, 2).iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [2, 3, 5]);
    }
}
