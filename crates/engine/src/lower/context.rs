//! The text of `task.md`: the description, and each context without a place of its own.
