//! What is on disk of schedules: their records, and one row for each decided fire.

use std::ops::ControlFlow;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

use super::super::EngineError;
use super::super::group::Group;
use super::super::records;
use crate::schedule::{LastTick, Outcome, Rows, Schedule, TICKS_KEPT, TICKS_MAX, Tick, TickKey};
use crate::store::{Change, KeyRange, SideKind, Table};

/// Old ticks taken away with each new one: more than come.
const SWEPT: usize = 4;

/// Rows taken away cost about as much as one fire.
const ROWS_A_FIRE: usize = 8;

impl Group<'_> {
    /// Notes a schedule and what became of fires of it: durable all or none, together with the
    /// tasks that the fires made, and after what was noted of it before.
    pub(super) fn keep(
        &mut self,
        mut schedule: Schedule,
        rows: Vec<(Timestamp, Outcome)>,
    ) -> Result<(), EngineError> {
        let mut ticks = Vec::with_capacity(rows.len());
        for (planned, outcome) in rows {
            ticks.push((schedule.tick(planned), Tick { at: self.now, outcome: outcome.clone() }));
            schedule.last = Some(LastTick { planned, outcome });
        }
        self.keep_rows(schedule, ticks)
    }

    /// Like [`Group::keep`], of rows that may be older than the last.
    pub(super) fn keep_rows(
        &mut self,
        mut schedule: Schedule,
        rows: impl IntoIterator<Item = (TickKey, Tick)>,
    ) -> Result<(), EngineError> {
        let id = schedule.id;
        if let Some(known) = self.book.schedules.get(id) {
            schedule.forgotten = known.forgotten;
        }
        let mut changes = Vec::new();
        let mut made: Vec<TaskId> = Vec::new();
        let mut added = 0;
        for (key, tick) in rows {
            added += i32::from(!self.has_tick(key)?);
            made.extend(tick.outcome.made());
            changes.push(self.row(key, tick));
        }
        if added > 0 {
            self.book.schedules.count_ticks(id, added);
            changes.extend(self.sweep_ticks(&mut schedule, added)?);
        }
        changes.push(Change::put(Table::Schedule, id.0.to_be_bytes(), records::encode(&schedule)));
        self.write_together(made, changes);
        self.schedule_changed(id);
        self.book.schedules.put(schedule);
        Ok(())
    }

    /// What became of a fire, as it is written.
    pub(super) fn row(&mut self, key: TickKey, tick: Tick) -> Change {
        let change = Change::put(Table::Tick, key.encode(), records::encode(&tick));
        self.ticked.insert(key, Some(tick));
        change
    }

    /// Whether a fire has been decided.
    pub(super) fn has_tick(&self, key: TickKey) -> Result<bool, EngineError> {
        if let Some(there) = self.ticked.get(&key) {
            return Ok(there.is_some());
        }
        Ok(self.shared.store.get(Table::Tick, &key.encode())?.is_some())
    }

    /// All rows of a schedule, as this group leaves them.
    pub(super) fn rows_of(&self, id: ScheduleId) -> Result<Rows, EngineError> {
        let mut rows = Rows::new();
        self.each_tick(id, |key, tick| {
            rows.extend(tick.cloned().map(|tick| (key, tick)));
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// After so many more, takes away the oldest ticks that are too old or too many, and do not
    /// wait.
    fn sweep_ticks(
        &mut self,
        schedule: &mut Schedule,
        added: i32,
    ) -> Result<Vec<Change>, EngineError> {
        let count = self.book.schedules.count_ticks(schedule.id, 0);
        let over = count.saturating_sub(TICKS_MAX) as usize;
        let most = SWEPT.saturating_mul(usize::try_from(added).unwrap_or(0));
        let now = self.now;
        let mut old = Vec::new();
        self.each_tick(schedule.id, |key, tick| {
            // What stands for many is as old as the last of them.
            let until = tick.and_then(|tick| tick.outcome.until()).unwrap_or(key.planned);
            let until = tick.map_or(until, |tick| tick.at.max(until));
            let too_old = now.since(until) > TICKS_KEPT;
            if tick.is_some_and(|tick| tick.outcome == Outcome::ToBackfill) {
                ControlFlow::Continue(())
            } else if old.len() < most && (too_old || old.len() < over) {
                old.push(key);
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        let swept = i32::try_from(old.len()).unwrap_or(0);
        self.book.schedules.count_ticks(schedule.id, -swept);
        let mut changes = Vec::with_capacity(old.len());
        for key in old {
            schedule.forget_row(key.planned);
            self.ticked.insert(key, None);
            changes.push(Change::delete(Table::Tick, key.encode()));
        }
        Ok(changes)
    }

    /// Forgets an ended schedule and its ticks; gives how much that was. Its id is not given again.
    pub(super) fn forget(&mut self, schedule: &Schedule) -> Result<usize, EngineError> {
        let mut keys = Vec::new();
        self.each_tick(schedule.id, |key, _| {
            keys.push(key);
            ControlFlow::Continue(())
        })?;
        let count = keys.len() / ROWS_A_FIRE;
        for key in keys {
            self.write(Change::delete(Table::Tick, key.encode()));
        }
        let id = schedule.id.0;
        self.put_stone(TaskId(id), Status::Cancelled);
        self.write(Change::delete(Table::Schedule, id.to_be_bytes()));
        self.book.schedules.remove(schedule.id);
        self.schedule_changed(schedule.id);
        let side = self.shared.side.clone();
        self.afterwards.push(Box::new(move || {
            if let Err(error) = side.remove(SideKind::Payload, id) {
                tracing::warn!(schedule.id = id, %error, "a side file stays until the next start");
            }
        }));
        Ok(count)
    }

    /// Every row of a schedule in order, as this group leaves them; `None` = this version cannot
    /// read it.
    fn each_tick(
        &self,
        id: ScheduleId,
        mut each: impl FnMut(TickKey, Option<&Tick>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (from, to) = TickKey::range(id);
        let ends = TickKey::decode(&from).zip(TickKey::decode(&to));
        let here = ends.into_iter().flat_map(|(from, to)| self.ticked.range(from..to));
        let mut here = here.peekable();
        let mut ended = false;
        let range = KeyRange::between(&from, &to);
        self.shared.store.scan(Table::Tick, range, &mut |key, value| {
            let Some(key) = TickKey::decode(key) else { return ControlFlow::Continue(()) };
            let mut step = ControlFlow::Continue(());
            let mut is_here = false;
            while step.is_continue()
                && let Some((of, tick)) = here.next_if(|(of, _)| **of <= key)
            {
                is_here = *of == key;
                if let Some(tick) = tick {
                    step = each(*of, Some(tick));
                }
            }
            if step.is_continue() && !is_here {
                step = each(key, minicbor::decode(value).ok().as_ref());
            }
            ended = step.is_break();
            step
        })?;
        while !ended && let Some((key, tick)) = here.next() {
            ended = tick.as_ref().is_some_and(|tick| each(*key, Some(tick)).is_break());
        }
        Ok(())
    }
}
