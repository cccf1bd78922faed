//! The controllers of the embedded cluster.

mod job;
