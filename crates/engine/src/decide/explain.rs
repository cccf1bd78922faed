//! Where a Run stands and what it waits for, in sentences: what `task why` says.

use kubeopencode_api::names::condition;

use super::{Input, again, job_name, problem, running};
use crate::{
    handover::{PushReport, PushState},
    lower::{Lack, Lowered},
    observe::{ContainerState, PodView},
    queue::{SlotView, Standing},
    render,
    state::{Phase, RunState},
};

/// Where the Run stands and what it waits for, in sentences. The first says where it stands; the others why, and what
/// would change it.
#[must_use]
pub fn explain(input: &Input<'_>) -> Vec<String> {
    let state = input.state;
    let mut sentences = Vec::new();
    if input.deleting {
        sentences.push("It is being deleted; its Job, Pod and files go with it.".to_owned());
    }
    if state.phase.is_terminal() {
        ended(state, &mut sentences);
    } else if state.job.is_some() {
        started(input, &mut sentences);
    } else {
        not_started(input, &mut sentences);
    }
    if !state.phase.is_terminal() && input.stopping() {
        sentences.push("A person asked for it to stop; it ends as soon as its Pod has.".to_owned());
    }
    sentences
}

/// With one full stop, whether there was one or none.
fn sentence(message: &str) -> String {
    format!("{}.", message.trim_end_matches('.'))
}

fn ended(state: &RunState, sentences: &mut Vec<String>) {
    let phase = if state.phase == Phase::Completed {
        "completed"
    } else {
        "failed"
    };
    let reason = state
        .reason
        .map_or("an unknown reason", |reason| reason.as_str());
    let message = state.message.as_deref().unwrap_or("no more is known");
    sentences.push(format!("It has {phase} ({reason}): {}", sentence(message)));
    if let Some(result) = &state.result {
        for checkout in &result.checkouts {
            if let Some(error) = &checkout.error {
                sentences.push(format!(
                    "Not everything is known of what the agent left in {}: {}",
                    checkout.path,
                    sentence(error)
                ));
            }
            let commits = match checkout.commits {
                None => "a number of new commits that is not known".to_owned(),
                Some(0) => "no new commits".to_owned(),
                Some(1) => "1 new commit".to_owned(),
                Some(count) => format!("{count} new commits"),
            };
            let branch = checkout.branch.as_deref().unwrap_or("no branch");
            let dirty = match checkout.dirty {
                Some(true) => ", with changes that were not committed",
                _ => "",
            };
            let others = match checkout.other_commits {
                0 => String::new(),
                count => format!(", {count} more on other branches or put aside"),
            };
            sentences.push(format!(
                "In {} the agent left {commits} on {branch}{others}{dirty}.",
                checkout.path
            ));
            // What was not pushed is in the message.
            if let Some(PushReport {
                branch,
                state: PushState::Pushed,
                ..
            }) = &checkout.pushed
            {
                sentences.push(format!("It was pushed to the branch {branch}."));
            }
        }
        if let Some(omitted) = &result.omitted {
            sentences.push(format!(
                "There are {} more checkouts, for which the report had no room.",
                omitted.checkouts
            ));
        }
    }
    sentences.push("An ended Task never starts again; create a new one.".to_owned());
}

fn not_started(input: &Input<'_>, sentences: &mut Vec<String>) {
    let state = input.state;
    sentences.push(match state.failed_attempts.last() {
        None => "It has not started.".to_owned(),
        Some(failed) => format!(
            "Attempt {} ended before the agent was started ({}); attempt {} follows.",
            state.attempts,
            failed.message.trim_end_matches('.'),
            state.attempts + 1
        ),
    });
    match input.lowered {
        Some(Lowered::Missing { missing, timeout }) => {
            for missing in missing {
                sentences.push(match &missing.lack {
                    Lack::Object | Lack::Key(_) => {
                        format!("{missing} does not exist; it waits for it.")
                    }
                    Lack::Form(why) => format!(
                        "{} cannot be read by this version ({why}); it waits for a change of it.",
                        missing.reference
                    ),
                });
            }
            let since = state
                .condition(condition::READY)
                .filter(|ready| !ready.status)
                .map_or(input.now, |ready| ready.last_transition);
            let left = input.left(since, *timeout).unwrap_or_default();
            sentences.push(format!(
                "It goes on the moment everything is there, and fails in {} s otherwise.",
                left.as_secs()
            ));
        }
        Some(Lowered::Invalid(error)) => {
            sentences.push(format!("It can never run as it is written: {error}."));
        }
        Some(Lowered::Ready(run)) => {
            if let Err(error) = render::render(run, state.attempts + 1) {
                sentences.push(format!("It can never run as it is written: {error}."));
            } else {
                ready(input, sentences);
            }
        }
        Some(Lowered::Needs(_)) | None => {}
    }
    let queued = state.phase == Phase::Queued || !state.failed_attempts.is_empty();
    if let Some(message) = state.message.as_ref().filter(|_| !queued) {
        sentences.push(format!("The operator says: {}", sentence(message)));
    }
}

