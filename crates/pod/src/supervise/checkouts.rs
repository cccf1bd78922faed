//! What the agent left in each checkout, as git tells it.
//!
//! The agent had the checkout for itself and may have configured anything in it. Filters, hooks, file system monitors,
//! fetching of what is missing and locks are turned off, the environment is bare, and no question takes for ever. What
//! git runs all the same (a submodule has a configuration of its own) has no more rights than the agent had, and is to be
//! ended before anything is made of the answers.

use std::{collections::BTreeSet, io, path::Path, time::Instant};

use kubeopencode_engine::handover::{
    CHECKOUTS_FILE, CheckoutRecord, CheckoutReport, CommitReport, GIT_CONFIG,
};

use crate::{
    git::{bare, complaint},
    run::{End, Limits, Output, Untold, run},
};

/// How much of git's answer is read. One entry is enough to know that something is uncommitted.
const ANSWER: usize = 64 * 1024;

/// What `git-init` recorded below `tools_dir`; no records, no checkouts.
pub(super) fn records(tools_dir: &Path) -> Vec<CheckoutRecord> {
    let json = std::fs::read(tools_dir.join(file_name(CHECKOUTS_FILE)));
    json.ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

/// The report of every recorded checkout.
pub(super) fn look(
    tools_dir: &Path,
    records: &[CheckoutRecord],
    until: Instant,
) -> Vec<CheckoutReport> {
    let config = tools_dir.join(file_name(GIT_CONFIG));
    records
        .iter()
        .map(|record| {
            let mut report = CheckoutReport {
                path: record.path.clone(),
                base: Some(record.base.clone()),
                ..CheckoutReport::default()
            };
            if let Err(error) = fill(&mut report, record, &config, until) {
                report.error = Some(error);
            }
            report
        })
        .collect()
}

/// The name of a file below the tools directory, wherever that is mounted.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn fill(
    report: &mut CheckoutReport,
    record: &CheckoutRecord,
    config: &Path,
    until: Instant,
) -> Result<(), String> {
    let path = Path::new(&record.path);
    if !path.join(".git").exists() {
        return Err("there is no repository any more".to_owned());
    }
    let git = Git {
        path,
        config,
        until,
        off: Vec::new(),
    };
    let git = git.without_filters()?;
    let ask = |arguments: &[&str]| git.ask(arguments);
    let output = ask(&[
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=normal",
        "--no-renames",
    ])?;
    status(report, &String::from_utf8_lossy(&output.stdout));
    let Some(head) = &report.head.clone() else {
        return Ok(());
    };
    // The pattern is one for the ref alone, which need not be there. What another remote has may go with the Pod.
    let others = [
        &["rev-list", "--count", "--branches", "--glob=refs/stas[h]"],
        &["--not", head, &record.base, "--remotes=origin", "--"][..],
    ];
    let others = git.count(&others.concat());
    if *head == record.base {
        report.commits = Some(0);
        report.other_commits = others?;
        return Ok(());
    }
    let pulled = upstream(&git, record)?;
    let mut new = vec![head.as_str(), "--not", &record.base];
    new.extend(pulled.as_deref());
    new.push("--");
    report.commits = Some(git.count(&[&["rev-list", "--count"], &new[..]].concat())?);
    report.other_commits = others?;
    report.newest = newest(&git, &new)?;
    let names = [
        "diff",
        "--name-only",
        "-z",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
    ];
    let output = ask(&[&names[..], &[&record.base, head, "--"]].concat())?;
    // Of an answer that was cut nobody knows how long it is.
    let names = output.stdout.split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty()).count();
    report.files = u32::try_from(names)
        .ok()
        .filter(|_| output.end != End::TooMuch);
    Ok(())
}

/// Where the branch that was cloned is now, as far as the checkout knows: what the agent has pulled from there is not its
/// own work. A branch that it has pushed itself is another one.
fn upstream(git: &Git<'_>, record: &CheckoutRecord) -> Result<Option<String>, String> {
    let Some(branch) = &record.branch else {
        return Ok(None);
    };
    let name = format!("refs/remotes/origin/{branch}");
    let output = git.ask(&["for-each-ref", "--format=%(objectname)", &name])?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Some(commit).filter(|commit| !commit.is_empty()))
}

