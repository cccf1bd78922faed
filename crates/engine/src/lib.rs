//! The engine: from a resource to what has to be done, as pure functions.
//!
//! ```text
//!   resource ── lower ──► Run ── render ──► ConfigMaps, Job
//!                          │
//!   Observation ───────────┴── decide ──► one Step: act, record, or rest
//! ```
//!
//! Nothing in this crate does I/O, reads a clock or draws a random number. What the world looks like comes in as an
//! [`Observation`](observe::Observation), what has to be done goes out as a [`Step`](decide::Step). Only the front
//! ends in [`lower`] know an API group; behind them there is one [`Run`](run::Run).

pub mod decide;
pub mod handover;
pub mod lower;
pub mod observe;
pub mod queue;
pub mod render;
pub mod run;
pub mod state;
