//! Integration tests of the embedded cluster, one binary.

#[path = "it/logs.rs"]
mod logs;
