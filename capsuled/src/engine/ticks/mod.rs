//! Carries out what schedules plan: each planned fire gets one record, in the same batch as the
//! task that it makes, so that it exists once whatever happens in between.

mod add;
mod backfill;
mod door;
mod hand;
mod register;
mod rows;
mod runs;

use capsule_core::id::TaskId;
use capsule_core::spec::{Delivery, Payload, TaskSpec, TickRef};
use capsule_core::time::Timestamp;

#[cfg(test)]
pub(super) use self::backfill::DROPPED;
pub(super) use self::door::ScheduleRequest;
pub use self::door::{
    Added, AskedBackfill, Backfilled, NewRecurrence, NewSchedule, Recurrence, ScheduleChange,
    ScheduleError, TickRow,
};
use super::group::Group;
use super::request::{How, NewTask};
use super::{DISK, EngineError};
use crate::book::Book;
use crate::schedule::{Fire, LATE, Origin, Outcome, Overlap, Schedule};
use crate::text::bounded;
use crate::work::{Call, Work};

/// The most schedules when a recurrence is registered; those of an app's code are never refused.
pub const SCHEDULES_MAX: usize = 10_000;

/// Fires carried out in one group: more would make the answers of the group wait.
const FIRES_MAX: usize = 64;

/// Fires of one schedule carried out before others have their turn.
const AT_ONCE: usize = 32;

/// The longest reason kept of a fire that made no task, in bytes.
const WHY_MAX: usize = 200;

/// The next instant at which a schedule wants something. A full disk lets them wait, and so does
/// a keeper that has not said yet whose processes live: they catch up after that.
pub(super) fn next_alarm(book: &Book) -> Option<Timestamp> {
    if !may_fire(book) {
        return None;
    }
    book.schedules.next_alarm().map(|(at, _)| at)
}

fn may_fire(book: &Book) -> bool {
    book.greeted && !book.degraded.contains_key(DISK)
}

impl Group<'_> {
    /// Carries out what is due; what is left over is due in the next group.
    pub(super) fn ticks(&mut self) -> Result<(), EngineError> {
        let mut left = FIRES_MAX;
        loop {
            // A fire may cancel the run before it, and the end of that lets another one go.
            while let Some((run, just_now)) = self.ended_runs.pop() {
                self.run_ended(run, just_now)?;
            }
            let due = next_alarm(&self.book).is_some_and(|at| at <= self.now);
            let next = self.book.schedules.next_alarm().filter(|_| due && left > 0);
            let Some((_, id)) = next else { break };
            let Some(schedule) = self.book.schedules.get(id).cloned() else { break };
            let done = match (schedule.is_active(), schedule.next) {
                (true, Some(planned)) => self.come(schedule, planned)?,
                (false, _) => self.forget(&schedule)?,
                (true, None) => break,
            };
            left = left.saturating_sub(done.max(1));
        }
        if !self.book.schedules.check() {
            tracing::error!("a schedule had no next fire or two; the plan was made anew");
        }
        Ok(())
    }

    /// The instant that a schedule waited for has come; gives how many fires that meant. Each fire
    /// is kept for itself, with the next one: whatever a crash cuts off begins there.
    fn come(&mut self, mut schedule: Schedule, planned: Timestamp) -> Result<usize, EngineError> {
        let due = schedule.due(planned, self.now);
        let mut rows = Vec::new();
        let mut until = planned;
        if let Some(missed) = due.missed {
            until = missed.until.max(until);
            let outcome = Outcome::Missed { until: missed.until, count: missed.count };
            rows.push((missed.from, outcome));
        }
        let alone = rows.is_empty() && due.fires.len() == 1;
        let mut fires = 0;
        for at in due.fires.into_iter().take(AT_ONCE) {
            fires += 1;
            until = at;
            if !self.has_tick(schedule.tick(at))? {
                let on_time = alone && self.now.since(schedule.due_at(at)) <= LATE;
                let how = if on_time { Fire::OnTime } else { Fire::CaughtUp };
                let outcome = match schedule.skip.take_if(|skip| skip.planned == at) {
                    Some(skip) => Outcome::PassedOver { by: skip.by },
                    None => self.fire(&mut schedule, at, how)?,
                };
                rows.push((at, outcome));
            }
            schedule.go_on(until);
            self.keep(schedule.clone(), std::mem::take(&mut rows))?;
        }
        if fires == 0 {
            schedule.go_on(until);
            self.keep(schedule, rows)?;
        }
        Ok(fires)
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
                    if !matches!(how, Fire::Manual | Fire::Backfilled) {
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
            let mut spec = match template.spec() {
                Ok(spec) => spec,
                Err(error) => return Ok(Err(format!("its task cannot be read: {error}"))),
            };
            let payload = match &mut spec.payload {
                Payload::Inline(bytes) => std::mem::take(bytes),
                Payload::Side { .. } => self.payload(TaskId(schedule.id.0))?,
            };
            spec.tick = Some(TickRef { schedule: schedule.id, planned });
            return Ok(Ok((spec, payload)));
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
}
