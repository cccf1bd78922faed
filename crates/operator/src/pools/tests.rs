//! What each change of the index lets in, and whom it wakes.

use kubeopencode_api::v1alpha1::{Agent, AgentSpec};
use serde_json::json;

use super::*;

fn key() -> Key {
    ("ns".to_owned(), "a".to_owned())
}

fn slot(name: &str) -> Slot {
    Slot {
        name: name.to_owned(),
        uid: name.to_owned(),
    }
}

fn turn(name: &str) -> Turn {
    Turn::new(0, None, slot(name))
}

fn agent(version: &str) -> Arc<Agent> {
    let spec: AgentSpec = serde_json::from_value(json!({"serviceAccountName": "s"})).unwrap();
    let mut agent = Agent::new("a", spec);
    agent.metadata.resource_version = Some(version.to_owned());
    Arc::new(agent)
}

fn facts(limit: usize, holders: &[&str]) -> impl Fn(&Agent) -> Facts {
    let slots: Vec<Slot> = holders.iter().map(|name| slot(name)).collect();
    move |_| Facts {
        limit: NonZeroUsize::new(limit),
        slots: slots.clone(),
    }
}

fn task(pools: &Pools<Agent>, name: &str, seen: Seen) -> Woken {
    pools.task(key(), turn(name), seen)
}

fn next(pools: &Pools<Agent>) -> Option<Vec<String>> {
    match pools.next(&key()) {
        Next::Slots(_, slots) => Some(slots.into_iter().map(|slot| slot.name).collect()),
        Next::Nothing | Next::Unknown => None,
    }
}

/// However a newcomer turns out not to want the slot, the Agent is looked at for those behind it.
#[test]
fn a_newcomer_that_goes_wakes_those_behind_it() {
    for goes in [Seen::Lacking, Seen::Over] {
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
        let _ = task(&pools, "older", Seen::New);
        let _ = task(&pools, "older2", Seen::New);
        let _ = pools.wants(&key(), &turn("younger"));
        assert_eq!(next(&pools), None, "it waits for the older ones");
        assert!(task(&pools, "older", goes).agents.contains(&key()));
        assert!(pools.gone("older2").agents.contains(&key()));
        assert_eq!(next(&pools), Some(vec!["younger".to_owned()]));
    }
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
    let _ = task(&pools, "older", Seen::New);
    let _ = pools.wants(&key(), &turn("younger"));
    assert!(pools.looked_at("older").agents.contains(&key()));
    assert_eq!(next(&pools), Some(vec!["younger".to_owned()]));
}

/// The answer to the write was lost, or another operator wrote it.
#[test]
fn who_is_shown_as_holder_is_woken_whoever_let_it_in() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &["e"]));
    let _ = task(&pools, "t", Seen::Queued);
    let (changed, woken) = pools.agent(&key(), agent("2"), facts(1, &["t"]));
    assert!(!changed);
    assert!(woken.tasks.contains(&("ns".to_owned(), slot("t"))));
    assert_eq!(pools.standing(&key(), "t", true), Some(Standing::Held));
}

/// The watch is faster than the answer to the write, and has shown a change that somebody made after it.
#[test]
fn what_was_shown_after_a_write_stays_when_its_answer_comes() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
    let _ = pools.wants(&key(), &turn("a"));
    let _ = pools.wants(&key(), &turn("b"));
    let _ = pools.agent(&key(), agent("3"), facts(2, &["a"]));
    let _ = pools.wrote(&key(), &agent("1"), agent("2"), facts(1, &["a"]));
    assert_eq!(next(&pools), Some(vec!["a".to_owned(), "b".to_owned()]));
    let _ = pools.agent(&key(), agent("3"), facts(2, &["a"]));
    assert_eq!(next(&pools), Some(vec!["a".to_owned(), "b".to_owned()]));
}

/// And one that is from before it is covered.
#[test]
fn what_was_written_over_is_not_believed_any_more() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
    let _ = pools.wants(&key(), &turn("a"));
    let woken = pools.wrote(&key(), &agent("1"), agent("2"), facts(1, &["a"]));
    assert!(woken.tasks.contains(&("ns".to_owned(), slot("a"))));
    let read = |shown: &Agent| {
        let ours = shown.metadata.resource_version.as_deref() == Some("2");
        facts(1, if ours { &["a"] } else { &[] })(shown)
    };
    let _ = pools.agent(&key(), agent("1"), read);
    assert_eq!(pools.standing(&key(), "a", true), Some(Standing::Held));
}

