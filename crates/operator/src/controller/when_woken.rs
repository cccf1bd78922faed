//! Rounds are polled only when they were woken.
//!
//! kube polls all rounds of a controller whenever anything happens to one of them, and each poll goes through all layers of
//! a client. With a full queue that is most of what an operator does.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// The same future, which lets those polls through that it was woken for. So all that it waits for has to wake everybody
/// who waits.
pub(super) async fn when_woken<T>(round: impl Future<Output = T>) -> T {
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(true),
        parent: AtomicWaker::new(),
    });
    let waker = Waker::from(bell.clone());
    let mut round = pin!(round);
    poll_fn(|context| {
        // Before the look at the bell: who rings after that wakes this parent.
        bell.parent.register(context.waker());
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        round.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

struct Bell {
    rung: AtomicBool,
    parent: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.parent.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        sync::atomic::AtomicUsize,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_happens_to_others_is_no_reason_to_poll_a_round() {
        let (polls, inner) = (Cell::new(0), RefCell::new(None));
        let mut round = pin!(when_woken(poll_fn(|context| {
            polls.set(polls.get() + 1);
            inner.replace(Some(context.waker().clone()));
            if polls.get() < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })));
        let parent = Arc::new(Count::default());
        let woken = || parent.0.load(Ordering::Relaxed);
        let waker = Waker::from(parent.clone());
        let context = &mut Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(round.as_mut().poll(context).is_pending());
        }
        assert_eq!((polls.get(), woken()), (1, 0));
        for (polled, outcome) in [(2, Poll::Pending), (3, Poll::Ready(()))] {
            inner.take().expect("it waits").wake();
            assert_eq!(woken(), polled - 1, "its parent is told");
            assert_eq!(round.as_mut().poll(context), outcome);
            assert_eq!(polls.get(), polled);
        }
    }
}
