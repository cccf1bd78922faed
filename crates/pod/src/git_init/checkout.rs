//! One repository, from the plan to the checkout.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use kubeopencode_engine::handover::{CheckoutRecord, PlannedCheckout, PlannedPush};

use super::sub_path;
use crate::{
    beneath, exclude,
    git::{
        Access, Failure, Kind, Purpose, Running, address, quoted,
        remote::{Resolved, Wanted, default_branch, resolve},
    },
};

/// A file in `.git` that says that this program made the repository, so that it may make it anew when it is started
/// again. Anybody else's is left alone.
const MARK: &str = "kubeopencode-git-init";

/// Lines of git that say nothing to a person who did not ask for them.
const NOISE: [&str; 11] = [
    "remote: Enumerating objects",
    "remote: Counting objects",
    "remote: Compressing objects",
    "remote: Total ",
    "From ",
    " * ",
    "HEAD is now at ",
    "Reset branch ",
    "Switched to ",
    "Updating files",
    // These come again as the reason of the failure.
    "error: ",
];

/// Clones what `planned` says. `enclosing` are the checkouts that this one may be inside of. No record for a part of a
/// repository: it is no checkout that one could commit in.
pub(super) fn check_out(
    planned: &PlannedCheckout,
    enclosing: &[PathBuf],
    tools_dir: &Path,
    running: &Running,
    tell: &dyn Fn(&str),
) -> Result<Option<CheckoutRecord>, Failure> {
    let refused = |problem: &str| Failure::from(Kind::Refused(problem.to_owned()));
    let address = address::repository(&planned.repository).map_err(refused)?;
    if let Some(reference) = &planned.reference {
        address::reference(reference).map_err(refused)?;
    }
    if let Some(path) = &planned.sub_path {
        address::sub_path(path).map_err(refused)?;
    }
    let origin = planned.origin.as_deref().unwrap_or(&planned.repository);
    // It lands in a configuration file, where a line end would begin a setting.
    if origin.chars().any(char::is_control) {
        return Err(refused(
            "the repository's URL has a control character in it",
        ));
    }
    let secret_dir = planned.secret_dir.as_deref().map(Path::new);
    let access = Access::new(secret_dir, &address, running)?;
    let resolved = resolve(&access, &planned.repository, planned.reference.as_deref())?;
    let push = planned
        .push
        .as_ref()
        .map(|push| push_target(push, planned, &access, &resolved.wanted))
        .transpose()?;
    tell(&format!(
        "fetching {} ({}{})",
        access.scrub.clean(origin),
        resolved.wanted.describe(),
        match planned.depth {
            0 => ", whole history".to_owned(),
            depth => format!(", depth {depth}"),
        }
    ));
    let mut clone = Clone {
        planned,
        origin,
        access: &access,
        resolved: &resolved,
        overwrite: false,
        tell,
    };
    let path = Path::new(&planned.path);
    let record = if let Some(part) = &planned.sub_path {
        let staging = tempfile::Builder::new()
            .prefix(".git-init-")
            .tempdir_in(tools_dir)
            .map_err(|error| Kind::of_place("cannot make a directory for it", &error))?;
        clone.clone_to(staging.path())?;
        sub_path::put(staging.path(), part, path, planned.mode, enclosing)?;
        None
    } else {
        clone.overwrite = place(path, enclosing)?;
        Some(CheckoutRecord {
            path: planned.path.clone(),
            base: clone.clone_to(path)?,
            branch: match &resolved.wanted {
                Wanted::Branch(branch) => Some(branch.clone()),
                _ => None,
            },
            push,
        })
    };
    if let Some(outer) = enclosing.iter().rev().find(|outer| path.starts_with(outer)) {
        exclude::add(path, outer).map_err(|error| {
            Kind::of_place(
                &format!("cannot exclude it from {}", outer.display()),
                &error,
            )
        })?;
    }
    Ok(record)
}

/// The branch that will be pushed to. Asked now, not when the agent has worked for an hour.
fn push_target(
    push: &PlannedPush,
    planned: &PlannedCheckout,
    access: &Access<'_>,
    wanted: &Wanted,
) -> Result<String, Failure> {
    let refused = |problem: String| Failure::from(Kind::Refused(problem));
    address::reference(&push.branch).map_err(|problem| refused(format!("push: {problem}")))?;
    if push.allow_base {
        return Ok(push.branch.clone());
    }
    let is_cloned = *wanted == Wanted::Branch(push.branch.clone());
    // Without a ref, the default branch is what is cloned.
    let asks = !is_cloned && planned.reference.is_some();
    if is_cloned
        || asks && default_branch(access, &planned.repository)?.as_ref() == Some(&push.branch)
    {
        return Err(refused(format!(
            "{} is the branch that is cloned, or the repository's default branch: \
             push to another one, or say git.push.allowBase: true",
            push.branch
        )));
    }
    Ok(push.branch.clone())
}

