//! The end of `git-init` from outside. It runs as PID 1 of its container, which ignores SIGTERM unless it listens, and a
//! deleted Pod would have to wait for the whole grace period.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::run::Groups;

/// The process groups of git that run now.
#[derive(Default)]
pub(crate) struct Running(Mutex<State>);

#[derive(Default)]
struct State {
    groups: BTreeSet<i32>,
    over: bool,
}

impl Running {
    /// Kills them all, and every one that begins from now on.
    pub fn end(&self) {
        let mut state = self.state();
        state.over = true;
        for group in &state.groups {
            let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups for Running {
    fn began(&self, group: Pid) {
        let mut state = self.state();
        state.groups.insert(group.as_raw());
        if state.over {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    fn ended(&self, group: Pid) {
        self.state().groups.remove(&group.as_raw());
    }
}
