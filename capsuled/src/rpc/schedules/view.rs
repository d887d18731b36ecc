//! Schedules and their fires for the wire.

use capsule_core::attempt::AttemptRecord;
use capsule_core::id::TaskId;
use capsule_core::task::{Status, Task};
use capsule_proto::v1;

use super::super::Api;
use super::super::status::Refused;
use super::plan;
use crate::dispatcher::STOCK;
use crate::engine::TickRow;
use crate::schedule::{Fire, Origin, Outcome, Schedule};

/// Tasks shown of those that a run submitted.
const SUBMITTED_SHOWN: usize = 20;

impl Api {
    /// A fire of a history, with its task and what that submitted.
    pub(super) fn row(&self, schedule: &Schedule, row: &TickRow) -> Result<v1::TickView, Refused> {
        let mut view = tick(row.key.planned.0, row.key.generation, &row.tick.outcome);
        view.at_us = Some(row.tick.at.0);
        if let Some(id) = view.task {
            let task = self.engine.task(TaskId(id))?;
            let runs_handler = schedule.template.is_none();
            view.delivered = runs_handler && task.as_ref().is_some_and(only_delivered);
            view.task_view = task.map(|task| self.view(&task));
            let submitted = self.engine.book().submitted_by(TaskId(id));
            for child in submitted.into_iter().take(SUBMITTED_SHOWN) {
                view.submitted.extend(self.engine.task(child)?.map(|task| self.view(&task)));
            }
        }
        Ok(view)
    }
}

/// The run was given to the SDK's own runner, which does not say how it ends.
fn only_delivered(task: &Task) -> bool {
    let by_stock = |last: &AttemptRecord| last.receipt.attribution == STOCK;
    task.status() == Status::Completed && task.last.as_ref().is_some_and(by_stock)
}

/// A schedule for the wire.
pub(super) fn view(schedule: &Schedule) -> v1::ScheduleView {
    let cron = schedule.rule.cron();
    let zone = cron.as_ref().map_or("UTC", |cron| cron.zone()).to_owned();
    let last =
        schedule.last.as_ref().map(|last| tick(last.planned.0, schedule.generation, &last.outcome));
    v1::ScheduleView {
        id: schedule.id.0,
        app: schedule.app.clone(),
        name: schedule.name.clone(),
        label: schedule.label(),
        rule: schedule.rule.to_string(),
        generation: schedule.generation,
        origin: match schedule.origin {
            Origin::App => "app",
            Origin::Sdk => "sdk",
            Origin::Manifest => "manifest",
            Origin::Manual => "manual",
        }
        .to_owned(),
        prose: schedule.rule.prose(),
        next_wall: schedule.next.map_or_else(String::new, |at| plan::wall(&zone, at)),
        zone,
        policy: Some(plan::policy_view(&schedule.policy)),
        paused: schedule.paused.as_ref().map(|paused| v1::SchedulePause {
            since_us: paused.since.0,
            by: paused.by.clone(),
            note: paused.note.clone(),
            backfills: paused.backfills,
        }),
        skip_us: schedule.skip.as_ref().map(|skip| skip.planned.0),
        waiting_us: schedule.buffered.iter().map(|at| at.0).collect(),
        fires: schedule.fires,
        backfill: schedule.backfill,
        decided_us: Some(schedule.decided.0),
        done: schedule.is_active() && schedule.next.is_none(),
        submits: schedule.submits().map_or_else(String::new, |spec| spec.summary),
        owner: schedule.owner.clone(),
        created_us: schedule.created.0,
        next_us: schedule.next.map(|at| at.0),
        ended_us: schedule.ended.map(|at| at.0),
        last,
    }
}

/// A schedule that has changed, in short.
pub(in crate::rpc) fn changed(schedule: &Schedule) -> v1::ScheduleChange {
    let last = schedule.last.as_ref().map(|last| tick(last.planned.0, 0, &last.outcome));
    let state = match (schedule.is_active(), &schedule.paused, schedule.next) {
        (false, _, _) => "ended",
        (true, Some(_), _) => "paused",
        (true, None, Some(_)) => "waits",
        (true, None, None) => "done",
    };
    v1::ScheduleChange {
        id: schedule.id.0,
        app: schedule.app.clone(),
        label: schedule.label(),
        state: state.to_owned(),
        next_us: schedule.next.map(|at| at.0),
        planned_us: last.as_ref().map(|last| last.planned_us),
        task: last.as_ref().and_then(|last| last.task),
        outcome: last.map_or_else(String::new, |last| last.outcome),
    }
}

/// A fire for the wire.
pub(super) fn tick(planned_us: i64, generation: u32, outcome: &Outcome) -> v1::TickView {
    let told = v1::TickView { planned_us, generation, ..v1::TickView::default() };
    match outcome {
        Outcome::Fired { task, how } => {
            let outcome = match how {
                Fire::OnTime => "fired",
                Fire::CaughtUp => "caught_up",
                Fire::Manual => "manual",
                Fire::Buffered => "buffered",
                Fire::Backfilled => "backfilled",
            };
            v1::TickView { outcome: outcome.to_owned(), task: Some(task.0), ..told }
        }
        Outcome::Skipped { task } => {
            v1::TickView { outcome: "skipped".to_owned(), task: Some(task.0), ..told }
        }
        Outcome::Missed { until, count } => v1::TickView {
            outcome: "missed".to_owned(),
            until_us: Some(until.0),
            count: *count,
            ..told
        },
        Outcome::Paused { until, count } => v1::TickView {
            outcome: "paused".to_owned(),
            until_us: Some(until.0),
            count: *count,
            ..told
        },
        Outcome::Buffered { task } => {
            v1::TickView { outcome: "waiting".to_owned(), task: Some(task.0), ..told }
        }
        Outcome::ToBackfill => v1::TickView { outcome: "waiting".to_owned(), ..told },
        Outcome::PassedOver { by } => {
            v1::TickView { outcome: "passed_over".to_owned(), why: by.clone(), ..told }
        }
        Outcome::Refused { why } => {
            v1::TickView { outcome: "refused".to_owned(), why: why.clone(), ..told }
        }
    }
}