/// Also those that this process has only ever seen as queued.
#[test]
fn who_waits_is_woken_when_the_agent_changes_or_goes() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &["e"]));
    let _ = task(&pools, "t", Seen::Queued);
    let mut other = agent("2").as_ref().clone();
    other.metadata.generation = Some(2);
    let (changed, woken) = pools.agent(&key(), Arc::new(other), facts(0, &["e"]));
    assert!(changed && woken.tasks.contains(&("ns".to_owned(), slot("t"))));
    let woken = pools.no_agent(&key());
    assert!(woken.tasks.contains(&("ns".to_owned(), slot("t"))));
}

#[test]
fn one_that_ended_does_not_come_back_into_the_list() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
    let _ = task(&pools, "t", Seen::Running);
    assert_eq!(next(&pools), Some(vec!["t".to_owned()]), "it counts");
    let _ = task(&pools, "t", Seen::Over);
    assert_eq!(next(&pools), None);
}

/// Another operator has seen it end, and this one's watch of Tasks has not: it would put it back for ever. Or somebody has
/// taken it out by hand.
#[test]
fn one_that_another_took_out_of_the_list_is_asked_for_before_it_comes_back() {
    for runs in [false, true] {
        let pools = Pools::new();
        let _ = pools.agent(&key(), agent("1"), facts(1, &["t"]));
        let _ = task(&pools, "t", Seen::Running);
        let _ = pools.agent(&key(), agent("2"), facts(1, &[]));
        assert_eq!(next(&pools), None);
        assert_eq!(pools.missed(&key()), [slot("t")]);
        // An old view of it, as when this operator begins to lead.
        let _ = task(&pools, "t", Seen::Running);
        assert_eq!(next(&pools), None);
        pools.settle(&key(), &slot("t"), runs);
        assert_eq!(next(&pools), runs.then(|| vec!["t".to_owned()]));
        let _ = task(&pools, "t", Seen::Over);
        let _ = pools.no_agent(&key());
        assert!(lock(&pools.0).agents.is_empty());
    }
}

/// What the watch shows may be older than what was asked for.
#[test]
fn one_that_is_in_the_list_again_is_not_asked_for() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("2"), facts(1, &["t"]));
    let _ = task(&pools, "t", Seen::Running);
    let _ = pools.agent(&key(), agent("1"), facts(1, &[]));
    let _ = pools.agent(&key(), agent("2"), facts(1, &["t"]));
    assert!(pools.missed(&key()).is_empty());
    let _ = pools.no_agent(&key());
    let _ = pools.agent(&key(), agent("3"), facts(1, &[]));
    assert_eq!(next(&pools), Some(vec!["t".to_owned()]), "it counts");
}

/// The list of an Agent that was made anew is empty, and what runs counts.
#[test]
fn who_runs_comes_into_the_list_of_an_agent_that_was_made_anew() {
    let of = |version: &str, uid: &str| {
        let mut agent = agent(version).as_ref().clone();
        agent.metadata.uid = Some(uid.to_owned());
        Arc::new(agent)
    };
    let pools = Pools::new();
    let _ = pools.agent(&key(), of("1", "one"), facts(1, &["t"]));
    let _ = task(&pools, "t", Seen::Running);
    let _ = pools.agent(&key(), of("2", "two"), facts(1, &[]));
    assert_eq!(next(&pools), Some(vec!["t".to_owned()]));
    let _ = pools.agent(&key(), of("3", "two"), facts(1, &["t"]));
    let _ = pools.no_agent(&key());
    let _ = pools.agent(&key(), of("4", "three"), facts(1, &[]));
    assert_eq!(next(&pools), Some(vec!["t".to_owned()]));
}

#[test]
fn nothing_is_left_of_those_who_are_gone() {
    let pools = Pools::new();
    let _ = pools.agent(&key(), agent("1"), facts(1, &["t"]));
    let _ = task(&pools, "t", Seen::Running);
    let elsewhere = ("ns".to_owned(), "b".to_owned());
    let _ = pools.task(elsewhere, turn("u"), Seen::Queued);
    let _ = pools.task(key(), turn("u"), Seen::Queued);
    for uid in ["t", "u"] {
        let _ = pools.gone(uid);
    }
    let _ = pools.no_agent(&key());
    let index = lock(&pools.0);
    assert!(index.agents.is_empty() && index.tasks.is_empty() && index.holding.is_empty());
}
