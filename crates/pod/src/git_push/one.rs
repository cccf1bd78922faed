//! One checkout, from what the agent left to what the remote says that it has.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    slice,
    time::{Duration, Instant},
};

use kubeopencode_engine::handover::{PlannedCheckout, PlannedPush, PushReport, PushState};

use super::{
    Stop, Time,
    bundles::{Bundles, Place},
};
use crate::{
    git::{
        Access, Failure, Kind, Purpose, Running, address,
        remote::{branch_head, default_branch},
    },
    run::{End, Output},
    say,
    work::{self, Checkout, LeftError, LeftOut, TakeError, What, Why},
};

/// Pauses before trying once more what may pass by itself.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Longest reason that is repeated, in characters.
const REASON: usize = 160;
/// Most files that are named.
const NAMED: usize = 3;
/// For an agent whose files can be read by itself alone.
const ANOTHER_USER: &str = "the agent's files can be read by its own user alone: runAsUser in the Agent's podSecurityContext makes both the same";

/// A checkout that is to be pushed.
pub(super) struct One<'a> {
    pub number: usize,
    pub planned: &'a PlannedCheckout,
    pub push: &'a PlannedPush,
    /// The commit that the agent began with.
    pub base: &'a str,
    /// Absolute paths of what the system put into the workspace.
    pub ours: &'a [PathBuf],
    /// Where to work.
    pub push_dir: &'a Path,
    pub bundles: &'a Bundles,
    pub running: &'a Running,
    pub stop: &'a Stop,
    pub time: Time,
}

/// Why the remote does not have it.
enum NotPushed {
    /// It did not want it.
    Refused(String),
    /// Anything else.
    Failed(String),
}

/// A push that the remote accepted.
struct Arrived {
    /// The commit that it says the branch is at.
    head: Option<String>,
    /// What is not certain of it.
    note: Option<String>,
}

/// What is to be pushed.
struct Work {
    work: work::Work,
    commit: String,
}

/// What the agent left, taken over.
struct Prepared {
    /// `None`: nothing that the remote does not have.
    work: Option<Work>,
    missing: Option<Missing>,
}

/// What is uncommitted, was to be pushed too, and will not be.
enum Missing {
    /// A part of it; after "pushed".
    Note(String),
    /// All of it.
    Loss(String),
}

