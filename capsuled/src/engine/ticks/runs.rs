//! What the end of a run means for its schedule: the next that waits, and failures in a row.

use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

use super::super::EngineError;
use super::super::group::Group;
use super::{Fire, Outcome, Overlap, Schedule};
use crate::schedule::{Counted, Paused, Tick};

/// Why a run that an overlap forbids is cancelled.
const MADE_WAY: &str = "the next fire of its schedule has come";

impl Group<'_> {
    /// The task of the fire before, while it is not over: its last process lives, or what it
    /// submitted has not ended and that counts.
    pub(super) fn overlap(&self, schedule: &Schedule) -> Option<TaskId> {
        let former = schedule.former?;
        if self.is_going_on(former) {
            return Some(former);
        }
        let counts = schedule.policy.counts == Counted::Submitted;
        let submitted = if counts { self.book.submitted_by(former) } else { Vec::new() };
        submitted.into_iter().any(|child| self.is_going_on(child)).then_some(former)
    }

    fn is_going_on(&self, id: TaskId) -> bool {
        let entry = self.book.entries.get(&id);
        entry.is_some_and(|entry| !entry.status.is_ended() || self.book.lingering.contains_key(&id))
    }

    /// The last process of a task's tree is gone: it may have been a run, or submitted by one.
    pub(in crate::engine) fn tree_gone(&mut self, id: TaskId) -> Result<(), EngineError> {
        let parent = self.load(id)?.and_then(|task| task.spec.parent);
        self.ended_runs.extend(parent.into_iter().chain([id]).map(|run| (run, false)));
        Ok(())
    }

    /// What becomes of a fire that meets the run before it.
    pub(super) fn wait_for_turn(
        &mut self,
        schedule: &mut Schedule,
        planned: Timestamp,
        task: TaskId,
    ) -> Result<Outcome, EngineError> {
        if schedule.policy.overlap == Overlap::CancelOther {
            let reason = MADE_WAY.to_owned();
            // One that has just ended says no, and that is right.
            drop(self.ask(task, &Command::Cancel { reason, grace: None })?);
        }
        // What is backfilled takes no fire of the plan's place.
        let room = schedule.policy.overlap.room().max(usize::from(schedule.backfill > 0));
        if schedule.buffered.len() >= room {
            return Ok(Outcome::Skipped { task });
        }
        schedule.buffered.push(planned);
        Ok(Outcome::Buffered { task })
    }

    /// A task has ended, or the last process of it, or what it submitted: if it is the last run of a
    /// schedule, that goes on.
    pub(super) fn run_ended(&mut self, id: TaskId, just_now: bool) -> Result<(), EngineError> {
        let Some(mut schedule) = self.book.schedules.of_run(id).cloned() else { return Ok(()) };
        if !schedule.is_active() {
            return Ok(());
        }
        let mut changed = just_now && self.count_failure(&mut schedule, id);
        let mut rows = Vec::new();
        while schedule.paused.is_none()
            && super::may_fire(&self.book)
            && !schedule.buffered.is_empty()
            && self.overlap(&schedule).is_none()
        {
            let planned = schedule.buffered.remove(0);
            let outcome = self.fire(&mut schedule, planned, Fire::Buffered)?;
            rows.push((planned, outcome));
            changed = true;
        }
        if schedule.next.is_none() {
            // One that waited has not fired after all: there may be room below its limit.
            schedule.next = schedule.next_after(schedule.decided);
            changed |= schedule.next.is_some();
        }
        let schedule_id = schedule.id;
        if changed {
            self.keep(schedule, rows)?;
        }
        self.go_on_backfilling(schedule_id)
    }

    /// Notes how a run ended; pauses its schedule after too many failures. True = that
    /// changed something.
    fn count_failure(&self, schedule: &mut Schedule, id: TaskId) -> bool {
        let Some(limit) = schedule.policy.pause_after_failures else { return false };
        let failed = match self.book.entries.get(&id).map(|entry| entry.status) {
            Some(Status::Completed) => false,
            Some(Status::Failed | Status::Timeout) => true,
            Some(_) | None => return false,
        };
        let before = schedule.failures;
        schedule.failures = if failed { before.saturating_add(1) } else { 0 };
        if schedule.failures >= limit.max(1) {
            let count = schedule.failures;
            let (since, by) = (self.now, String::new());
            let note = format!("{count} runs in a row failed, task {id} was the last");
            let by_itself = Paused { since, by, note, backfills: false };
            schedule.paused.get_or_insert(by_itself).backfills = false;
        }
        schedule.failures != before
    }

    /// Buffered ticks whose run may have ended while nothing fired.
    pub(in crate::engine) fn release_buffered(&mut self) {
        let waiting = self.book.schedules.iter();
        let waiting = waiting.filter(|it| !it.buffered.is_empty() || it.backfill > 0);
        let runs: Vec<TaskId> = waiting.filter_map(|it| it.former).collect();
        self.ended_runs.extend(runs.into_iter().map(|run| (run, false)));
    }

    /// Nothing waits any more for its turn.
    pub(super) fn drop_waiting(&mut self, schedule: &mut Schedule) -> Result<(), EngineError> {
        self.drop_backfill(schedule)?;
        let Some(task) = schedule.former else { return Ok(()) };
        let waiting = std::mem::take(&mut schedule.buffered);
        let keys = waiting.into_iter().map(|planned| schedule.tick(planned));
        let outcome = Outcome::Skipped { task };
        let tick = Tick { at: self.now, outcome };
        let rows = keys.map(|key| self.row(key, tick.clone())).collect();
        self.write_together(Vec::new(), rows);
        Ok(())
    }
}
