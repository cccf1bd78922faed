//! The one slot of the Agent, and an API server that refuses.

use kubeopencode_engine::observe::ContainerState;

use super::{Action, Phase, PodView, Refusal, RefusalKind, SlotView, Standing, Step, World};

impl World {
    /// Where the Task stands, as far as this operator knows.
    pub(super) fn slot(&self, who: usize) -> Option<SlotView> {
        let view = &self.views[who];
        let queued = view.state.queue.is_some() && self.agent_exists;
        let over = view.state.phase.is_terminal() || view.deleting;
        let standing = match (view.holds, queued) {
            (true, _) => Standing::Held,
            (false, true) if !over => Standing::Waits(1),
            (false, _) => return None,
        };
        Some(SlotView {
            agent: "a".into(),
            standing,
        })
    }

    /// Its list goes with it; one that is made again lists who runs.
    pub(super) fn agent_appears(&mut self, exists: bool) {
        self.agent_exists = exists;
        if !exists && self.state.job.is_none() {
            self.holds = false;
            for view in &mut self.views {
                view.holds = false;
            }
        }
        self.slot_is_taken(self.taken);
    }

    /// When somebody else gives it back, whoever waits gets it.
    pub(super) fn slot_is_taken(&mut self, taken: bool) {
        self.taken = taken && !self.holds;
        let waits = self.state.phase == Phase::Queued && !self.deleting;
        if !self.taken && waits && self.agent_exists {
            self.holds = true;
        }
    }

    /// The answer is from the list as it is now. Whoever gets none is told of its place.
    pub(super) fn claim(&mut self, who: usize, most: usize) {
        assert!(self.limited, "the Agent has no limit");
        if !self.agent_exists {
            return;
        }
        let is_over = self.deleting || self.state.phase.is_terminal();
        if !self.taken && !is_over {
            self.holds = true;
        }
        self.views[who].holds = self.holds;
        if !self.holds && !is_over {
            let waits = SlotView {
                agent: "a".into(),
                standing: Standing::Waits(1),
            };
            let step = self.decide_with_slot(who, Some(waits));
            assert!(!matches!(step, Step::Claim { .. }), "claims it again");
            self.perform(who, step, most);
        }
    }

    pub(super) fn give_back(&mut self, who: usize) {
        let runs = |pod: &PodView| {
            let agent = pod.agent.as_ref();
            agent.is_some_and(|agent| agent.state == ContainerState::Running)
                && pod.deletion.is_none()
        };
        assert!(
            !self.pods.iter().any(runs),
            "given back while it runs: {self:#?}"
        );
        self.holds = false;
        self.views[who].holds = false;
    }

    /// The same decision with this in it comes to something else.
    pub(super) fn refuse(&mut self, who: usize, action: &Action, most: usize) {
        let what = action.what();
        let is_create = what.is_none();
        self.views[who].refused = Some(Refusal {
            what: what.unwrap_or_else(|| "a Job".to_owned()),
            kind: RefusalKind::Forbidden,
            message: "not on Sundays".into(),
            again: !is_create && self.views[who].refused_before,
            change: (!is_create).then(|| Box::new(action.clone())),
        });
        let step = self.decide(who);
        if let Step::Act(actions) = &step {
            assert!(!actions.contains(action), "asks for it again: {action:?}");
        }
        if matches!(step, Step::Record { .. }) {
            self.perform(who, step, most);
        }
    }
}
