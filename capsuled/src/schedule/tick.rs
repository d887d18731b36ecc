//! What became of planned fires.

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::time::Timestamp;
use minicbor::{Decode, Encode};

/// The last fire of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LastTick {
    /// When it was planned.
    #[n(0)]
    pub planned: Timestamp,
    /// What became of it.
    #[n(1)]
    pub outcome: Outcome,
}

/// What became of a planned fire.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tick {
    /// When that was decided.
    #[n(0)]
    pub at: Timestamp,
    /// What was decided.
    #[n(1)]
    pub outcome: Outcome,
}

/// What was decided about a planned fire.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It made this task.
    #[n(0)]
    Fired {
        /// Which.
        #[n(0)]
        task: TaskId,
        /// Whether it was on time.
        #[n(1)]
        how: Fire,
    },
    /// This task of the fire before had not ended, or stood for it.
    #[n(1)]
    Skipped {
        /// Which.
        #[n(0)]
        task: TaskId,
    },
    /// Nobody was there; stands for all ticks up to `until`.
    #[n(2)]
    Missed {
        /// The last of them.
        #[n(0)]
        until: Timestamp,
        /// How many; [`super::MISSED_MAX`] = so many or more.
        #[n(1)]
        count: u32,
    },
    /// No task could be made.
    #[n(3)]
    Refused {
        /// Why.
        #[n(0)]
        why: String,
    },
    /// The schedule was paused; stands for all ticks up to `until`.
    #[n(4)]
    Paused {
        /// The last of them.
        #[n(0)]
        until: Timestamp,
        /// How many; [`super::MISSED_MAX`] = so many or more.
        #[n(1)]
        count: u32,
    },
    /// It waits until the run before has ended.
    #[n(5)]
    Buffered {
        /// The task of that run.
        #[n(0)]
        task: TaskId,
    },
    /// Somebody asked for it to be passed over.
    #[n(6)]
    PassedOver {
        /// Who.
        #[n(0)]
        by: String,
    },
    /// Somebody asked for it, long after its time; it waits for its turn.
    #[n(7)]
    ToBackfill,
}

impl Outcome {
    /// The task that the fire made.
    pub const fn made(&self) -> Option<TaskId> {
        if let Self::Fired { task, .. } = self { Some(*task) } else { None }
    }

    /// The last tick that it stands for, where it stands for more than its own.
    pub const fn until(&self) -> Option<Timestamp> {
        if let Self::Missed { until, .. } | Self::Paused { until, .. } = self {
            Some(*until)
        } else {
            None
        }
    }

    /// The same of some of the ticks that it stands for: so many, up to `until`.
    pub(super) fn of_part(&self, until: Timestamp, count: u32) -> Self {
        match self {
            Self::Missed { .. } => Self::Missed { until, count },
            Self::Paused { .. } => Self::Paused { until, count },
            one @ (Self::Fired { .. }
            | Self::Skipped { .. }
            | Self::Refused { .. }
            | Self::Buffered { .. }
            | Self::PassedOver { .. }
            | Self::ToBackfill) => one.clone(),
        }
    }
}

/// How a fire came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Fire {
    /// On time.
    #[n(0)]
    OnTime,
    /// Late, because nobody was there.
    #[n(1)]
    CaughtUp,
    /// By hand.
    #[n(2)]
    Manual,
    /// It had waited until the run before has ended.
    #[n(3)]
    Buffered,
    /// By hand, for a time that is over.
    #[n(4)]
    Backfilled,
}

/// The key of a tick: there is one record for each planned fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TickKey {
    /// Of which schedule.
    pub schedule: ScheduleId,
    /// Of which of its rules.
    pub generation: u32,
    /// When it was planned.
    pub planned: Timestamp,
}

impl TickKey {
    /// The length of a key in bytes.
    pub const LEN: usize = 20;

    /// In the order of the fires of one schedule.
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut key = [0; Self::LEN];
        let (schedule, rest) = key.split_at_mut(8);
        let (generation, planned) = rest.split_at_mut(4);
        schedule.copy_from_slice(&self.schedule.0.to_be_bytes());
        generation.copy_from_slice(&self.generation.to_be_bytes());
        // Instants before 1970 sort before the others.
        planned.copy_from_slice(&(self.planned.0 ^ i64::MIN).to_be_bytes());
        key
    }

    /// From its bytes; `None` when they are no such key.
    pub fn decode(key: &[u8]) -> Option<Self> {
        let (schedule, rest) = key.split_first_chunk()?;
        let (generation, planned) = rest.split_first_chunk()?;
        Some(Self {
            schedule: ScheduleId(u64::from_be_bytes(*schedule)),
            generation: u32::from_be_bytes(*generation),
            planned: Timestamp(i64::from_be_bytes(planned.try_into().ok()?) ^ i64::MIN),
        })
    }

    /// Before the first and behind the last key of a schedule.
    pub fn range(schedule: ScheduleId) -> ([u8; Self::LEN], [u8; Self::LEN]) {
        let key = |generation, planned| Self { schedule, generation, planned: Timestamp(planned) };
        (key(0, i64::MIN).encode(), key(u32::MAX, i64::MAX).encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_sort_by_time() {
        let key = |generation, planned| TickKey {
            schedule: ScheduleId(7),
            generation,
            planned: Timestamp(planned),
        };
        let mut before = key(0, i64::MIN);
        for next in [key(1, -5), key(1, 0), key(1, 9), key(2, 3)] {
            assert_eq!(TickKey::decode(&next.encode()), Some(next));
            assert!(before.encode() < next.encode());
            before = next;
        }
        let (from, to) = TickKey::range(ScheduleId(7));
        assert!(from < before.encode() && before.encode() < to);
        assert_eq!(TickKey::decode(b"short"), None);
        assert_eq!(TickKey::decode(&[0; 21]), None);
    }
}
