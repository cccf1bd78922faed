//! One module for each verb: takes its arguments, calls one function of a crate below, prints.

pub(crate) mod completion;
pub(crate) mod crds;
pub(crate) mod pod;
pub(crate) mod reference;
