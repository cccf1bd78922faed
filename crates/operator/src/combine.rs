//! Questions asked by many at once, each answered by few requests.
//!
//! An answer is good only for those who asked before its request was sent. So whoever asks while a request is in flight
//! waits for the next one, and that serves all who wait by then. Alone, a question costs one request, as it would
//! without this.
//!
//! Nobody but the askers drives a request: the first in line sends it. An asker may be dropped anywhere; the next in
//! line goes on, and of an answer that did not arrive nothing is left.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex as Turn;

use crate::memory::lock;

/// What is shared and not answered by then got lost. Others wait for it: this is well below what a round may take.
pub(crate) const LONGEST_SHARED: Duration = Duration::from_secs(15);

/// Questions `K` that somebody asks right now, with their answers `V`.
#[derive(Debug)]
pub(crate) struct Combiner<K, V>(Mutex<HashMap<K, Asked<V>>>);

#[derive(Debug)]
struct Asked<V> {
    askers: usize,
    line: Arc<Line<V>>,
}

/// Those who ask the same.
#[derive(Debug)]
struct Line<V> {
    /// How many requests were sent.
    sent: AtomicU64,
    /// The latest answer and the number of its request, held by whoever sends.
    answered: Turn<Option<(u64, V)>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Combiner<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// The answer to a request that was sent after this call began: `request`, or that of another asker.
    pub(crate) async fn ask<R>(&self, question: &K, request: impl FnOnce() -> R) -> V
    where
        R: Future<Output = V>,
    {
        let asker = self.enter(question);
        let line = &asker.line;
        let before = line.sent.load(Ordering::SeqCst);
        let mut answered = line.answered.lock().await;
        if let Some((number, answer)) = &*answered
            && *number > before
        {
            return answer.clone();
        }
        let number = line.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = request().await;
        *answered = Some((number, answer.clone()));
        answer
    }

    fn enter(&self, question: &K) -> Asker<'_, K, V> {
        let mut all = lock(&self.0);
        let asked = all.entry(question.clone()).or_insert_with(|| Asked {
            askers: 0,
            line: Arc::new(Line {
                sent: AtomicU64::new(0),
                answered: Turn::new(None),
            }),
        });
        asked.askers += 1;
        Asker {
            line: asked.line.clone(),
            question: question.clone(),
            all: self,
        }
    }
}

/// One who asks. The question is forgotten with the last of them.
struct Asker<'a, K: Eq + Hash, V> {
    line: Arc<Line<V>>,
    question: K,
    all: &'a Combiner<K, V>,
}

impl<K: Eq + Hash, V> Drop for Asker<'_, K, V> {
    fn drop(&mut self) {
        let mut all = lock(&self.all.0);
        if let Some(asked) = all.get_mut(&self.question) {
            asked.askers -= 1;
            if asked.askers == 0 {
                all.remove(&self.question);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use futures::{FutureExt as _, future::join_all, poll};
    use tokio::{
        sync::Semaphore,
        task::{JoinSet, yield_now},
    };

    use super::*;

    /// Answers each request with its number, once it is told to.
    struct Server {
        requests: AtomicUsize,
        answers: Semaphore,
    }

    impl Server {
        fn new() -> Self {
            Self {
                requests: AtomicUsize::new(0),
                answers: Semaphore::new(0),
            }
        }

        async fn request(&self) -> usize {
            let number = self.requests.fetch_add(1, SeqCst) + 1;
            self.answers.acquire().await.unwrap().forget();
            number
        }
    }

    fn nothing_is_left<V>(combiner: &Combiner<&str, V>) {
        assert!(lock(&combiner.0).is_empty());
    }

    #[tokio::test]
    async fn many_who_ask_while_a_request_is_in_flight_share_the_next() {
        let (combiner, server) = (Combiner::new(), Server::new());
        let ask = || combiner.ask(&"agent", || server.request());
        let mut first = pin!(ask());
        assert!(poll!(&mut first).is_pending());
        let mut others = pin!(join_all((0..31).map(|_| ask())));
        assert!(poll!(&mut others).is_pending());
        server.answers.add_permits(2);
        assert_eq!(first.await, 1);
        assert_eq!(others.await, [2; 31]);
        assert_eq!(server.requests.load(SeqCst), 2);
        nothing_is_left(&combiner);
    }

    #[tokio::test]
    async fn one_who_asks_after_a_request_was_sent_does_not_get_its_answer() {
        let (combiner, server) = (Combiner::new(), Server::new());
        let ask = || combiner.ask(&"agent", || server.request());
        let mut first = pin!(ask());
        assert!(poll!(&mut first).is_pending());
        let mut second = pin!(ask());
        assert!(poll!(&mut second).is_pending());
        server.answers.add_permits(1);
        assert_eq!(first.await, 1);
        // The answer is there, and the second has not left: still it is not what the third asked for.
        assert!(poll!(&mut second).is_pending());
        let mut third = pin!(ask());
        assert!(poll!(&mut third).is_pending());
        server.answers.add_permits(2);
        assert_eq!((second.await, third.await), (2, 3));
        nothing_is_left(&combiner);
    }

    #[tokio::test]
    async fn questions_do_not_wait_for_each_other() {
        let (combiner, server) = (Combiner::new(), Server::new());
        let mut first = pin!(combiner.ask(&"agent", || server.request()));
        assert!(poll!(&mut first).is_pending());
        let other = combiner.ask(&"config", || async { 0 });
        assert_eq!(other.now_or_never(), Some(0));
    }

    #[tokio::test]
    async fn one_who_is_dropped_holds_up_nobody() {
        let (combiner, server) = (Combiner::new(), Server::new());
        let ask = || combiner.ask(&"agent", || server.request());
        let mut sends = Box::pin(ask());
        assert!(poll!(&mut sends).is_pending());
        let mut waits = Box::pin(ask());
        assert!(poll!(&mut waits).is_pending());
        let mut last = pin!(ask());
        assert!(poll!(&mut last).is_pending());
        drop(waits);
        drop(sends);
        assert!(poll!(&mut last).is_pending());
        server.answers.add_permits(1);
        assert_eq!(last.await, 2, "a request of its own");
        nothing_is_left(&combiner);
    }

    /// Whoever has seen a change before asking gets an answer that shows it, whatever the others do.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_answer_is_older_than_its_question() {
        let combiner: Arc<Combiner<&str, usize>> = Arc::new(Combiner::new());
        let world = Arc::new(AtomicUsize::new(0));
        let mut askers = JoinSet::new();
        for asker in 0..16 {
            let (combiner, world) = (combiner.clone(), world.clone());
            askers.spawn(async move {
                for round in 0..500 {
                    let changed = world.fetch_add(1, SeqCst) + 1;
                    let request = || async {
                        let seen = world.load(SeqCst);
                        yield_now().await;
                        seen
                    };
                    let ask = combiner.ask(&"agent", request);
                    if (asker + round) % 3 == 0 {
                        // Cut off after one look.
                        let _ = ask.now_or_never();
                    } else {
                        assert!(ask.await >= changed);
                    }
                }
            });
        }
        while let Some(ended) = askers.join_next().await {
            ended.unwrap();
        }
        nothing_is_left(&combiner);
    }
}
