//! Carries out what schedules plan: each planned fire gets one record, in the same batch as the
//! task that it makes, so that it exists once whatever happens in between.

mod door;
mod hand;
mod register;
mod runs;

use std::ops::ControlFlow;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::{Delivery, Payload, TaskSpec, TickRef};
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

pub(super) use self::door::ScheduleRequest;
pub use self::door::{
    Added, NewRecurrence, NewSchedule, Recurrence, ScheduleChange, ScheduleError, TickRow,
};
use super::group::Group;
use super::records;
use super::request::{How, NewTask};
use super::{DISK, EngineError};
use crate::book::Book;
use crate::schedule::{
    Fire, LATE, LastTick, Origin, Outcome, Overlap, Schedule, TICKS_KEPT, TICKS_MAX, Tick, TickKey,
};
use crate::store::{Change, KeyRange, SideKind, Table};
use crate::text::bounded;
use crate::work::{Call, Work};

/// The most schedules when a recurrence is registered; those of an app's code are never refused.
pub const SCHEDULES_MAX: usize = 10_000;

/// Fires carried out in one group: more would make the answers of the group wait.
const FIRES_MAX: usize = 128;

/// Old ticks taken away with each new one: more than come.
const SWEPT: usize = 4;

/// The longest reason kept of a fire that made no task, in bytes.
const WHY_MAX: usize = 200;

/// The next instant at which a schedule wants something. A full disk lets them wait: they catch
/// up when there is room.
pub(super) fn next_alarm(book: &Book) -> Option<Timestamp> {
    if book.degraded.contains_key(DISK) {
        return None;
    }
    book.schedules.next_alarm().map(|(at, _)| at)
}

