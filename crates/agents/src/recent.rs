//! What is under way, by name: the last few, because an agent may make up names for ever.

use std::collections::VecDeque;

/// Something for each of some names, of which only the last so many are kept.
#[derive(Debug)]
pub(crate) struct Recent<T>(VecDeque<(String, T)>);

/// How many things can be under way at the same time, and be told apart.
const MOST: usize = 64;

/// How much of a name counts, in bytes: an agent may make up long ones, too.
const LONGEST_NAME: usize = 200;

/// The part of a name that counts.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

impl<T: Default> Recent<T> {
    /// What there is of that name; new where there is nothing.
    pub(crate) fn of(&mut self, name: &str) -> &mut T {
        let kept = self.take(name).unwrap_or_default();
        self.0.truncate(MOST - 1);
        self.0.push_front((cut(name).to_owned(), kept));
        &mut self.0[0].1
    }

    /// The same, which is not kept any longer.
    pub(crate) fn take(&mut self, name: &str) -> Option<T> {
        let name = cut(name);
        let at = self.0.iter().position(|(kept, _)| kept == name)?;
        self.0.remove(at).map(|(_, kept)| kept)
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut recent = Recent::default();
        for number in 0..=MOST {
            *recent.of(&number.to_string()) = number;
        }
        assert_eq!(recent.take("0"), None);
        assert_eq!(recent.take("1"), Some(1));
        assert_eq!(recent.take("1"), None);
    }

    #[test]
    fn of_a_long_name_the_beginning_is_kept() {
        let mut recent = Recent::default();
        let long = "ü".repeat(1000);
        *recent.of(&long) = 1;
        assert_eq!(recent.0[0].0.len(), LONGEST_NAME);
        assert_eq!(recent.take(&long), Some(1));
    }
}
