//! What people do to schedules by hand.

use std::sync::Arc;

use capsule_core::id::ScheduleId;
use capsule_core::task::Task;

use super::super::EngineError;
use super::super::group::Group;
use super::door::{ScheduleChange, ScheduleError};
use super::{Fire, Origin, Outcome, Schedule};
use crate::schedule::{Overlap, Paused, SkipNext};

type Changed = Result<Schedule, ScheduleError>;

impl Group<'_> {
    /// Does one thing to a schedule.
    pub(super) fn change_schedule(
        &mut self,
        id: ScheduleId,
        change: ScheduleChange,
    ) -> Result<Changed, EngineError> {
        let known = self.book.schedules.get(id).cloned();
        let Some(schedule) = known else { return Ok(Err(ScheduleError::Unknown(id))) };
        if !schedule.is_active() {
            return Ok(Err(ScheduleError::Ended(id)));
        }
        match change {
            ScheduleChange::End => return self.end_by_hand(schedule),
            ScheduleChange::Pause { by, note } => {
                let paused = Paused { since: self.now, by, note, backfills: false };
                let schedule = Schedule { paused: Some(paused), ..schedule };
                self.keep(schedule, Vec::new())?;
            }
            ScheduleChange::Resume if schedule.paused.is_none() => {}
            ScheduleChange::Resume => self.resume(schedule)?,
            ScheduleChange::SkipNext { by } => {
                let Some(planned) = schedule.next.filter(|_| schedule.is_enabled()) else {
                    return Ok(Err(ScheduleError::NoNext(schedule.label())));
                };
                let skip = Some(SkipNext { planned, by });
                self.keep(Schedule { skip, ..schedule }, Vec::new())?;
            }
        }
        Ok(self.book.schedules.get(id).cloned().ok_or(ScheduleError::Unknown(id)))
    }

    /// Goes on with the first tick after now; those since the pause are noted as such.
    fn resume(&mut self, mut schedule: Schedule) -> Result<(), EngineError> {
        let rows = schedule.note_pause(self.now).into_iter().collect();
        schedule.paused = None;
        schedule.failures = 0;
        self.ended_runs.extend(schedule.former.map(|run| (run, false)));
        self.keep(schedule, rows)
    }

    /// Ends a recurrence, or what was added by hand; an app's schedule ends with its app's code.
    fn end_by_hand(&mut self, known: Schedule) -> Result<Changed, EngineError> {
        match known.origin {
            Origin::App | Origin::Manifest => {
                Ok(Err(ScheduleError::OfApp { name: known.label(), app: known.app }))
            }
            Origin::Sdk | Origin::Manual => self.end(known).map(Ok),
        }
    }

    pub(super) fn trigger(
        &mut self,
        id: ScheduleId,
    ) -> Result<Result<Arc<Task>, ScheduleError>, EngineError> {
        let known = self.book.schedules.get(id).cloned();
        let Some(mut schedule) = known else { return Ok(Err(ScheduleError::Unknown(id))) };
        if !schedule.is_active() {
            return Ok(Err(ScheduleError::Ended(id)));
        }
        if schedule.policy.overlap != Overlap::Allow
            && let Some(task) = self.overlap(&schedule)
        {
            return Ok(Err(ScheduleError::Overlap(task)));
        }
        // A clock that stands or was set back gives an instant again; no record is written over.
        // Nor is the one of a fire by plan taken.
        let mut planned = self.now;
        while schedule.rule.has(planned) || self.has_tick(schedule.tick(planned))? {
            planned.0 += 1;
        }
        let outcome = self.fire(&mut schedule, planned, Fire::Manual)?;
        self.keep(schedule, vec![(planned, outcome.clone())])?;
        match outcome {
            Outcome::Fired { task, .. }
            | Outcome::Skipped { task }
            | Outcome::Buffered { task } => {
                let task = self.load(task)?;
                Ok(task.ok_or(ScheduleError::Unknown(id)))
            }
            Outcome::Refused { why } => Ok(Err(ScheduleError::Refused(why))),
            Outcome::Missed { .. }
            | Outcome::Paused { .. }
            | Outcome::PassedOver { .. }
            | Outcome::ToBackfill => Ok(Err(ScheduleError::Unknown(id))),
        }
    }
}