impl One<'_> {
    /// Pushes it. What could not be pushed goes into the log.
    pub fn push(&self) -> PushReport {
        let report = match self.prepare() {
            Ok(Prepared {
                work: Some(work),
                missing,
            }) => self.push_work(&work, missing),
            Ok(Prepared {
                work: None,
                missing,
            }) => match missing {
                Some(Missing::Loss(why)) => self.report(PushState::Failed, None, Some(why)),
                Some(Missing::Note(note)) => self.report(PushState::Nothing, None, Some(note)),
                None => self.report(PushState::Nothing, None, None),
            },
            Err(failure) => {
                let why = format!(
                    "what the agent left cannot be read; it is only in the Pod, and goes with it: {failure}"
                );
                self.report(PushState::Failed, None, Some(why))
            }
        };
        say::line(&format!(
            "{}: {}",
            self.planned.path,
            match (&report.state, &report.message) {
                (PushState::Pushed, None) => format!("pushed to branch {}", report.branch),
                (PushState::Pushed, Some(note)) =>
                    format!("pushed to branch {}: {note}", report.branch),
                (PushState::Nothing, None) =>
                    "HEAD has nothing that the repository did not have".to_owned(),
                (PushState::Nothing, Some(note)) =>
                    format!("HEAD has nothing that the repository did not have: {note}"),
                (state, message) => format!(
                    "{state:?}: branch {}: {}",
                    report.branch,
                    message.as_deref().unwrap_or_default()
                ),
            }
        ));
        report
    }

    /// Pushes these commits.
    fn push_work(&self, work: &Work, missing: Option<Missing>) -> PushReport {
        // Before anything else: who is ended in the middle of a push keeps nothing any more.
        let bundle = self.bundle(work);
        match self.send(work) {
            Ok(Arrived { head, note }) => {
                self.bundles.arrived(self.number);
                let and = |more: String| match &note {
                    Some(note) => format!("{more}; {note}"),
                    None => more,
                };
                match missing {
                    Some(Missing::Loss(why)) => {
                        let message = and(format!("its commits were pushed, and {why}"));
                        self.report(PushState::Failed, head, Some(message))
                    }
                    Some(Missing::Note(more)) => {
                        self.report(PushState::Pushed, head, Some(and(more)))
                    }
                    None => self.report(PushState::Pushed, head, note),
                }
            }
            Err(not_pushed) => {
                let mut report = self.keep(bundle, not_pushed);
                if let (Some(message), Some(Missing::Loss(more) | Missing::Note(more))) =
                    (&mut report.message, missing)
                {
                    message.push_str("; ");
                    message.push_str(&more);
                }
                report
            }
        }
    }

    fn report(
        &self,
        state: PushState,
        head: Option<String>,
        message: Option<String>,
    ) -> PushReport {
        PushReport {
            branch: self.push.branch.clone(),
            state,
            head,
            message,
        }
    }

    /// Git without credentials and without a network.
    fn local(&self, until: Instant) -> Result<Access<'_>, Failure> {
        let mut local = Access::new(None, &address::HERE, self.running)?;
        local.until = Some(until);
        Ok(local)
    }

    /// Takes over what the agent left.
    fn prepare(&self) -> Result<Prepared, String> {
        let words = |failure: Failure| match failure.kind {
            Kind::TimedOut | Kind::TooSlow => "there was no time left".to_owned(),
            _ if self.stop.is_over() => "there was no time left".to_owned(),
            _ => shortened(&failure.to_string()),
        };
        let local = self.local(self.time.before_keeping()).map_err(words)?;
        let checkout = Checkout {
            path: Path::new(&self.planned.path),
            base: self.base,
            ours: self.ours,
        };
        let what = What {
            uncommitted: self.push.uncommitted,
            aside: false,
        };
        let work =
            work::take(&checkout, what, self.push_dir, &local).map_err(|error| match error {
                TakeError::Git(failure) => words(failure),
                TakeError::Left(LeftError::Unreadable(_)) => {
                    format!("{}; {ANOTHER_USER}", shortened(&error.to_string()))
                }
                other => shortened(&other.to_string()),
            })?;
        let missing = match work.failed.clone() {
            Some(failure) => Some(Missing::Loss(format!(
                "what is uncommitted cannot be committed; it is only in the Pod, and goes with it: {}",
                words(failure)
            ))),
            None => missing(&work.left_out, work.commit.is_some()),
        };
        let Some(commit) = work.commit.clone() else {
            return Ok(Prepared {
                work: None,
                missing,
            });
        };
        let branch = format!("refs/heads/{}", self.push.branch);
        work.own
            .git(&local, Purpose::Local, &["update-ref", &branch, &commit])
            .map_err(words)?;
        Ok(Prepared {
            work: Some(Work { work, commit }),
            missing,
        })
    }

    /// Pushes, and asks the remote what it has then. A push that broke off may have arrived: it is asked before each one.
    fn send(&self, work: &Work) -> Result<Arrived, NotPushed> {
        let failed = |failure: &Failure| {
            NotPushed::Failed(match failure.kind {
                Kind::TimedOut if Instant::now() >= self.time.before_keeping() => {
                    "there was no time left".to_owned()
                }
                _ if self.stop.is_over() => "there was no time left".to_owned(),
                _ => words(failure),
            })
        };
        let refused = |problem: &str| NotPushed::Failed(problem.to_owned());
        let repository = &self.planned.repository;
        let address = address::repository(repository).map_err(refused)?;
        address::reference(&self.push.branch).map_err(refused)?;
        let secret = self.push.secret_dir.as_deref().map(Path::new);
        let mut access =
            Access::new(secret, &address, self.running).map_err(|failure| failed(&failure))?;
        access.until = Some(self.time.before_keeping());
        let mut pauses = PAUSES.iter();
        loop {
            match self.try_once(&access, work) {
                Ok(arrived) => return Ok(arrived),
                Err(Tried::Refused(why)) => return Err(NotPushed::Refused(why)),
                Err(Tried::Failed(failure)) => {
                    if !self.may_try_again(&failure, &mut pauses) {
                        return Err(failed(&failure));
                    }
                }
            }
        }
    }

    /// Waits for the next pause, if it may help and there is time.
    fn may_try_again(&self, failure: &Failure, pauses: &mut slice::Iter<'_, Duration>) -> bool {
        let pause = pauses.next().filter(|pause| {
            failure.kind.may_pass() && Instant::now() + **pause < self.time.before_keeping()
        });
        pause.is_some_and(|pause| self.stop.pause(*pause))
    }

    fn try_once(&self, access: &Access<'_>, work: &Work) -> Result<Arrived, Tried> {
        let PlannedPush {
            branch, allow_base, ..
        } = self.push;
        let repository = &self.planned.repository;
        if !allow_base && default_branch(access, repository)?.as_ref() == Some(branch) {
            let problem = "it has become the repository's default branch".to_owned();
            return Err(Tried::Failed(Kind::Refused(problem).into()));
        }
        if branch_head(access, repository, branch)?.as_ref() == Some(&work.commit) {
            return Ok(Arrived {
                head: Some(work.commit.clone()),
                note: None,
            });
        }
        let refspec = format!("{}:refs/heads/{branch}", work.commit);
        let arguments = [
            "push",
            "--porcelain",
            "--progress",
            "--no-verify",
            "--recurse-submodules=no",
            "--",
            repository,
            &refspec,
        ];
        let output = access.run(
            &work.work.own.directory,
            Purpose::Transfer,
            arguments,
            Stdio::null(),
            &|_| {},
        )?;
        if let Some(why) = refusal(&output, access) {
            return Err(Tried::Refused(why));
        }
        access.judge(&output, Purpose::Transfer)?;
        self.confirm(access, work)
    }

    /// Asks the remote what it has, after it has said that it took it.
    fn confirm(&self, access: &Access<'_>, work: &Work) -> Result<Arrived, Tried> {
        let mut pauses = PAUSES.iter();
        loop {
            return match branch_head(access, &self.planned.repository, &self.push.branch) {
                Ok(Some(head)) => Ok(Arrived {
                    note: (head != work.commit).then(|| {
                        format!(
                            "the server accepted {}, and the branch is at another commit since",
                            work.commit.get(..10).unwrap_or(&work.commit)
                        )
                    }),
                    head: Some(head),
                }),
                Ok(None) => {
                    let problem = "the server took it, and has no such branch".to_owned();
                    Err(Tried::Failed(Kind::Refused(problem).into()))
                }
                Err(failure) if self.may_try_again(&failure, &mut pauses) => continue,
                Err(failure) => Ok(Arrived {
                    head: None,
                    note: Some(format!(
                        "the server accepted it; not confirmed, because it did not answer afterwards: {}",
                        shortened(&failure.to_string())
                    )),
                }),
            };
        }
    }

    /// Puts the commits into the log, and says where they are.
    fn keep(&self, bundle: Result<(), Failure>, not_pushed: NotPushed) -> PushReport {
        let (state, why) = match not_pushed {
            NotPushed::Refused(why) => (PushState::Refused, why),
            NotPushed::Failed(why) => (PushState::Failed, why),
        };
        let place = match bundle {
            Ok(()) => self.bundles.print(self.number),
            Err(failure) => Place::Nowhere(shortened(&failure.to_string())),
        };
        let message = format!("{}; {place}", shortened(&why));
        self.report(state, None, Some(message))
    }

    /// Puts the commits into a bundle.
    fn bundle(&self, work: &Work) -> Result<(), Failure> {
        let own = &work.work.own;
        let file = own.directory.join("bundle");
        let branch = format!("refs/heads/{}", self.push.branch);
        let not = own.boundary.as_ref().map(|known| format!("^{known}"));
        let path = file.to_string_lossy();
        let mut create = vec!["bundle", "create", "-q", path.as_ref(), branch.as_str()];
        create.extend(not.as_deref());
        let local = self.local(self.time.until)?;
        own.git(&local, Purpose::Local, &create)?;
        self.bundles.add(self.number, &self.planned.path, file);
        Ok(())
    }
}

