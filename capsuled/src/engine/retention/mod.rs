//! Forgets: ended tasks by age and number, and in the end also that they ever were.
//!
//! Which task goes next is told by [`crate::book::Ended`]; here it is seen whether anything still
//! needs it, and it goes in steps that are small enough for nobody to wait. Invariant: no task goes
//! that has not ended, that others wait for, or that stands for an idempotency key.

mod stones;
#[cfg(test)]
mod tests;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::Payload;
use capsule_core::task::{State, Task};
use capsule_core::time::{Span, Timestamp};

pub(super) use self::stones::Stones;
pub use self::stones::{STONES_KEPT, STONES_MAX};
use super::group::Group;
use super::request::Effect;
use super::{EngineError, KEY_KEPT, records};
use crate::book::{Book, Keep};
use crate::store::{SideFiles, SideKind};

/// Records that a group takes away at the most when nobody waits for its commit.
const IDLE_MAX: usize = 256;
/// And when somebody does, besides two for each task that has just ended.
const BUSY_MAX: usize = 32;
/// Tasks looked at in one group at the most; most of them go.
const LOOKED_MAX: usize = 512;
/// When a task that is needed is looked at again; it may have been let go long before.
const LOOK_AGAIN: Span = Span::from_secs(600);

/// What the engine's thread knows about forgetting.
#[derive(Debug, Default)]
pub(super) struct Retention {
    pub(super) keep: Keep,
    pub(super) stones: Stones,
    /// There was more to do than one group may.
    pub(super) more: bool,
}

impl Retention {
    /// The next instant at which something has to be forgotten.
    pub(super) fn next_alarm(&self, book: &Book) -> Option<Timestamp> {
        book.ended.next_alarm(&self.keep)
    }
}

/// Removes the side files that a crash, or a failed removal, left of no task. Only before anything
/// is written.
pub(super) fn sweep_side_files(side: &SideFiles, book: &Book) {
    let is_known =
        |id| book.entries.contains_key(&TaskId(id)) || book.schedules.get(ScheduleId(id)).is_some();
    match side.sweep(|_, id| is_known(id)) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "side files that belonged to no task are removed"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "side files that belong to no task stay behind");
        }
    }
}

impl Group<'_> {
    /// Forgets some of what is too old or too much.
    pub(super) fn retain(&mut self, somebody_waits: bool) -> Result<(), EngineError> {
        let keep = self.carry.retention.keep;
        let fresh = self.book.ended.take_fresh();
        let mut room = if somebody_waits { BUSY_MAX + 2 * fresh } else { IDLE_MAX };
        self.book.ended.look_again(self.now);
        self.carry.retention.more = true;
        for _ in 0..LOOKED_MAX {
            if room == 0 {
                return Ok(());
            }
            let Some(candidate) = self.book.ended.candidate(self.now, &keep) else { break };
            let Some(task) = self.load(candidate.id())? else {
                tracing::error!(task.id = candidate.id().0, "an ended task is not there");
                candidate.drop_from(&mut self.book.ended);
                continue;
            };
            let kin = self.book.kin(&task);
            if !self.book.ended.take(candidate, kin) {
                continue;
            }
            if let Some(until) = self.needed_until(&task) {
                self.book.ended.put_aside(candidate, until);
            } else {
                room = room.saturating_sub(1 + records::stored_attempts(&task).count());
                self.forget_task(&task);
            }
        }
        let none_left = self.book.ended.candidate(self.now, &keep).is_none();
        let swept = self.sweep_stones(room);
        self.carry.retention.more = !(none_left && swept);
        Ok(())
    }

    /// Until when something needs an ended task; `None` = nothing does.
    fn needed_until(&self, task: &Task) -> Option<Timestamp> {
        let waits =
            |id: TaskId| self.book.entries.get(&id).is_some_and(|entry| !entry.status.is_ended());
        let lingers = self.book.lingering.contains_key(&task.id) || self.may_linger(task);
        if lingers || self.book.dependants(task.id).into_iter().any(waits) {
            return Some(self.now.plus(LOOK_AGAIN));
        }
        let State::Ended { at, .. } = task.state else { return Some(self.now.plus(LOOK_AGAIN)) };
        let key = task.spec.key.as_ref()?;
        let stands = self.book.by_key(&task.spec.app, &task.spec.name, key) == Some(task.id);
        // A key holds up to and with this instant.
        Some(at.plus(KEY_KEPT).plus(Span(1))).filter(|until| stands && *until > self.now)
    }

    /// Whether nobody knows yet if processes of an ended task live: after a start, until a keeper
    /// was met. Were it forgotten, its lock and its slot would be given to another one.
    pub(super) fn may_linger(&self, task: &Task) -> bool {
        !self.carry.met_keeper && task.attempts.0 > 0
    }

    /// Takes an ended task away with all that belongs to it.
    pub(super) fn forget_task(&mut self, task: &Task) {
        self.bury(task);
        self.drop_side_files(task);
        let (first, last) = (records::oldest_attempt(task.attempts), task.attempts);
        if last >= first {
            self.effects.push(Effect::Forgotten { task: task.id, first, last });
        }
    }

    /// Takes a removed task's side files away once the removal is durable; the sweep at the next
    /// start takes what is left.
    fn drop_side_files(&mut self, task: &Task) {
        let (side, id) = (self.shared.side.clone(), task.id.0);
        let is_side = |payload: &Payload| matches!(payload, Payload::Side { .. });
        let payload = is_side(&task.spec.payload).then_some(SideKind::Payload);
        let result = task.result.as_ref().is_some_and(is_side).then_some(SideKind::Result);
        if payload.is_none() && result.is_none() {
            return;
        }
        self.afterwards.push(Box::new(move || {
            for kind in payload.into_iter().chain(result) {
                if let Err(error) = side.remove(kind, id) {
                    tracing::warn!(task.id = id, %error, "a side file stays until the next start");
                }
            }
        }));
    }
}
