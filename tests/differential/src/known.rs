//! Differences that are known, with the reason of each.

use anyhow::{Context as _, Result};
use regex::Regex;

/// Those of answers to random requests: a line is a pattern, ` => ` and the reason; `#` begins a comment.
pub struct Known(Vec<Regex>);

impl Known {
    /// Those of `known-in-random.txt`.
    ///
    /// # Errors
    /// A line has another form.
    pub fn read() -> Result<Self> {
        Self::parse(include_str!("../known-in-random.txt"))
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns = lines.map(|line| {
            let (pattern, _reason) = line
                .split_once(" => ")
                .with_context(|| format!("known-in-random.txt: no reason: {line}"))?;
            Regex::new(pattern).with_context(|| format!("known-in-random.txt: {pattern}"))
        });
        Ok(Self(patterns.collect::<Result<_>>()?))
    }

    /// Whether a difference, with the request before it, is known.
    #[must_use]
    pub fn contains(&self, request: &str, difference: &str) -> bool {
        let line = format!("{request}: {difference}");
        self.0.iter().any(|pattern| pattern.is_match(&line))
    }
}
