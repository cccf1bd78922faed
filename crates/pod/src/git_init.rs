//! `git-init`: clones the repositories of a Task, all at the same time.
//!
//! In: the [`GitPlan`] in the context directory, and the Secrets that it names. Out: the checkouts; a
//! [`CheckoutRecord`] of each for `supervise`; a git configuration for the agent. Progress on standard error, each line
//! after the path that it is about; the last lines say what failed, because Kubernetes shows the end of the log.
//!
//! Everything it makes may be written by everyone in the Pod: which user the agent will be is the image's business, and
//! the volumes are the Pod's alone.

mod checkout;
mod sub_path;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI32, Ordering},
    time::Instant,
};

use kubeopencode_engine::handover::{
    CHECKOUTS_FILE, CONTEXT_DIR, CheckoutRecord, GIT_CONFIG, GIT_PLAN, GitPlan, MAY_PASS,
    PlannedCheckout, TOOLS_DIR,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

pub use crate::git::{Failure, Kind};
use crate::{
    context_init::{ContextError, read_plan},
    git::{Running, quoted},
    may_pass, say,
};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The plan.
    pub context_dir: PathBuf,
    /// Where the records and the configuration for the agent go, and where repositories of which only a part is wanted
    /// are for a while.
    pub tools_dir: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            context_dir: CONTEXT_DIR.into(),
            tools_dir: TOOLS_DIR.into(),
        }
    }
}

/// Why not everything is there.
#[derive(Debug, thiserror::Error)]
pub enum GitInitError {
    /// The plan cannot be read.
    #[error(transparent)]
    Plan(#[from] ContextError),
    /// Some repositories could not be checked out: path and reason of each.
    #[error("{}", .0.iter().map(|(path, failure)| format!("{path}: {failure}")).collect::<Vec<_>>().join("\n"))]
    Checkouts(Vec<(String, Failure)>),
    /// What the others need to know cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GitInitError {
    /// One that does not pass by itself is enough: the next attempt would fail in the same way.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Checkouts(failures) => {
                let passes = failures.iter().all(|(_, failure)| failure.kind.may_pass());
                if passes { MAY_PASS } else { 1 }
            }
            Self::Plan(_) | Self::Write { .. } => may_pass::exit_code(self),
        }
    }
}

/// The program: [`git_init`] with its error on standard error and in the exit code, ended early by a signal.
pub(crate) fn main(places: &Places) -> u8 {
    rustix::process::umask(rustix::fs::Mode::empty());
    let running = Running::default();
    let by_signal = AtomicI32::new(0);
    let result = std::thread::scope(|scope| {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]);
        let handle = signals.as_ref().ok().map(Signals::handle);
        if let Ok(mut signals) = signals {
            let (running, by_signal) = (&running, &by_signal);
            scope.spawn(move || {
                for signal in signals.forever() {
                    by_signal.store(signal, Ordering::Relaxed);
                    running.end();
                }
            });
        }
        let result = git_init_while(places, &running);
        if let Some(handle) = handle {
            handle.close();
        }
        result
    });
    let signal = by_signal.load(Ordering::Relaxed);
    match result {
        Ok(()) => 0,
        Err(_) if signal != 0 => {
            say::line("git-init: ended by a signal");
            u8::try_from(128 + signal).unwrap_or(1)
        }
        Err(error) => {
            for line in error.to_string().lines() {
                say::line(&format!("git-init: {line}"));
            }
            error.exit_code()
        }
    }
}

/// Clones everything in the plan. What can be cloned is, also when something else fails. The umask decides who may
/// write to the checkouts.
pub fn git_init(places: &Places) -> Result<(), GitInitError> {
    git_init_while(places, &Running::default())
}

fn git_init_while(places: &Places, running: &Running) -> Result<(), GitInitError> {
    let plan = places.context_dir.join(GIT_PLAN);
    let Some(GitPlan { checkouts }) = read_plan(&plan)? else {
        return Ok(());
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = nests(&checkouts)
            .into_iter()
            .map(|nest| {
                let tools_dir = &places.tools_dir;
                scope.spawn(move || one_after_the_other(&nest, tools_dir, running))
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    });
    let mut records = Vec::new();
    let mut failures = Vec::new();
    for planned in &checkouts {
        match outcomes.iter().find(|(path, _)| *path == planned.path) {
            Some((_, Ok(record))) => records.extend(record.clone()),
            Some((path, Err(failure))) => failures.push((path.clone(), failure.clone())),
            None => failures.push((planned.path.clone(), Kind::Other.into())),
        }
    }
    leave_records(&places.tools_dir, &records)?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(GitInitError::Checkouts(failures))
    }
}

