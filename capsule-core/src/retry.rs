//! How long until the next attempt.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::id::{AttemptNumber, Uuid};
use crate::time::{BadSpan, Span};

/// The pause between two attempts, before jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Backoff {
    /// Always the same, exactly (no jitter): what was written is what happens.
    #[n(0)]
    Fixed(#[n(0)] Span),
    /// `min(max, first × 3^(n-1))` after the n-th failure, with equal jitter.
    #[n(1)]
    Exponential {
        /// After the first failure.
        #[n(0)]
        first: Span,
        /// Never longer than this.
        #[n(1)]
        max: Span,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential { first: Span::from_secs(5), max: Span::from_secs(15 * 60) }
    }
}

impl Backoff {
    /// The longest pause after the `failures`-th own failure (from 1).
    pub fn longest(self, failures: u32) -> Span {
        match self {
            Self::Fixed(span) => span,
            Self::Exponential { first, max } => {
                let factor = 3u64.saturating_pow(failures.saturating_sub(1));
                Span(first.0.saturating_mul(factor)).min(max)
            }
        }
    }

    /// The pause after the `failures`-th own failure, with equal jitter: half of it fixed, half
    /// by chance, the chance drawn from the task and the attempt so that it can be worked out
    /// again.
    pub fn pause(self, failures: u32, task: Uuid, attempt: AttemptNumber) -> Span {
        let longest = self.longest(failures);
        match self {
            Self::Fixed(_) => longest,
            Self::Exponential { .. } => {
                let half = longest.0 / 2;
                Span(longest.0 - half + chance(task, attempt) % (half + 1))
            }
        }
    }

    /// Reads `fixed:10s` or `exponential:5s..15m`.
    ///
    /// # Errors
    /// Another form, or a span that cannot be read.
    pub fn parse(text: &str) -> Result<Self, BadBackoff> {
        if let Some(span) = text.strip_prefix("fixed:") {
            return Ok(Self::Fixed(Span::parse(span)?));
        }
        let (first, max) = text
            .strip_prefix("exponential:")
            .and_then(|spans| spans.split_once(".."))
            .ok_or(BadBackoff::Form)?;
        let (first, max) = (Span::parse(first)?, Span::parse(max)?);
        if first > max {
            return Err(BadBackoff::Order);
        }
        Ok(Self::Exponential { first, max })
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(span) => write!(f, "fixed:{span}"),
            Self::Exponential { first, max } => write!(f, "exponential:{first}..{max}"),
        }
    }
}

/// Why a text is not a backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBackoff {
    /// Neither of the two forms.
    #[error("a backoff is fixed:10s or exponential:5s..15m")]
    Form,
    /// The first pause is longer than the longest.
    #[error("the first pause of a backoff is longer than its last")]
    Order,
    /// One of the spans.
    #[error(transparent)]
    Span(#[from] BadSpan),
}

/// 64 well mixed bits (the finalizer of splitmix64, Steele et al., OOPSLA 2014).
fn chance(task: Uuid, attempt: AttemptNumber) -> u64 {
    let (high, low) = task.halves();
    let mut x =
        high ^ low.rotate_left(32) ^ u64::from(attempt.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_lies_between_half_and_all(n in 1u32..40, bytes: [u8; 16], attempt: u32) {
            let backoff = Backoff::default();
            let pause = backoff.pause(n, Uuid(bytes), AttemptNumber(attempt));
            let longest = backoff.longest(n);
            prop_assert!(pause <= longest && pause.0 >= longest.0 / 2, "{pause} of {longest}");
        }

        #[test]
        fn a_backoff_is_read_back_as_printed(first in 0u64..1 << 30, more in 0u64..1 << 30) {
            let backoff = Backoff::Exponential { first: Span(first), max: Span(first + more) };
            prop_assert_eq!(Backoff::parse(&backoff.to_string()), Ok(backoff));
            let fixed = Backoff::Fixed(Span(first));
            prop_assert_eq!(Backoff::parse(&fixed.to_string()), Ok(fixed));
        }
    }

    #[test]
    fn the_default_is_five_seconds_times_three_up_to_a_quarter_hour() {
        let spans: Vec<u64> = (1..=7).map(|n| Backoff::default().longest(n).0 / 1000).collect();
        assert_eq!(spans, [5, 15, 45, 135, 405, 900, 900]);
        assert_eq!(Backoff::default().longest(u32::MAX), Span::from_secs(900));
    }

    #[test]
    fn chance_reaches_both_ends() {
        let backoff = Backoff::Exponential { first: Span(10), max: Span(10) };
        let seen: std::collections::BTreeSet<u64> =
            (0..500).map(|n| backoff.pause(1, Uuid([7; 16]), AttemptNumber(n)).0).collect();
        assert_eq!(seen, (5..=10).collect());
        // Pinned: a pause must come out the same in every build.
        let exact = Backoff::default().pause(3, Uuid([9; 16]), AttemptNumber(3));
        assert_eq!(exact, Backoff::default().pause(3, Uuid([9; 16]), AttemptNumber(3)));
        assert_eq!(chance(Uuid([9; 16]), AttemptNumber(3)), CHANCE_9_3);
        let mixed = std::array::from_fn(|place| u8::try_from(place * 17).expect("255 at most"));
        assert_eq!(chance(Uuid(mixed), AttemptNumber(3)), CHANCE_MIXED_3);
        assert_eq!(Backoff::Fixed(Span(7)).pause(9, Uuid([1; 16]), AttemptNumber(1)), Span(7));
    }

    const CHANCE_9_3: u64 = 487_617_019_471_545_679;
    const CHANCE_MIXED_3: u64 = 14_686_315_619_592_488_229;

    #[test]
    fn what_is_no_backoff_is_refused() {
        let constant = Backoff::Exponential { first: Span(5000), max: Span(5000) };
        assert_eq!(Backoff::parse("exponential:5s..5s"), Ok(constant));
        assert_eq!(Backoff::parse("10s"), Err(BadBackoff::Form));
        assert_eq!(Backoff::parse("exponential:5s"), Err(BadBackoff::Form));
        assert_eq!(Backoff::parse("exponential:5m..1s"), Err(BadBackoff::Order));
        assert_eq!(Backoff::parse("fixed:10"), Err(BadBackoff::Span(BadSpan::NoUnit(10))));
    }
}
