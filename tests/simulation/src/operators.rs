//! The operators of a run: they die and begin again, are cut off, and their clocks jump.

use std::{sync::Arc, time::Duration};

use futures::future::pending;
use kubeopencode_operator::{
    Clock, Entropy, Leadership, Operator, OperatorOptions,
    leadership::election::{Election, ElectionOptions, Timing},
};
use tokio::time::{sleep, timeout};

use crate::{
    dice::Dice,
    network::{Line, Network, Quality},
    time::{SkewedClock, Time},
    trace::Trace,
};

/// What the operators of a run have to bear.
#[expect(clippy::struct_excessive_bools, reason = "each is drawn on its own")]
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many there are at the same time.
    pub count: usize,
    /// Whether they elect one that acts; else all of them do.
    pub elected: bool,
    /// How bad their lines are.
    pub quality: Quality,
    /// Whether they are killed, at any await.
    pub crash: bool,
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
            elected: dice.chance(400),
            quality: Quality {
                faults: *dice.pick(&[0, 20, 100, 300]),
                late: *dice.pick(&[0, 20, 100]),
                latency: *dice.pick(&[10, 100, 2000]),
            },
            crash: dice.chance(600),
            paused: dice.chance(400),
            jumps: dice.chance(300),
        }
    }
}

/// One place for an operator, in which one follows another.
pub struct Place {
    name: String,
    plan: Plan,
    network: Network,
    dice: Dice,
    clock: SkewedClock,
    line: Line,
    lease_line: Line,
    trace: Trace,
}

impl Place {
    /// The place of that number.
    #[must_use]
    pub fn new(
        number: usize,
        plan: Plan,
        network: &Network,
        dice: &Dice,
        time: Time,
        trace: &Trace,
    ) -> Self {
        let name = format!("operator-{number}");
        Self {
            line: network.line(&name, plan.quality),
            lease_line: network.line(&format!("{name}-lease"), plan.quality),
            name,
            plan,
            network: network.clone(),
            dice: dice.fork(),
            clock: SkewedClock::new(time),
            trace: trace.clone(),
        }
    }

    /// Operators come and go, until this is dropped.
    pub async fn run(self) {
        let trouble = self.trouble();
        let operators = async {
            loop {
                let lives = self.lives();
                match timeout(lives, self.one()).await {
                    Ok(why) => self.trace.say(&self.name, format_args!("ended: {why}")),
                    Err(_) => self.trace.say(&self.name, "is killed"),
                }
                sleep(self.dice.seconds(1..120)).await;
            }
        };
        tokio::join!(operators, trouble);
    }

    /// How long the next one lives.
    fn lives(&self) -> Duration {
        if self.plan.crash && !self.network.is_calm() {
            self.dice.millis(10..900_000)
        } else {
            Duration::from_hours(100)
        }
    }

    /// One operator, from its start to its end.
    async fn one(&self) -> String {
        self.trace.say(&self.name, "begins");
        let clock = self.clock.clone();
        let clock: Clock = Arc::new(move || clock.now());
        let dice = self.dice.clone();
        let entropy: Entropy = Arc::new(move || dice.bits());
        let options = OperatorOptions {
            clock: clock.clone(),
            entropy: entropy.clone(),
            identity: self.name.clone(),
            ..OperatorOptions::default()
        };
        if !self.plan.elected {
            return self.operate(options, Leadership::always()).await;
        }
        let election = ElectionOptions {
            namespace: "default".to_owned(),
            name: kubeopencode_api::names::LEASE.to_owned(),
            identity: format!("{}-{:x}", self.name, self.dice.number(0..1 << 32)),
            timing: Timing::default(),
            clock,
            entropy,
        };
        let (election, leadership) = Election::new(self.lease_line.client(), election);
        tokio::select! {
            biased;
            why = self.operate(options, leadership) => why,
            refused = election.run(pending()) => format!("{refused:?}"),
        }
    }

    async fn operate(&self, options: OperatorOptions, leadership: Leadership) -> String {
        let options = OperatorOptions {
            leadership,
            ..options
        };
        let operator = Operator::new(self.line.client(), options);
        format!("{:?}", operator.run(pending()).await)
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
