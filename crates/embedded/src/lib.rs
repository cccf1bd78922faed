//! A one-machine Kubernetes: an API service with a store, the controllers that Jobs and
//! garbage collection need, and a node that runs Pods as sandboxed processes.
//!
//! It stands alone: custom resource definitions and the path of the binary that hosts its helper
//! processes are given to it as data.

pub mod api;
pub mod apply;
pub mod clock;
pub mod cluster;
pub mod controllers;
pub mod discovery;
pub mod kinds;
pub mod lock;
pub mod logs;
pub mod node;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod schema;
pub mod serve;
pub mod status;
pub mod store;
pub mod table;
