//! Fires that somebody asks for after their time.

use capsule_core::id::ScheduleId;
use capsule_core::time::Timestamp;

use super::super::group::Group;
use super::super::{DISK, EngineError};
use super::door::{AskedBackfill, Backfilled, ScheduleError};
use super::{Fire, Outcome, Overlap, Schedule, may_fire};
use crate::schedule::{BUFFER_MAX, CATCH_UP_MAX, LastTick, Rows, Tick};

/// Fires kept in one batch: so many of the largest tasks fit into one.
const KEPT_AT_ONCE: usize = 64;

/// What becomes of a tick that waited when its schedule has another rule, or none.
pub(in crate::engine) const DROPPED: &str =
    "it was to be backfilled, and its schedule was changed before its turn";

impl Group<'_> {
    /// Has the planned fires of a period that have not fired carried out: at once where runs may
    /// meet, else one after the other. All of them are taken on, or none.
    pub(super) fn backfill(
        &mut self,
        asked: AskedBackfill,
    ) -> Result<Result<Backfilled, ScheduleError>, EngineError> {
        let AskedBackfill { id, from, until, dry_run } = asked;
        let known = self.book.schedules.get(id).cloned();
        let Some(schedule) = known else { return Ok(Err(ScheduleError::Unknown(id))) };
        if !schedule.is_active() {
            return Ok(Err(ScheduleError::Ended(id)));
        }
        let rows = self.rows_of(id)?;
        let found = schedule.backfill_of(&rows, from, until.min(self.now));
        let room = match schedule.policy.overlap {
            Overlap::Allow => CATCH_UP_MAX as usize,
            Overlap::Skip | Overlap::BufferOne | Overlap::BufferAll | Overlap::CancelOther => {
                BUFFER_MAX.saturating_sub(schedule.backfill as usize)
            }
        };
        let count = found.fires.len();
        if count > room {
            let last = room.checked_sub(1).and_then(|last| found.fires.get(last).copied());
            return Ok(Err(ScheduleError::NoRoom { id, from, count, room, last }));
        }
        if dry_run || count == 0 {
            return Ok(Ok(Backfilled { schedule, found, started: 0 }));
        }
        if let Some(why) = self.book.degraded.get(DISK) {
            return Ok(Err(ScheduleError::Refused(why.clone())));
        }
        let (schedule, started) = self.take_on(schedule, rows, &found.fires)?;
        // Some may have waited for somebody to ask again.
        self.ended_runs.extend(schedule.former.map(|run| (run, false)));
        Ok(Ok(Backfilled { schedule, found, started }))
    }

    /// Gives each of these ticks its row, and its task if it is its turn; gives how many that were.
    fn take_on(
        &mut self,
        mut schedule: Schedule,
        mut rows: Rows,
        fires: &[Timestamp],
    ) -> Result<(Schedule, u32), EngineError> {
        if let Some((planned, outcome)) = schedule.note_pause(self.now) {
            rows.insert(schedule.tick(planned), Tick { at: self.now, outcome: outcome.clone() });
            self.keep(schedule.clone(), vec![(planned, outcome)])?;
            schedule = self.as_kept(schedule);
        }
        if let Some(paused) = &mut schedule.paused {
            paused.backfills = true;
        }
        let mut started = 0;
        let may_meet = schedule.policy.overlap == Overlap::Allow;
        for some in fires.chunks(KEPT_AT_ONCE) {
            let mut filled = schedule.without(&rows, some);
            for planned in some {
                let outcome = if (may_meet || schedule.backfill == 0) && self.has_turn(&schedule) {
                    self.fire(&mut schedule, *planned, Fire::Backfilled)?
                } else {
                    schedule.backfill += 1;
                    Outcome::ToBackfill
                };
                started += u32::from(outcome.made().is_some());
                filled.insert(schedule.tick(*planned), Tick { at: self.now, outcome });
            }
            rows.extend(filled.clone());
            schedule = self.keep_filled(schedule, filled)?;
        }
        Ok((schedule, started))
    }

    /// Whether nothing that goes before a tick to backfill goes on or waits.
    fn has_turn(&self, schedule: &Schedule) -> bool {
        // Of a schedule that has never run nothing can linger.
        let knows = may_fire(&self.book) || schedule.former.is_none();
        let planned_first = !schedule.buffered.is_empty() && schedule.paused.is_none();
        knows
            && (schedule.policy.overlap == Overlap::Allow
                || (!planned_first && self.overlap(schedule).is_none()))
    }

    /// Carries out the next ticks that wait to be backfilled, if it is their turn.
    pub(super) fn go_on_backfilling(&mut self, id: ScheduleId) -> Result<(), EngineError> {
        while let Some(mut schedule) = self.book.schedules.get(id).cloned()
            && schedule.backfill > 0
            && schedule.paused.as_ref().is_none_or(|paused| paused.backfills)
            && may_fire(&self.book)
            && self.has_turn(&schedule)
        {
            let mut waiting = self.rows_of(id)?;
            waiting.retain(|_, tick| tick.outcome == Outcome::ToBackfill);
            let mut filled = Rows::new();
            for key in waiting.into_keys().take(KEPT_AT_ONCE) {
                if !self.has_turn(&schedule) {
                    break;
                }
                let outcome = self.fire(&mut schedule, key.planned, Fire::Backfilled)?;
                filled.insert(key, Tick { at: self.now, outcome });
                schedule.backfill = schedule.backfill.saturating_sub(1);
            }
            if filled.is_empty() {
                schedule.backfill = 0;
            }
            self.keep_filled(schedule, filled)?;
        }
        Ok(())
    }

    /// Nothing waits any more to be backfilled.
    pub(super) fn drop_backfill(&mut self, schedule: &mut Schedule) -> Result<(), EngineError> {
        if schedule.backfill == 0 {
            return Ok(());
        }
        let mut waiting = self.rows_of(schedule.id)?;
        waiting.retain(|_, tick| tick.outcome == Outcome::ToBackfill);
        for tick in waiting.values_mut() {
            *tick = Tick { at: self.now, outcome: Outcome::Refused { why: DROPPED.to_owned() } };
        }
        schedule.backfill = 0;
        *schedule = self.keep_filled(schedule.clone(), waiting)?;
        Ok(())
    }

    fn keep_filled(
        &mut self,
        mut schedule: Schedule,
        filled: Rows,
    ) -> Result<Schedule, EngineError> {
        if let Some((newest, tick)) = filled.last_key_value() {
            let is_newer = schedule.last.as_ref().is_none_or(|last| {
                last.planned <= newest.planned || filled.contains_key(&schedule.tick(last.planned))
            });
            if is_newer {
                let (planned, outcome) = (newest.planned, tick.outcome.clone());
                schedule.last = Some(LastTick { planned, outcome });
            }
        }
        self.keep_rows(schedule.clone(), filled)?;
        Ok(self.as_kept(schedule))
    }

    fn as_kept(&self, schedule: Schedule) -> Schedule {
        self.book.schedules.get(schedule.id).cloned().unwrap_or(schedule)
    }
}
