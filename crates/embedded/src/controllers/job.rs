//! The Job controller.

mod backoff;
mod failure_policy;
mod pods;
mod status;
mod sync;

#[cfg(test)]
mod recorded;
