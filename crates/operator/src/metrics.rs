//! What is counted, for Prometheus. Every label has a fixed set of values, known before anything runs: no name of an
//! object and no text of an error ever becomes one.

mod requests;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use kubeopencode_engine::state::{Phase, Reason};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use crate::{error::RoundError, leadership::Leadership, memory::lock};

pub use requests::{CountRequests, Counted};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Durations = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// How many objects are in each phase, in the order of [`Phase::ALL`].
pub(crate) type Phases = [u32; Phase::ALL.len()];

/// Everything that is counted. Cloning gives another view of the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    tasks: Family<Labels<1>, Gauge>,
    tasks_ended: Family<Labels<1>, Counter>,
    rounds: Durations,
    requests: Family<RequestLabels, Counter>,
    leader: Gauge,
    watch_restarts: Family<[(&'static str, String); 1], Counter>,
    sources: Mutex<Sources>,
}

/// Verb, resource, code.
type RequestLabels = (Labels<2>, [(&'static str, String); 1]);

/// What is looked at when it is asked for.
#[derive(Default)]
struct Sources {
    leadership: Option<Leadership>,
    phases: Vec<Box<dyn Fn() -> Phases + Send>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let tasks = Family::default();
        let tasks_ended = Family::default();
        let rounds: Durations = Family::new_with_constructor(durations);
        let requests = Family::default();
        let leader = Gauge::default();
        let watch_restarts = Family::default();
        let mut registry = Registry::with_prefix("kubeopencode");
        registry.register(
            "tasks",
            "Tasks that the operator knows, by phase",
            tasks.clone(),
        );
        registry.register(
            "tasks_ended",
            "Tasks whose end this operator recorded, by reason",
            tasks_ended.clone(),
        );
        registry.register(
            "round_duration_seconds",
            "Looking at one object and doing what can be done for it, by outcome",
            rounds.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server, by verb, resource and answer",
            requests.clone(),
        );
        registry.register(
            "leader",
            "1 while this operator acts, else 0",
            leader.clone(),
        );
        registry.register(
            "watch_restarts",
            "Watches that failed and began anew, by resource",
            watch_restarts.clone(),
        );
        registry.register(
            "build",
            "What this operator is",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let inner = Inner {
            registry,
            tasks,
            tasks_ended,
            rounds,
            requests,
            leader,
            watch_restarts,
            sources: Mutex::default(),
        };
        inner.begin();
        Self(Arc::new(inner))
    }
}

/// From a millisecond to two minutes, the longest that a round takes.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 3.25, 11))
}

impl Inner {
    /// What did not happen yet is 0 and not absent, so that the first time can be seen as a change.
    fn begin(&self) {
        for reason in Reason::ALL {
            drop(
                self.tasks_ended
                    .get_or_create(&[("reason", reason.as_str())]),
            );
        }
        for outcome in RoundError::OUTCOMES {
            drop(self.rounds.get_or_create(&[("outcome", outcome)]));
        }
    }
}

impl Metrics {
    /// All of it, as Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let Inner {
            registry,
            tasks,
            leader,
            sources,
            ..
        } = &*self.0;
        {
            let sources = lock(sources);
            let leads = sources.leadership.as_ref().is_some_and(Leadership::holds);
            leader.set(i64::from(leads));
            let counts: Vec<Phases> = sources.phases.iter().map(|count| count()).collect();
            for (number, phase) in Phase::ALL.into_iter().enumerate() {
                let count: u32 = counts.iter().map(|phases| phases[number]).sum();
                let gauge = tasks.get_or_create(&[("phase", phase.as_str())]);
                gauge.set(count.into());
            }
        }
        let mut text = String::new();
        // A String takes whatever is written to it.
        let _ = encode(&mut text, registry);
        text
    }

    pub(crate) fn leads(&self, leadership: Leadership) {
        lock(&self.0.sources).leadership = Some(leadership);
    }

    pub(crate) fn count_phases(&self, count: impl Fn() -> Phases + Send + 'static) {
        lock(&self.0.sources).phases.push(Box::new(count));
    }

    pub(crate) fn ended(&self, reason: Reason) {
        let reason = [("reason", reason.as_str())];
        self.0.tasks_ended.get_or_create(&reason).inc();
    }

    /// `outcome` is one of [`RoundError::OUTCOMES`].
    pub(crate) fn round(&self, outcome: &'static str, took: Duration) {
        let outcome = [("outcome", outcome)];
        self.0
            .rounds
            .get_or_create(&outcome)
            .observe(took.as_secs_f64());
    }

    /// A watch of the resource begins for the first time.
    pub(crate) fn watch_begins(&self, resource: &str) {
        let resource = [("resource", resource.to_owned())];
        drop(self.0.watch_restarts.get_or_create(&resource));
    }

    pub(crate) fn watch_failed(&self, resource: &str) {
        let resource = [("resource", resource.to_owned())];
        self.0.watch_restarts.get_or_create(&resource).inc();
    }

    fn requested(&self, verb: &'static str, resource: &'static str, code: &str) {
        let labels = (
            [("verb", verb), ("resource", resource)],
            [("code", code.to_owned())],
        );
        self.0.requests.get_or_create(&labels).inc();
    }
}
