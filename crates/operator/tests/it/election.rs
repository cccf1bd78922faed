//! Several operators elect the one that acts, by a Lease. Time is tokio's: it stands still while something works and
//! jumps to the next timer when nothing does.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams};
use kubeopencode_operator::{
    Leadership, Operator, OperatorOptions,
    access::LEASE,
    leadership::election::{Election, ElectionOptions, Refused, Timing},
    system_entropy,
};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World},
};

/// How often it is looked whether somebody leads.
const TICK: Duration = Duration::from_millis(100);

/// How long nobody leads, at least, when the Lease of one expires and another one takes it: the duration less the
/// deadline, as exactly as it is looked at.
const GAP: Duration = Duration::from_millis(4900);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A candidate of an election.
struct Candidate {
    leadership: Leadership,
    end: CancellationToken,
    running: JoinHandle<Result<(), Refused>>,
}

fn options(lease: &str, identity: &str) -> ElectionOptions {
    ElectionOptions {
        namespace: "default".to_owned(),
        name: lease.to_owned(),
        identity: identity.to_owned(),
        timing: Timing::default(),
        clock: Arc::new(Timestamp::now),
        entropy: Arc::new(|| 0),
    }
}

impl Candidate {
    fn stands(world: &World, faults: &Faults, options: ElectionOptions) -> Self {
        let (election, leadership) = Election::new(world.client_with(faults), options);
        let end = CancellationToken::new();
        let running = tokio::spawn(election.run(end.clone().cancelled_owned()));
        Self {
            leadership,
            end,
            running,
        }
    }

    /// Waits until it leads, or does not.
    async fn leads(&self, leads: bool) -> Instant {
        while self.leadership.holds() != leads {
            assert!(!self.running.is_finished(), "it stands no more");
            sleep(TICK).await;
        }
        Instant::now()
    }

    fn dies(&self) {
        self.running.abort();
    }

    async fn resigns(self) {
        self.end.cancel();
        self.running.await.unwrap().unwrap();
    }
}

async fn world() -> World {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(10_000);
    world
}

fn no_faults() -> Faults {
    Faults::timed(|_, _| Fault::None)
}

/// Calls fail in one of these ways once the switch is on.
fn from_then_on(
    on: &watch::Sender<bool>,
    fault: impl Fn(&Call) -> Fault + Send + 'static,
) -> Faults {
    let on = on.subscribe();
    Faults::timed(move |_, call| {
        if *on.borrow() {
            fault(call)
        } else {
            Fault::None
        }
    })
}

fn verbs(calls: &[Call]) -> Vec<&'static str> {
    calls.iter().map(|call| call.verb).collect()
}

