//! How long no other process is started in place of one that died.

use std::time::Duration;

use tokio::time::Instant;

/// After the first death; twice as long after each further one.
const FIRST: Duration = Duration::from_millis(500);
/// The longest, and how long a process must have lived for the deaths before it to be forgotten.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause of one place.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    deaths: u32,
}

impl Pause {
    pub(super) fn is_over(&self) -> bool {
        self.until.is_none_or(|at| at <= Instant::now())
    }

    /// Its end, until the next start.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) const fn started(&mut self) {
        self.until = None;
    }

    /// A process died after so long, or could not be prepared.
    pub(super) fn died(&mut self, lived: Duration) {
        let pause = self.after(lived);
        self.until = Instant::now().checked_add(pause);
    }

    fn after(&mut self, lived: Duration) -> Duration {
        if lived > LONGEST {
            self.deaths = 0;
        }
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(self.deaths)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_forgotten_after_a_long_life() {
        let mut pause = Pause::default();
        assert!(pause.is_over());
        let grown: Vec<u128> = (0..9).map(|_| pause.after(LONGEST).as_millis()).collect();
        assert_eq!(grown, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        pause.died(Duration::ZERO);
        assert!(!pause.is_over() && pause.until().is_some());
        assert_eq!(pause.after(LONGEST + FIRST), FIRST);
        pause.started();
        assert!(pause.is_over() && pause.until().is_none());
    }
}
