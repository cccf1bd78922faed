//! The embedded API held against a real kube-apiserver: where the two differ, the real one is right.
//!
//! A [`script`] is a list of requests, written down or made at random by [`fuzz`]. [`record`] sends one to a real API
//! and keeps what it answered as [`exchange`]s, whose [`placeholders`] stand for what differs from run to run;
//! [`compare`] sends one to both. An answer is held against a recorded one by [`matching`]. Each [`side`] is asked alike,
//! and has the same [`definitions`].

pub mod compare;
pub mod definitions;
pub mod exchange;
pub mod fuzz;
pub mod known;
pub mod matching;
pub mod placeholders;
pub mod record;
pub mod script;
pub mod side;
