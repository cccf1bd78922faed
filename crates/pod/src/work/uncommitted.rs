//! What the agent left uncommitted, as one commit on top of its HEAD.
//!
//! The tree is built in our repository with an index of our own, so no setting of the checkout counts, and of its index
//! only which names it has: filters, which are
//! programs, are named by its `.gitattributes` and defined nowhere. Which files it is made of is decided here: none that a
//! link leads to, nothing inside of another repository, and nothing that the system put there.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::FileTypeExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::fs::{Access as Mode, access};

use super::{LeftOut, Why, own::Own};
use crate::{
    git::{Access, Failure, Kind, Purpose},
    run::Output,
};

/// The message of the commit.
const MESSAGE: &str = "What the agent left uncommitted";

/// What became of it.
pub(super) struct Uncommitted {
    /// The commit; `None`: there is nothing for it.
    pub commit: Option<String>,
    /// What has changed or is new, and is not in it.
    pub left_out: Vec<LeftOut>,
}

/// Makes the commit. `ours`: absolute paths of what the system put into the workspace. `exclude`: patterns, besides those
/// of the working tree itself.
pub(super) fn commit(
    own: &Own,
    checkout: &Path,
    ours: &[PathBuf],
    exclude: &[u8],
    local: &Access<'_>,
) -> Result<Uncommitted, Failure> {
    let tree = Tree {
        own,
        checkout,
        local,
        options: [
            format!("--git-dir={}", own.directory.display()),
            format!("--work-tree={}", checkout.display()),
            "--literal-pathspecs".to_owned(),
        ],
    };
    let info = own.directory.join("info");
    fs::create_dir_all(&info)
        .and_then(|()| fs::write(info.join("exclude"), exclude))
        .map_err(|error| Kind::of_place("cannot prepare the commit", &error))?;
    let staged = tree.staged();
    tree.git(&["read-tree", &own.head], None)?;
    let changed = tree.list(&["ls-files", "-z", "--modified", "--deleted"])?;
    let (mut others, unopened) = tree.others()?;
    if !staged.is_empty() {
        let known = tree.list(&["ls-files", "-z", "--cached"])?;
        others.extend(staged.difference(&known).cloned());
    }
    let (mut taken, mut gone, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut unreadable: BTreeSet<PathBuf> = unopened;
    for path in changed.iter().chain(&others) {
        let full = checkout.join(OsStr::from_bytes(path));
        if ours
            .iter()
            .any(|ours| full.starts_with(ours) && ours != checkout && !checkout.starts_with(ours))
        {
            continue;
        }
        match what_is(checkout, &full) {
            What::Content => taken.push(path),
            What::Nothing if changed.contains(path) => gone.push(path),
            What::Repository => left_out.push(LeftOut {
                path: PathBuf::from(OsStr::from_bytes(path)),
                why: Why::Repository,
            }),
            What::Unreadable => {
                unreadable.insert(PathBuf::from(OsStr::from_bytes(path)));
            }
            What::Nothing => {}
        }
    }
    // A directory stands for what is in it.
    let named = |path: &&PathBuf| {
        let mut above = path.ancestors().skip(1);
        !above.any(|above| unreadable.contains(above))
    };
    left_out.extend(unreadable.iter().filter(named).map(|path| LeftOut {
        path: path.clone(),
        why: Why::Unreadable,
    }));
    tree.update(&["--force-remove"], &gone)?;
    tree.update(&["--add", "--replace"], &taken)?;
    let id = |output: Vec<u8>| String::from_utf8_lossy(&output).trim().to_owned();
    let new = id(tree.git(&["write-tree"], None)?);
    let before = format!("{}^{{tree}}", own.head);
    let before = id(tree.git(&["rev-parse", "--verify", &before], None)?);
    if new == before {
        return Ok(Uncommitted {
            commit: None,
            left_out,
        });
    }
    let commit = [
        "-c",
        "user.name=KubeOpenCode",
        "-c",
        "user.email=agent@kubeopencode.invalid",
        "commit-tree",
        "-p",
        &own.head,
        "-m",
        MESSAGE,
        &new,
    ];
    let commit = Some(id(tree.git(&commit, None)?));
    Ok(Uncommitted { commit, left_out })
}

struct Tree<'t> {
    own: &'t Own,
    checkout: &'t Path,
    local: &'t Access<'t>,
    options: [String; 3],
}

