//! Integration tests of the embedded cluster, one binary.

#[path = "it/api.rs"]
mod api;
#[path = "it/logs.rs"]
mod logs;
#[path = "it/replay.rs"]
mod replay;
#[path = "it/store.rs"]
mod store;
