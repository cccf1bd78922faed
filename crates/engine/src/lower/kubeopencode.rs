//! The front end of `kubeopencode.io/v1alpha1`.

use kubeopencode_api::v1alpha1::Task;

use super::{FrontEnd, LowerError, Lowered, Reference, References, Settings};
use crate::{run::Owner, state::RunState};

/// `kubeopencode.io/v1alpha1`, kind Task.
#[derive(Debug, Clone, Copy)]
pub struct TaskFrontEnd;

impl FrontEnd for TaskFrontEnd {
    type Resource = Task;

    fn owner(_task: &Task) -> Option<Owner> {
        None
    }

    fn lower(_task: &Task, _references: &References, _settings: &Settings) -> Lowered {
        Lowered::Invalid(LowerError::NotAdmitted("uid"))
    }

    fn references(_task: &Task, _references: &References, _settings: &Settings) -> Vec<Reference> {
        Vec::new()
    }

    fn state(_task: &Task) -> RunState {
        RunState::default()
    }

    fn status(_state: &RunState) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn stop_requested(_task: &Task) -> bool {
        false
    }
}