/// What cannot be taken of what is uncommitted. `others`: whether there is something else to push.
fn missing(left_out: &[LeftOut], others: bool) -> Option<Missing> {
    let names = |why: Why| {
        let of_it = left_out.iter().filter(|left_out| left_out.why == why);
        let names: Vec<String> = of_it.map(|left_out| plain(&left_out.path)).collect();
        match names.len().saturating_sub(NAMED) {
            0 => (!names.is_empty()).then(|| names.join(", ")),
            more => Some(format!("{} and {more} more", names[..NAMED].join(", "))),
        }
    };
    let user = rustix::process::geteuid().as_raw();
    let unreadable = names(Why::Unreadable);
    if let (Some(names), false) = (&unreadable, others) {
        return Some(Missing::Loss(format!(
            "user {user} cannot read {names}; it is only in the Pod, and goes with it"
        )));
    }
    let unreadable =
        unreadable.map(|names| format!("without {names}, which user {user} cannot read"));
    let repositories = names(Why::Repository)
        .map(|names| format!("without {names}, where there is another repository"));
    let trees =
        names(Why::WorkingTrees).map(|_| "without what is in other working trees of it".to_owned());
    let notes: Vec<String> = [unreadable, repositories, trees]
        .into_iter()
        .flatten()
        .collect();
    (!notes.is_empty()).then(|| Missing::Note(notes.join("; ")))
}

