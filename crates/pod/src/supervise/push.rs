//! Asking `git-push` to push what the agent committed, and waiting for its answer.
//!
//! The connection is made before there is an agent, and `git-push` takes no second one, which it says; the agent does not
//! inherit it, and cannot reach into this process. So nobody else asks, and nobody else hears the answer. Where this process
//! ends without a word, `git-push` waits for the end of the container's process 1, of which it gets a descriptor here.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use kubeopencode_engine::handover::{
    CheckoutRecord, CheckoutReport, GREETING, PushAnswer, PushReport, PushRequest, PushState,
};
use nix::sys::{prctl, signal::Signal};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    Settings,
    watch::{ENDING, Watch},
};
use crate::run::timespec;

/// How long `git-push` may take to listen: its container has been started before this one.
const LISTENS: Duration = Duration::from_mins(1);
/// How long it may take to answer when nobody is waiting to kill this process.
const ANSWERS: Duration = Duration::from_mins(10);
/// An answer is shorter than this.
const ANSWER: u64 = 1024 * 1024;

/// A connection to `git-push`.
pub(super) struct GitPush(UnixStream);

/// Connects, as soon as it listens. Ends early when there is a signal to look at.
pub(super) fn connect(socket: &Path, signals: BorrowedFd<'_>) -> io::Result<GitPush> {
    // From here on, with neither a core file nor a way for the agent to look into this process, or to take its files.
    prctl::set_dumpable(false)?;
    let by = Instant::now() + LISTENS;
    if let Ok(stream) = UnixStream::connect(socket) {
        return greeted(stream, signals, by);
    }
    let notes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let directory = socket.parent().unwrap_or(socket);
    let flags = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
    inotify::add_watch(&notes, directory, flags)?;
    loop {
        // It has its name only when it listens.
        let error = match UnixStream::connect(socket) {
            Ok(stream) => return greeted(stream, signals, by),
            Err(error) => error,
        };
        if !is_ready(notes.as_fd(), signals, by)? {
            return Err(error);
        }
        let mut read = [0; 4096];
        let _ = rustix::io::read(&notes, &mut read);
    }
}

/// Waits until `git-push` says that nobody else can connect.
fn greeted(mut stream: UnixStream, signals: BorrowedFd<'_>, by: Instant) -> io::Result<GitPush> {
    if !is_ready(stream.as_fd(), signals, by)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.read_exact(&mut [0; GREETING.len()])?;
    match pidfd_open(Pid::INIT, PidfdFlags::empty()) {
        Ok(first) => greet(&stream, &first)?,
        // An old kernel, or a sandbox that does not have it. It is needed only if this process is killed.
        Err(_) => stream.write_all(GREETING)?,
    }
    Ok(GitPush(stream))
}

/// Answers the greeting, with a descriptor of process 1.
fn greet(stream: &UnixStream, first: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [first.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let greeting = [IoSlice::new(GREETING)];
    sendmsg(stream, &greeting, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Whether there is something to read until then. An error when there is a signal to look at.
fn is_ready(fd: BorrowedFd<'_>, signals: BorrowedFd<'_>, by: Instant) -> io::Result<bool> {
    loop {
        let rest = by.saturating_duration_since(Instant::now());
        let mut watched =
            [fd, signals].map(|watched| PollFd::from_borrowed_fd(watched, PollFlags::IN));
        match poll(&mut watched, timespec(rest).as_ref()) {
            Ok(0) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) if !watched[1].revents().is_empty() => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(_) => return Ok(true),
        }
    }
}

/// What became of the commits.
pub(super) struct Pushed {
    answers: Vec<PushAnswer>,
    /// Why there is no answer about the others.
    otherwise: String,
}

impl Pushed {
    /// Nobody was asked, for this reason.
    pub fn nothing(why: &str) -> Self {
        Self {
            answers: Vec::new(),
            otherwise: format!("{why}; it is only in the Pod, and goes with it"),
        }
    }

    /// Enters it into the reports.
    pub fn enter(&self, records: &[CheckoutRecord], reports: &mut [CheckoutReport]) {
        for report in reports {
            let of_it = |record: &&CheckoutRecord| record.path == report.path;
            let record = records.iter().find(of_it);
            let Some(branch) = record.and_then(|record| record.push.clone()) else {
                continue;
            };
            let answer = self
                .answers
                .iter()
                .find(|answer| answer.path == report.path);
            report.pushed = Some(answer.map_or_else(
                || PushReport {
                    branch,
                    state: PushState::Failed,
                    head: None,
                    message: Some(self.otherwise.clone()),
                },
                |answer| answer.pushed.clone(),
            ));
        }
    }
}

impl GitPush {
    /// Says that nothing is to be pushed. Without a word it would push once this process and all others have ended.
    pub fn refuse(mut self) {
        // Who is gone pushes nothing either.
        let _ = self.0.write_all(b"null\n");
    }

    /// Asks for the push. Call it when the agent and all its processes have ended, so that nobody changes what is read. A
    /// signal from outside that means "end" leaves what is left of the grace.
    pub fn push(mut self, watch: &mut Watch, settings: &Settings) -> Pushed {
        let (answers, otherwise) = match self.ask(watch, settings) {
            Ok(answers) => (answers, "git-push gave no answer about it".to_owned()),
            Err(error) => (
                Vec::new(),
                match error.kind() {
                    io::ErrorKind::TimedOut => {
                        "there was no answer in time; it may have arrived all the same".to_owned()
                    }
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset => {
                        "git-push ended before it had answered".to_owned()
                    }
                    _ => format!("git-push cannot be asked: {error}"),
                },
            ),
        };
        // It may have got as far as a bundle.
        let otherwise = format!(
            "{otherwise}; if it is not in the log of the Pod's container git-push, it is only in the Pod, and goes with it"
        );
        Pushed { answers, otherwise }
    }

    fn ask(&mut self, watch: &mut Watch, settings: &Settings) -> io::Result<Vec<PushAnswer>> {
        let began = Instant::now();
        let until = |watch: &Watch| {
            let by_grace = watch.told_to_end.map(|told| told + settings.asking());
            by_grace.map_or(began + ANSWERS, |by| by.min(began + ANSWERS))
        };
        // Its answer has to get here too.
        let within = until(watch).saturating_duration_since(began);
        let within = within.saturating_sub((within / 10).min(Duration::from_secs(1)));
        let mut line = serde_json::to_vec(&PushRequest {
            within_millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        })?;
        line.push(b'\n');
        self.0.write_all(&line)?;
        loop {
            let rest = until(watch).saturating_duration_since(Instant::now());
            let mut watched = [
                PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
                PollFd::new(watch.signals.get_read(), PollFlags::IN),
            ];
            match poll(&mut watched, timespec(rest).as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if !watched[0].revents().is_empty() => break,
                Ok(_) => {}
            }
            for signal in watch.signals.pending() {
                if Signal::try_from(signal).is_ok_and(|signal| ENDING.contains(&signal)) {
                    watch.told_to_end.get_or_insert_with(Instant::now);
                }
            }
        }
        // It writes all of it at once, and has nothing to wait for.
        self.0.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut answer = Vec::new();
        BufReader::new((&self.0).take(ANSWER)).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}
