//! The node of the embedded cluster: runs Pods as sandboxed processes of this machine.

pub mod sandbox;
