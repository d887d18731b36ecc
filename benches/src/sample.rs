//! Measured values and what is said of them.

use std::fmt;
use std::time::Duration;

/// Values of one measure, in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// A sample of one value.
    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a duration in microseconds.
    pub(crate) fn push_micros(&mut self, time: Duration) {
        self.push(micros(time));
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which the part `q` of the values lies; 0 of no values.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list of measures"
        )]
        let place = (last as f64 * q).round() as usize;
        sorted.get(place).copied().unwrap_or(0.0)
    }

    /// The value in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Each value divided by the other's of the same round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

/// Median and, in brackets, the lowest and highest value.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (middle, low, high) = (self.median(), self.quantile(0.0), self.quantile(1.0));
        if self.len() < 2 {
            return f.write_str(&short(middle));
        }
        write!(f, "{} ({}–{})", short(middle), short(low), short(high))
    }
}

/// Microseconds.
pub(crate) const fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// So many things in so much time, per second.
#[expect(clippy::cast_precision_loss, reason = "counts of measured things are small")]
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Three digits that matter.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 10_000.0 {
        format!("{:.1}k", value / 1000.0)
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
