//! Waiting for what the product says, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Looks until `look` gives something.
///
/// # Panics
/// It gave nothing within [`PATIENCE`].
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_for_within(what, PATIENCE, look)
}

/// Looks until `look` gives something, or the time is up; the first look is at once.
///
/// # Panics
/// It gave nothing in time.
pub fn wait_for_within<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        // Taken before the look, so that the last look comes after the deadline.
        let late = Instant::now() > deadline;
        if let Some(value) = look() {
            return value;
        }
        assert!(!late, "it did not happen within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(4));
    }
}