#[tokio::test(start_paused = true)]
async fn of_two_one_leads_and_the_other_only_watches() {
    let world = world().await;
    let (by_first, by_second) = (no_faults(), no_faults());
    let first = Candidate::stands(&world, &by_first, options("it", "a"));
    first.leads(true).await;
    let second = Candidate::stands(&world, &by_second, options("it", "b"));
    sleep(seconds(60)).await;
    assert!(first.leadership.holds() && !second.leadership.holds());
    assert_eq!(verbs(&by_second.calls()), ["get", "watch"]);
    let renewals = by_first.calls().len() - 2;
    assert!((28..=31).contains(&renewals), "{renewals} in a minute");
    let lease = world.until::<Lease>("it", "there", |lease| lease.is_some());
    let record = lease.await.unwrap().spec.unwrap();
    assert_eq!(record.holder_identity.as_deref(), Some("a"));
    assert_eq!(record.lease_duration_seconds, Some(15));
    assert_eq!(record.lease_transitions, Some(0));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_one_that_died_is_taken_when_it_has_expired() {
    let world = world().await;
    let first = Candidate::stands(&world, &no_faults(), options("it", "a"));
    first.leads(true).await;
    let second = Candidate::stands(&world, &no_faults(), options("it", "b"));
    sleep(seconds(60)).await;
    first.dies();
    let died = Instant::now();
    let taken = second.leads(true).await;
    let after = taken - died;
    assert!(
        after > seconds(12) && after <= seconds(15) + TICK,
        "{after:?}"
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once_and_without_asking() {
    let world = world().await;
    let by_second = no_faults();
    let first = Candidate::stands(&world, &no_faults(), options("it", "a"));
    first.leads(true).await;
    let second = Candidate::stands(&world, &by_second, options("it", "b"));
    sleep(seconds(60)).await;
    let asked = Instant::now();
    first.resigns().await;
    assert!(second.leads(true).await - asked < Timing::default().retry);
    assert_eq!(verbs(&by_second.calls())[..3], ["get", "watch", "update"]);
    let lease = world.until::<Lease>("it", "there", |lease| lease.is_some());
    let record = lease.await.unwrap().spec.unwrap();
    assert_eq!(record.holder_identity.as_deref(), Some("b"));
    assert_eq!(record.lease_transitions, Some(1));
    world.end().await;
}

/// The first stops by its own clock, five seconds before anybody may take over.
async fn nobody_overlaps(fault: impl Fn(&Call) -> Fault + Send + 'static) {
    let world = world().await;
    let gone = watch::Sender::new(false);
    let first = Candidate::stands(&world, &from_then_on(&gone, fault), options("it", "a"));
    first.leads(true).await;
    let second = Candidate::stands(&world, &no_faults(), options("it", "b"));
    sleep(seconds(60)).await;
    gone.send_replace(true);
    let (stopped, taken) = tokio::join!(first.leads(false), second.leads(true));
    assert!(taken - stopped >= GAP, "{:?}", taken - stopped);
    gone.send_replace(false);
    sleep(seconds(60)).await;
    assert!(!first.leadership.holds() && second.leadership.holds());
    second.resigns().await;
    first.leads(true).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_whose_requests_hang_stops_before_another_begins() {
    nobody_overlaps(|_| Fault::Hangs).await;
}

#[tokio::test(start_paused = true)]
async fn one_whose_requests_fail_stops_before_another_begins() {
    nobody_overlaps(|_| Fault::Refused).await;
}

/// Its last renewal takes effect at once and is answered four seconds later; the time counts from before it was sent.
#[tokio::test(start_paused = true)]
async fn one_whose_last_answer_was_late_stops_before_another_begins() {
    let answered = std::sync::Mutex::new(false);
    nobody_overlaps(move |_| {
        if std::mem::replace(&mut *answered.lock().unwrap(), true) {
            Fault::Hangs
        } else {
            Fault::Late(seconds(4))
        }
    })
    .await;
}

/// Two candidates whose calls fail in every way, with clocks an hour apart, for half an hour. Afterwards nothing fails.
/// Returns how often another one led than before.
async fn storm(world: &World, seed: u64) -> usize {
    let calm = Instant::now() + Duration::from_mins(30);
    let faults = |who: u64| {
        Faults::timed(move |number, call| {
            let draw = |what: &str, below: u64, number: usize| {
                let mut hash = DefaultHasher::new();
                (seed, who, what, number).hash(&mut hash);
                hash.finish() % below
            };
            if Instant::now() >= calm {
                return Fault::None;
            }
            // Bad times, of ten calls each, come more often than they would by themselves.
            let odds = if draw("bad times", 4, number / 10) == 0 {
                10
            } else {
                60
            };
            match draw("fault", odds, number) {
                6 if call.verb == "watch" => Fault::Expired,
                0 | 1 => Fault::Refused,
                2 => Fault::AnswerLost,
                3 | 4 => Fault::Hangs,
                5 => Fault::AnswerHangs,
                7 => Fault::Slow(Duration::from_millis(draw("by", 8000, number))),
                8 => Fault::Late(Duration::from_millis(draw("by", 8000, number))),
                _ => Fault::None,
            }
        })
    };
    let lease = format!("it-{seed}");
    let skewed = |identity: &str, by: i64| {
        let begin = Timestamp::from_second(1_800_000_000 + by).unwrap();
        let start = Instant::now();
        ElectionOptions {
            clock: Arc::new(move || begin + start.elapsed()),
            entropy: system_entropy(),
            ..options(&lease, identity)
        }
    };
    let a = Candidate::stands(world, &faults(0), skewed("a", 3600));
    let b = Candidate::stands(world, &faults(1), skewed("b", 0));
    let (mut changes, mut last) = (0, None);
    while Instant::now() < calm + seconds(60) {
        let leading = match (a.leadership.holds(), b.leadership.holds()) {
            (true, true) => panic!("both lead, with seed {seed}"),
            (true, false) => Some('a'),
            (false, true) => Some('b'),
            (false, false) => None,
        };
        if let Some(now) = leading {
            if let Some((before, at)) = last
                && before != now
            {
                changes += 1;
                let between = Instant::now() - at;
                assert!(
                    between >= GAP,
                    "only {between:?} between two, with seed {seed}"
                );
            }
            last = Some((now, Instant::now()));
        }
        sleep(TICK).await;
    }
    let (_, led) = last.expect("somebody led");
    assert!(
        led.elapsed() <= TICK,
        "nobody leads in the end, with seed {seed}"
    );
    a.dies();
    b.dies();
    changes
}

#[tokio::test(start_paused = true)]
async fn two_never_lead_at_once_whatever_becomes_of_their_requests() {
    let world = world().await;
    let mut changes = 0;
    for seed in 0..8 {
        changes += storm(&world, seed).await;
    }
    assert!(changes > 80, "the storm was none: {changes} changes");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_lease_by_somebody_else_costs_nothing() {
    let world = world().await;
    let first = Candidate::stands(&world, &no_faults(), options("it", "a"));
    first.leads(true).await;
    let second = Candidate::stands(&world, &no_faults(), options("it", "b"));
    sleep(seconds(30)).await;
    let label = json!({"metadata": {"labels": {"by": "hand"}}});
    let leases = world.api::<Lease>();
    leases
        .patch("it", &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    let lost = first.leads(false).map(|_| ());
    tokio::select! {
        () = lost => panic!("a label costs the Lease"),
        () = sleep(seconds(60)) => {}
    }
    leases.delete("it", &DeleteParams::default()).await.unwrap();
    tokio::select! {
        _ = first.leads(false) => panic!("its deletion costs the Lease"),
        _ = second.leads(true) => panic!("two lead"),
        () = sleep(seconds(60)) => {}
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_place_for_the_lease_it_is_said() {
    let world = world().await;
    let nowhere = ElectionOptions {
        namespace: "nowhere".to_owned(),
        ..options("it", "a")
    };
    let candidate = Candidate::stands(&world, &no_faults(), nowhere);
    let error = candidate.running.await.unwrap().unwrap_err();
    assert!(matches!(error, Refused::NoNamespace(_)), "{error}");
    world.end().await;
}

/// So does an API server that begins: it knows no roles until it has read them.
#[tokio::test(start_paused = true)]
async fn one_that_is_forbidden_the_lease_at_first_goes_on_trying() {
    let world = world().await;
    let begin = Instant::now();
    let faults = Faults::timed(move |_, _| {
        if begin.elapsed() < seconds(50) {
            Fault::Forbidden
        } else {
            Fault::None
        }
    });
    let candidate = Candidate::stands(&world, &faults, options("it", "a"));
    let led = candidate.leads(true).await - begin;
    assert!(led < seconds(53), "{led:?}");
    candidate.resigns().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_forbidden_the_lease_says_so_after_a_minute() {
    let world = world().await;
    let begin = Instant::now();
    let forbidden = Faults::timed(|_, _| Fault::Forbidden);
    let candidate = Candidate::stands(&world, &forbidden, options("it", "a"));
    let error = candidate.running.await.unwrap().unwrap_err();
    assert!(matches!(error, Refused::Forbidden(_)), "{error}");
    let after = begin.elapsed();
    assert!(after >= seconds(60) && after < seconds(63), "{after:?}");
    world.end().await;
}

/// An operator that is elected.
struct Elected {
    candidate: Candidate,
    work: Faults,
    end: CancellationToken,
    running: JoinHandle<()>,
}

impl Elected {
    fn begins(world: &World, identity: &str, election: &Faults, work: &Faults) -> Self {
        let candidate = Candidate::stands(world, election, options("it", identity));
        let (begin, start) = (Timestamp::now(), Instant::now());
        let options = OperatorOptions {
            clock: Arc::new(move || begin + start.elapsed()),
            leadership: candidate.leadership.clone(),
            ..OperatorOptions::default()
        };
        let operator = Operator::new(world.client_with(work), options);
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        Self {
            candidate,
            work: work.clone(),
            end,
            running: tokio::spawn(async move { operator.run(ended).await.unwrap() }),
        }
    }

    /// As on SIGTERM: the rounds end, then the Lease is given back.
    async fn ends(self) {
        self.end.cancel();
        self.running.await.unwrap();
        self.candidate.resigns().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_one_goes_on_with_what_one_that_died_had_begun() {
    let world = world().await;
    let first = Elected::begins(&world, "a", &no_faults(), &no_faults());
    first.candidate.leads(true).await;
    let second = Elected::begins(&world, "b", &no_faults(), &no_faults());
    world.kubelet.now(Play::Works);
    world.is_at_work().await;
    first.running.abort();
    first.candidate.dies();
    world.kubelet.now(Play::Ends(0));
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    assert!(second.candidate.leadership.holds());
    assert_eq!(world.kubelet.starts("it"), 1);
    second.ends().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_round_in_flight_is_cut_off_when_the_lease_is_lost() {
    let world = world().await;
    let gone = watch::Sender::new(false);
    let election = from_then_on(&gone, |_| Fault::Hangs);
    let slow = |call: &Call| call.verb == "create" && call.resource == "jobs";
    let work = Faults::timed(move |_, call| {
        if slow(call) {
            Fault::Slow(seconds(60))
        } else {
            Fault::None
        }
    });
    let first = Elected::begins(&world, "a", &election, &work);
    first.candidate.leads(true).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    while !work.calls().iter().any(slow) {
        sleep(TICK).await;
    }
    gone.send_replace(true);
    let second = Elected::begins(&world, "b", &no_faults(), &no_faults());
    first.candidate.leads(false).await;
    let so_far = work.calls();
    assert!(slow(so_far.last().unwrap()), "{:?}", so_far.last());
    second.candidate.leads(true).await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    sleep_until(Instant::now() + seconds(300)).await;
    let since = &first.work.calls()[so_far.len()..];
    assert!(since.iter().all(|call| call.verb == "watch"), "{since:?}");
    assert!(
        !work.successes().iter().any(slow),
        "its Job was created after all"
    );
    second.ends().await;
    first.ends().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_finishes_its_rounds_before_it_hands_over() {
    let world = world().await;
    let work = Faults::timed(|_, call| {
        if call.verb == "create" && call.resource == "jobs" {
            Fault::Slow(seconds(5))
        } else {
            Fault::None
        }
    });
    let first = Elected::begins(&world, "a", &no_faults(), &work);
    first.candidate.leads(true).await;
    let second = Elected::begins(&world, "b", &no_faults(), &no_faults());
    world.create(AGENT).await;
    world.create(TASK).await;
    while !work
        .calls()
        .iter()
        .any(|call| call.resource == "jobs" && call.verb == "create")
    {
        sleep(TICK).await;
    }
    first.ends().await;
    assert!(
        work.successes()
            .iter()
            .any(|call| call.resource == "jobs" && call.verb == "patch")
    );
    second.candidate.leads(true).await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    assert_eq!(world.kubelet.starts("it"), 1);
    second.ends().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_hands_over_in_time_also_when_its_rounds_do_not_end() {
    let world = world().await;
    let slow = |call: &Call| call.verb == "create" && call.resource == "jobs";
    let work = Faults::timed(move |_, call| {
        if slow(call) {
            Fault::Hangs
        } else {
            Fault::None
        }
    });
    let first = Elected::begins(&world, "a", &no_faults(), &work);
    first.candidate.leads(true).await;
    let second = Elected::begins(&world, "b", &no_faults(), &no_faults());
    world.create(AGENT).await;
    world.create(TASK).await;
    while !work.calls().iter().any(slow) {
        sleep(TICK).await;
    }
    let told = Instant::now();
    first.ends().await;
    assert!(told.elapsed() < seconds(30), "{:?}", told.elapsed());
    second.candidate.leads(true).await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    second.ends().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn every_call_of_an_election_is_covered_by_an_access_rule() {
    let world = world().await;
    let (by_first, by_second) = (no_faults(), no_faults());
    let first = Candidate::stands(&world, &by_first, options("it", "a"));
    first.leads(true).await;
    let second = Candidate::stands(&world, &by_second, options("it", "b"));
    sleep(seconds(30)).await;
    first.resigns().await;
    second.leads(true).await;
    second.resigns().await;
    let calls = [by_first.calls(), by_second.calls()].concat();
    for call in &calls {
        assert_eq!(call.namespace, "default", "{call:?}");
        let allowed = LEASE.iter().any(|access| {
            let rule = access.rule_for("it");
            // A watch names its object in a field selector, which is what an API server goes by.
            let named = call.verb == "watch" || call.name == "it";
            access.group == call.group
                && access.resource == call.resource
                && access.verbs.contains(&call.verb)
                && (rule.resource_names.is_none() || named)
        });
        assert!(allowed, "no access rule covers {call:?}");
    }
    for verb in LEASE.iter().flat_map(|access| access.verbs) {
        assert!(
            calls.iter().any(|call| call.verb == *verb),
            "{verb} is not used"
        );
    }
    world.end().await;
}
