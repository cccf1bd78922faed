//! A round: everything that can be done for one object now.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use kube::{Resource as _, ResourceExt as _};
use kubeopencode_engine::{
    decide::{Event, Input, REFUSED_AGAIN, Step, decide, job_name},
    lower::{FrontEnd, Lowered},
    observe::{Observation, Refusal, RefusalKind},
    queue::SlotView,
    run::Owner,
    state::{Phase, Reason, RunState},
};
use tracing::{Instrument as _, Span, debug, field, info, info_span};

use super::{Controller, Owning, waiter};
use crate::{
    error::{LookUpError, RoundError},
    memory::{Remembered, Unanswered},
};

/// Steps of one round. A whole life takes about ten, and most of them lie in other rounds.
const STEPS: usize = 32;

/// How long until what no watch shows is looked at again.
const UNWATCHED_AGAIN: Duration = Duration::from_secs(30);

/// What is known of one object in a round.
struct Round<F: FrontEnd> {
    owner: Owner,
    object: Arc<F::Resource>,
    state: RunState,
    observation: Observation,
    /// What it was lowered to, if that was asked for.
    lowered: Option<Lowered>,
    /// The answer to a claim, for the next decision.
    claimed: Option<SlotView>,
    /// Whether there is something that no watch shows.
    unwatched: bool,
}

/// How a round ended that did not fail.
#[derive(Debug, Default)]
pub(super) struct Rested {
    /// When to look again without an event.
    pub(super) again: Option<Duration>,
    /// Whether the API server refused something.
    pub(super) refused: bool,
}

