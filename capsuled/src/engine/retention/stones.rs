//! What remains of tasks that are gone: a record each, for a while and up to a number, so that
//! people are told how it had ended. Later they are only told that it was.

use std::collections::VecDeque;

use capsule_core::id::TaskId;
use capsule_core::task::Status;
use capsule_core::time::{Span, Timestamp};

use super::super::group::Group;
use super::super::records::{self, Tombstone};
use crate::store::{Change, Table};

/// The most tombstones that are kept.
pub const STONES_MAX: usize = 10_000;
/// How long a tombstone is kept.
pub const STONES_KEPT: Span = Span::from_secs(7 * 86_400);

/// All tombstones in the order of the removals.
#[derive(Debug, Default)]
pub(in crate::engine) struct Stones {
    stones: VecDeque<(Timestamp, TaskId)>,
}

impl Stones {
    /// Notes one that a start has found; [`Stones::sort`] when all are there.
    pub(in crate::engine) fn found(&mut self, id: TaskId, stone: &Tombstone) {
        self.stones.push_back((stone.removed, id));
    }

    pub(in crate::engine) fn sort(&mut self) {
        self.stones.make_contiguous().sort_unstable();
    }

    fn take_old(&mut self, now: Timestamp) -> Option<TaskId> {
        let (removed, id) = *self.stones.front()?;
        let old = now.since(removed) > STONES_KEPT || self.stones.len() > STONES_MAX;
        old.then(|| {
            self.stones.pop_front();
            id
        })
    }
}

impl Group<'_> {
    /// Leaves a tombstone.
    pub(in crate::engine) fn put_stone(&mut self, id: TaskId, status: Status) {
        let stone = Tombstone { status, removed: self.now };
        self.carry.retention.stones.stones.push_back((self.now, id));
        self.write(Change::put(Table::Tombstone, id.0.to_be_bytes(), records::encode(&stone)));
    }

    /// Takes tombstones away that are too old or too many, so many at the most. True = no more.
    pub(in crate::engine) fn sweep_stones(&mut self, most: usize) -> bool {
        let now = self.now;
        for swept in 0..=most {
            let Some(id) = self.carry.retention.stones.take_old(now) else { return true };
            if swept == 0 {
                // Without a record nothing but this says that the ids were given.
                self.write(records::put_id_floor(self.carry.last_id));
            }
            self.write(Change::delete(Table::Tombstone, id.0.to_be_bytes()));
        }
        false
    }
}