impl Tree<'_> {
    fn git(&self, arguments: &[&str], stdin: Option<File>) -> Result<Vec<u8>, Failure> {
        Ok(self.output(arguments, stdin)?.stdout)
    }

    /// In our repository, and not where the agent's files are: git itself finds them.
    fn output(&self, arguments: &[&str], stdin: Option<File>) -> Result<Output, Failure> {
        let options = self.options.iter().map(String::as_str);
        let arguments = options.chain(arguments.iter().copied());
        let stdin = stdin.map_or_else(Stdio::null, Stdio::from);
        let output = self.local.run(
            &self.own.directory,
            Purpose::Local,
            arguments,
            stdin,
            &|_| {},
        )?;
        self.local.judge(&output, Purpose::Local)?;
        Ok(output)
    }

    /// Paths, relative to the checkout, as git has them: bytes.
    fn list(&self, arguments: &[&str]) -> Result<BTreeSet<Vec<u8>>, Failure> {
        Ok(paths(&self.git(arguments, None)?))
    }

    /// What is new, and directories that may have more of it and cannot be read, of which git only warns.
    fn others(&self) -> Result<(BTreeSet<Vec<u8>>, BTreeSet<PathBuf>), Failure> {
        let arguments = ["ls-files", "-z", "--others", "--exclude-standard"];
        let output = self.output(&arguments, None)?;
        let said = output.stderr.split(|byte| *byte == b'\n');
        let unopened = said.filter_map(|line| {
            let line = line.strip_prefix(b"warning: could not open directory '")?;
            let path = line.strip_suffix(b"/': Permission denied")?;
            Some(PathBuf::from(OsStr::from_bytes(path)))
        });
        Ok((paths(&output.stdout), unopened.collect()))
    }

    /// What the agent has staged: the names alone. It counts also where a pattern excludes it, as it does for git itself.
    /// An index that cannot be read stages nothing.
    fn staged(&self) -> BTreeSet<Vec<u8>> {
        let theirs = self.checkout.join(".git/index");
        let ours = self.own.directory.join("index");
        let is_file = fs::symlink_metadata(&theirs).is_ok_and(|there| there.is_file());
        if !is_file || fs::copy(&theirs, &ours).is_err() {
            return BTreeSet::new();
        }
        let staged = self.list(&["ls-files", "-z", "--cached"]);
        // What follows has an index of its own.
        let removed = fs::remove_file(&ours);
        staged.ok().filter(|_| removed.is_ok()).unwrap_or_default()
    }

    fn update(&self, how: &[&str], paths: &[&Vec<u8>]) -> Result<(), Failure> {
        if paths.is_empty() {
            return Ok(());
        }
        let file = self.own.directory.join("paths");
        let listed = || {
            let mut list = File::create(&file)?;
            for path in paths {
                list.write_all(path)?;
                list.write_all(b"\0")?;
            }
            File::open(&file)
        };
        let listed =
            listed().map_err(|error| Kind::of_place("cannot prepare the commit", &error))?;
        let arguments = [&["update-index", "-z"], how, &["--stdin"]].concat();
        self.git(&arguments, Some(listed)).map(drop)
    }
}

fn paths(output: &[u8]) -> BTreeSet<Vec<u8>> {
    output
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// What is at a path.
enum What {
    /// A file, or a link itself.
    Content,
    /// Another repository, with its own history.
    Repository,
    /// Nothing that a commit could have, or nothing that is in the checkout.
    Nothing,
    /// Something that this user cannot read, or nobody knows what.
    Unreadable,
}

fn what_is(checkout: &Path, path: &Path) -> What {
    let inside = path
        .ancestors()
        .skip(1)
        .take_while(|parent| *parent != checkout)
        .all(|parent| fs::symlink_metadata(parent).is_ok_and(|there| there.is_dir()));
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return What::Unreadable,
        Err(_) => return What::Nothing,
    };
    let kind = there.file_type();
    if !inside
        || kind.is_fifo()
        || kind.is_socket()
        || kind.is_block_device()
        || kind.is_char_device()
    {
        What::Nothing
    } else if kind.is_file() && access(path, Mode::READ_OK).is_err() {
        What::Unreadable
    } else if !kind.is_dir() {
        What::Content
    } else if fs::symlink_metadata(path.join(".git")).is_ok() {
        What::Repository
    } else {
        What::Nothing
    }
}
