//! A round: everything that can be done for one object now.

use std::{sync::Arc, time::Duration};

use kube::{Resource as _, ResourceExt as _};
use kubeopencode_engine::{
    decide::{Event, Input, Step, decide, job_name},
    lower::FrontEnd,
    observe::{Refusal, RefusalKind},
    run::Owner,
    state::{Reason, RunState},
};
use tracing::{Instrument as _, Span, debug, field, info, info_span};

use super::{Controller, Owning, waiter};
use crate::{
    error::{LookUpError, RoundError},
    memory::Unanswered,
};

/// Steps of one round. A whole life takes about ten, and most of them lie in other rounds.
const STEPS: usize = 32;

/// How long until what no watch shows is looked at again.
const UNWATCHED_AGAIN: Duration = Duration::from_secs(30);

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// Observe, decide, act, until the engine rests. Returns when to look again without an event.
    pub(super) async fn round(
        &self,
        cached: Arc<F::Resource>,
    ) -> Result<Option<Duration>, RoundError> {
        let span = info_span!(
            "round",
            task = cached.name_any(),
            namespace = cached.namespace(),
            job = field::Empty,
            phase = field::Empty,
            attempt = field::Empty,
        );
        self.steps(cached).instrument(span).await
    }

    async fn steps(&self, cached: Arc<F::Resource>) -> Result<Option<Duration>, RoundError> {
        let Some(owner) = F::owner(&cached) else {
            return Ok(None);
        };
        let mut object = self.memory.of(&owner.uid, |remembered| {
            remembered.owner.over(cached, |_, _| false)
        });
        let mut state = F::state(&object);
        self.tell_what_was_unanswered(&owner, &state);
        let mut observation = self.observe(&owner, &state);
        let mut lowered = None;
        let mut claimed = None;
        let mut unwatched = false;
        for _ in 0..STEPS {
            let span = Span::current();
            span.record("job", state.job.as_ref().map(|job| &job.name));
            span.record("phase", state.phase.as_str());
            span.record("attempt", state.attempts);
            observation.slot = claimed
                .take()
                .or_else(|| self.slot(&owner, &object, &state, &observation));
            let input = Input {
                owner: &owner,
                state: &state,
                lowered: lowered.as_ref(),
                observation: &observation,
                stop_requested: F::stop_requested(&object),
                deleting: object.meta().deletion_timestamp.is_some(),
                now: (self.clock)(),
            };
            let step = decide(&input);
            debug!(?step);
            match step {
                Step::Lower => match self.look_up(&object).await {
                    Ok(known) => lowered = Some(known),
                    Err(error) => observation.refused = Some(self.not_to_be_read(&owner, error)?),
                },
                Step::Confirm => {
                    let refused = observation.refused.take();
                    if state.job.is_none() && !state.phase.is_terminal() {
                        // That its Job is not on record may be old, too.
                        let Some(live) = self.live_owner(&owner).await? else {
                            return Ok(None);
                        };
                        object = live;
                        state = F::state(&object);
                    }
                    observation = self.confirm(&owner, &state).await?;
                    observation.refused = refused;
                    // Somebody has taken its labels off: no event will tell of it.
                    unwatched = observation.job.is_some() || !observation.pods.is_empty();
                }
                Step::Claim { agent } => {
                    claimed = Some(self.claim(&owner, &object, agent).await?);
                }
                Step::GiveBack { agent } => {
                    self.give_back(&owner, agent).await?;
                    observation = self.observe(&owner, &state);
                }
                Step::Act(actions) => self.act(&owner, actions, &mut observation).await?,
                Step::Record {
                    state: next,
                    events,
                } => {
                    let before = job_name(&owner, &state);
                    let went_on = !state.phase.is_terminal();
                    object = match self.record(&owner, &object, &next).await {
                        Ok(object) => object,
                        Err(error) => {
                            let unanswered = Unanswered {
                                state: *next,
                                went_on,
                                events,
                            };
                            self.memory.of(&owner.uid, |remembered| {
                                remembered.unanswered = Some(Box::new(unanswered));
                            });
                            return Err(error);
                        }
                    };
                    self.enlist(&object);
                    state = F::state(&object);
                    self.tell(&owner, &state, went_on, events);
                    if job_name(&owner, &state) != before {
                        observation = self.observe(&owner, &state);
                    }
                }
                Step::Rest { again } => {
                    if state.job.is_some() || state.phase.is_terminal() {
                        self.waiting.leave(&waiter(object.as_ref()));
                    }
                    let again_at_latest = unwatched.then_some(UNWATCHED_AGAIN);
                    return Ok(again.into_iter().chain(again_at_latest).min());
                }
            }
        }
        Err(RoundError::Restless(STEPS))
    }

    /// What this operator may not read, it would ask for again and again, and nobody would know.
    fn not_to_be_read(&self, owner: &Owner, error: LookUpError) -> Result<Refusal, LookUpError> {
        let refusal = match &error {
            LookUpError::Get { reference, source } => {
                self.refusal(owner, reference.to_string(), source)
            }
            LookUpError::NoAnswer { .. } | LookUpError::Endless => None,
        };
        let stays = |refusal: &Refusal| {
            matches!(refusal.kind, RefusalKind::Forbidden | RefusalKind::Broken)
        };
        refusal.filter(stays).ok_or(error)
    }

    /// The answer to a write may be lost although it took effect.
    fn tell_what_was_unanswered(&self, owner: &Owner, state: &RunState) {
        let unanswered = self
            .memory
            .of(&owner.uid, |remembered| remembered.unanswered.take());
        // One that was sent twice differs in its times.
        let told = |sent: &Unanswered| {
            let RunState {
                phase,
                reason,
                attempts,
                message,
                ..
            } = &sent.state;
            (phase, reason, attempts, message)
                == (&state.phase, &state.reason, &state.attempts, &state.message)
        };
        if let Some(sent) = unanswered.filter(|sent| told(sent)) {
            self.tell(owner, state, sent.went_on, sent.events);
        }
    }

    /// A state is on record: says so to everybody who wants to know.
    fn tell(&self, owner: &Owner, state: &RunState, went_on: bool, events: Vec<Event>) {
        let ended = state.reason.filter(|_| state.phase.is_terminal());
        if let Some(reason) = ended.filter(|_| went_on) {
            self.metrics.ended(reason);
        }
        info!(
            phase = state.phase.as_str(),
            reason = state.reason.map(Reason::as_str),
            message = state.message,
            "recorded"
        );
        for event in events {
            self.events.publish(owner, state, &event);
        }
    }
}
