//! What is on disk of schedules: their records, and one row for each decided fire.

use std::ops::ControlFlow;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

use super::super::EngineError;
use super::super::group::Group;
use super::super::records;
use crate::schedule::{LastTick, Outcome, Schedule, TICKS_KEPT, TICKS_MAX, Tick, TickKey};
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
        let id = schedule.id;
        let mut changes = Vec::with_capacity(rows.len() + 1);
        let mut made: Vec<TaskId> = Vec::new();
        let mut added = 0;
        for (planned, outcome) in rows {
            let key = schedule.tick(planned);
            added += i32::from(!self.has_tick(key)?);
            made.extend(outcome.made());
            changes.push(self.row(key, outcome.clone()));
            schedule.last = Some(LastTick { planned, outcome });
        }
        changes.push(Change::put(Table::Schedule, id.0.to_be_bytes(), records::encode(&schedule)));
        self.write_together(made, changes);
        self.schedule_changed(id);
        self.book.schedules.put(schedule);
        if added > 0 {
            let count = self.book.schedules.count_ticks(id, added);
            self.sweep_ticks(id, count)?;
        }
        Ok(())
    }

    /// What became of a fire, as it is written.
    pub(super) fn row(&mut self, key: TickKey, outcome: Outcome) -> Change {
        self.ticked.insert(key, true);
        let tick = Tick { at: self.now, outcome };
        Change::put(Table::Tick, key.encode(), records::encode(&tick))
    }

    /// Whether a fire has been decided.
    pub(super) fn has_tick(&self, key: TickKey) -> Result<bool, EngineError> {
        if let Some(there) = self.ticked.get(&key) {
            return Ok(*there);
        }
        Ok(self.shared.store.get(Table::Tick, &key.encode())?.is_some())
    }

    /// Takes away the oldest ticks that are too old or too many.
    fn sweep_ticks(&mut self, id: ScheduleId, count: u32) -> Result<(), EngineError> {
        let over = count.saturating_sub(TICKS_MAX) as usize;
        let now = self.now;
        let mut old = Vec::new();
        self.each_tick(id, |key, value| {
            // What stands for many is as old as the last of them.
            let until = match minicbor::decode::<Tick>(value).map(|tick| tick.outcome) {
                Ok(Outcome::Missed { until, .. } | Outcome::Paused { until, .. }) => until,
                Ok(_) | Err(_) => key.planned,
            };
            let too_old = now.since(until) > TICKS_KEPT;
            if self.ticked.get(&key) == Some(&false) {
                ControlFlow::Continue(())
            } else if old.len() < SWEPT && (too_old || old.len() < over) {
                old.push(key);
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        let swept = i32::try_from(old.len()).unwrap_or(0);
        self.book.schedules.count_ticks(id, -swept);
        for key in old {
            self.ticked.insert(key, false);
            self.write(Change::delete(Table::Tick, key.encode()));
        }
        Ok(())
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

    fn each_tick(
        &self,
        id: ScheduleId,
        mut each: impl FnMut(TickKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (from, to) = TickKey::range(id);
        let range = KeyRange::between(&from, &to);
        Ok(self.shared.store.scan(Table::Tick, range, &mut |key, value| {
            TickKey::decode(key).map_or(ControlFlow::Continue(()), |key| each(key, value))
        })?)
    }
}
