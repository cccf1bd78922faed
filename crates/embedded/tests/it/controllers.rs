//! The controllers against the real service: Jobs as recorded, garbage, namespaces.

mod garbage;
mod lifecycle;
mod namespaces;
mod world;
