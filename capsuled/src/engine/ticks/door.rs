//! What may be asked about schedules, and what is answered.

use std::ops::ControlFlow;
use std::sync::Arc;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::TaskSpec;
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};

use super::super::group::Group;
use super::super::request::{Reply, Request, SubmitError};
use super::super::{Engine, EngineError};
use super::Schedule;
use crate::schedule::{Backfill, CATCH_UP_MAX, Policy, Rule, Tick, TickKey};
use crate::store::{KeyRange, Table};

/// A task that is to be submitted again and again.
#[derive(Clone, Debug)]
pub struct NewRecurrence {
    /// What each fire submits; its idempotency key, its start time and its dependencies are passed
    /// over.
    pub spec: TaskSpec,
    /// What to run, encoded.
    pub payload: Vec<u8>,
    /// From one fire to the next; at least [`crate::schedule::EVERY_MIN`].
    pub every: Span,
    /// The first fire; `None` = after one interval, in the past = now.
    pub first: Option<Timestamp>,
}

/// The recurrence that stands for a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// The recurrence.
    pub schedule: Schedule,
    /// It is new; else one with the same task, owner and lock was there.
    pub created: bool,
}

/// A schedule by hand.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// Its name.
    pub title: String,
    /// What each fire submits, as in [`NewRecurrence`].
    pub spec: TaskSpec,
    /// What to run, encoded.
    pub payload: Vec<u8>,
    /// When.
    pub rule: Rule,
    /// What goes for all fires.
    pub policy: Policy,
}

/// A schedule that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// As it is now.
    pub schedule: Schedule,
    /// It is new; else one of that name was changed.
    pub created: bool,
}

/// Something that people do to a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleChange {
    /// No fire until it is resumed.
    Pause {
        /// By whom.
        by: String,
        /// Why.
        note: String,
    },
    /// Fire again.
    Resume,
    /// Pass the next fire over.
    SkipNext {
        /// For whom.
        by: String,
    },
    /// Never fire again; the task that the last fire made goes on.
    End,
}

/// A period whose planned fires are to be carried out, as far as they have not been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedBackfill {
    /// Of which schedule.
    pub id: ScheduleId,
    /// The first instant.
    pub from: Timestamp,
    /// The last; later than now = now.
    pub until: Timestamp,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What a backfill does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfilled {
    /// As it is now.
    pub schedule: Schedule,
    /// Which fires get a task, and why others do not.
    pub found: Backfill,
    /// How many have it already; the others wait for their turn.
    pub started: u32,
}

/// What became of one planned fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickRow {
    /// When it was planned, and by which rule.
    pub key: TickKey,
    /// What became of it.
    pub tick: Tick,
}

/// Why something asked of a schedule did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There is none.
    #[error("there is no schedule {0}")]
    Unknown(ScheduleId),
    /// It was taken away.
    #[error("schedule {0} has ended")]
    Ended(ScheduleId),
    /// It comes and goes with the deploys of its app.
    #[error("schedule {name} belongs to app {app}: a deploy without it ends it")]
    OfApp {
        /// Its name.
        name: String,
        /// The app.
        app: String,
    },
    /// It runs.
    #[error("its run before has not ended: task {0}")]
    Overlap(TaskId),
    /// No task could be made.
    #[error("it could not be run: {0}")]
    Refused(String),
    /// More would be backfilled than may wait.
    #[error("{} fires are left to backfill, and there is room for {room}", many(*count))]
    NoRoom {
        /// Of which schedule.
        id: ScheduleId,
        /// From when on.
        from: Timestamp,
        /// How many; one more than [`crate::schedule::CATCH_UP_MAX`] = so many or more.
        count: usize,
        /// How many there may be.
        room: usize,
        /// The last for which there is room.
        last: Option<Timestamp>,
    },
    /// It does not fire any more, or not until it is resumed.
    #[error("schedule {0} has no next fire")]
    NoNext(String),
}

fn many(count: usize) -> String {
    let most = CATCH_UP_MAX as usize;
    if count > most { format!("more than {most}") } else { count.to_string() }
}