/// Checkouts inside of other checkouts come after them; everything else is independent.
fn nests(checkouts: &[PlannedCheckout]) -> Vec<Vec<&PlannedCheckout>> {
    let mut sorted: Vec<_> = checkouts.iter().collect();
    sorted.sort_by(|one, other| Path::new(&one.path).cmp(Path::new(&other.path)));
    let mut nests: Vec<Vec<&PlannedCheckout>> = Vec::new();
    for checkout in sorted {
        match nests.last_mut() {
            Some(nest) if Path::new(&checkout.path).starts_with(&nest[0].path) => {
                nest.push(checkout);
            }
            _ => nests.push(vec![checkout]),
        }
    }
    nests
}

type Outcome = (String, Result<Option<CheckoutRecord>, Failure>);

fn one_after_the_other(
    nest: &[&PlannedCheckout],
    tools_dir: &Path,
    running: &Running,
) -> Vec<Outcome> {
    let mut enclosing: Vec<PathBuf> = Vec::new();
    let mut outcomes = Vec::new();
    for planned in nest {
        let began = Instant::now();
        let tell = |text: &str| say::line(&format!("{}: {text}", planned.path));
        let outcome = checkout::check_out(planned, &enclosing, tools_dir, running, &tell);
        if outcome.is_ok() {
            tell(&format!("done in {:.1} s", began.elapsed().as_secs_f64()));
        }
        outcomes.push((planned.path.clone(), outcome));
        enclosing.push(planned.path.clone().into());
    }
    outcomes
}

/// Tells `supervise` and the agent's git about the checkouts.
fn leave_records(tools_dir: &Path, records: &[CheckoutRecord]) -> Result<(), GitInitError> {
    let write = |file: &str, content: &[u8]| {
        let path = tools_dir.join(file.rsplit('/').next().unwrap_or(file));
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
            .map_err(|source| GitInitError::Write { path, source })
    };
    let json = serde_json::to_vec_pretty(records).map_err(|error| GitInitError::Write {
        path: CHECKOUTS_FILE.into(),
        source: error.into(),
    })?;
    write(CHECKOUTS_FILE, &json)?;
    write(GIT_CONFIG, agent_config(records).as_bytes())
}

/// The agent may be another user than the one who cloned, and has to be somebody to commit. Its own settings, in the
/// environment or the repository, come before these, and so does what the image says.
fn agent_config(records: &[CheckoutRecord]) -> String {
    use std::fmt::Write as _;
    let mut config = String::from(
        "[user]\n\tname = KubeOpenCode\n\temail = agent@kubeopencode.invalid\n\
         [init]\n\tdefaultBranch = main\n\
         [advice]\n\tdetachedHead = false\n\
         [include]\n\tpath = /etc/gitconfig\n\
         [safe]\n",
    );
    for record in records {
        // A submodule is a repository of its own.
        let path = &record.path;
        let _ = writeln!(config, "\tdirectory = {}", quoted(path));
        for module in submodules(Path::new(path)) {
            let module = module.to_string_lossy();
            let _ = writeln!(config, "\tdirectory = {}", quoted(&module));
        }
    }
    config
}

/// Where the submodules of a checkout are, also those of submodules: wherever a `.git` file is that points into it.
fn submodules(checkout: &Path) -> Vec<PathBuf> {
    fn below(modules: &Path, checkout: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(modules).into_iter().flatten().flatten() {
            let git_dir = entry.path();
            if git_dir.join("HEAD").is_file() {
                let worktree = fs::read_to_string(git_dir.join("config"))
                    .ok()
                    .and_then(|config| {
                        let line = config.lines().find_map(|line| {
                            line.trim().strip_prefix("worktree = ").map(str::to_owned)
                        })?;
                        git_dir.join(line).canonicalize().ok()
                    })
                    .filter(|worktree| worktree.starts_with(checkout));
                found.extend(worktree);
                below(&git_dir.join("modules"), checkout, found);
            } else if git_dir.is_dir() {
                below(&git_dir, checkout, found);
            }
        }
    }
    let mut found = Vec::new();
    let checkout = checkout.canonicalize().unwrap_or_else(|_| checkout.into());
    below(&checkout.join(".git/modules"), &checkout, &mut found);
    found.sort();
    found
}
