//! One module for each verb: takes its arguments, calls one function of a crate below, prints.

pub(crate) mod agent;
pub(crate) mod completion;
pub(crate) mod controller;
pub(crate) mod crds;
pub(crate) mod local;
pub(crate) mod plan;
pub(crate) mod rbac;
pub(crate) mod reference;
pub(crate) mod run;
pub(crate) mod task;
