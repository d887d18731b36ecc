//! The service `Schedules`: what fires again and again, and what became of it.

use capsule_core::attempt::AttemptRecord;
use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::task::{Status, Task};
use capsule_proto::v1;
use capsule_proto::v1::schedules_server::Schedules;
use tonic::{Request, Response};

use super::Api;
use super::status::Refused;
use crate::dispatcher::STOCK;
use crate::engine::{ScheduleChange, ScheduleError, TickRow};
use crate::schedule::{Fire, Origin, Outcome, Schedule};

type Answer<T> = Result<Response<T>, tonic::Status>;

/// Fires in a history unless a number is asked for.
const HISTORY: u32 = 50;
/// The most fires told of at once.
const FIRES_MAX: u32 = 1000;

#[tonic::async_trait]
impl Schedules for Api {
    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Answer<v1::ListSchedulesReply> {
        let v1::ListSchedulesRequest { app, all } = request.into_inner();
        let book = self.engine.book();
        let wanted = |it: &&Schedule| (app.is_empty() || it.app == app) && (all || it.is_active());
        let mut schedules: Vec<&Schedule> = book.schedules.iter().filter(wanted).collect();
        schedules.sort_by_key(|it| (&it.app, it.origin == Origin::Sdk, &it.name, it.id));
        let schedules = schedules.into_iter().map(view).collect();
        Ok(Response::new(v1::ListSchedulesReply { schedules }))
    }

    async fn schedule_history(
        &self,
        request: Request<v1::ScheduleHistoryRequest>,
    ) -> Answer<v1::ScheduleHistoryReply> {
        let v1::ScheduleHistoryRequest { schedule, app, limit } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let limit = if limit == 0 { HISTORY } else { limit.min(FIRES_MAX) };
        let rows = self.engine.ticks(schedule.id, limit as usize).map_err(Refused::from)?;
        let mut ticks = Vec::with_capacity(rows.len());
        for row in rows {
            ticks.push(self.row(&row)?);
        }
        Ok(Response::new(v1::ScheduleHistoryReply { schedule: Some(view(&schedule)), ticks }))
    }

    async fn next_fires(
        &self,
        request: Request<v1::NextFiresRequest>,
    ) -> Answer<v1::NextFiresReply> {
        let v1::NextFiresRequest { schedule, app, count } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let mut fires_us = Vec::new();
        let mut next = schedule.next;
        while let Some(at) = next
            && fires_us.len() < count.clamp(1, FIRES_MAX) as usize
        {
            fires_us.push(at.0);
            next = schedule.rule.next_after(at);
        }
        Ok(Response::new(v1::NextFiresReply { schedule: Some(view(&schedule)), fires_us }))
    }

    async fn trigger_schedule(
        &self,
        request: Request<v1::TriggerScheduleRequest>,
    ) -> Answer<v1::TriggerScheduleReply> {
        let v1::TriggerScheduleRequest { schedule, app } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let task = self.engine.trigger(schedule.id).await.map_err(Refused::from)?;
        let task = task.map_err(Refused::from)?;
        Ok(Response::new(v1::TriggerScheduleReply { task: Some(self.view(&task)) }))
    }

    async fn end_schedule(
        &self,
        request: Request<v1::EndScheduleRequest>,
    ) -> Answer<v1::EndScheduleReply> {
        let v1::EndScheduleRequest { schedule, app } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let ended = self
            .engine
            .change_schedule(schedule.id, ScheduleChange::End)
            .await
            .map_err(Refused::from)?;
        let schedule = ended.map_err(Refused::from)?;
        Ok(Response::new(v1::EndScheduleReply { schedule: Some(view(&schedule)) }))
    }
}

impl Api {
    /// The schedule that is meant by an id, a name, or `APP/NAME`.
    fn find(&self, wanted: &str, app: &str) -> Result<Schedule, Refused> {
        let id = wanted.parse().ok();
        let book = self.engine.book();
        if let Some(schedule) = id.and_then(|id| book.schedules.get(ScheduleId(id))) {
            return Ok(schedule.clone());
        }
        let named = |it: &&Schedule| {
            it.origin == Origin::App
                && (app.is_empty() || it.app == app)
                && (it.name == wanted || format!("{}/{}", it.app, it.name) == wanted)
        };
        let mut found: Vec<&Schedule> = book.schedules.iter().filter(named).collect();
        if found.iter().any(|it| it.is_active()) {
            found.retain(|it| it.is_active());
        }
        match found.as_slice() {
            [one] => Ok(Schedule::clone(one)),
            [] => Err(Refused::not_found(format!("there is no schedule {wanted:?}"))
                .hint("capsule schedule list")),
            [first, ..] => {
                let apps: Vec<&str> = found.iter().map(|it| it.app.as_str()).collect();
                let message = format!("schedule {wanted} is in the apps {}", apps.join(", "));
                let hint = format!("capsule schedule history {}/{wanted}", first.app);
                Err(Refused::invalid(message).hint(hint))
            }
        }
    }

    fn row(&self, row: &TickRow) -> Result<v1::TickView, Refused> {
        let mut view = tick(row.key.planned.0, row.key.generation, &row.tick.outcome);
        view.at_us = Some(row.tick.at.0);
        if let Some(id) = view.task {
            let task = self.engine.task(TaskId(id))?;
            view.delivered = task.as_ref().is_some_and(only_delivered);
            view.task_view = task.map(|task| self.view(&task));
        }
        Ok(view)
    }
}

/// The run was given to the SDK's own runner, which does not say how it ends.
fn only_delivered(task: &Task) -> bool {
    let by_stock = |last: &AttemptRecord| last.receipt.attribution == STOCK;
    task.status() == Status::Completed
        && task.spec.tick.is_some()
        && task.last.as_ref().is_some_and(by_stock)
}

fn view(schedule: &Schedule) -> v1::ScheduleView {
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
        owner: schedule.owner.clone(),
        created_us: schedule.created.0,
        next_us: schedule.next.map(|at| at.0),
        ended_us: schedule.ended.map(|at| at.0),
        last,
    }
}

fn tick(planned_us: i64, generation: u32, outcome: &Outcome) -> v1::TickView {
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
        Outcome::PassedOver { by } => {
            v1::TickView { outcome: "passed_over".to_owned(), why: by.clone(), ..told }
        }
        Outcome::Refused { why } => {
            v1::TickView { outcome: "refused".to_owned(), why: why.clone(), ..told }
        }
    }
}

impl From<ScheduleError> for Refused {
    fn from(error: ScheduleError) -> Self {
        let message = error.to_string();
        match error {
            ScheduleError::Unknown(_) => Self::not_found(message).hint("capsule schedule list"),
            ScheduleError::Ended(_) => Self::precondition("ended", message),
            ScheduleError::NoNext(_) => {
                Self::precondition("no_next", message).hint("capsule schedule list")
            }
            ScheduleError::OfApp { .. } => {
                Self::precondition("of_app", message).hint("capsule deploy --help")
            }
            ScheduleError::Overlap(task) => {
                Self::precondition("overlap", message).hint(format!("capsule wait {task}"))
            }
            ScheduleError::Refused(_) => Self::precondition("refused", message),
        }
    }
}
