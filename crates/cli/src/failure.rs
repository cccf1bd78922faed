//! How a command fails, and with which exit status.
//!
//! A person reads what went wrong, where, and what to do; a program reads the exit status.

use std::fmt;

/// Which exit status a failure has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Something did not work: 1.
    Failed,
    /// What was given cannot be right: 2. Nothing was changed.
    Input,
}

impl Class {
    /// The exit status.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Input => 2,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where: a file with line and column, an object; empty where there is no place.
    pub(crate) place: String,
    /// What.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Problem {
    /// A problem without a place.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            place: String::new(),
            message: message.into(),
            hint: None,
        }
    }

    /// Where it is.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = place.to_string();
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure that this problem is, when the input is to blame.
    pub(crate) fn input(self) -> Failure {
        Failure::input(vec![self])
    }

    /// The failure that this problem is, when the input is not to blame.
    pub(crate) fn failed(self) -> Failure {
        Failure {
            class: Class::Failed,
            problems: vec![self],
        }
    }
}

/// Why a command ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its exit status.
    pub(crate) class: Class,
    /// All that is wrong, at least one.
    pub(crate) problems: Vec<Problem>,
}

impl Failure {
    /// Wrong input.
    pub(crate) fn input(problems: Vec<Problem>) -> Self {
        Self {
            class: Class::Input,
            problems,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Problem::new(chain(error.as_ref())).failed()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Problem::new(error.to_string()).failed()
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Problem::new(status.message),
            error => Problem::new(format!("the cluster cannot be asked: {}", words(&error))).hint(
                "`kubectl cluster-info` says which one the kubeconfig names; the local one is there while \
                 `kubeopencode local` runs",
            ),
        }
        .failed()
    }
}

/// What the API server answered, in its own words, or why it did not.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => chain(error),
    }
}

/// An error with its causes in one line. Some errors repeat their cause in their own text: it is said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in anyhow::Chain::new(error) {
        let part = cause.to_string();
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
    }
    text
}
