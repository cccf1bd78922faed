//! Which failures of an init container may pass by themselves, for its exit code: [`MAY_PASS`] or 1.

use std::{error::Error, io};

use kubeopencode_engine::handover::MAY_PASS;

/// The exit code for a failure. What a disk has no room for today it may have tomorrow, or another node's; whatever else
/// the kernel refuses to these programs, somebody has to change.
pub(crate) fn exit_code(error: &(dyn Error + 'static)) -> u8 {
    if is_full(error) { MAY_PASS } else { 1 }
}

/// Whether there was no space for something.
pub(crate) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            return true;
        }
        cause = error.source();
    }
    false
}
