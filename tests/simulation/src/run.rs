//! One run, from a seed to a report.

use std::{collections::BTreeSet, time::Duration};

use kube::Client;
use kubeopencode_embedded::{
    cluster::{Cluster, ClusterError, Options},
    controllers::{self, ControllerOptions},
    store::StoreError,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::Checker,
    dice::Dice,
    invariants::{self as rules, Violation},
    network::{Network, Quality},
    node::Node,
    operators::{Place, Plan},
    people::People,
    time::{Since, Time},
    trace::Trace,
};

/// How long everything may take to come to its end once the chaos is over.
const PATIENCE: Duration = Duration::from_hours(3);
/// How long what has begun before may still be on its way: requests that are late, operators that are cut off or hear
/// nothing.
const STRAGGLERS: Duration = Duration::from_mins(10);
/// How long things have to stay as they are, to be believed to be at rest.
const REST: Duration = Duration::from_mins(10);

/// What came out of a run.
#[derive(Debug)]
pub struct Report {
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
    /// The last lines of the trace.
    pub trace: Vec<String>,
    /// Stands for the whole trace.
    pub digest: String,
    /// How many lines it has.
    pub lines: u64,
    /// Virtual time that passed.
    pub took: Duration,
    /// Tasks that there were at the end.
    pub tasks: usize,
    /// Agents that were started.
    pub starts: usize,
    /// What operators asked the API server for, in the words of RBAC.
    pub asked: BTreeSet<String>,
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The runtime.
    #[error("cannot start a runtime")]
    Runtime(#[from] std::io::Error),
    /// The cluster.
    #[error("cannot start the embedded cluster")]
    Cluster(#[from] ClusterError),
    /// Its store.
    #[error("cannot look into its store")]
    Store(#[from] StoreError),
    /// The Agents.
    #[error("cannot create what there is at the beginning")]
    Create(#[source] Box<kube::Error>),
}

/// Makes the run of this seed. The trace is cut to its last `lines`.
///
/// # Errors
/// It could not begin; what goes wrong later is a violation.
pub fn run(seed: u64, lines: usize) -> Result<Report, SetUpError> {
    // What libraries draw on this thread.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(World::live(seed, lines))
}

/// Everything that there is in a run.
struct World {
    dice: Dice,
    time: Time,
    trace: Trace,
    checker: Checker,
    network: Network,
    node: Node,
    alive: JoinSet<()>,
}

impl World {
    async fn live(seed: u64, lines: usize) -> Result<Report, SetUpError> {
        let dice = Dice::new(seed);
        let time = Time::begin();
        let trace = Trace::new(time);
        let bits = dice.fork();
        let options = Options {
            definitions: definitions(),
            controllers: false,
            clock: std::sync::Arc::new(move || time.now()),
            entropy: std::sync::Arc::new(move || bits.bits()),
            ..Options::default()
        };
        let (clock, entropy) = (options.clock.clone(), options.entropy.clone());
        let cluster = Cluster::start(options).await?;
        let api = cluster.api();
        let checker = Checker::new(&api, &trace)?;
        let network = Network::new(api, &dice, &trace, &checker);
        let end = CancellationToken::new();
        let controllers = Quality {
            faults: *dice.pick(&[0, 0, 20]),
            late: *dice.pick(&[0, 20]),
            latency: *dice.pick(&[10, 100, 1000]),
        };
        let settings = ControllerOptions {
            clock,
            entropy,
            ..ControllerOptions::default()
        };
        let controllers = network.line("controllers", controllers).client();
        let controllers = controllers::spawn(controllers, settings, end.clone());
        let kubelet = network.line("node", Quality::GOOD).client();
        let mut world = Self {
            node: Node::new(kubelet, &dice, time, &trace, &checker),
            dice,
            time,
            trace,
            checker,
            network,
            alive: JoinSet::new(),
        };
        world.alive.spawn(async move {
            // It never ends by itself; if it panicked, so does this.
            let ended = controllers.await;
            assert!(ended.is_ok(), "the controllers panicked");
        });
        let violation = Box::pin(world.phases()).await?;
        world.alive.shutdown().await;
        drop(end);
        Ok(Report {
            violation,
            trace: world.trace.last(lines),
            digest: world.trace.digest(),
            lines: world.trace.count(),
            took: world.time.elapsed(),
            tasks: world.checker.tasks(),
            starts: world.checker.starts(),
            asked: world.network.asked_by_operators(),
        })
    }

    /// Chaos, then calm; to the first violation.
    async fn phases(&mut self) -> Result<Option<Violation>, SetUpError> {
        self.alive.spawn(self.node.clone().run());
        let client: Client = self.network.line("people", Quality::GOOD).client();
        let people = People::new(client, &self.dice, &self.trace);
        let created = people.set_up().await;
        created.map_err(|error| SetUpError::Create(Box::new(error)))?;
        let plan = Plan::draw(&self.dice);
        self.trace.say("seed", format_args!("{plan:?}"));
        for scope in plan.scopes() {
            for number in 0..plan.count {
                let place = Place::new(
                    number,
                    scope.clone(),
                    plan,
                    &self.network,
                    &self.dice,
                    &self.checker,
                    &self.trace,
                );
                self.alive.spawn(place.run());
            }
        }
        let checker = self.checker.clone();
        let (network, node, trace) = (self.network.clone(), self.node.clone(), self.trace.clone());
        let (dice, time) = (self.dice.fork(), self.time);
        let course = async move {
            let chaos = async {
                let crashes = crashes(&node, &dice);
                tokio::join!(people.run(), weather(&network, &node, &dice), crashes);
            };
            let lasts = dice.seconds(300..3600);
            // It ends with the time.
            let _ = tokio::time::timeout(lasts, Box::pin(chaos)).await;
            trace.say("seed", "CALM");
            network.calm_down();
            node.calm_down();
            let calm_since = time.elapsed();
            let (mut rests_since, mut lasting) = (None, Since::default());
            loop {
                sleep(Duration::from_mins(1)).await;
                let (held, now) = (checker.at_rest(), time.elapsed());
                checker.report(checker.in_calm(now, &mut lasting));
                let changes = checker.changes();
                match (&held, rests_since) {
                    (Ok(()), None) if now >= calm_since + STRAGGLERS => {
                        rests_since = Some((now, changes));
                    }
                    (Ok(()), Some((since, before))) if now >= since + REST => {
                        return rules::nothing_is_changed_at_rest(changes - before).err();
                    }
                    (Err(_), _) => rests_since = None,
                    (Ok(()), _) => {}
                }
                if now > calm_since + PATIENCE {
                    return held.err();
                }
            }
        };
        let checker = self.checker.clone();
        let panicked = async {
            match self.alive.join_next().await {
                Some(Err(error)) => format!("{error}"),
                _ => "something ended that never ends".to_owned(),
            }
        };
        Ok(tokio::select! {
            biased;
            violation = checker.finds() => Some(violation),
            what = panicked => Some(Violation { rule: "nothing panics", what }),
            unrest = course => unrest,
        })
    }
}

/// What befalls everybody.
async fn weather(network: &Network, node: &Node, dice: &Dice) {
    let (outages, node_lost, compaction) = (dice.chance(200), dice.chance(300), dice.chance(300));
    loop {
        sleep(dice.seconds(10..600)).await;
        match dice.number(0..3) {
            0 if outages => {
                network.outage(true);
                sleep(dice.seconds(1..600)).await;
                network.outage(false);
            }
            1 if node_lost => node.loses_touch(dice.seconds(1..1200)).await,
            2 if compaction => network.compact().await,
            _ => {}
        }
    }
}

async fn crashes(node: &Node, dice: &Dice) {
    if dice.chance(500) {
        loop {
            sleep(dice.seconds(1..900)).await;
            node.crashes().await;
        }
    }
}

fn definitions() -> Vec<serde_json::Value> {
    let definitions = kubeopencode_api::crds().into_iter();
    // They are made from types, and can be written.
    definitions
        .filter_map(|definition| serde_json::to_value(definition).ok())
        .collect()
}
