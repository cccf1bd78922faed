//! The operators of a run: they die, or are told to end, and begin again; they are cut off, and their clocks jump.

use std::{pin::pin, sync::Arc, time::Duration};

use kubeopencode_engine::lower::Settings;
use kubeopencode_operator::{
    Clock, Entropy, Operator, OperatorOptions, Scope, ServerTime,
    leadership::election::{Election, ElectionOptions, Timing},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::Checker,
    dice::Dice,
    network::{Line, Network, Quality},
    people::NAMESPACES,
    time::SkewedClock,
    trace::Trace,
};

/// How long one that is told to end may take, until the kubelet loses its patience.
const GRACE: Duration = Duration::from_secs(30);

/// What the names of their lines begin with.
const PREFIX: &str = "operator-";

/// Whether the line of this name is that of an operator.
#[must_use]
pub fn is_one(line: &str) -> bool {
    line.starts_with(PREFIX)
}

/// Which namespaces the operators of a run serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// All of them.
    All,
    /// One each; each namespace has operators of its own.
    OneEach,
    /// All of them, and one has operators of its own in addition.
    AllAndOne,
}

/// What the operators of a run have to bear.
#[expect(clippy::struct_excessive_bools, reason = "each is drawn on its own")]
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many there are at the same time, of each kind.
    pub count: usize,
    /// Which namespaces they serve.
    pub served: Served,
    /// Whether they elect one that acts; else all of them do.
    pub elected: bool,
    /// How bad their lines are.
    pub quality: Quality,
    /// Whether they are killed, at any await.
    pub crash: bool,
    /// Whether those that would be killed are told to end instead, now and then.
    pub told: bool,
    /// Whether they are cut off for minutes.
    pub paused: bool,
    /// Whether their clocks jump.
    pub jumps: bool,
}

impl Plan {
    /// What the seed says.
    #[must_use]
    pub fn draw(dice: &Dice) -> Self {
        let count = *dice.pick(&[1, 1, 2, 2, 3]);
        Self {
            count,
            served: *dice.pick(&[Served::All, Served::All, Served::OneEach, Served::AllAndOne]),
            elected: dice.chance(400),
            quality: Quality {
                faults: *dice.pick(&[0, 20, 100, 300]),
                late: *dice.pick(&[0, 20, 100]),
                latency: *dice.pick(&[10, 100, 2000]),
            },
            crash: dice.chance(600),
            told: dice.chance(500),
            paused: dice.chance(400),
            jumps: dice.chance(300),
        }
    }

    /// Where its operators are: each serves this scope, and its Lease is in this namespace.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        let each = |namespaces: &[&str]| {
            let one = |namespace: &&str| Scope::Namespace((*namespace).to_owned());
            namespaces.iter().map(one).collect::<Vec<_>>()
        };
        match self.served {
            Served::All => vec![Scope::Cluster],
            Served::OneEach => each(&NAMESPACES),
            Served::AllAndOne => [vec![Scope::Cluster], each(&NAMESPACES[..1])].concat(),
        }
    }
}

/// One place for an operator, in which one follows another.
pub struct Place {
    name: String,
    plan: Plan,
    scope: Scope,
    network: Network,
    dice: Dice,
    clock: SkewedClock,
    line: Line,
    lease_line: Line,
    checker: Checker,
    trace: Trace,
}

impl Place {
    /// The place of that number, for an operator of that scope.
    #[must_use]
    pub fn new(
        number: usize,
        scope: Scope,
        plan: Plan,
        network: &Network,
        dice: &Dice,
        checker: &Checker,
        trace: &Trace,
    ) -> Self {
        let name = match &scope {
            Scope::Cluster => format!("{PREFIX}{number}"),
            Scope::Namespace(namespace) => format!("{PREFIX}{namespace}-{number}"),
        };
        Self {
            line: network.line(&name, plan.quality),
            lease_line: network.line(&format!("{name}-lease"), plan.quality),
            name,
            plan,
            scope,
            network: network.clone(),
            dice: dice.fork(),
            clock: SkewedClock::new(trace.time()),
            checker: checker.clone(),
            trace: trace.clone(),
        }
    }

    /// Operators come and go, until this is dropped.
    pub async fn run(self) {
        let trouble = self.trouble();
        let operators = async {
            loop {
                self.one_after_another().await;
                sleep(self.dice.seconds(1..120)).await;
            }
        };
        tokio::join!(operators, trouble);
    }