/// A name that an agent gave, on one line and not too long.
fn plain(path: &Path) -> String {
    let name = path.display().to_string();
    let name = name.trim_end_matches('/');
    shortened(&name.replace(char::is_control, "?"))
}

/// Why an attempt did not succeed.
enum Tried {
    Refused(String),
    Failed(Failure),
}

impl From<Failure> for Tried {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Why the remote did not take it, out of what `git push --porcelain` says of each ref, a line beginning with `!`:
/// source and target, and `[rejected] (fetch first)`. `None`: it does not say that.
fn refusal(output: &Output, access: &Access<'_>) -> Option<String> {
    let End::Exited(status) = output.end else {
        return None;
    };
    if status.success() || status.signal().is_some() {
        return None;
    }
    let text = access.scrub.clean(&String::from_utf8_lossy(&output.stdout));
    let summary = text
        .lines()
        .find_map(|line| line.strip_prefix("!\t")?.split('\t').nth(1))?;
    if summary.starts_with("[rejected]") {
        let why = "the branch is at another commit than the agent began with, and nothing is pushed over it";
        return Some(why.to_owned());
    }
    let reason = summary
        .split_once('(')
        .map_or(summary, |(_, reason)| reason.trim_end_matches(')'));
    let said = access.scrub.clean(&String::from_utf8_lossy(&output.stderr));
    let told: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("remote: "))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let told = told
        .iter()
        .find(|line| line.to_ascii_lowercase().contains("error"))
        .or(told.last());
    Some(match told {
        Some(told) => format!("the server does not take it: {reason}: {told}"),
        None => format!("the server does not take it: {reason}"),
    })
}

/// The failure in words that fit a push.
fn words(failure: &Failure) -> String {
    match failure.kind {
        Kind::Authentication => {
            "authentication failed: check the Secret named in git.push.secretRef (or git.secretRef), and that it may write".to_owned()
        }
        Kind::CredentialsNeeded => {
            "the server asks for credentials: name a Secret in git.push.secretRef".to_owned()
        }
        Kind::NotFound => "the repository was not found, or these credentials may not write to it".to_owned(),
        _ => failure.to_string(),
    }
}

/// One line, of bounded length.
fn shortened(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    if line.chars().count() <= REASON {
        return line;
    }
    let mut short: String = line.chars().take(REASON).collect();
    short.push('…');
    short
}
