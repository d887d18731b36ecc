//! Instants and spans. The core never asks for the time: `now` is an argument.

use std::fmt;
use std::time::Duration;

use minicbor::{Decode, Encode};

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub i64);

impl Timestamp {
    /// This instant and `span` more; saturates.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// From `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Span {
        let micros = self.0.saturating_sub(earlier.0).max(0);
        Span::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// A length of time in whole milliseconds; printed and read as `1h30m`, `5m`, `250ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Span(#[n(0)] pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// From microseconds, rounded up to the next millisecond.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.div_ceil(1000))
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// In microseconds; saturates.
    pub const fn as_micros(self) -> u64 {
        self.0.saturating_mul(1000)
    }

    /// The same length as the standard library says it.
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `250ms`, `90s`, `5m`, `1h30m`, `2d`, `1w`, in falling order of units or any.
    ///
    /// # Errors
    /// A bare number, an unknown unit, nothing at all, or more than 10,000 days.
    pub fn parse(text: &str) -> Result<Self, BadSpan> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(BadSpan::Empty);
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| BadSpan::NoNumber)?;
            let after = after.trim_start();
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, next) = after.split_at(letters);
            let scale = match unit {
                "ms" => 1,
                "s" | "sec" | "secs" | "second" | "seconds" => 1000,
                "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
                "h" | "hr" | "hour" | "hours" => 3_600_000,
                "d" | "day" | "days" => 86_400_000,
                "w" | "week" | "weeks" => 604_800_000,
                "" => return Err(BadSpan::NoUnit(number)),
                _ => return Err(BadSpan::Unit),
            };
            total = number
                .checked_mul(scale)
                .and_then(|part| total.checked_add(part))
                .filter(|sum| *sum <= MAX_SPAN_MS)
                .ok_or(BadSpan::TooLong)?;
            rest = next.trim_start();
        }
        Ok(Self(total))
    }
}

/// 10,000 days: longer is a slip of the finger, and sums stay far from overflow.
const MAX_SPAN_MS: u64 = 864_000_000_000;

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, scale) in
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
        {
            let count = rest / scale;
            rest %= scale;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// Nothing was written.
    #[error("a duration is missing, write one as 90s, 5m or 1h30m")]
    Empty,
    /// A unit without a number, or no number at all.
    #[error("a duration is a number with a unit, as 90s, 5m or 1h30m")]
    NoNumber,
    /// A bare number.
    #[error("a duration needs a unit: {0}s, {0}m or {0}h")]
    NoUnit(u64),
    /// An unknown unit.
    #[error("the units of a duration are ms, s, m, h, d and w")]
    Unit,
    /// Beyond 10,000 days.
    #[error("a duration ends at 10000d")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_span_is_read_back_as_printed(ms in 0u64..=MAX_SPAN_MS) {
            let span = Span(ms);
            prop_assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }

        #[test]
        fn plus_and_since_agree(at in 0i64..1 << 50, ms in 0u64..1 << 38) {
            let later = Timestamp(at).plus(Span(ms));
            prop_assert_eq!(later.since(Timestamp(at)), Span(ms));
            prop_assert_eq!(Timestamp(at).since(later.plus(Span(1))), Span::ZERO);
        }
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, ms) in [
            ("250ms", 250),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2 days", 172_800_000),
            ("1w", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(Span::parse(text), Ok(Span(ms)), "{text}");
        }
        for (text, error) in [
            ("", BadSpan::Empty),
            ("90", BadSpan::NoUnit(90)),
            ("5m30", BadSpan::NoUnit(30)),
            ("m", BadSpan::NoNumber),
            ("-5m", BadSpan::NoNumber),
            ("5y", BadSpan::Unit),
            ("10001d", BadSpan::TooLong),
            ("99999999999999999w", BadSpan::TooLong),
        ] {
            assert_eq!(Span::parse(text), Err(error), "{text}");
        }
        assert_eq!(Span::from_secs(2), Span(2000));
        assert_eq!(Span::from_micros(1), Span(1));
        assert_eq!(Span(3).as_micros(), 3000);
        assert_eq!(Span(3).as_millis(), 3);
        assert_eq!(Span(3).to_std(), Duration::from_millis(3));
        for (span, text) in [(0, "0s"), (90_000, "1m30s"), (250, "250ms"), (176_400_000, "2d1h")] {
            assert_eq!(Span(span).to_string(), text);
        }
    }
}
