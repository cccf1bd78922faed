//! `git-push`: pushes what the agent committed, when it has ended. It runs beside the agent's container, and alone has
//! the credentials that may write.
//!
//! In: the plans in the context directory, the records of `git-init`, the checkouts as the agent left them, and one
//! [`PushRequest`] of `supervise`. Out: branches on the remotes, one [`PushAnswer`] for each checkout that asks for a push,
//! and what could not be pushed as a [bundle](bundles) in the log.
//!
//! Nothing that the agent wrote is run or believed. Who asks is settled before there is an agent: the first to connect is
//! `supervise`, and there is no second. What is pushed and where to is in the plan. The checkout is
//! never entered by a git that would read its configuration; see [`work`](crate::work).

mod bundles;
mod one;

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kubeopencode_engine::handover::{
    CHECKOUTS_FILE, CONTEXT_DIR, CONTEXT_PLAN, CREDENTIALS_PLAN, CheckoutRecord, ContextPlan,
    CredentialsPlan, GIT_PLAN, GREETING, GitPlan, PUSH_DIR, PUSH_SOCKET, PushAnswer, PushRequest,
    TOOLS_DIR,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use self::{bundles::Bundles, one::One};
use crate::{
    context_init::{ContextError, file_name, read_plan},
    git::Running,
    run::timespec,
    say,
};

/// Below the shared directory: says that `supervise` has been here. Who comes after that is somebody else, also when this
/// program was started again.
const SERVED: &str = "served";
/// A request is shorter than this.
const REQUEST: u64 = 4096;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The plans.
    pub context_dir: PathBuf,
    /// The records of `git-init`.
    pub tools_dir: PathBuf,
    /// Shared with the agent's container, which sees it read-only.
    pub push_dir: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            context_dir: CONTEXT_DIR.into(),
            tools_dir: TOOLS_DIR.into(),
            push_dir: PUSH_DIR.into(),
        }
    }
}

/// Why nobody can be served.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Plan(#[from] ContextError),
    #[error("cannot read what git-init recorded: {0}")]
    Records(io::Error),
    #[error("cannot listen at {path}: {source}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot talk to supervise: {0}")]
    Talk(#[from] io::Error),
}

/// The program: serves once, and stays until it is told to end, as a sidecar does.
pub(crate) fn main(places: &Places) -> u8 {
    let running = Running::default();
    let prepared =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).and_then(|signals| Ok((signals, Stop::new()?)));
    let (mut signals, (end, stop)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            say::line(&format!("git-push: cannot listen for signals: {error}"));
            return 1;
        }
    };
    std::thread::scope(|scope| {
        let (running, stop) = (&running, &stop);
        scope.spawn(move || {
            if let Err(error) = serve(places, running, stop) {
                say::line(&format!("git-push: {error}"));
            }
        });
        signals.forever().next();
        drop(end);
        running.end();
    });
    0
}

/// Can be waited for together with other things: the end of this program.
struct Stop(UnixStream);

impl Stop {
    /// The end has come when the first of these is dropped.
    fn new() -> io::Result<(UnixStream, Self)> {
        let (end, stop) = UnixStream::pair()?;
        Ok((end, Self(stop)))
    }

    /// Waits until there is something to read, this long at most. False: there is not, or the end has come.
    fn wait_for(&self, other: BorrowedFd<'_>, longest: Option<&Timespec>) -> io::Result<bool> {
        let mut watched = [
            PollFd::new(&other, PollFlags::IN),
            PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
        ];
        loop {
            match poll(&mut watched, longest) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    return Ok(watched[1].revents().is_empty() && !watched[0].revents().is_empty());
                }
            }
        }
    }

    /// Waits for this long. False: the end has come.
    fn pause(&self, pause: Duration) -> bool {
        let mut watched = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        matches!(poll(&mut watched, timespec(pause).as_ref()), Ok(0))
    }
}

/// One connection, one request, one answer.
fn serve(places: &Places, running: &Running, stop: &Stop) -> Result<(), ServeError> {
    let Some(mut supervise) = accept(&places.push_dir, stop)? else {
        return Ok(());
    };
    let Some(request) = request(&mut supervise, stop)? else {
        say::line("git-push: the agent was not started, or did not end: nothing is pushed");
        return Ok(());
    };
    let now = Instant::now();
    let within = Duration::from_millis(request.within_millis);
    let time = Time {
        began: now,
        // Too far to be a point in time is no limit that anybody waits for.
        until: now.checked_add(within).unwrap_or(now),
    };
    let answers = push_all(places, running, stop, time)?;
    let mut line = serde_json::to_vec(&answers).map_err(io::Error::from)?;
    line.push(b'\n');
    supervise.write_all(&line)?;
    Ok(())
}