/// Something asked about schedules.
#[derive(Debug)]
pub(in crate::engine) enum ScheduleRequest {
    /// Register a recurrence.
    Recur { new: Box<NewRecurrence>, reply: Reply<Result<Recurrence, SubmitError>> },
    /// Add one by hand, or change it.
    Add { new: Box<NewSchedule>, reply: Reply<Result<Added, ScheduleError>> },
    /// Pause, resume, end it, or pass its next fire over.
    Change { id: ScheduleId, change: ScheduleChange, reply: Reply<Result<Schedule, ScheduleError>> },
    /// Carry out what has not fired of a period.
    Backfill { asked: AskedBackfill, reply: Reply<Result<Backfilled, ScheduleError>> },
    /// Run one now.
    Trigger { id: ScheduleId, reply: Reply<Result<Arc<Task>, ScheduleError>> },
}

impl Engine {
    /// Registers a task that is submitted again and again. A second one of the same task and owner
    /// under the same lock is answered with the one that stands.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn recur(
        &self,
        new: NewRecurrence,
    ) -> Result<Result<Recurrence, SubmitError>, EngineError> {
        let new = Box::new(new);
        self.ask(|reply| Request::Schedule(ScheduleRequest::Recur { new, reply })).await
    }

    /// Adds a schedule, or gives the one of that name these settings.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn add_schedule(
        &self,
        new: NewSchedule,
    ) -> Result<Result<Added, ScheduleError>, EngineError> {
        let new = Box::new(new);
        self.ask(|reply| Request::Schedule(ScheduleRequest::Add { new, reply })).await
    }

    /// Pauses, resumes or ends a schedule, or passes its next fire over.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn change_schedule(
        &self,
        id: ScheduleId,
        change: ScheduleChange,
    ) -> Result<Result<Schedule, ScheduleError>, EngineError> {
        self.ask(|reply| Request::Schedule(ScheduleRequest::Change { id, change, reply })).await
    }

    /// Runs a schedule now, besides its plan.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn trigger(
        &self,
        id: ScheduleId,
    ) -> Result<Result<Arc<Task>, ScheduleError>, EngineError> {
        self.ask(|reply| Request::Schedule(ScheduleRequest::Trigger { id, reply })).await
    }

    /// Carries out the planned fires of a period that is over, as far as they have not fired.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn backfill(
        &self,
        asked: AskedBackfill,
    ) -> Result<Result<Backfilled, ScheduleError>, EngineError> {
        self.ask(|reply| Request::Schedule(ScheduleRequest::Backfill { asked, reply })).await
    }

    /// A schedule as it is on disk, ended or not.
    pub fn schedule(&self, id: ScheduleId) -> Option<Schedule> {
        self.book().schedules.get(id).cloned()
    }

    /// What became of the last fires of a schedule, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn ticks(&self, id: ScheduleId, limit: usize) -> Result<Vec<TickRow>, EngineError> {
        // Under the book's lock, so that nothing is seen before it is durable.
        let _book = self.book();
        let (from, to) = TickKey::range(id);
        let mut rows = Vec::new();
        self.store().scan_back(Table::Tick, KeyRange::between(&from, &to), &mut |key, value| {
            if rows.len() >= limit {
                return ControlFlow::Break(());
            }
            if let (Some(key), Ok(tick)) = (TickKey::decode(key), minicbor::decode(value)) {
                rows.push(TickRow { key, tick });
            }
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }
}

impl Group<'_> {
    /// Does what is asked about schedules.
    pub(in crate::engine) fn asked_of_schedules(
        &mut self,
        asked: ScheduleRequest,
    ) -> Result<(), EngineError> {
        match asked {
            ScheduleRequest::Recur { new, reply } => {
                let result = self.recur(*new)?;
                self.answer(reply, result);
            }
            ScheduleRequest::Add { new, reply } => {
                let result = self.add_schedule(*new)?;
                self.answer(reply, result);
            }
            ScheduleRequest::Change { id, change, reply } => {
                let result = self.change_schedule(id, change)?;
                self.answer(reply, result);
            }
            ScheduleRequest::Backfill { asked, reply } => {
                let result = self.backfill(asked)?;
                self.answer(reply, result);
            }
            ScheduleRequest::Trigger { id, reply } => {
                let result = self.trigger(id)?;
                self.answer(reply, result);
            }
        }
        Ok(())
    }
}
