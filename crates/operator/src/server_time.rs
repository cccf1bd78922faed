//! The time as the API server has it, told by the `Date` of its answers.
//!
//! What the operator judges by the clock are spans that begin with a time which an API server wrote (a Pod's creation, its
//! deletion) or another operator (a condition). By a clock of its own that is an hour ahead, each Pod would have been
//! waiting for an hour when it is seen first, and each limit would be over.
//!
//! The clock of this machine is believed as long as no answer contradicts it. An answer was written at some moment between
//! its request and its arrival, so a late one contradicts little. In between, time goes on as the monotonic clock does: a
//! clock that is set changes nothing.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response, header::DATE};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::warn;

use crate::{clock::Clock, memory::lock};

/// Differences that are nobody's fault: several API servers, each with a clock of its own. No limit is as short as this.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// What `Date` does not say.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The time of an API server. Clones are the same one. As a [`Layer`] of a client, it hears the answers.
#[derive(Clone)]
pub struct ServerTime(Arc<Inner>);

struct Inner {
    own: Clock,
    known: Mutex<Option<Known>>,
}

/// It was that time then.
#[derive(Clone, Copy)]
struct Known {
    time: Timestamp,
    at: Instant,
}

impl Known {
    fn now(self, now: Instant) -> Timestamp {
        later(self.time, now.saturating_duration_since(self.at))
    }
}

impl ServerTime {
    /// Until the first answer, it is what this clock shows.
    #[must_use]
    pub fn new(own: Clock) -> Self {
        Self(Arc::new(Inner {
            own,
            known: Mutex::new(None),
        }))
    }

    /// It, as a clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let this = self.clone();
        Arc::new(move || this.now())
    }

    fn now(&self) -> Timestamp {
        let known = *lock(&self.0.known);
        known.map_or_else(|| (self.0.own)(), |known| known.now(Instant::now()))
    }

    /// An answer to a request of that moment has arrived.
    fn heard(&self, headers: &HeaderMap, sent: Instant) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(parsed) else {
            return;
        };
        let now = Instant::now();
        let on_its_way = SignedDuration::try_from(now.saturating_duration_since(sent));
        let latest = SECOND.saturating_add(on_its_way.unwrap_or(SignedDuration::MAX));
        let latest = date.saturating_add(latest).unwrap_or(Timestamp::MAX);
        let mut known = lock(&self.0.known);
        let believed = known.map_or_else(|| (self.0.own)(), |known| known.now(now));
        let time = believed.clamp(date, latest);
        let wrong_by = believed.duration_since(time);
        let differs = wrong_by.abs() > TOLERANCE;
        if differs || known.is_none() {
            let time = if differs { time } else { believed };
            *known = Some(Known { time, at: now });
        }
        drop(known);
        if differs {
            let ahead = wrong_by.as_secs();
            warn!(
                ahead,
                "this clock is not that of the API server, in seconds; the API server's is taken"
            );
        }
    }
}

fn parsed(date: &str) -> Option<Timestamp> {
    let parser = DateTimeParser::new();
    parser.parse_timestamp(date).ok()
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl<S> Layer<S> for ServerTime {
    type Service = Heard<S>;

    fn layer(&self, inner: S) -> Heard<S> {
        Heard {
            inner,
            time: self.clone(),
        }
    }
}

/// A service whose answers tell the time.
#[derive(Clone)]
pub struct Heard<S> {
    inner: S,
    time: ServerTime,
}

impl<S, B, R> Service<Request<B>> for Heard<S>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send + 'static>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (time, sent) = (self.time.clone(), Instant::now());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            time.heard(answer.headers(), sent);
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    /// Thu, 01 Jan 2026 00:00:00 GMT
    const BEGIN: i64 = 1_767_225_600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(BEGIN + second).expect("a time")
    }

    fn headers(second: i64) -> HeaderMap {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at(second))
            .expect("a date");
        HeaderMap::from_iter([(DATE, date.parse().expect("a value"))])
    }

    /// A clock that stands still at this second.
    fn time(second: i64) -> ServerTime {
        ServerTime::new(Arc::new(move || at(second)))
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_right_is_believed_and_one_that_is_not_is_not() {
        for (own, expected) in [(0, 0), (3, 3), (-3, -3), (HOUR, 1), (-HOUR, 0)] {
            let time = time(own);
            assert_eq!(time.now(), at(own));
            time.heard(&headers(0), Instant::now());
            assert_eq!(time.now(), at(expected), "{own}");
            // The own clock stands still; this does not need it any more.
            pass(60).await;
            assert_eq!(time.now(), at(expected + 60));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_long_on_its_way_contradicts_only_what_cannot_be() {
        let time = time(0);
        let sent = Instant::now();
        time.heard(&headers(0), sent);
        pass(600).await;
        // Written at the beginning, or in the middle, or at the end.
        for second in [0, 300, 600] {
            time.heard(&headers(second), sent);
            assert_eq!(time.now(), at(600));
        }
        time.heard(&headers(HOUR), sent);
        assert_eq!(time.now(), at(HOUR));
    }

    /// As after a machine was suspended: its monotonic clock has stood still.
    #[tokio::test(start_paused = true)]
    async fn what_was_missed_is_made_up_for_with_the_next_answer() {
        let time = time(0);
        time.heard(&headers(0), Instant::now());
        pass(10).await;
        time.heard(&headers(HOUR), Instant::now());
        assert_eq!(time.now(), at(HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_a_date_or_with_nonsense_says_nothing() {
        let time = time(0);
        let nonsense = HeaderMap::from_iter([(DATE, "yesterday".parse().expect("a value"))]);
        for headers in [HeaderMap::new(), nonsense] {
            time.heard(&headers, Instant::now());
            assert!(lock(&time.0.known).is_none());
        }
    }
}
