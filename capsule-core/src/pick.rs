//! Which ready task starts next: priority with ageing, then how long it waits, then its id.
//!
//! A task stands in a lane (queue, app, name), because the gates that many tasks share hang on
//! those three. A lane whose gate is shut costs one look, however many tasks stand in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::TaskId;
use crate::time::Timestamp;

/// What the shared gates hang on. The numbers stand for names; their owner knows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The queue.
    pub queue: u32,
    /// The app.
    pub app: u32,
    /// The task name within the app.
    pub name: u32,
}

/// Where a task stands in its lane: lower starts sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(i64, TaskId);

/// One step of priority is worth this much waiting, so that nothing starves: 30 s.
pub const AGEING_US: i64 = 30_000_000;

impl Rank {
    /// The rank of a task that waits since `since`. It never changes while the task waits: all
    /// grow older at the same pace.
    pub fn new(priority: i8, since: Timestamp, id: TaskId) -> Self {
        Self(since.0.saturating_sub(i64::from(priority).saturating_mul(AGEING_US)), id)
    }

    /// The task that has it.
    pub const fn task(self) -> TaskId {
        self.1
    }
}

/// The tasks at which no gate of their own holds.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    lanes: BTreeMap<Lane, BTreeSet<Rank>>,
}

impl Ready {
    /// Lets a task stand in its lane; again changes nothing.
    pub fn insert(&mut self, lane: Lane, rank: Rank) {
        self.lanes.entry(lane).or_default().insert(rank);
    }

    /// Takes a task out; one that is not there changes nothing.
    pub fn remove(&mut self, lane: Lane, rank: Rank) {
        if let Some(ranks) = self.lanes.get_mut(&lane) {
            ranks.remove(&rank);
            if ranks.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// Takes out the task that starts next among the lanes that `open` lets through.
    pub fn pop(&mut self, open: impl Fn(Lane) -> bool) -> Option<TaskId> {
        let (rank, lane) = self
            .lanes
            .iter()
            .filter(|(lane, _)| open(**lane))
            .filter_map(|(lane, ranks)| Some((*ranks.first()?, *lane)))
            .min()?;
        self.remove(lane, rank);
        Some(rank.task())
    }

    /// How many tasks stand in all lanes.
    pub fn len(&self) -> usize {
        self.lanes.values().map(BTreeSet::len).sum()
    }

    /// Whether no task stands in any lane.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// How many start before this one among the lanes that `open` lets through, at most `limit`.
    pub fn ahead_of(&self, rank: Rank, limit: usize, open: impl Fn(Lane) -> bool) -> usize {
        let lanes = self.lanes.iter().filter(|(lane, _)| open(**lane));
        lanes.flat_map(|(_, ranks)| ranks.range(..rank)).take(limit).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lane(n: u32) -> Lane {
        Lane { queue: n, app: 0, name: 0 }
    }

    proptest! {
        /// The model: a list sorted by (since − priority × step, id), the first in an open lane.
        #[test]
        fn pop_agrees_with_a_sorted_list(
            tasks in prop::collection::vec((0u32..3, -100i8..=100, 0i64..10_000_000_000), 0..40),
            shut in 0u32..4,
        ) {
            let mut ready = Ready::default();
            let mut model = Vec::new();
            for (id, (n, priority, since)) in (0u64..).zip(&tasks) {
                ready.insert(lane(*n), Rank::new(*priority, Timestamp(*since), TaskId(id)));
                model.push((since - i64::from(*priority) * 30_000_000, id, *n));
            }
            model.sort_unstable();
            prop_assert_eq!(ready.len(), model.len());
            for (place, (value, id, _)) in model.iter().enumerate() {
                let rank = Rank(*value, TaskId(*id));
                prop_assert_eq!(ready.ahead_of(rank, usize::MAX, |_| true), place);
                prop_assert_eq!(ready.ahead_of(rank, 2, |_| true), place.min(2));
            }
            let expected: Vec<u64> =
                model.iter().filter(|(_, _, n)| *n != shut).map(|(_, id, _)| *id).collect();
            let mut popped = Vec::new();
            for _ in 0..=model.len() {
                popped.extend(ready.pop(|l| l.queue != shut).map(|task| task.0));
            }
            prop_assert_eq!(&popped, &expected);
            prop_assert_eq!(ready.len(), model.len() - expected.len());
            prop_assert_eq!(ready.is_empty(), model.len() == expected.len());
        }
    }

    #[test]
    fn what_is_not_there_is_not_taken_out() {
        let mut ready = Ready::default();
        let rank = Rank::new(0, Timestamp(5), TaskId(1));
        ready.insert(lane(1), rank);
        ready.insert(lane(1), rank);
        assert_eq!(ready.len(), 1);
        ready.remove(lane(2), rank);
        ready.remove(lane(1), Rank::new(1, Timestamp(5), TaskId(1)));
        assert_eq!(ready.len(), 1);
        ready.remove(lane(1), rank);
        assert!(ready.is_empty());
    }

    #[test]
    fn waiting_makes_up_for_priority() {
        let mut ready = Ready::default();
        ready.insert(lane(1), Rank::new(10, Timestamp(301_000_000), TaskId(1)));
        ready.insert(lane(1), Rank::new(0, Timestamp(0), TaskId(2)));
        assert_eq!(ready.pop(|_| true), Some(TaskId(2)));
        assert_eq!(ready.pop(|_| true), Some(TaskId(1)));
        assert_eq!(ready.pop(|_| true), None);
    }
}
