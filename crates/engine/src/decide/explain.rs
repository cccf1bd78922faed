//! Where a Run stands and what it waits for, in sentences: what `task why` says.

use kubeopencode_api::names::condition;

use super::{Input, LOST_LIMIT, again, job_name, outcome, problem, running};
use crate::{
    handover::{PushReport, PushState},
    lower::{Lack, Lowered},
    observe::{ContainerState, JobView, PodView},
    queue::{SlotView, Standing},
    render,
    state::{FailedAttempt, Phase, RunState},
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
        sentences.extend(stop(input));
    }
    sentences
}

/// What a stop comes down to, besides what is said of Job and Pod already.
fn stop(input: &Input<'_>) -> Option<String> {
    let job = input.observation.job.as_ref();
    let how = match &input.state.job {
        None if input.deleting => return None,
        None => match job.filter(|job| is_own(input, job) && !job.suspended) {
            Some(_) => "it ends as soon as its Pod has",
            None => "it ends without having run",
        },
        Some(recorded) => match running::pod(input, recorded) {
            Some(pod) if pod.ended() => return None,
            Some(_) => "it ends as soon as its Pod has",
            None if job.is_some_and(|job| job.uid == recorded.uid && job.end.is_none()) => {
                "it has no Pod, so it ends with its Job"
            }
            None => return None,
        },
    };
    Some(format!("A person asked for it to stop; {how}."))
}

/// Whether it was created for this Run, and not for another one that has its name.
fn is_own(input: &Input<'_>, job: &JobView) -> bool {
    job.owner_uid.as_deref() == Some(&input.owner.uid)
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
    if state.attempts as usize > state.failed_attempts.len() {
        sentences.push(format!(
            "The record of its Job is gone from its status; {}.",
            if input.deleting {
                "it does not start again"
            } else {
                "the Task fails as lost"
            }
        ));
        return;
    }
    // After either, nothing is waited for.
    let goes_on = !input.deleting && !input.stopping();
    sentences.push(match state.failed_attempts.last() {
        None => "It has not started.".to_owned(),
        Some(failed) => format!(
            "Attempt {} ended before the agent was started ({}); {}.",
            state.attempts,
            failed.message.trim_end_matches('.'),
            if goes_on {
                format!("attempt {} follows", state.attempts + 1)
            } else {
                NO_OTHER.to_owned()
            }
        ),
    });
    if !goes_on {
        return;
    }
    match &input.observation.job {
        Some(job) if !is_own(input, job) => {
            sentences.push(format!(
                "A Job {} exists and belongs to somebody else; the Task fails.",
                job.name
            ));
            return;
        }
        Some(job) if job.deleting() => {
            sentences.push(format!(
                "Its Job {} is being deleted; another one is made when it is gone. Where that takes longer than {} minutes, \
                 the Task fails.",
                job.name,
                LOST_LIMIT.as_secs() / 60
            ));
            return;
        }
        _ => {}
    }
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
    let job = input.observation.job.as_ref();
    if let Some(SlotView { agent, standing }) = &input.observation.slot {
        match standing {
            Standing::Held => sentences.push(format!("It holds a slot of Agent {agent}.")),
            Standing::Unlimited => sentences.push("It needs no slot any more.".to_owned()),
            Standing::Waits(_) if job.is_some_and(|job| !job.suspended) => {}
            Standing::Waits(position) => {
                // Whether a slot is free is known to whoever asks for this.
                sentences.push(format!(
                    "It is number {position} in the queue of Agent {agent}, and starts by itself when its turn comes."
                ));
                return;
            }
        }
    }
    let name = job_name(input.owner, input.state);
    let edited = |generation| generation != input.owner.generation;
    sentences.push(match job {
        None => format!(
            "Its Job {name} does not exist yet: the operator creates it. If this stays so, \
             the operator does not run or does not watch this namespace."
        ),
        Some(job) if job.unreleased() && job.generation.is_some_and(edited) => format!(
            "Its Job {name} was made before the Task was changed: it is deleted, and another one is made."
        ),
        Some(job) if job.suspended => {
            format!("Its Job {name} exists and waits to be recorded and released.")
        }
        Some(_) => format!("Its Job {name} was released by somebody, and waits to be recorded."),
    });
}

/// Said of attempts.
const NO_OTHER: &str = "no other follows";

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
    let job = job.filter(|job| job.uid == recorded.uid);
    let taken = job.map_or(Some("does not exist any more"), taken_away);
    // A Pod that went with its Job does not tell how its agent would have ended.
    let no_result = |pod: &&PodView| outcome::ended_by_deletion(pod) && !state.stop_is_recorded();
    let pod = running::pod(input, recorded);
    let pod = pod.filter(|pod| !(pod.ended() && taken.is_some() && no_result(pod)));
    let Some(job) = job else {
        sentences.push(match pod.filter(|pod| pod.ended()) {
            Some(pod) => pod_sentence(pod),
            None => format!("That Job does not exist any more; {}.", lost(input)),
        });
        return;
    };
    if let Some(failed) = state.failed_attempts.last()
        && again::is_spent(state)
    {
        sentences.push(format!(
            "Attempt {} ended before the agent was started ({}); {}.",
            state.attempts,
            failed.message.trim_end_matches('.'),
            next_attempt(input, job, failed)
        ));
        return;
    }
    match (pod, taken) {
        (Some(pod), _) => {
            sentences.push(pod_sentence(pod));
            if let Some(problem) = problem::of_pod(pod) {
                sentences.push(format!(
                    "Something is in the way: {}",
                    sentence(&problem.message)
                ));
            }
            if let Some(taken) = taken.filter(|_| !pod.ended()) {
                sentences.push(format!("The Job {taken}, and its Pod goes with that."));
            }
        }
        (None, _) if job.end.is_some() => sentences
            .push("The Job has ended, and its Pod is gone; that is being recorded.".to_owned()),
        (None, Some(taken)) => {
            sentences.push(format!("The Job {taken}, and has no Pod; {}.", lost(input)));
        }
        // It is never released then.
        (None, None) if input.stopping() || (input.deleting && job.suspended) => {}
        (None, None) if job.suspended => {
            sentences.push("The Job is not released yet; the operator does that next.".to_owned());
        }
        (None, None) => sentences
            .push("The Job has no Pod yet; its Events say why if this stays so.".to_owned()),
    }
}

/// What follows a spent attempt, whose Job is still there.
fn next_attempt(input: &Input<'_>, job: &JobView, failed: &FailedAttempt) -> String {
    let state = input.state;
    let next = state.attempts + 1;
    match taken_away(job).filter(|_| job.end.is_none()) {
        _ if input.deleting || input.stopping() => NO_OTHER.to_owned(),
        Some(taken) => format!("the Job {taken}, so {NO_OTHER}; {}", lost(input)),
        None if job.end.is_none() => format!("attempt {next} begins when its Job has ended"),
        None => {
            let left = input.left(failed.time, again::pause(state.attempts));
            let left = left.unwrap_or_default().as_secs();
            format!("attempt {next} begins in {left} s")
        }
    }
}

/// What somebody has done to a Job that its Pod does not outlive.
fn taken_away(job: &JobView) -> Option<&'static str> {
    if job.deleting() {
        Some("is being deleted")
    } else if job.suspended && job.released {
        Some("was suspended by somebody")
    } else {
        None
    }
}

/// What becomes of a Run whose Job is lost.
fn lost(input: &Input<'_>) -> &'static str {
    if input.deleting {
        "the Task goes, too"
    } else if input.stopping() {
        "the Task is Completed, as stopped"
    } else {
        "the Task fails as lost"
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
