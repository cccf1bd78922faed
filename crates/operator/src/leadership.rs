//! Whether this operator may act. It watches and keeps its caches warm all the time; it writes only while it leads.
//!
//! Leadership is held *until* a point in time, and no message is needed for it to end: whoever asks compares with the
//! clock. So an operator whose elector was kept from running, or is waiting for an answer, stops in time all the same.
//!
//! That each Task runs once does not rest on this: the preconditions of every write do that. Leadership saves two
//! operators the work of losing against each other.

pub mod election;
mod sight;

use std::{future::poll_fn, pin::pin, task::Poll};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A time of leading without interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    /// Counts the terms of one mandate.
    number: u64,
    until: Instant,
}

/// The right to act, as its giver has it. When it is dropped, nobody who looks at it ever leads again.
#[derive(Debug)]
pub struct Mandate(watch::Sender<Option<Term>>);

impl Default for Mandate {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Mandate {
    /// A view of it, which does not lead yet.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership(Some(self.0.subscribe()))
    }

    /// It is held until then. Where it was held when this is called, the term goes on; else another one begins.
    pub fn hold_until(&self, until: Instant) {
        self.0.send_modify(|term| {
            // Read while nobody can look at the old term any more. Who saw that one over has read the clock before, so
            // that a term which somebody saw end is never taken up again: all objects are looked at anew instead.
            let now = Instant::now();
            let begins = term.is_none_or(|term| term.until <= now);
            let number = term.map_or(0, |term| term.number) + u64::from(begins);
            *term = Some(Term { number, until });
        });
    }

    /// Until when it is held, or was.
    fn until(&self) -> Option<Instant> {
        self.0.borrow().map(|term| term.until)
    }

    /// It is held no more.
    pub fn give_up(&self) {
        let now = Instant::now();
        self.0.send_modify(|term| {
            if let Some(term) = term {
                term.until = term.until.min(now);
            }
        });
    }
}

/// A view of whether this operator leads. Cloning gives another view of the same.
#[derive(Debug, Clone)]
pub struct Leadership(Option<watch::Receiver<Option<Term>>>);

impl Leadership {
    /// The only operator there is: it always leads.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether it leads now.
    #[must_use]
    pub fn holds(&self) -> bool {
        let Some(terms) = &self.0 else { return true };
        let now = Instant::now();
        let held = terms.borrow().is_some_and(|term| now < term.until);
        held && terms.has_changed().is_ok()
    }

    /// Does the work, unless leadership ends before it is done: then the work is dropped where it is, and not polled
    /// once more.
    pub(crate) async fn while_held<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut over = pin!(self.over());
        poll_fn(|context| {
            let wakes_when_over = over.as_mut().poll(context);
            // A timer can be late, after a pause of the whole process for one; the clock is not.
            if wakes_when_over.is_ready() || !self.holds() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Ready when it does not lead.
    async fn over(&self) {
        let Some(mut terms) = self.0.clone() else {
            return std::future::pending().await;
        };
        loop {
            let Some(term) = *terms.borrow_and_update() else {
                return;
            };
            tokio::select! {
                biased;
                changed = terms.changed() => if changed.is_err() { return },
                () = sleep_until(term.until) => return,
            }
        }
    }

    /// One item each time that a term begins, so that everything is looked at again.
    pub(crate) fn begins(&self) -> impl Stream<Item = ()> + Send + use<> {
        let Some(mut terms) = self.0.clone() else {
            return stream::pending().left_stream();
        };
        let number = |term: Option<Term>| term.map_or(0, |term| term.number);
        let seen = number(*terms.borrow_and_update());
        stream::unfold((terms, seen), move |(mut terms, seen)| async move {
            loop {
                terms.changed().await.ok()?;
                let now = number(*terms.borrow_and_update());
                if now != seen {
                    return Some(((), (terms, now)));
                }
            }
        })
        .chain(stream::pending())
        .right_stream()
    }
}
