//! What is known of the coding agents: how to start one, how to read the events that it prints, what they come down to.
//!
//! A [`Profile`] is one agent, as data; the list of them is [`Profile::ALL`], and each has a module of its own with its
//! constants and its reader. To add an agent is to write that module and to name it in the list, with recordings of what
//! it prints in `tests/fixtures`, whose names begin with its program's. Besides, its name is a word of the API, so it is
//! also a variant of `AgentProfile` there, which makes the CustomResourceDefinitions anew; a test of the engine fails
//! where the two lists differ. For people: the tables in `docs/agents.md`; for the real one: `cli/tests/agents/agent.rs`.
//!
//! ```text
//!   bytes ──Lines──► lines ──Reader──► Events ──► Facts    what `supervise` reports
//!                                        └──────► people   what `kubeopencode task logs` prints
//! ```
//!
//! Nothing here fails: a line that is not understood means nothing, and what was not said is absent from the [`Facts`],
//! never guessed.

mod claude_code;
mod codex;
mod command;
mod event;
mod facts;
mod failure;
mod json;
mod lines;
mod money;
mod opencode;
mod profile;
mod reader;
mod recent;

pub use command::words as command_words;
pub use event::{Change, Ended, Event, ToolOutcome, Usage};
pub use facts::{Facts, Half, cut};
pub use failure::{Failure, FailureClass};
pub use lines::{LONGEST_LINE, Line, Lines};
pub use money::Dollars;
pub use profile::Profile;
pub use reader::Reader;
