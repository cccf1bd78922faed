//! The controllers against the real service: Jobs as recorded, garbage, namespaces.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]

mod faults;
mod garbage;
mod lifecycle;
mod namespaces;
mod world;