/// The first one to connect. The name goes away with it, so there is no second. `None`: told to end before that.
fn accept(directory: &Path, stop: &Stop) -> Result<Option<UnixStream>, ServeError> {
    let served = directory.join(SERVED);
    if served.exists() {
        say::line("git-push: it was started again, and pushes nothing");
        return Ok(None);
    }
    let path = directory.join(file_name(PUSH_SOCKET));
    let failed = |source| ServeError::Listen {
        path: path.clone(),
        source,
    };
    // Under its name only when it listens.
    let new = directory.join(".socket");
    for left in [&new, &path] {
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    // Which user the agent is, is its image's business.
    fs::set_permissions(&new, fs::Permissions::from_mode(0o666))
        .and_then(|()| fs::rename(&new, &path))
        .map_err(failed)?;
    if !stop.wait_for(listener.as_fd(), None)? {
        return Ok(None);
    }
    let (mut supervise, _) = listener.accept()?;
    fs::write(&served, "")
        .and_then(|()| fs::remove_file(&path))
        .map_err(failed)?;
    // It starts the agent only now, which so never sees the name.
    supervise.write_all(GREETING)?;
    Ok(Some(supervise))
}

/// What `supervise` wants. `None`: it went away without a word, or this program was told to end.
fn request(supervise: &mut UnixStream, stop: &Stop) -> Result<Option<PushRequest>, ServeError> {
    if !stop.wait_for(supervise.as_fd(), None)? {
        return Ok(None);
    }
    let mut line = Vec::new();
    BufReader::new(supervise.take(REQUEST)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line).ok())
}

/// How long everything may take.
#[derive(Debug, Clone, Copy)]
struct Time {
    began: Instant,
    until: Instant,
}

impl Time {
    /// Until when a push may go on: a bundle that took its time is still to be finished, and the answer to get there.
    fn before_keeping(self) -> Instant {
        let whole = self.until.duration_since(self.began);
        self.began + whole.saturating_sub((whole / 4).min(Duration::from_secs(5)))
    }
}

/// Pushes all checkouts of the plan that ask for it, at the same time.
fn push_all(
    places: &Places,
    running: &Running,
    stop: &Stop,
    time: Time,
) -> Result<Vec<PushAnswer>, ServeError> {
    let plan = |name| places.context_dir.join(name);
    let GitPlan { checkouts } =
        read_plan(&plan(GIT_PLAN))?.unwrap_or(GitPlan { checkouts: vec![] });
    let records = places.tools_dir.join(file_name(CHECKOUTS_FILE));
    let records: Vec<CheckoutRecord> = fs::read(records)
        .and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from))
        .map_err(ServeError::Records)?;
    let files: Option<ContextPlan> = read_plan(&plan(CONTEXT_PLAN))?;
    let credentials: Option<CredentialsPlan> = read_plan(&plan(CREDENTIALS_PLAN))?;
    let files = files.into_iter().flat_map(|plan| plan.files);
    let credentials = credentials.into_iter().flat_map(|plan| plan.credentials);
    let ours: Vec<PathBuf> = files
        .map(|file| file.path)
        .chain(credentials.map(|credential| credential.path))
        .chain(checkouts.iter().map(|checkout| checkout.path.clone()))
        .map(PathBuf::from)
        .collect();
    let bundles = Bundles::new();
    let answers = std::thread::scope(|scope| {
        let threads: Vec<_> = checkouts
            .iter()
            .enumerate()
            .filter_map(|(number, planned)| {
                let push = planned.push.as_ref()?;
                let record = records.iter().find(|record| record.path == planned.path)?;
                let one = One {
                    number,
                    planned,
                    push,
                    base: &record.base,
                    ours: &ours,
                    push_dir: &places.push_dir,
                    bundles: &bundles,
                    running,
                    stop,
                    time,
                };
                Some(scope.spawn(move || PushAnswer {
                    path: planned.path.clone(),
                    pushed: one.push(),
                }))
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    Ok(answers)
}
