//! Which attempts of the keeper hold a slot, and which were claimed ahead and wait for one.
//!
//! Invariant: no more attempts are with the keeper than there are slots, those aside that it had
//! when it was met; what waits too long is given back.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use capsule_core::attempt::{NotStarted, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use tokio::time::Instant;

use super::shared::Shared;
use super::{Dispatcher, names};
use crate::engine::EngineError;
use crate::keeper::wire::Report;
use crate::runner::link::Link;

/// How long a claim may wait for a slot.
const WAIT: Duration = Duration::from_millis(100);

type Key = (TaskId, AttemptNumber);

/// Slots and who waits for them.
#[derive(Debug)]
pub(super) struct Turns<T> {
    slots: usize,
    busy: HashSet<Key>,
    waiting: VecDeque<(Instant, Key, T)>,
}

impl<T: Clone> Turns<T> {
    /// For so many slots, all free.
    pub(super) fn new(slots: u32) -> Self {
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        Self { slots, busy: HashSet::new(), waiting: VecDeque::new() }
    }

    /// A keeper was met that has these.
    pub(super) fn begin(&mut self, live: impl Iterator<Item = Key>) {
        self.busy = live.collect();
    }

    /// Gives an attempt a slot; false when it has to wait for one, or was asked for already.
    pub(super) fn take(&mut self, key: Key, task: &T) -> bool {
        // After a broken connection a claim may come twice. A second turn could come when the
        // first is over and acknowledged, and the attempt would run again.
        if self.busy.contains(&key) || self.waiting.iter().any(|(_, known, _)| *known == key) {
            return false;
        }
        let free = self.busy.len() < self.slots;
        if free {
            self.busy.insert(key);
        } else {
            self.waiting.push_back((Instant::now(), key, task.clone()));
        }
        free
    }

    /// The last process of an attempt is gone, or it never had one.
    pub(super) fn leave(&mut self, key: Key) {
        self.busy.remove(&key);
    }

    /// Gives a free slot to the one that waits longest.
    pub(super) fn next(&mut self) -> Option<(Key, T)> {
        if self.busy.len() >= self.slots {
            return None;
        }
        let (_, key, task) = self.waiting.pop_front()?;
        self.busy.insert(key);
        Some((key, task))
    }

    /// Takes one out that waits; false when it does not.
    pub(super) fn give_up(&mut self, key: Key) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(_, waiting, _)| *waiting != key);
        self.waiting.len() < before
    }

    /// Takes all out that wait.
    pub(super) fn give_up_all(&mut self) -> Vec<Key> {
        self.waiting.drain(..).map(|(_, key, _)| key).collect()
    }

    /// When one has waited too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, ..)| *since + WAIT)
    }
}

impl Dispatcher {
    /// Starts who waits for a slot when this report says that one is free.
    pub(super) fn make_room(
        &self,
        link: &Link,
        shared: &mut Shared,
        report: &Report,
    ) -> Result<(), EngineError> {
        let is_free = match report {
            Report::Ended(ended) => ended.tree_gone,
            Report::Gone(_) | Report::CannotStart(_) => true,
            Report::Started(_)
            | Report::NoSuch(_)
            | Report::Welcome(_)
            | Report::Refused(_)
            | Report::Inventory(_) => false,
        };
        if let Some(key) = report.key().filter(|_| is_free) {
            shared.turns.leave(names(key));
        }
        while let Some(((_, attempt), task)) = shared.turns.next() {
            self.ask_keeper(link, shared, &task, attempt)?;
        }
        Ok(())
    }

    /// Gives back what was claimed ahead and has no slot.
    pub(super) fn put_back(&self, shared: &mut Shared) -> Result<(), EngineError> {
        for (task, attempt) in shared.turns.give_up_all() {
            self.released(task, attempt)?;
        }
        Ok(())
    }

    pub(super) fn released(&self, task: TaskId, attempt: AttemptNumber) -> Result<(), EngineError> {
        self.never_ran(task, attempt, Verdict::NotStarted(NotStarted::Released))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(task: u64) -> Key {
        (TaskId(task), AttemptNumber(1))
    }

    fn next(turns: &mut Turns<()>) -> Option<u64> {
        turns.next().map(|((task, _), ())| task.0)
    }

    #[test]
    fn a_claim_that_comes_twice_has_one_turn() {
        let mut turns = Turns::new(1);
        turns.begin([key(9)].into_iter());
        assert!(!turns.take(key(1), &()) && !turns.take(key(1), &()));
        turns.leave(key(9));
        assert_eq!(next(&mut turns), Some(1));
        assert!(!turns.take(key(1), &()), "it has its slot");
        turns.leave(key(1));
        assert_eq!(next(&mut turns), None);
    }

    #[test]
    fn slots_go_to_who_came_first_and_to_nobody_beyond_them() {
        let mut turns = Turns::new(2);
        turns.begin([key(9)].into_iter());
        assert!(turns.take(key(1), &()));
        assert!(turns.deadline().is_none());
        for task in 2..=5 {
            assert!(!turns.take(key(task), &()));
        }
        assert!(turns.deadline().is_some());
        assert_eq!(next(&mut turns), None);
        turns.leave((TaskId(9), AttemptNumber(2)));
        assert_eq!(next(&mut turns), None, "another attempt of the same task");
        turns.leave(key(9));
        assert_eq!((next(&mut turns), next(&mut turns)), (Some(2), None));
        assert!(turns.give_up(key(3)) && !turns.give_up(key(3)));
        assert!(!turns.give_up(key(2)), "it has its slot");
        turns.leave(key(1));
        assert_eq!(next(&mut turns), Some(4));
        assert_eq!(turns.give_up_all(), [key(5)]);
        turns.leave(key(2));
        assert_eq!(next(&mut turns), None);
        assert!(turns.take(key(6), &()));
    }
}
