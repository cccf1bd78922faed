//! Running the system's git against one repository: what it is given, what it may do, and what went wrong.

mod access;
pub(crate) mod address;
mod failure;
mod interrupt;
pub(crate) mod remote;

pub use self::failure::{Failure, Kind};
pub(crate) use self::{
    access::{Access, Purpose, quoted},
    interrupt::Running,
};
