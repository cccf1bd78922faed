//! `kubeopencode.io/v1alpha1`, the main API.

mod agent;
mod config;
mod context;
mod task;

pub use agent::*;
pub use config::*;
pub use context::*;
pub use task::*;

/// A CEL pattern for the durations of this API: whole numbers with a unit, largest unit first, as in `1h30m`.
pub const DURATION_PATTERN: &str = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$";