impl<F: FrontEnd> Round<F> {
    fn rests(&self, again: Option<Duration>) -> Rested {
        Rested {
            again,
            refused: self.observation.refused.is_some(),
        }
    }
}

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// Observe, decide, act, until the engine rests.
    pub(super) async fn round(&self, cached: Arc<F::Resource>) -> Result<Rested, RoundError> {
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

    async fn steps(&self, cached: Arc<F::Resource>) -> Result<Rested, RoundError> {
        let Some(mut round) = self.begin(cached) else {
            return Ok(Rested::default());
        };
        if let Some(left) = self.memory.of(&round.owner.uid, |it| it.pause()) {
            return Ok(round.rests(Some(left)));
        }
        for _ in 0..STEPS {
            match self.decide(&mut round) {
                Step::Lower => match self.look_up(&round.object).await {
                    Ok(known) => round.lowered = Some(known),
                    Err(error) => {
                        let refusal = self.not_to_be_read(&round.owner, error)?;
                        round.observation.refused = Some(refusal);
                    }
                },
                Step::Confirm => {
                    if self.confirm_round(&mut round).await?.is_break() {
                        return Ok(Rested::default());
                    }
                }
                Step::Claim { agent } => {
                    match self.claim(&round.owner, &round.object, agent).await {
                        Ok(claimed) => round.claimed = Some(claimed),
                        Err(error) => {
                            let refusal = self.not_to_be_admitted(&round.owner, error)?;
                            round.observation.refused = Some(refusal);
                        }
                    }
                }
                Step::GiveBack { agent } => {
                    self.give_back(&round.owner, agent).await?;
                    round.observation = self.observe(&round.owner, &round.state);
                }
                Step::Act(actions) => {
                    let observation = &mut round.observation;
                    self.act(&round.owner, actions, observation).await?;
                }
                Step::Record { state, events } => {
                    if only_tells(&round.state, &state)
                        && !(self.memory).of(&round.owner.uid, Remembered::may_tell)
                    {
                        return Ok(round.rests(Some(REFUSED_AGAIN)));
                    }
                    self.record_round(&mut round, *state, events).await?;
                }
                Step::Rest { again } => {
                    if round.state.job.is_some() || round.state.phase.is_terminal() {
                        self.waiting.leave(&waiter(round.object.as_ref()));
                    }
                    let again_at_latest = round.unwatched.then_some(UNWATCHED_AGAIN);
                    return Ok(round.rests(again.into_iter().chain(again_at_latest).min()));
                }
            }
        }
        Err(RoundError::Restless(STEPS))
    }

    /// What is known without asking. `None`: it is no owner yet.
    fn begin(&self, cached: Arc<F::Resource>) -> Option<Round<F>> {
        let shown = F::owner(&cached)?;
        let object = self.memory.of(&shown.uid, |remembered| {
            remembered.begins();
            remembered.owner.over(cached, |_, _| false)
        });
        // Its generation, too, may be newer than that which the cache shows.
        let owner = F::owner(&object)?;
        let state = F::state(&object);
        self.tell_what_was_unanswered(&owner, &state);
        let observation = self.observe(&owner, &state);
        Some(Round {
            owner,
            object,
            state,
            observation,
            lowered: None,
            claimed: None,
            unwatched: false,
        })
    }

    /// The engine's next step.
    fn decide(&self, round: &mut Round<F>) -> Step {
        let Round {
            owner,
            object,
            state,
            ..
        } = round;
        let span = Span::current();
        span.record("job", state.job.as_ref().map(|job| &job.name));
        span.record("phase", state.phase.as_str());
        span.record("attempt", state.attempts);
        let claimed = round.claimed.take();
        round.observation.slot =
            claimed.or_else(|| self.slot(owner, object, state, &round.observation));
        let step = decide(&Input {
            owner,
            state,
            lowered: round.lowered.as_ref(),
            observation: &round.observation,
            stop_requested: F::stop_requested(object),
            deleting: object.meta().deletion_timestamp.is_some(),
            now: (self.clock)(),
        });
        debug!(?step);
        step
    }

    /// Asks the API server itself. It breaks off where the object is gone.
    async fn confirm_round(&self, round: &mut Round<F>) -> Result<ControlFlow<()>, RoundError> {
        if round.state.job.is_none() && !round.state.phase.is_terminal() {
            // That its Job is not on record may be old, too, and so may its spec.
            let live = self.live_owner(&round.owner).await?;
            let Some((owner, live)) = live.and_then(|live| Some((F::owner(&live)?, live))) else {
                return Ok(ControlFlow::Break(()));
            };
            if owner.generation != round.owner.generation {
                // What was found, or refused, is about what it said before.
                round.lowered = None;
                round.observation.refused = None;
            }
            // The watch may go on to be late: it would claim a slot again and again.
            let before = round.object.resource_version();
            self.memory.of(&owner.uid, |remembered| {
                remembered.owner.knows(before.as_deref(), live.clone());
            });
            self.enlist(&live);
            round.state = F::state(&live);
            (round.owner, round.object) = (owner, live);
        }
        let refused = round.observation.refused.take();
        round.observation = self.confirm(&round.owner, &round.state).await?;
        round.observation.refused = refused;
        // Somebody has taken its labels off: no event will tell of it.
        let Observation { job, pods, .. } = &round.observation;
        round.unwatched = job.is_some() || !pods.is_empty();
        Ok(ControlFlow::Continue(()))
    }

    /// Puts a state on record, and tells of it.
    async fn record_round(
        &self,
        round: &mut Round<F>,
        next: RunState,
        events: Vec<Event>,
    ) -> Result<(), RoundError> {
        let owner = &round.owner;
        let before = job_name(owner, &round.state);
        let went_on = !round.state.phase.is_terminal();
        round.object = match self.record(owner, &round.object, &next).await {
            Ok(object) => object,
            Err(error) => {
                let unanswered = Unanswered {
                    state: next,
                    went_on,
                    events,
                };
                self.memory.of(&owner.uid, |remembered| {
                    remembered.unanswered = Some(Box::new(unanswered));
                });
                return Err(error);
            }
        };
        self.enlist(&round.object);
        round.state = F::state(&round.object);
        self.tell(owner, &round.state, went_on, events);
        if job_name(owner, &round.state) != before {
            round.observation = self.observe(owner, &round.state);
        }
        Ok(())
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

/// Whether a state of a Run that is under way tells people something new, and is the same for everything else.
fn only_tells(before: &RunState, next: &RunState) -> bool {
    let silent = |state: &RunState| RunState {
        message: None,
        conditions: Vec::new(),
        ..state.clone()
    };
    next.phase == Phase::Running
        && before.stop_is_recorded() == next.stop_is_recorded()
        && silent(before) == silent(next)
}
