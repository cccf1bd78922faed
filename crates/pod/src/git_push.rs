//! `git-push`: pushes what the agent committed, when it has ended. It runs beside the agent's container, and alone has
//! the credentials that may write.
//!
//! In: the plans in the context directory, the records of `git-init`, the checkouts as the agent left them, and one
//! [`PushRequest`] of `supervise`. Out: branches on the remotes, one [`PushAnswer`] for each checkout that asks for a push,
//! and what could not be pushed as a [bundle](bundles) in the log.
//!
//! Nothing that the agent wrote is run or believed. Where `supervise` was killed, and all of its container with it, nobody
//! asks, and it is pushed all the same; see [`serve`]. Who asks is settled before there is an agent: the first to connect is
//! `supervise`, and there is no second. What is pushed and where to is in the plan. The checkout is
//! never entered by a git that would read its configuration; see [`work`](crate::work).

mod bundles;
mod one;

use std::{
    fs,
    io::{self, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use kubeopencode_engine::handover::{
    CHECKOUTS_FILE, CONTEXT_DIR, CONTEXT_PLAN, CREDENTIALS_PLAN, CheckoutRecord, ContextPlan,
    CredentialsPlan, GIT_PLAN, GREETING, GitPlan, PUSH_DIR, PUSH_SOCKET, PushAnswer, PushRequest,
    TOOLS_DIR,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use self::{bundles::Bundles, one::One};
use crate::{
    context_init::{ContextError, file_name, read_plan},
    git::Running,
    once,
    run::timespec,
    say,
};

/// Below the shared directory: says that `supervise` has been here. Who comes after that is somebody else, also when this
/// program was started again.
const SERVED: &str = "served";
/// A request is shorter than this.
const REQUEST: usize = 4096;
/// How long everything may take where nobody waits for an answer and nobody has said that it is to end.
const UNHEARD: Duration = Duration::from_mins(10);
/// How long what has not arrived is not in the log yet, once this program was told to end: a kubelet kills it after two
/// seconds at the earliest.
const SOON: Duration = Duration::from_secs(1);
/// How long before the end of the grace period it is over.
const MARGIN: Duration = Duration::from_secs(2);

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

/// The program: serves once, and stays until it is told to end, as a sidecar does. `grace` is the Pod's.
pub(crate) fn main(places: &Places, grace: Duration) -> u8 {
    let (running, bundles) = (Running::default(), Bundles::new());
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
        let (running, bundles, stop) = (&running, &bundles, &stop);
        let (busy, done) = mpsc::channel::<()>();
        scope.spawn(move || {
            if let Err(error) = serve(places, running, bundles, stop) {
                say::line(&format!("git-push: {error}"));
            }
            drop(busy);
        });
        signals.forever().next();
        let End { told, over } = end;
        drop(told);
        // A kubelet tells a sidecar when the agent's container has ended, and leaves it what the agent has left of the
        // Pod's grace period, two seconds at least. How much that is nobody says.
        let is_busy = |wait| done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout);
        let rest = grace.saturating_sub((grace / 4).min(MARGIN));
        let soon = rest.min(SOON);
        if is_busy(soon) {
            bundles.print_all();
            is_busy(rest.saturating_sub(soon));
        }
        drop(over);
        running.end();
    });
    0
}

/// The ends of this program, each of which has come when it is dropped.
struct End {
    /// Somebody told it to end: it begins nothing any more, and goes on with what it does.
    told: UnixStream,
    /// There is no time for that any more.
    over: UnixStream,
}

/// Can be waited for together with other things: the ends of this program.
struct Stop {
    told: UnixStream,
    over: UnixStream,
}

impl Stop {
    fn new() -> io::Result<(End, Self)> {
        let (told, is_told) = UnixStream::pair()?;
        let (over, is_over) = UnixStream::pair()?;
        let stop = Self {
            told: is_told,
            over: is_over,
        };
        Ok((End { told, over }, stop))
    }

    /// Waits until there is something to read. False: there is not, and it was told to end.
    fn wait_for(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        first_of(other, &self.told)
    }

    /// The same, until there is no time any more.
    fn wait_long_for(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        first_of(other, &self.over)
    }

    /// Waits for this long. False: there is no time for that.
    fn pause(&self, pause: Duration) -> bool {
        let mut watched = [PollFd::from_borrowed_fd(self.over.as_fd(), PollFlags::IN)];
        matches!(poll(&mut watched, timespec(pause).as_ref()), Ok(0))
    }