    /// One operator, from its start to its end, of whatever kind.
    async fn one_after_another(&self) {
        let (stop, identity) = (CancellationToken::new(), self.identity());
        let lives = self.lives();
        let mut one = pin!(self.one(stop.clone(), &identity));
        let ended = timeout(lives, &mut one).await;
        if let Ok(why) = ended {
            return self.trace.say(&self.name, format_args!("ended: {why}"));
        }
        if !self.plan.told || self.dice.chance(300) {
            return self.trace.say(&self.name, "is killed");
        }
        self.trace.say(&self.name, "is told to end");
        let way = self.lease_line.way();
        stop.cancel();
        match timeout(GRACE, &mut one).await {
            Err(_) => self.trace.say(&self.name, "is killed: it does not end"),
            Ok(why) => {
                self.trace.say(&self.name, format_args!("ended: {why}"));
                if self.is_quick() && way.was_free() {
                    self.checker.handed_over(self.lease_in(), &identity);
                }
            }
        }
    }

    /// How long the next one lives.
    fn lives(&self) -> Duration {
        if self.plan.crash && !self.network.is_calm() {
            self.dice.millis(10..900_000)
        } else {
            Duration::from_hours(100)
        }
    }

    /// Whether its requests are answered in time for whoever is in a hurry, where nothing is in the way.
    fn is_quick(&self) -> bool {
        let Quality {
            faults, latency, ..
        } = self.plan.quality;
        latency <= 100 && (faults == 0 || self.network.is_calm())
    }

    /// Who the next one is in an election.
    fn identity(&self) -> String {
        format!("{}-{:x}", self.name, self.dice.number(0..1 << 32))
    }

    /// The namespace of its Lease: its own.
    fn lease_in(&self) -> &str {
        match &self.scope {
            Scope::Cluster => NAMESPACES[0],
            Scope::Namespace(namespace) => namespace,
        }
    }

    fn lease(&self) -> String {
        let lease = kubeopencode_api::names::LEASE;
        match &self.scope {
            Scope::Cluster => lease.to_owned(),
            Scope::Namespace(_) => format!("{lease}-here"),
        }
    }

    /// One operator, from its start to its end, as `kubeopencode controller` makes it.
    async fn one(&self, stop: CancellationToken, identity: &str) -> String {
        self.trace.say(&self.name, "begins");
        let clock = self.clock.clone();
        let own: Clock = Arc::new(move || clock.now());
        let time = ServerTime::new(own);
        let dice = self.dice.clone();
        let entropy: Entropy = Arc::new(move || dice.bits());
        let mut options = OperatorOptions {
            clock: time.clock(),
            entropy: entropy.clone(),
            identity: self.name.clone(),
            scope: self.scope.clone(),
            ..OperatorOptions::default()
        };
        if let Scope::Namespace(namespace) = &self.scope {
            options.settings = Settings {
                system_namespace: namespace.clone(),
                ..Settings::default()
            };
        }
        if !self.plan.elected {
            return self.operate(options, &time, stop).await;
        }
        let election = ElectionOptions {
            namespace: self.lease_in().to_owned(),
            name: self.lease(),
            identity: identity.to_owned(),
            timing: Timing::default(),
            clock: time.clock(),
            entropy,
        };
        let (election, leadership) = Election::new(self.lease_line.client_by(&time), election);
        options.leadership = leadership;
        let ended = CancellationToken::new();
        let operator = async {
            let why = self.operate(options, &time, stop).await;
            ended.cancel();
            why
        };
        let mut operator = pin!(operator);
        let mut election = pin!(election.run(ended.clone().cancelled_owned()));
        // The election stands until the operator has ended, and then resigns; refused, it ends both.
        let why = tokio::select! {
            biased;
            refused = &mut election => return format!("{refused:?}"),
            why = &mut operator => why,
        };
        let resigned = election.await;
        format!("{why}, {resigned:?}")
    }

    async fn operate(
        &self,
        options: OperatorOptions,
        time: &ServerTime,
        stop: CancellationToken,
    ) -> String {
        let operator = Operator::new(self.line.client_by(time), options);
        format!("{:?}", operator.run(stop.cancelled_owned()).await)
    }

    /// What befalls whoever is in this place, while the chaos lasts.
    async fn trouble(&self) {
        loop {
            sleep(self.dice.seconds(5..600)).await;
            if self.network.is_calm() {
                return;
            }
            if self.plan.jumps && self.dice.chance(500) {
                let seconds = i64::try_from(self.dice.number(0..7200)).unwrap_or_default() - 3600;
                self.trace.say(
                    &self.name,
                    format_args!("its clock is wrong by {seconds} s"),
                );
                self.clock.jump(seconds);
            }
            if self.plan.paused && self.dice.chance(500) {
                self.pause(true);
                sleep(self.dice.seconds(1..600)).await;
                self.pause(false);
            }
        }
    }

    fn pause(&self, paused: bool) {
        self.line.pause(paused);
        self.lease_line.pause(paused);
    }
}
