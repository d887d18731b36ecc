//! Stands in for `parking_lot` 0.11, which only sled uses.
//!
//! Everything is `parking_lot` 0.12, but for [`Condvar`]. sled hands each buffer to a pool of seven
//! threads and then calls `notify_all`: one of them takes the work, six wake for nothing, and each
//! of them passes the lock on to the next. The threads of the pool, and no others, wait with
//! `wait_until`; so here `notify_all` wakes one of those, and all that wait in another way.

use std::time::{Duration, Instant};

pub use real::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult};

/// A condition variable on which `wait_until` means waiting for work that any one thread may do.
#[derive(Debug, Default)]
pub struct Condvar {
    /// Whoever waits for news.
    news: real::Condvar,
    /// Threads that wait for work.
    work: real::Condvar,
}

impl Condvar {
    /// One on which nobody waits.
    pub const fn new() -> Self {
        Self { news: real::Condvar::new(), work: real::Condvar::new() }
    }

    /// Waits until notified.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.news.wait(guard);
    }

    /// Waits for work until notified or `until`. Whoever is notified must look for work until there
    /// is none: nobody else is told of it.
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Instant,
    ) -> WaitTimeoutResult {
        self.work.wait_until(guard, until)
    }

    /// Waits until notified or for `limit`.
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        limit: Duration,
    ) -> WaitTimeoutResult {
        self.news.wait_for(guard, limit)
    }

    /// Wakes one of those that wait, whatever for.
    pub fn notify_one(&self) -> bool {
        self.news.notify_one() || self.work.notify_one()
    }

    /// Wakes all that wait for news and one that waits for work; gives how many.
    pub fn notify_all(&self) -> usize {
        self.news.notify_all() + usize::from(self.work.notify_one())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two wait for work and two for news; the last of them to be told ends the test.
    #[test]
    fn work_wakes_one_and_news_wake_all() {
        let (state, bell) = (Mutex::new((0_u32, 0_u32, 0_u32)), Condvar::new());
        let until = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut state = state.lock();
                    state.0 += 1;
                    assert!(!bell.wait_until(&mut state, until).timed_out());
                    state.1 += 1;
                });
                scope.spawn(|| {
                    let mut state = state.lock();
                    state.0 += 1;
                    bell.wait(&mut state);
                    state.2 += 1;
                });
            }
            let reached = |done: &dyn Fn((u32, u32, u32)) -> bool| {
                while !done(*state.lock()) {
                    assert!(Instant::now() < until, "{:?}", state.lock());
                    std::thread::yield_now();
                }
            };
            reached(&|(waiting, ..)| waiting == 4);
            assert_eq!(bell.notify_all(), 3);
            reached(&|(_, worked, told)| worked == 1 && told == 2);
            assert_eq!(bell.notify_all(), 1);
            reached(&|(_, worked, _)| worked == 2);
        });
    }
}
