//! What runs inside an agent Pod: `git-init` clones the repositories, `context-init` writes the files,
//! `credentials-init` makes files of Secrets the agent's own, `supervise` runs the agent and reports how it ended,
//! `git-push` pushes what it committed.
//!
//! Each is a plain synchronous function over the formats and paths of [`kubeopencode_engine::handover`]. Paths come in
//! as parameters whose defaults are the constants there. [`main`] is what the binary calls, before it does anything
//! else: it runs the program that the arguments name.

pub mod askpass;
pub mod context_init;
pub mod credentials_init;
pub mod git_init;
pub mod git_push;
pub mod secret;
pub mod supervise;
pub mod work;

mod beneath;
mod exclude;
mod git;
mod may_pass;
mod once;
mod programs;
mod run;
mod say;
mod scrub;

pub use programs::{NAMES, main};
