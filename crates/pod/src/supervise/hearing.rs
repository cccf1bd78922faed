//! What the agent tells of its work: its standard output is read on its way through, and comes out as it was.
//!
//! A thread takes the bytes from a pipe and writes them to our own standard output before anything else is done with them.
//! What holds them up further on holds the agent up, as it would without us. The thread holds one piece of the stream, and
//! of events one line at a time.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Instant,
};

use kubeopencode_agents::{
    Dollars, Ended, Event, Facts, Failure, FailureClass, Half, Profile, Reader,
};
use kubeopencode_engine::handover::{
    AgentReport, FailureReport, Limits, Passed, UNKNOWN, UsageReport,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// How much is taken from the pipe at once.
const PIECE: usize = 64 * 1024;
/// Where an agent stands that told nothing at all.
const SILENT: &str = "before it told anything of its work";
/// How much the pipe holds: all that Linux lets anybody ask for.
const ROOM: usize = 1 << 20;

/// An agent that is listened to.
pub(super) struct Hearing {
    profile: &'static Profile,
    /// Whether its command asks for events, as far as its words show.
    asked: bool,
    heard: Arc<Mutex<Heard>>,
    /// Readable once a limit was passed, and never because the thread has ended.
    passed: Arc<OwnedFd>,
    /// Closed by the thread when the stream has ended.
    ended: mpsc::Receiver<()>,
}

#[derive(Default)]
struct Heard {
    facts: Facts,
    unread: u64,
    passed: Option<Passed>,
}

impl Hearing {
    /// Begins to listen, before there is an agent: one that could not be listened to is not started. What comes back is
    /// to be its standard output, and is to be closed here once it has it.
    pub(super) fn begin(
        profile: &'static Profile,
        command: &[String],
        limits: &Limits,
    ) -> io::Result<(Self, PipeWriter)> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (stdout, agents_end) = io::pipe()?;
        // Agents end without waiting until what they said last has gone out: what the pipe has room for is not lost.
        let _ = rustix::pipe::fcntl_setpipe_size(&agents_end, ROOM);
        let passed = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (running, ended) = mpsc::channel();
        let heard = Arc::<Mutex<Heard>>::default();
        let copy = Copy {
            profile,
            out,
            reader: Reader::new(profile),
            limits: limits.clone(),
            heard: heard.clone(),
            tell: passed.clone(),
        };
        thread::Builder::new()
            .name("hearing".to_owned())
            .spawn(move || {
                copy.run(stdout);
                drop(running);
            })?;
        let hearing = Self {
            profile,
            asked: profile.is_asked_for_events(command),
            heard,
            passed,
            ended,
        };
        Ok((hearing, agents_end))
    }

    /// Readable once a limit was passed.
    pub(super) fn passed_fd(&self) -> BorrowedFd<'_> {
        self.passed.as_fd()
    }

    /// The limit that was passed.
    pub(super) fn passed(&self) -> Option<Passed> {
        lock(&self.heard).passed.clone()
    }

    /// Waits for the end of the stream, but no longer than that: what comes then is not heard.
    pub(super) fn wait(&self, until: Instant) {
        let patience = until.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            lock(&self.heard).facts.note(&Event::Unread);
        }
    }

    /// What the agent told, if anything. One that `ended_well`, was to tell of its work and told nothing has not done it, as
    /// far as anybody knows.
    pub(super) fn report(&self, ended_well: bool) -> Option<AgentReport> {
        let heard = lock(&self.heard);
        let told = heard.facts.clone().told();
        let unread = heard.unread;
        let silent = || AgentReport {
            stopped: Some(SILENT.to_owned()),
            ..AgentReport::default()
        };
        told.map(|facts| report(facts, unread, self.profile))
            .or_else(|| (ended_well && self.asked && unread == 0).then(silent))
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(facts: Facts, unread: u64, profile: &Profile) -> AgentReport {
    let unfinished = facts.unfinished(profile);
    let refusal = facts.refusal.filter(|_| unfinished == Some(Half::Refused));
    let refusal = refusal.map(|message| Failure {
        class: FailureClass::PermissionRefused,
        message,
    });
    let failure = facts.failure.or(refusal).map(|failure| FailureReport {
        class: failure.class.as_str().to_owned(),
        message: failure.message,
    });
    AgentReport {
        session: facts.session,
        steps: facts.steps,
        tools: facts.tools,
        refused: facts.refused,
        usage: facts.usage.map(|usage| UsageReport {
            input: usage.input,
            output: usage.output,
            cached: usage.cached,
            cost: usage.cost.map(|cost| cost.to_string()),
        }),
        message: facts.message.map(|message| message.trim().to_owned()),
        failure,
        stopped: match unfinished {
            Some(Half::Stopped(place)) => Some(place),
            Some(Half::Refused) => Some("after a tool call".to_owned()),
            Some(Half::Failed) | None => None,
        },
        unread,
        end_is_unread: facts.unread,
    }
}

/// The work of the thread.
struct Copy {
    profile: &'static Profile,
    out: File,
    reader: Reader,
    limits: Limits,
    heard: Arc<Mutex<Heard>>,
    tell: Arc<OwnedFd>,
}

impl Copy {
    fn run(mut self, mut stdout: PipeReader) {
        let mut piece = vec![0; PIECE];
        loop {
            match stdout.read(&mut piece) {
                Ok(0) => break,
                // Nobody reads our output any more: then the agent's pipe goes too, and it hears of that as it would alone.
                Ok(read) if pass_on(&self.out, &piece[..read]).is_err() => {
                    lock(&self.heard).facts.note(&Event::Unread);
                    return;
                }
                Ok(read) => self.hear(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let mut heard = lock(&self.heard);
        self.reader.finish(|event| heard.facts.note(&event));
        heard.unread = self.reader.unread();
    }

    fn hear(&mut self, piece: &[u8]) {
        let mut heard = lock(&self.heard);
        let heard = &mut *heard;
        self.reader.feed(piece, |event| {
            heard.facts.note(&event);
            if heard.passed.is_none() {
                heard.passed = passed(self.profile, &self.limits, &heard.facts, &event);
                if heard.passed.is_some() {
                    let _ = rustix::io::write(&*self.tell, &1_u64.to_ne_bytes());
                }
            }
        });
        heard.unread = self.reader.unread();
    }
}

/// Writes all of it. Whoever has the same output, as the agent has where its standard error is the same pipe, may have
/// turned blocking off for all.
fn pass_on(mut out: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(out, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The limit that is passed with this event. Looked at when one more step or tool call begins, and when a step has ended that
/// is known not to be the last: what is done when the agent has come to its end is not undone.
fn passed(profile: &Profile, limits: &Limits, facts: &Facts, event: &Event) -> Option<Passed> {
    let over = |limit: &str, allowed: String, reached: String| {
        Some(Passed {
            limit: limit.to_owned(),
            allowed,
            reached,
            ended_by_itself: false,
        })
    };
    let goes_on = match event {
        Event::StepBegan | Event::ToolCalled { .. } => true,
        // Who tells of the end apart does not know of a step whether it was the last.
        Event::StepEnded { ended, .. } => *ended != Ended::ByItself && !profile.tells_its_end,
        _ => false,
    };
    if !goes_on {
        return None;
    }
    if let Some(steps) = limits.steps.filter(|steps| facts.steps > *steps) {
        return over("steps", steps.to_string(), facts.steps.to_string());
    }
    let usage = facts.usage.unwrap_or_default();
    if let Some(tokens) = limits.tokens.filter(|tokens| usage.tokens() > *tokens) {
        return over("tokens", tokens.to_string(), usage.tokens().to_string());
    }
    let allowed: Dollars = limits.cost.as_ref()?.parse().ok()?;
    // Of a model without a price nothing would ever be passed.
    if usage.cost.is_none() && usage.tokens() > 0 {
        return over("cost", allowed.to_string(), UNKNOWN.to_owned());
    }
    let cost = usage.cost.filter(|cost| *cost > allowed)?;
    over("cost", allowed.to_string(), cost.to_string())
}

#[cfg(test)]
mod tests {
    use kubeopencode_agents::Usage;

    use super::*;

    #[test]
    fn a_limit_of_cost_ends_an_agent_whose_cost_is_not_known() {
        let limits = Limits {
            cost: Some("5".to_owned()),
            ..Limits::default()
        };
        let used = |ended, cost: Option<&str>, output| Event::StepEnded {
            ended,
            usage: Usage {
                output,
                cost: cost.and_then(|cost| cost.parse().ok()),
                ..Usage::default()
            },
        };
        let reached = |limits: &Limits, events: &[Event]| {
            let mut facts = Facts::default();
            let passed = events.iter().find_map(|event| {
                facts.note(event);
                passed(Profile::usual(), limits, &facts, event)
            });
            passed.map(|passed| passed.reached)
        };
        let for_a_tool = |cost, output| [used(Ended::ForATool, cost, output)];
        let unknown = Some(UNKNOWN.to_owned());
        assert_eq!(reached(&limits, &for_a_tool(None, 1)), unknown);
        assert_eq!(reached(&limits, &for_a_tool(Some("1"), 1)), None);
        let later = [for_a_tool(Some("1"), 1), for_a_tool(None, 1)].concat();
        assert_eq!(reached(&limits, &later), unknown);
        // Nothing was used, it was the last step, or nobody wants to know.
        assert_eq!(reached(&limits, &for_a_tool(None, 0)), None);
        assert_eq!(reached(&limits, &[used(Ended::ByItself, None, 1)]), None);
        assert_eq!(reached(&Limits::default(), &for_a_tool(None, 1)), None);
    }
}