impl Group<'_> {
    /// Carries out what is due; what is left over is due in the next group.
    pub(super) fn ticks(&mut self) -> Result<(), EngineError> {
        while let Some((run, just_now)) = self.ended_runs.pop() {
            self.run_ended(run, just_now)?;
        }
        for _ in 0..FIRES_MAX {
            let due = next_alarm(&self.book).is_some_and(|at| at <= self.now);
            let next = self.book.schedules.next_alarm().filter(|_| due);
            let Some((_, id)) = next else { break };
            let Some(schedule) = self.book.schedules.get(id).cloned() else { break };
            match (schedule.is_active(), schedule.next) {
                (true, Some(planned)) => self.come(schedule, planned)?,
                (true, None) | (false, _) => self.forget(&schedule)?,
            }
        }
        if !self.book.schedules.check() {
            tracing::error!("a schedule had no next fire or two; the plan was made anew");
        }
        Ok(())
    }

    /// The instant that a schedule waited for has come.
    fn come(&mut self, mut schedule: Schedule, planned: Timestamp) -> Result<(), EngineError> {
        let due = schedule.due(planned, self.now);
        let mut rows = Vec::new();
        if let Some(missed) = due.missed {
            let outcome = Outcome::Missed { until: missed.until, count: missed.count };
            rows.push((missed.from, outcome));
        }
        let until = due.missed.map(|missed| missed.until);
        let decided = due.fires.iter().copied().chain(until).chain([planned]).max();
        schedule.decided = schedule.decided.max(decided.unwrap_or(planned));
        let alone = rows.is_empty() && due.fires.len() == 1;
        for at in due.fires {
            if self.has_tick(&schedule, at)? {
                continue;
            }
            let on_time = alone && self.now.since(schedule.due_at(at)) <= LATE;
            let how = if on_time { Fire::OnTime } else { Fire::CaughtUp };
            let outcome = match schedule.skip.take_if(|skip| skip.planned == at) {
                Some(skip) => Outcome::PassedOver { by: skip.by },
                None => self.fire(&mut schedule, at, how)?,
            };
            rows.push((at, outcome));
        }
        schedule.next = due.next;
        schedule.skip.take_if(|skip| due.next.is_none_or(|next| next > skip.planned));
        self.keep(schedule, rows)
    }

    fn has_tick(&self, schedule: &Schedule, planned: Timestamp) -> Result<bool, EngineError> {
        let Schedule { id, generation, .. } = *schedule;
        let key = TickKey { schedule: id, generation, planned };
        Ok(self.shared.store.get(Table::Tick, &key.encode())?.is_some())
    }

    /// Makes the task of one fire, unless the run of the fire before has not ended and its policy
    /// forbids that.
    fn fire(
        &mut self,
        schedule: &mut Schedule,
        planned: Timestamp,
        how: Fire,
    ) -> Result<Outcome, EngineError> {
        let overlap = schedule.policy.overlap;
        if overlap != Overlap::Allow
            && let Some(task) = self.overlap(schedule)
        {
            return self.wait_for_turn(schedule, planned, task);
        }
        let refused = |why: &str| Outcome::Refused { why: bounded(why, WHY_MAX) };
        let (spec, payload) = match self.work_of(schedule, planned)? {
            Ok(work) => work,
            Err(why) => return Ok(refused(&why)),
        };
        let new = NewTask { spec, payload, parent: None, dry_run: false };
        Ok(match self.submit(new)? {
            Ok(submitted) => match submitted.how {
                How::Created | How::Replaced(_) => {
                    schedule.former = Some(submitted.task.id);
                    if how != Fire::Manual {
                        schedule.fires = schedule.fires.saturating_add(1);
                    }
                    Outcome::Fired { task: submitted.task.id, how }
                }
                How::Merged { .. } | How::Existing | How::Checked => {
                    Outcome::Skipped { task: submitted.task.id }
                }
            },
            Err(error) => refused(&error.to_string()),
        })
    }

    /// What a fire submits, or why it cannot.
    fn work_of(
        &self,
        schedule: &Schedule,
        planned: Timestamp,
    ) -> Result<Result<(TaskSpec, Vec<u8>), String>, EngineError> {
        if let Some(template) = &schedule.template {
            let payload = match &template.payload {
                Payload::Inline(bytes) => bytes.clone(),
                Payload::Side { .. } => self.payload(TaskId(schedule.id.0))?,
            };
            let tick = Some(TickRef { schedule: schedule.id, planned });
            return Ok(Ok((TaskSpec { tick, ..TaskSpec::clone(template) }, payload)));
        }
        let (app, name) = (&schedule.app, &schedule.name);
        let Some(definition) = self.book.apps.definition(app, name).cloned() else {
            return Ok(Err(format!("app {app} has no handler {name} in force")));
        };
        let in_force = self.book.apps.get(app).and_then(|app| app.in_force());
        let work = Work::Call(Call { arguments: "{}".to_owned() });
        let spec = TaskSpec {
            app: app.clone(),
            name: name.clone(),
            display_name: String::new(),
            owner: schedule.owner.clone(),
            uid: in_force.map_or(0, |revision| revision.uid),
            queue: definition.queue.clone(),
            priority: definition.priority,
            labels: std::collections::BTreeMap::new(),
            payload: Payload::Inline(Vec::new()),
            retries: 0,
            backoff: definition.backoff,
            timeout: definition.timeout,
            grace: definition.grace,
            delivery: Delivery::AtLeastOnce,
            lock: None,
            lock_policy: definition.lock_policy,
            key: None,
            start_within: None,
            after: Vec::new(),
            no_retry_exit_codes: Vec::new(),
            no_retry_on: Vec::new(),
            revision: in_force.map_or(0, |revision| revision.number),
            arguments: work.digest(),
            summary: String::new(),
            not_before: None,
            hold: false,
            tick: Some(TickRef { schedule: schedule.id, planned }),
            parent: None,
        };
        Ok(Ok((spec, work.encode())))
    }

    /// Notes a schedule and what became of fires of it. Each row is durable together with its task,
    /// and the schedule with the last of them: whatever is cut off there is due again, and finds
    /// the rows that were written.
    fn keep(
        &mut self,
        mut schedule: Schedule,
        rows: Vec<(Timestamp, Outcome)>,
    ) -> Result<(), EngineError> {
        let Schedule { id, generation, .. } = schedule;
        let mut units: Vec<(Option<TaskId>, Vec<Change>)> = Vec::with_capacity(1);
        let mut added = 0;
        for (planned, outcome) in rows {
            let made = outcome.made();
            let key = TickKey { schedule: id, generation, planned };
            added += i32::from(!self.has_tick(&schedule, planned)?);
            let tick = Tick { at: self.now, outcome: outcome.clone() };
            let row = Change::put(Table::Tick, key.encode(), records::encode(&tick));
            match units.last_mut() {
                Some((of, unit)) if of.is_none() || made.is_none() => {
                    unit.push(row);
                    *of = of.or(made);
                }
                Some(_) | None => units.push((made, vec![row])),
            }
            schedule.last = Some(LastTick { planned, outcome });
        }
        if added > 0 {
            let count = self.book.schedules.count_ticks(id, added);
            self.sweep_ticks(id, count)?;
        }
        match units.last_mut() {
            Some((_, unit)) => unit.push(put(&schedule)),
            None => units.push((None, vec![put(&schedule)])),
        }
        for (made, unit) in units {
            self.write_together(made, unit);
        }
        self.book.schedules.put(schedule);
        Ok(())
    }

    /// Takes away the oldest ticks that are too old or too many.
    fn sweep_ticks(&mut self, id: ScheduleId, count: u32) -> Result<(), EngineError> {
        let over = count.saturating_sub(TICKS_MAX) as usize;
        let now = self.now;
        let mut old = Vec::new();
        self.each_tick(id, |key| {
            let too_old = now.since(key.planned) > TICKS_KEPT;
            if old.len() < SWEPT && (too_old || old.len() < over) {
                old.push(key);
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        let swept = i32::try_from(old.len()).unwrap_or(0);
        self.book.schedules.count_ticks(id, -swept);
        for key in old {
            self.write(Change::delete(Table::Tick, key.encode()));
        }
        Ok(())
    }

    /// Forgets an ended schedule and its ticks. Its id is not given again.
    fn forget(&mut self, schedule: &Schedule) -> Result<(), EngineError> {
        let mut keys = Vec::new();
        self.each_tick(schedule.id, |key| {
            keys.push(key);
            ControlFlow::Continue(())
        })?;
        for key in keys {
            self.write(Change::delete(Table::Tick, key.encode()));
        }
        let id = schedule.id.0;
        self.put_stone(TaskId(id), Status::Cancelled);
        self.write(Change::delete(Table::Schedule, id.to_be_bytes()));
        self.book.schedules.remove(schedule.id);
        let side = self.shared.side.clone();
        self.afterwards.push(Box::new(move || {
            if let Err(error) = side.remove(SideKind::Payload, id) {
                tracing::warn!(schedule.id = id, %error, "a side file stays until the next start");
            }
        }));
        Ok(())
    }

    fn each_tick(
        &self,
        id: ScheduleId,
        mut each: impl FnMut(TickKey) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (from, to) = TickKey::range(id);
        let range = KeyRange::between(&from, &to);
        Ok(self.shared.store.scan(Table::Tick, range, &mut |key, _| {
            TickKey::decode(key).map_or(ControlFlow::Continue(()), &mut each)
        })?)
    }
}

fn put(schedule: &Schedule) -> Change {
    Change::put(Table::Schedule, schedule.id.0.to_be_bytes(), records::encode(schedule))
}
