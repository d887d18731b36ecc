//! Schedules: when something is to be started again and again, and what became of each fire.
//!
//! Pure data and the calendar: it must not know the engine, the store or the wire. Invariant: no
//! rule is kept that was not read and found to come at least once.

mod cron;
mod index;
mod plan;
mod policy;
mod rule;
mod template;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::time::{Span, Timestamp};
use minicbor::{Decode, Encode};

pub use self::cron::{Cron, CronError, Shift, local_zone};
pub use self::index::Schedules;
pub use self::plan::{Due, LATE, Missed};
pub use self::policy::{
    BUFFER_MAX, CATCH_UP_MAX, CatchUp, Counted, JITTER_MAX, Overlap, Paused, Policy,
};
pub use self::rule::{MISSED_MAX, Rule, RuleError};
pub use self::template::Template;

/// How long what became of a tick is kept, and a schedule after its end.
pub const TICKS_KEPT: Span = Span::from_secs(90 * 86_400);

/// The most ticks kept of one schedule.
pub const TICKS_MAX: u32 = 1000;

/// The shortest time from one fire of a recurrence to the next.
pub const EVERY_MIN: Span = Span::from_secs(1);

/// A schedule. Fields are numbered for the disk: never reuse a number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Schedule {
    /// Never given again, and no task has the same.
    #[n(0)]
    pub id: ScheduleId,
    /// Its app.
    #[n(1)]
    pub app: String,
    /// The handler that it runs, or the task that it submits.
    #[n(2)]
    pub name: String,
    /// When it fires.
    #[n(3)]
    pub rule: Rule,
    /// Counts up with each change of the rule.
    #[n(4)]
    pub generation: u32,
    /// Where it comes from.
    #[n(5)]
    pub origin: Origin,
    /// Who deployed or submitted it.
    #[n(6)]
    pub owner: String,
    /// When it was registered.
    #[n(7)]
    pub created: Timestamp,
    /// The next planned fire; `None` = it does not fire again.
    #[n(8)]
    pub next: Option<Timestamp>,
    /// When it was taken away.
    #[n(9)]
    pub ended: Option<Timestamp>,
    /// The last planned fire, and what became of it.
    #[n(10)]
    pub last: Option<LastTick>,
    /// The last task that it made.
    #[n(11)]
    pub former: Option<TaskId>,
    /// What each fire of a recurrence submits; a handler's run is made of its definition.
    #[n(12)]
    pub template: Option<Template>,
    /// Every planned instant up to this one has been decided, whichever rule planned it; later
    /// than now when the clock was set back.
    #[n(13)]
    pub decided: Timestamp,
    /// What goes for all its fires.
    #[n(14)]
    #[cbor(default)]
    pub policy: Policy,
    /// Nothing fires until it is resumed.
    #[n(15)]
    pub paused: Option<Paused>,
    /// This tick will be passed over, because somebody asked for that.
    #[n(16)]
    pub skip: Option<SkipNext>,
    /// How often the rule in force has fired by its plan.
    #[n(17)]
    #[cbor(default)]
    pub fires: u32,
    /// How many of its last runs have failed, in a row.
    #[n(18)]
    #[cbor(default)]
    pub failures: u32,
    /// Ticks that wait until the run before has ended, oldest first.
    #[n(19)]
    #[cbor(default)]
    pub buffered: Vec<Timestamp>,
    /// Its own name, where that is not the name of a handler.
    #[n(20)]
    #[cbor(default)]
    pub title: String,
    /// When the rule in force and its bounds began; `None` = with the schedule.
    #[n(21)]
    pub since: Option<Timestamp>,
}

/// A tick that will be passed over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SkipNext {
    /// Which.
    #[n(0)]
    pub planned: Timestamp,
    /// Who asked for that.
    #[n(1)]
    pub by: String,
}

/// Where a schedule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Origin {
    /// An app's code.
    #[n(0)]
    App,
    /// A task submitted through the SDK with a recurrence.
    #[n(1)]
    Sdk,
    /// The manifest of an app.
    #[n(2)]
    Manifest,
    /// Somebody added it by hand.
    #[n(3)]
    Manual,
}

impl Origin {
    /// Whether it comes and goes with the revision of its app.
    pub const fn is_deployed(self) -> bool {
        matches!(self, Self::App | Self::Manifest)
    }
}

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
        /// How many; [`MISSED_MAX`] = so many or more.
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
        /// How many; [`MISSED_MAX`] = so many or more.
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
}

impl Outcome {
    /// The task that the fire made.
    pub const fn made(&self) -> Option<TaskId> {
        if let Self::Fired { task, .. } = self { Some(*task) } else { None }
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

impl Schedule {
    /// A recurrence of nothing yet that begins at `now`.
    pub fn new(id: ScheduleId, rule: Rule, now: Timestamp) -> Self {
        Self {
            id,
            app: String::new(),
            name: String::new(),
            next: rule.next_after(now),
            rule,
            generation: 1,
            origin: Origin::Sdk,
            owner: String::new(),
            created: now,
            ended: None,
            last: None,
            former: None,
            template: None,
            decided: now,
            policy: Policy::default(),
            paused: None,
            skip: None,
            fires: 0,
            failures: 0,
            buffered: Vec::new(),
            title: String::new(),
            since: None,
        }
    }

    /// Whether it still fires.
    pub const fn is_active(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether the clock fires it: it is neither ended, nor done, nor paused.
    pub const fn is_enabled(&self) -> bool {
        self.ended.is_none() && self.paused.is_none() && self.next.is_some()
    }

    /// What people call it: its name, a handler's name, or a recurrence's id.
    pub fn label(&self) -> String {
        match self.origin {
            Origin::App => self.name.clone(),
            Origin::Sdk => self.id.to_string(),
            Origin::Manifest | Origin::Manual => self.title.clone(),
        }
    }

    /// The key of a fire under the rule in force.
    pub const fn tick(&self, planned: Timestamp) -> TickKey {
        TickKey { schedule: self.id, generation: self.generation, planned }
    }

    /// Every tick until this one has been decided: the next is the one behind it.
    pub fn go_on(&mut self, until: Timestamp) {
        self.decided = self.decided.max(until);
        self.next = self.next_after(self.decided);
        let next = self.next;
        self.skip.take_if(|skip| next.is_none_or(|next| next > skip.planned));
    }

    /// When the clock does something to it: its next fire, or the end of what is kept of it.
    fn alarm(&self) -> Option<Timestamp> {
        match (self.ended, &self.paused) {
            (Some(ended), _) => Some(ended.plus(TICKS_KEPT)),
            (None, Some(_)) => None,
            (None, None) => self.next.map(|planned| self.due_at(planned)),
        }
    }
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
