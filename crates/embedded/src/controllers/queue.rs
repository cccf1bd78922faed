//! A queue of keys and the loop that works through it.
//!
//! A key waits at most once, however often it is added; the earliest time asked for wins. No key is worked on
//! twice at the same time: one that is added meanwhile comes again afterwards. Time is tokio's, so that a paused
//! clock works.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::Future,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

/// Wait after the first failure of a key; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_mins(1);

/// What becomes of a key that was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing until it is added again.
    Idle,
    /// Work on it again after this time, even if nothing happens.
    Again(Duration),
    /// Work on it again after a time that grows with each failure in a row.
    Failed,
}

/// Keys that a controller hears of in one place, and works on in another.
#[derive(Debug)]
pub(crate) struct Inbox<K> {
    sender: mpsc::UnboundedSender<Vec<K>>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Vec<K>>>>,
}

impl<K: Clone + Eq + Hash + Ord> Inbox<K> {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// These have to be worked on.
    pub(crate) fn add(&self, keys: Vec<K>) {
        // The receiver is only gone at the end.
        let _ = self.sender.send(keys);
    }

    /// Works on them as [`run`] does; a second call does nothing.
    pub(crate) async fn run<W, F>(&self, concurrency: usize, shutdown: &CancellationToken, work: W)
    where
        W: Fn(K) -> F,
        F: Future<Output = After>,
    {
        let receiver = self
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(receiver) = receiver {
            let keys = UnboundedReceiverStream::new(receiver);
            run(keys, concurrency, shutdown, work).await;
        }
    }
}

#[derive(Debug)]
struct Queue<K> {
    by_time: BTreeSet<(Instant, K)>,
    times: HashMap<K, Instant>,
    running: HashSet<K>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    fn new() -> Self {
        Self {
            by_time: BTreeSet::new(),
            times: HashMap::new(),
            running: HashSet::new(),
            failures: HashMap::new(),
        }
    }

    fn add(&mut self, key: K, at: Instant) {
        match self.times.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.by_time.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.times.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    /// The next key whose time has come and that nobody works on.
    fn take(&mut self, now: Instant) -> Option<K> {
        let entry = self
            .by_time
            .iter()
            .take_while(|(at, _)| *at <= now)
            .find(|(_, key)| !self.running.contains(key))?
            .clone();
        self.by_time.remove(&entry);
        let (_, key) = entry;
        self.times.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// When [`Queue::take`] has something to give.
    fn next(&self) -> Option<Instant> {
        self.by_time
            .iter()
            .find(|(_, key)| !self.running.contains(key))
            .map(|(at, _)| *at)
    }

    fn finish(&mut self, key: K, after: After, now: Instant) {
        self.running.remove(&key);
        match after {
            After::Idle => {
                self.failures.remove(&key);
            }
            After::Again(wait) => {
                self.failures.remove(&key);
                self.add(key, now + wait);
            }
            After::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                let wait = FIRST_RETRY.saturating_mul(1 << (*failures).min(6));
                *failures += 1;
                self.add(key, now + wait.min(LAST_RETRY));
            }
        }
    }
}

/// Works on every key that `changes` brings, on at most `concurrency` at a time, until `shutdown`.
pub(crate) async fn run<K, S, W, F>(
    mut changes: S,
    concurrency: usize,
    shutdown: &CancellationToken,
    work: W,
) where
    K: Clone + Eq + Hash + Ord,
    S: Stream<Item = Vec<K>> + Unpin,
    W: Fn(K) -> F,
    F: Future<Output = After>,
{
    let mut queue: Queue<K> = Queue::new();
    let mut running = FuturesUnordered::new();
    let mut ended = false;
    loop {
        while running.len() < concurrency
            && let Some(key) = queue.take(Instant::now())
        {
            let work = work(key.clone());
            running.push(async move { (key, work.await) });
        }
        let due = queue.next().filter(|_| running.len() < concurrency);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some((key, after)) = running.next(), if !running.is_empty() => {
                queue.finish(key, after, Instant::now());
            }
            keys = changes.next(), if !ended => match keys {
                Some(keys) => {
                    let now = Instant::now();
                    for key in keys {
                        queue.add(key, now);
                    }
                }
                None => ended = true,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use futures::stream;

    use super::*;

    #[test]
    fn a_key_waits_once_and_the_earliest_time_wins() {
        let now = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", now + Duration::from_secs(5));
        queue.add("a", now + Duration::from_secs(2));
        queue.add("a", now + Duration::from_secs(9));
        assert_eq!(queue.next(), Some(now + Duration::from_secs(2)));
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.take(now + Duration::from_secs(2)), Some("a"));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_key_in_work_is_not_given_out_again() {
        let now = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.add("a", now);
        assert_eq!(queue.take(now), None);
        queue.finish("a", After::Idle, now);
        assert_eq!(queue.take(now), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer() {
        let started = Instant::now();
        let times = Rc::new(RefCell::new(Vec::new()));
        let shutdown = CancellationToken::new();
        let changes = stream::iter([vec!["a"]]).chain(stream::pending());
        run(Box::pin(changes), 1, &shutdown, |_| {
            let (times, shutdown) = (times.clone(), shutdown.clone());
            async move {
                times.borrow_mut().push(started.elapsed().as_secs());
                if times.borrow().len() == 9 {
                    shutdown.cancel();
                }
                After::Failed
            }
        })
        .await;
        assert_eq!(*times.borrow(), [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_allowed_work_at_once() {
        let (send, receive) = mpsc::unbounded_channel();
        for key in 0..20 {
            send.send(vec![key]).unwrap();
        }
        let shutdown = CancellationToken::new();
        let counts = Rc::new(RefCell::new((0, 0, 0)));
        run(UnboundedReceiverStream::new(receive), 4, &shutdown, |_| {
            let (counts, shutdown) = (counts.clone(), shutdown.clone());
            async move {
                {
                    let mut counts = counts.borrow_mut();
                    counts.0 += 1;
                    counts.1 = counts.1.max(counts.0);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                let mut counts = counts.borrow_mut();
                counts.0 -= 1;
                counts.2 += 1;
                if counts.2 == 20 {
                    shutdown.cancel();
                }
                After::Idle
            }
        })
        .await;
        assert_eq!(counts.borrow().1, 4);
    }
}