    /// Whether there is no time any more.
    fn is_over(&self) -> bool {
        !self.pause(Duration::ZERO)
    }
}

/// Waits for either. Whether it is the first.
fn first_of(one: BorrowedFd<'_>, other: &UnixStream) -> io::Result<bool> {
    let mut watched = [one, other.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(!watched[0].revents().is_empty()),
        }
    }
}

/// One connection, one request, one answer.
///
/// A container that needs more memory than its limit is killed with all its processes (`memory.oom.group`, which a kubelet
/// sets on cgroup v2): `supervise` is gone without a word, and what the agent committed is still to be pushed. The end of the
/// connection alone does not say that nobody changes any more what is read: the kernel closes a dying process's files first,
/// and kills the others of its PID namespace after that. So `supervise` hands over a descriptor of process 1 of that
/// namespace, before there is an agent. It tells the end of that process only when all others of the namespace, whoever
/// started them, have been killed and reaped (`zap_pid_ns_processes` in the kernel's `kernel/pid_namespace.c`), and a signal
/// from within the namespace does not kill it. So an agent that kills `supervise` where that is not process 1, or makes it
/// close the connection, brings nothing about but the end of everything that it is.
fn serve(
    places: &Places,
    running: &Running,
    bundles: &Bundles,
    stop: &Stop,
) -> Result<(), ServeError> {
    let Some(mut supervise) = accept(&places.push_dir, stop)? else {
        return Ok(());
    };
    let has_begun = || once::check(&places.tools_dir).is_err();
    let (within, hears) = match hear(&supervise, stop, has_begun)? {
        Heard::Request(Some(request)) => (Duration::from_millis(request.within_millis), true),
        Heard::End(Some(first)) if has_begun() && stop.wait_long_for(first.as_fd())? => {
            say::line(
                "git-push: supervise was killed, and everything in its container with it: what the agent left is pushed",
            );
            (UNHEARD, false)
        }
        Heard::End(_) if has_begun() => {
            say::line(
                "git-push: supervise was killed, and a process of the agent may be left: nothing is pushed",
            );
            return Ok(());
        }
        Heard::Request(None) | Heard::End(_) => {
            say::line("git-push: the agent was not started, or did not end: nothing is pushed");
            return Ok(());
        }
        Heard::Nothing => {
            say::line("git-push: told to end before supervise has asked: nothing is pushed");
            return Ok(());
        }
    };
    let now = Instant::now();
    let time = Time {
        began: now,
        // Too far to be a point in time is no limit that anybody waits for.
        until: now.checked_add(within).unwrap_or(now),
    };
    let answers = push_all(places, running, bundles, stop, time)?;
    if !hears {
        return Ok(());
    }
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
    if !stop.wait_for(listener.as_fd())? {
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

/// What came from `supervise`.
enum Heard {
    /// A line: what it wants; `None`: that nothing is pushed.
    Request(Option<PushRequest>),
    /// It went away without a word. With process 1 of its PID namespace, if it told.
    End(Option<OwnedFd>),
    /// This program was told to end before there was a word.
    Nothing,
}

/// What `supervise` wants. Where the agent has begun, a word is waited for also when this program was told to end: then
/// `supervise` is about to be killed.
fn hear(supervise: &UnixStream, stop: &Stop, has_begun: impl Fn() -> bool) -> io::Result<Heard> {
    let (mut said, mut first) = (Vec::new(), None);
    loop {
        let fd = supervise.as_fd();
        let is_there = stop.wait_for(fd)? || (has_begun() && stop.wait_long_for(fd)?);
        if !is_there {
            return Ok(Heard::Nothing);
        }
        let mut piece = [0; 512];
        let (length, descriptor) = receive(fd, &mut piece)?;
        first = first.or(descriptor);
        if length == 0 {
            return Ok(Heard::End(first));
        }
        said.extend_from_slice(&piece[..length]);
        if said.starts_with(GREETING) {
            said.remove(0);
        }
        if let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            let request = serde_json::from_slice(&said[..end]);
            return Ok(Heard::Request(request.unwrap_or_default()));
        }
        if said.len() > REQUEST {
            return Ok(Heard::Request(None));
        }
    }
}

/// The next bytes, and a descriptor that came with them. No bytes: nobody is there any more.
fn receive(from: BorrowedFd<'_>, piece: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(piece)];
    let length = match recvmsg(from, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC) {
        Ok(received) => received.bytes,
        // It was killed before it had read everything.
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((length, descriptors.last()))
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
    bundles: &Bundles,
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
                    bundles,
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