/// Makes the directory, and makes sure that no other repository is in it. True: an earlier attempt of this program was,
/// and its files may be overwritten.
fn place(path: &Path, enclosing: &[PathBuf]) -> Result<bool, Failure> {
    beneath::directory(path, enclosing).map_err(|error| Kind::of_place("", &error))?;
    let git_dir = path.join(".git");
    if fs::symlink_metadata(&git_dir).is_err() {
        return Ok(false);
    }
    if !git_dir.join(MARK).is_file() {
        return Err(Kind::Place("there already is a repository".to_owned()).into());
    }
    fs::remove_dir_all(&git_dir)
        .map_err(|error| Kind::of_place("cannot remove an earlier attempt", &error))?;
    Ok(true)
}

/// A clone that is being made.
struct Clone<'a> {
    planned: &'a PlannedCheckout,
    origin: &'a str,
    access: &'a Access<'a>,
    resolved: &'a Resolved,
    /// Whether files that are there may be overwritten.
    overwrite: bool,
    tell: &'a dyn Fn(&str),
}

impl Clone<'_> {
    /// Clones into `directory`, which is there, and answers the commit that is checked out.
    fn clone_to(&self, directory: &Path) -> Result<String, Failure> {
        let branch = match &self.resolved.wanted {
            Wanted::Branch(branch) => Some(branch.as_str()),
            _ => None,
        };
        let first = format!("--initial-branch={}", branch.unwrap_or("main"));
        let mut init = vec!["init", "-q", &first];
        if self.resolved.sha256 {
            init.push("--object-format=sha256");
        }
        self.git(directory, Purpose::Ask, &init)?;
        self.configure(directory, branch)?;
        let commit = self.fetch(directory)?;
        self.check_out(directory, branch, &commit)?;
        if self.planned.submodules {
            let depth = format!("--depth={}", self.planned.depth);
            let mut update = vec!["submodule", "update", "--init", "--recursive", "--progress"];
            if self.planned.depth > 0 {
                update.push(&depth);
            }
            self.git(directory, Purpose::Transfer, &update)?;
        }
        if self.planned.sub_path.is_some() {
            return Ok(commit);
        }
        let head = self.git(directory, Purpose::Ask, &["rev-parse", "HEAD"])?;
        let head = head.trim().to_owned();
        (self.tell)(&format!(
            "checked out {} at {head}",
            self.resolved.wanted.describe()
        ));
        Ok(head)
    }

    /// The remote as `git clone` would leave it, and the mark. Written at once: each `git config` is a process.
    fn configure(&self, directory: &Path, branch: Option<&str>) -> Result<(), Failure> {
        let git_dir = directory.join(".git");
        let fetch = match (branch, self.planned.depth) {
            (Some(branch), 1..) => format!("+refs/heads/{branch}:refs/remotes/origin/{branch}"),
            _ => "+refs/heads/*:refs/remotes/origin/*".to_owned(),
        };
        let mut text = format!(
            "[remote \"origin\"]\n\turl = {}\n\tfetch = {}\n",
            quoted(self.origin),
            quoted(&fetch)
        );
        if let Some(branch) = branch {
            let merge = quoted(&format!("refs/heads/{branch}"));
            let branch = quoted(branch);
            let _ = write!(
                text,
                "[branch {branch}]\n\tremote = origin\n\tmerge = {merge}\n"
            );
        }
        let config = git_dir.join("config");
        let write = || {
            let before = fs::read_to_string(&config)?;
            fs::write(&config, before + &text)?;
            fs::write(git_dir.join(MARK), "")
        };
        write().map_err(|error| Kind::of_place("cannot configure the repository", &error).into())
    }

    /// Fetches what is wanted and answers a name for the commit.
    fn fetch(&self, directory: &Path) -> Result<String, Failure> {
        let everything = || {
            self.fetch_refs(
                directory,
                0,
                &[
                    "+refs/heads/*:refs/remotes/origin/*",
                    "+refs/tags/*:refs/tags/*",
                ],
            )
        };
        let depth = self.planned.depth;
        match &self.resolved.wanted {
            Wanted::Branch(branch) => {
                let one = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
                let refs = if depth == 0 {
                    "+refs/heads/*:refs/remotes/origin/*"
                } else {
                    &one
                };
                self.fetch_refs(directory, depth, &[refs])?;
                Ok(format!("refs/remotes/origin/{branch}"))
            }
            Wanted::Tag(tag) => {
                let one = format!("+refs/tags/{tag}:refs/tags/{tag}");
                let mut refs = vec![one.as_str()];
                if depth == 0 {
                    refs.push("+refs/heads/*:refs/remotes/origin/*");
                }
                self.fetch_refs(directory, depth, &refs)?;
                Ok(format!("refs/tags/{tag}"))
            }
            Wanted::Ref(name) => {
                self.fetch_refs(directory, depth, &[name])?;
                Ok("FETCH_HEAD".to_owned())
            }
            Wanted::Commit(sha) => {
                if depth == 0 {
                    everything()?;
                    if let Ok(commit) = self.complete(directory, sha) {
                        return Ok(commit);
                    }
                }
                match self.fetch_refs(directory, depth, &[sha]) {
                    Ok(()) => return Ok(sha.clone()),
                    // The server does not give out single commits, or has no such one.
                    Err(failure) if failure.kind == Kind::Other => {}
                    Err(failure) => return Err(failure),
                }
                if depth != 0 {
                    (self.tell)(
                        "the server does not give out this commit alone; fetching the whole history",
                    );
                    everything()?;
                }
                self.complete(directory, sha)
            }
            Wanted::Abbreviated(sha) => {
                if depth != 0 {
                    (self.tell)(
                        "an abbreviated commit is looked for in the whole history; the full SHA is faster",
                    );
                }
                everything()?;
                self.complete(directory, sha)
            }
        }
    }

    fn fetch_refs(&self, directory: &Path, depth: u32, refs: &[&str]) -> Result<(), Failure> {
        let depth_option = format!("--depth={depth}");
        let mut arguments = vec![
            "fetch",
            "--progress",
            "--no-recurse-submodules",
            // The repository may itself be a shallow clone.
            "--update-shallow",
        ];
        if depth > 0 {
            arguments.extend([depth_option.as_str(), "--no-tags"]);
        }
        arguments.extend(["--", self.planned.repository.as_str()]);
        arguments.extend(refs);
        self.git(directory, Purpose::Transfer, &arguments).map(drop)
    }

    /// The full name of a commit that has been fetched.
    fn complete(&self, directory: &Path, sha: &str) -> Result<String, Failure> {
        let commit = format!("{sha}^{{commit}}");
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ];
        let full = self
            .git(directory, Purpose::Ask, &arguments)
            .map_err(|_| Kind::NoReference(sha.to_owned()))?;
        // The last line: older gits repeat the option.
        Ok(full.lines().last().unwrap_or_default().to_owned())
    }

    fn check_out(
        &self,
        directory: &Path,
        branch: Option<&str>,
        commit: &str,
    ) -> Result<(), Failure> {
        let mut arguments = vec!["--literal-pathspecs", "checkout", "--progress"];
        if self.overwrite {
            arguments.push("--force");
        }
        match (&self.planned.sub_path, branch) {
            (Some(path), _) if !self.planned.submodules => {
                arguments.extend([commit, "--", path]);
                return self
                    .git(directory, Purpose::Transfer, &arguments)
                    .map(drop)
                    .map_err(|failure| match failure.said {
                        Some(said) if said.contains("did not match") => {
                            Kind::NoPath(path.clone()).into()
                        }
                        said => Failure { said, ..failure },
                    });
            }
            (None, Some(branch)) => arguments.extend(["--no-track", "-B", branch, commit, "--"]),
            _ => arguments.extend(["--detach", commit, "--"]),
        }
        self.git(directory, Purpose::Transfer, &arguments).map(drop)
    }

    fn git(
        &self,
        directory: &Path,
        purpose: Purpose,
        arguments: &[&str],
    ) -> Result<String, Failure> {
        let tell: &dyn Fn(&str) = match purpose {
            Purpose::Ask | Purpose::Local => &|_| {},
            Purpose::Transfer => &|line| {
                if !NOISE.iter().any(|noise| line.starts_with(noise)) {
                    (self.tell)(line);
                }
            },
        };
        self.access.git(directory, purpose, arguments, tell)
    }
}
