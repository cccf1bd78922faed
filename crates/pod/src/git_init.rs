//! `git-init`.

use std::path::PathBuf;

use kubeopencode_engine::handover::{CONTEXT_DIR, TOOLS_DIR};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The plan.
    pub context_dir: PathBuf,
    /// Where the records go.
    pub tools_dir: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            context_dir: CONTEXT_DIR.into(),
            tools_dir: TOOLS_DIR.into(),
        }
    }
}

pub(crate) fn main(_places: &Places) -> u8 {
    1
}
