//! Whether this operator may act. It watches and keeps its caches warm all the time; it writes only while it leads.
//!
//! Safety does not rest on this: the preconditions of every write do that. Leadership saves two operators the work of
//! losing against each other.

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

/// A view of who leads. Cloning gives another view of the same.
#[derive(Debug, Clone)]
pub struct Leadership(Option<watch::Receiver<bool>>);

impl Leadership {
    /// The only operator there is: it always leads.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// Leads while the watch says `true`. A watch whose sender is gone never leads again.
    #[must_use]
    pub fn watching(leads: watch::Receiver<bool>) -> Self {
        Self(Some(leads))
    }

    /// Whether it leads now.
    pub(crate) fn holds(&self) -> bool {
        match &self.0 {
            None => true,
            Some(leads) => *leads.borrow() && leads.has_changed().is_ok(),
        }
    }

    /// One item each time that leadership begins after it was not held, so that everything is looked at again.
    pub(crate) fn begins(&self) -> impl Stream<Item = ()> + Send + use<> {
        match self.0.clone() {
            None => stream::pending().left_stream(),
            Some(leads) => stream::unfold(leads, |mut leads| async {
                loop {
                    leads.changed().await.ok()?;
                    if *leads.borrow_and_update() {
                        return Some(((), leads));
                    }
                }
            })
            .chain(stream::pending())
            .right_stream(),
        }
    }
}
