//! Integration tests of the embedded cluster, one binary.

#[path = "it/api.rs"]
mod api;
#[path = "it/logs.rs"]
mod logs;
#[path = "it/store.rs"]
mod store;