/// The newest of these commits.
fn newest(git: &Git<'_>, commits: &[&str]) -> Result<Vec<CommitReport>, String> {
    let log = [
        "log",
        "--max-count=10",
        "--no-show-signature",
        "--format=%h %s",
    ];
    let output = git.ask(&[&log, commits].concat())?;
    let newest = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, subject)| CommitReport {
            id: id.to_owned(),
            subject: subject.to_owned(),
        })
        .collect();
    Ok(newest)
}

/// Reads `git status --porcelain=v2 --branch`: a few lines with `#`, then one for each thing that is not committed.
fn status(report: &mut CheckoutReport, text: &str) {
    for line in text.lines() {
        let Some(header) = line.strip_prefix("# ") else {
            report.dirty = Some(true);
            return;
        };
        match header.split_once(' ') {
            Some(("branch.oid", oid)) if oid != "(initial)" => report.head = Some(oid.to_owned()),
            Some(("branch.head", branch)) if branch != "(detached)" => {
                report.branch = Some(branch.to_owned());
            }
            _ => {}
        }
    }
    report.dirty = Some(false);
}

/// Whoever asks git about the checkout at `path`.
struct Git<'a> {
    path: &'a Path,
    config: &'a Path,
    until: Instant,
    /// Keys of its configuration that are overruled, and by what.
    off: Vec<(String, &'static str)>,
}

/// What makes a filter of git run a program; without any of it the files are as they are.
const FILTER: [(&str, &str); 4] = [
    ("clean", ""),
    ("smudge", ""),
    ("process", ""),
    ("required", "false"),
];

impl Git<'_> {
    /// The same, with each filter that is configured turned off. git has no setting for all of them.
    fn without_filters(mut self) -> Result<Self, String> {
        let question = ["config", "-z", "--name-only", "--get-regexp", "^filter\\."];
        let output = self.run(&question)?;
        match output.end {
            End::Exited(status) if status.success() => {}
            // There are none.
            End::Exited(status) if status.code() == Some(1) => return Ok(self),
            End::TooMuch => {
                return Err("more filters are configured in it than are read".to_owned());
            }
            _ => return output_of(output).map(|_| self),
        }
        let names: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter_map(|key| Some(key.strip_prefix("filter.")?.rsplit_once('.')?.0.to_owned()))
            .collect();
        for name in names {
            let keys = FILTER.map(|(key, value)| (format!("filter.{name}.{key}"), value));
            self.off.extend(keys);
        }
        Ok(self)
    }

    /// Asks git something. An answer that was cut is an answer.
    fn ask(&self, arguments: &[&str]) -> Result<Output, String> {
        output_of(self.run(arguments)?)
    }

    /// Asks git how many.
    fn count(&self, arguments: &[&str]) -> Result<u32, String> {
        let output = self.ask(arguments)?;
        let number = String::from_utf8_lossy(&output.stdout).trim().parse();
        number.map_err(|_| "git did not count the commits".to_owned())
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, String> {
        let mut command = bare(self.path, self.config);
        command
            .arg("--no-optional-locks")
            .args(["-c", "core.pager=cat"])
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            // An object that is missing is not fetched: how, would be for the checkout to say.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "none")
            // Not by -c: a name may have a = in it.
            .env("GIT_CONFIG_COUNT", self.off.len().to_string());
        for (number, (key, value)) in self.off.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{number}"), key)
                .env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let limits = Limits {
            until: Some(self.until),
            silence: None,
            output: ANSWER,
        };
        run(&mut command, limits, &Untold, |_| {}).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "there is no git in the agent's image to ask".to_owned(),
            _ => format!("cannot run git: {error}"),
        })
    }
}

/// What there is of an answer, or why there is none.
fn output_of(output: Output) -> Result<Output, String> {
    match output.end {
        End::TooMuch => Ok(output),
        End::TimedOut => Err("git took too long to answer".to_owned()),
        End::Exited(status) if status.success() => Ok(output),
        End::Exited(_) => Err(complaint(&output.stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_as_git_prints_it() {
        let mut report = CheckoutReport::default();
        status(
            &mut report,
            "# branch.oid 1234\n# branch.head main\n# branch.upstream origin/main\n# branch.ab +1 -0\n",
        );
        assert_eq!(report.head.as_deref(), Some("1234"));
        assert_eq!(report.branch.as_deref(), Some("main"));
        assert_eq!(report.dirty, Some(false));

        let mut report = CheckoutReport::default();
        status(
            &mut report,
            "# branch.oid (initial)\n# branch.head (detached)\n? new\n",
        );
        assert_eq!((report.head, report.branch), (None, None));
        assert_eq!(report.dirty, Some(true));
    }
}
