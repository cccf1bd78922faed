//! The operator: watch, observe, call the engine, act.
//!
//! ```text
//!   watches ──► which Task to look at ──► round: observe ─► decide (engine) ─► act, record ──┐
//!                                                   ▲                                         │
//!                                                   └──────────── until the engine rests ◄────┘
//! ```
//!
//! What to do is the engine's business, and the API groups are its front ends'. This crate has the I/O: it keeps
//! [caches](cache) that say *when* to look, asks the API server before it believes that something is absent, performs
//! the engine's actions with preconditions, and writes the status with the resourceVersion that it was read with.
//!
//! An [`Operator`] takes its client, clock and randomness from outside, starts no task of its own, and shares no state
//! with another one in the same process: dropping the future of [`Operator::run`] ends all of it at once.

pub mod access;
mod cache;
mod clock;
mod combine;
mod controller;
pub mod endpoint;
mod error;
mod events;
mod health;
pub mod leadership;
mod memory;
mod metrics;
mod operator;
mod pools;
pub mod request;
mod server_time;
mod waiting;

pub use clock::{Clock, Entropy, system_clock, system_entropy};
pub use health::Health;
pub use leadership::{Leadership, Mandate};
pub use metrics::{CountRequests, Counted, Metrics};
pub use operator::{Operator, OperatorError, OperatorOptions, Scope};
pub use server_time::ServerTime;