fn ready(input: &Input<'_>, sentences: &mut Vec<String>) {
    sentences.push("Everything that it refers to is there.".to_owned());
    if let Some(SlotView { agent, standing }) = &input.observation.slot {
        match standing {
            Standing::Held => sentences.push(format!("It holds a slot of Agent {agent}.")),
            Standing::Unlimited => {}
            Standing::Waits(position) => {
                sentences.push(format!(
                    "All slots of Agent {agent} are in use, and it is number {position} in the queue. \
                     It starts by itself when its turn comes."
                ));
                return;
            }
        }
    }
    let name = job_name(input.owner, input.state);
    sentences.push(if input.observation.job.is_some() {
        format!("Its Job {name} exists and waits to be recorded and released.")
    } else {
        format!(
            "Its Job {name} does not exist yet: the operator creates it. If this stays so, \
             the operator does not run or does not watch this namespace."
        )
    });
}

fn started(input: &Input<'_>, sentences: &mut Vec<String>) {
    let state = input.state;
    let Some(recorded) = &state.job else { return };
    let elapsed = state
        .start_time
        .map(|start| input.elapsed_since(start).as_secs());
    sentences.push(match elapsed {
        Some(elapsed) => format!("It started {elapsed} s ago, as Job {}.", recorded.name),
        None => format!("It started, as Job {}.", recorded.name),
    });
    let job = input.observation.job.as_ref();
    let Some(job) = job.filter(|job| job.uid == recorded.uid) else {
        sentences.push(match running::pod(input, recorded) {
            Some(pod) if pod.ended() => pod_sentence(pod),
            _ => "That Job does not exist any more; the Task fails as lost.".to_owned(),
        });
        return;
    };
    if let Some(failed) = state.failed_attempts.last()
        && again::is_spent(state)
    {
        let left = input.left(failed.time, again::pause(state.attempts));
        sentences.push(format!(
            "Attempt {} ended before the agent was started ({}); attempt {} begins in {} s.",
            state.attempts,
            failed.message.trim_end_matches('.'),
            state.attempts + 1,
            left.unwrap_or_default().as_secs()
        ));
        return;
    }
    if job.suspended && !job.released {
        sentences.push("The Job is not released yet; the operator does that next.".to_owned());
    }
    let Some(pod) = running::pod(input, recorded) else {
        sentences.push("The Job has no Pod yet; its Events say why if this stays so.".to_owned());
        return;
    };
    sentences.push(pod_sentence(pod));
    if let Some(problem) = problem::of_pod(pod) {
        sentences.push(format!(
            "Something is in the way: {}",
            sentence(&problem.message)
        ));
    }
}

fn pod_sentence(pod: &PodView) -> String {
    let running = pod
        .init
        .iter()
        .chain(&pod.agent)
        .find(|container| container.state == ContainerState::Running);
    if pod.ended() {
        format!(
            "Its Pod {} has ended; the result is being recorded.",
            pod.name
        )
    } else if pod.deletion.is_some() {
        format!("Its Pod {} is being deleted.", pod.name)
    } else if let Some(container) = running {
        format!(
            "In its Pod {} the container {} runs.",
            pod.name, container.name
        )
    } else {
        format!("Its Pod {} has not started a container yet.", pod.name)
    }
}
