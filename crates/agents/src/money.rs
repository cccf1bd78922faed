//! Amounts of money, exact: sums of many small costs must not drift, and a limit must mean what it says.

use std::{fmt, str::FromStr};

/// Billionths of a dollar in one dollar.
const NANOS: u64 = 1_000_000_000;
/// Decimal places of [`NANOS`].
const PLACES: usize = 9;

/// US dollars, not negative, in billionths. Too much is the most that there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(u64);

impl Dollars {
    /// What a JSON number says, rounded to the nearest billionth; `None` where that is no amount.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within what fits; rounding is meant"
    )]
    pub fn from_number(number: f64) -> Option<Self> {
        let nanos = (number * NANOS as f64).round();
        (nanos >= 0.0 && nanos < u64::MAX as f64).then_some(Self(nanos as u64))
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// A decimal number, as short as it can be said: `0.0123`, `2`.
impl fmt::Display for Dollars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / NANOS, self.0 % NANOS);
        if part == 0 {
            return write!(formatter, "{whole}");
        }
        let digits = format!("{part:0PLACES$}");
        write!(formatter, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A text that is no amount: digits, and after a dot at most nine more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAmount;

impl fmt::Display for NoAmount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("is no amount of dollars such as 2 or 0.50")
    }
}

impl std::error::Error for NoAmount {}

impl FromStr for Dollars {
    type Err = NoAmount;

    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > PLACES {
            return Err(NoAmount);
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoAmount);
        let nanos = number(&format!("{part:0<PLACES$}"))?;
        let whole = number(whole)?.checked_mul(NANOS).ok_or(NoAmount)?;
        whole.checked_add(nanos).map(Self).ok_or(NoAmount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_many_small_costs_is_exact() {
        let cost = Dollars::from_number(0.000_098).unwrap();
        let sum = (0..1_000_000).fold(Dollars::default(), |sum, _| sum.plus(cost));
        assert_eq!(sum.to_string(), "98");
    }

    #[test]
    fn text_and_number_say_the_same() {
        for (number, text) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (0.001_215_000_000_000_000_2, "0.001215"),
        ] {
            assert_eq!(Dollars::from_number(number).unwrap().to_string(), text);
            assert_eq!(text.parse(), Ok(Dollars::from_number(number).unwrap()));
        }
        for no_amount in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "0.0000000001",
            "99999999999999",
        ] {
            assert_eq!(no_amount.parse::<Dollars>(), Err(NoAmount), "{no_amount}");
        }
        for no_amount in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(Dollars::from_number(no_amount), None, "{no_amount}");
        }
    }
}
