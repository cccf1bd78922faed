//! What a resource is executed with, and who said so.

use std::fmt;

use super::Reference;

/// A setting as it holds for one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As people write it, for example `systemImage.image`.
    pub name: &'static str,
    /// For a person.
    pub value: String,
    /// Who said so.
    pub source: Source,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The resource's own spec.
    Own,
    /// Something that it refers to.
    Object(Reference),
    /// Nothing: it is what the operator was built or started with.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("its own spec"),
            Self::Object(reference) => reference.fmt(f),
            Self::BuiltIn => f.write_str("built in"),
        }
    }
}

/// A value with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

impl<T> Sourced<T> {
    pub(super) fn built_in(value: T) -> Self {
        Self {
            value,
            source: Source::BuiltIn,
        }
    }

    pub(super) fn from(value: T, reference: &Reference) -> Self {
        Self {
            value,
            source: Source::Object(reference.clone()),
        }
    }

    /// For people.
    pub(super) fn setting(&self, name: &'static str, tell: impl Fn(&T) -> String) -> Setting {
        Setting {
            name,
            value: tell(&self.value),
            source: self.source.clone(),
        }
    }
}
