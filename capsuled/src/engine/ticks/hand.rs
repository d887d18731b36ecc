//! What people do to schedules by hand.

use std::sync::Arc;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::{INLINE_PAYLOAD_MAX, Payload};
use capsule_core::task::Task;

use super::super::group::Group;
use super::super::request::SubmitError;
use super::super::{DISK, EngineError, PAYLOAD_MAX, SCHEDULES_MAX};
use super::door::{Added, NewSchedule, ScheduleChange, ScheduleError};
use super::{Fire, Origin, Outcome, Schedule};
use crate::schedule::{Overlap, Paused, SkipNext};
use crate::store::SideKind;

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
            ScheduleChange::End => return Ok(self.end_by_hand(schedule)),
            ScheduleChange::Pause { by, note } => {
                let paused = Paused { since: self.now, by, note };
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
        let passed = schedule.passed(self.now);
        let mut rows = Vec::new();
        if let Some(passed) = passed {
            let outcome = Outcome::Paused { until: passed.until, count: passed.count };
            rows.push((passed.from, outcome));
            schedule.decided = schedule.decided.max(passed.until);
            schedule.next = schedule.next_after(self.now.max(schedule.decided));
        }
        schedule.skip.take_if(|skip| schedule.next.is_none_or(|next| next > skip.planned));
        schedule.paused = None;
        schedule.failures = 0;
        self.ended_runs.extend(schedule.former.map(|run| (run, false)));
        self.keep(schedule, rows)
    }

    /// Ends a recurrence, or what was added by hand; an app's schedule ends with its app's code.
    fn end_by_hand(&mut self, known: Schedule) -> Changed {
        match known.origin {
            Origin::App | Origin::Manifest => {
                Err(ScheduleError::OfApp { name: known.label(), app: known.app })
            }
            Origin::Sdk | Origin::Manual => Ok(self.end(known)),
        }
    }

    /// Adds a schedule, or gives the one of that name these settings.
    pub(super) fn add_schedule(
        &mut self,
        new: NewSchedule,
    ) -> Result<Result<Added, ScheduleError>, EngineError> {
        let NewSchedule { title, mut spec, payload, rule, policy } = new;
        (spec.key, spec.not_before, spec.hold, spec.tick) = (None, None, false, None);
        spec.after.clear();
        if let Some(why) = self.book.degraded.get(DISK) {
            return Ok(Err(ScheduleError::Refused(why.clone())));
        }
        if payload.len() > PAYLOAD_MAX {
            let why = format!("its arguments have {} bytes", payload.len());
            return Ok(Err(ScheduleError::Refused(why)));
        }
        if let Err(error) = spec.check() {
            return Ok(Err(ScheduleError::Refused(error.to_string())));
        }
        let known = self.book.schedules.named(&spec.app, &title).cloned();
        if let Some(it) = known.as_ref().filter(|it| it.is_active() && it.origin.is_deployed()) {
            let (name, app) = (it.label(), it.app.clone());
            return Ok(Err(ScheduleError::OfApp { name, app }));
        }
        let count = self.book.schedules.iter().count();
        if known.is_none() && count >= SCHEDULES_MAX {
            let full = SubmitError::SchedulesFull(count);
            return Ok(Err(ScheduleError::Refused(full.to_string())));
        }
        let id = known.as_ref().map_or_else(|| self.schedule_id(), |it| it.id);
        spec.payload = if payload.len() <= INLINE_PAYLOAD_MAX {
            Payload::Inline(payload)
        } else {
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let side = TaskId(id.0);
            let written = self.shared.write_side(SideKind::Payload, side, &payload, PAYLOAD_MAX);
            if let Err(error) = written {
                return Ok(Err(ScheduleError::Refused(error.to_string())));
            }
            Payload::Side { length }
        };
        let blank = Schedule::new(id, rule.clone(), self.now);
        let (created, mut schedule) = match known.filter(Schedule::is_active) {
            None => {
                let app = spec.app.clone();
                (true, Schedule { origin: Origin::Manual, app, title, ..blank })
            }
            Some(it) if it.rule.is_like(&rule) => (false, it),
            Some(mut it) => {
                self.drop_buffered(&mut it);
                let generation = it.generation.saturating_add(1);
                (false, Schedule { rule, generation, since: Some(self.now), ..it })
            }
        };
        schedule.owner.clone_from(&spec.owner);
        schedule.name.clone_from(&spec.name);
        schedule.template = Some(Box::new(spec));
        schedule.policy = policy;
        schedule.next = schedule.next_after(self.now.max(schedule.decided));
        if schedule.next.is_none() {
            return Ok(Err(ScheduleError::NoNext(schedule.label())));
        }
        self.keep(schedule.clone(), Vec::new())?;
        Ok(Ok(Added { schedule, created }))
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
        let mut planned = self.now;
        while self.has_tick(&schedule, planned)? {
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
            Outcome::Missed { .. } | Outcome::Paused { .. } | Outcome::PassedOver { .. } => {
                Ok(Err(ScheduleError::Unknown(id)))
            }
        }
    }
}
