//! Whether the operator is alive and ready, for the probes of a kubelet.
//!
//! Alive: what drives the rounds still gets its turn. Nothing of it depends on the API server: starting anew does not
//! bring that back. Ready: the caches are complete, also while another operator leads, so that a rolling update goes on
//! only when the new one could take over at once; no more once it ends.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::memory::lock;

/// How often the operator shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// How long it may not have.
const STUCK: Duration = Duration::from_secs(30);

/// A view of it. Cloning gives another view of the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    /// Controllers whose caches are not complete; None before the first one began.
    incomplete: Option<usize>,
    ends: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            beat: Instant::now(),
            incomplete: None,
            ends: false,
        })))
    }
}

impl Health {
    /// Why it has to be started anew, if it has to.
    ///
    /// # Errors
    /// It says so in words.
    pub fn stuck(&self) -> Result<(), String> {
        let since = lock(&self.0).beat.elapsed();
        if since < STUCK {
            return Ok(());
        }
        Err(format!("it has not moved for {}s", since.as_secs()))
    }

    /// Why it is not ready, if it is not.
    ///
    /// # Errors
    /// It says so in words.
    pub fn ready(&self) -> Result<(), String> {
        let state = lock(&self.0);
        match state.incomplete {
            _ if state.ends => Err("it ends".to_owned()),
            Some(0) => Ok(()),
            _ => Err("its caches are not complete yet".to_owned()),
        }
    }

    /// To be driven by what drives the rounds: as long as this gets its turn, so do they.
    pub(crate) async fn beats(&self) -> Infallible {
        loop {
            lock(&self.0).beat = Instant::now();
            sleep(BEAT).await;
        }
    }

    /// A controller begins to fill its caches.
    pub(crate) fn begins(&self) {
        let mut state = lock(&self.0);
        state.incomplete = Some(state.incomplete.unwrap_or_default() + 1);
    }

    /// The caches of a controller are complete; to be called once for each that began.
    pub(crate) fn is_complete(&self) {
        let mut state = lock(&self.0);
        state.incomplete = state.incomplete.map(|count| count.saturating_sub(1));
    }

    /// It was told to end.
    pub(crate) fn ends(&self) {
        lock(&self.0).ends = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_driven_any_more_is_stuck() {
        let health = Health::default();
        tokio::select! {
            never = health.beats() => match never {},
            () = sleep(Duration::from_mins(5)) => {}
        }
        assert_eq!(health.stuck(), Ok(()));
        sleep(STUCK).await;
        assert!(health.stuck().is_err());
    }

    #[test]
    fn it_is_ready_from_its_first_complete_caches_to_its_end() {
        let health = Health::default();
        assert!(health.ready().is_err());
        health.begins();
        assert!(health.ready().is_err());
        health.is_complete();
        assert_eq!(health.ready(), Ok(()));
        health.ends();
        assert!(health.ready().is_err());
    }
}
