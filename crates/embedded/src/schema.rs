//! Structural schemas: what an object of a kind may look like.
//!
//! A [`Schema`] is compiled once (for a custom resource definition when it is installed, for a built-in kind from
//! its type) and shared. It prunes unknown fields, fills in defaults and reports every fault with the words of the
//! real server.

mod document;

pub use document::Document;

/// A compiled structural schema.
#[derive(Debug, Default)]
pub struct Schema {}
