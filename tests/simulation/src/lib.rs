//! The real operator against the real embedded API, Job controller, garbage collector and namespace controller: in one
//! process, on one thread, in virtual time, under faults that all follow from one seed.
//!
//! ```text
//!   people   node   controllers   operators (killed, cut off, with wrong clocks)
//!      └──────┴──────────┴────────────┘
//!                   network            delays each call, fails it before or after its effect, breaks watches
//!                   API server ──────► checker: each revision, and each start of an agent, against the invariants
//! ```
//!
//! A run has two phases: chaos, and calm, in which everything has to come to an end. See [`run`].
//!
//! One process makes one run: what libraries draw from the process (a counter in tokio, for one) is then the same for
//! the same seed, and with `src/getrandom.c` so is the order of hash maps.

mod checker;
mod dice;
pub mod invariants;
mod network;
mod node;
mod operators;
mod people;
mod run;
mod time;
mod trace;
mod turns;

pub use run::{Report, SetUpError, run};
