//! The service `Schedules`: what fires again and again, and what became of it.

mod backfill;
mod plan;
mod view;

use capsule_core::id::ScheduleId;
use capsule_proto::v1;
use capsule_proto::v1::schedules_server::Schedules;
use tonic::{Request, Response};

use self::plan::FIRES_MAX;
pub(super) use self::view::changed;
use self::view::view;
use super::Api;
use super::request::submit;
use super::status::Refused;
use crate::engine::{Added, NewSchedule, NewTask, ScheduleChange, ScheduleError};
use crate::schedule::{Origin, Schedule};
use crate::text::bounded;

type Answer<T> = Result<Response<T>, tonic::Status>;

/// The longest note of a pause, in bytes.
const NOTE_MAX: usize = 500;
/// Fires in a history unless a number is asked for.
const HISTORY: u32 = 50;

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
            ticks.push(self.row(&schedule, &row)?);
        }
        Ok(Response::new(v1::ScheduleHistoryReply { schedule: Some(view(&schedule)), ticks }))
    }

    async fn next_fires(
        &self,
        request: Request<v1::NextFiresRequest>,
    ) -> Answer<v1::NextFiresReply> {
        let v1::NextFiresRequest { schedule, app, count } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let cron = schedule.rule.cron();
        let mut fires = Vec::new();
        let mut next = schedule.next;
        while let Some(at) = next
            && fires.len() < count.clamp(1, FIRES_MAX) as usize
        {
            fires.push(plan::fire(&schedule, cron.as_ref(), at));
            next = schedule.next_after(at);
        }
        let fires_us = fires.iter().map(|fire| fire.at_us).collect();
        let schedule = Some(view(&schedule));
        Ok(Response::new(v1::NextFiresReply { schedule, fires_us, fires }))
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

    async fn backfill_schedule(
        &self,
        request: Request<v1::BackfillScheduleRequest>,
    ) -> Answer<v1::BackfillScheduleReply> {
        Ok(Response::new(self.backfill(request.into_inner()).await?))
    }

    async fn end_schedule(
        &self,
        request: Request<v1::EndScheduleRequest>,
    ) -> Answer<v1::EndScheduleReply> {
        let v1::EndScheduleRequest { schedule, app } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let schedule = self.change(&schedule, ScheduleChange::End).await?;
        Ok(Response::new(v1::EndScheduleReply { schedule: Some(schedule) }))
    }

    async fn add_schedule(
        &self,
        request: Request<v1::AddScheduleRequest>,
    ) -> Answer<v1::AddScheduleReply> {
        let peer = self.peers.of(&request)?;
        let v1::AddScheduleRequest { name, when, policy, submit } = request.into_inner();
        capsule_core::spec::name("schedule", &name)
            .map_err(|error| Refused::invalid(error.to_string()))?;
        if name.parse::<u64>().is_ok() {
            return Err(Refused::invalid("a number is no name of a schedule, it is an id").into());
        }
        let rule = plan::rule(when, &name, self.engine.now())?;
        let warnings = plan::warnings(&rule);
        let policy = plan::policy(policy)?;
        let submit = v1::SubmitRequest { parent_task: None, ..submit.unwrap_or_default() };
        let NewTask { spec, payload, .. } = submit::new_task(&self.engine, submit, &peer)?;
        let new = NewSchedule { title: name, spec, payload, rule, policy };
        let added = self.engine.add_schedule(new).await.map_err(Refused::from)?;
        let Added { schedule, created } = added.map_err(not_added)?;
        let schedule = Some(view(&schedule));
        Ok(Response::new(v1::AddScheduleReply { schedule, created, warnings }))
    }

    async fn pause_schedule(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Answer<v1::ChangeScheduleReply> {
        let by = self.peers.of(&request)?.name;
        let v1::PauseScheduleRequest { schedule, app, note } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let note = bounded(&note, NOTE_MAX);
        let schedule = self.change(&schedule, ScheduleChange::Pause { by, note }).await?;
        Ok(Response::new(v1::ChangeScheduleReply { schedule: Some(schedule) }))
    }

    async fn resume_schedule(
        &self,
        request: Request<v1::ResumeScheduleRequest>,
    ) -> Answer<v1::ChangeScheduleReply> {
        let v1::ResumeScheduleRequest { schedule, app } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let schedule = self.change(&schedule, ScheduleChange::Resume).await?;
        Ok(Response::new(v1::ChangeScheduleReply { schedule: Some(schedule) }))
    }

    async fn skip_next_fire(
        &self,
        request: Request<v1::SkipNextFireRequest>,
    ) -> Answer<v1::ChangeScheduleReply> {
        let by = self.peers.of(&request)?.name;
        let v1::SkipNextFireRequest { schedule, app } = request.into_inner();
        let schedule = self.find(&schedule, &app)?;
        let schedule = self.change(&schedule, ScheduleChange::SkipNext { by }).await?;
        Ok(Response::new(v1::ChangeScheduleReply { schedule: Some(schedule) }))
    }

    async fn preview_schedule(
        &self,
        request: Request<v1::PreviewScheduleRequest>,
    ) -> Answer<v1::PreviewScheduleReply> {
        Ok(Response::new(self.preview(request.into_inner())?))
    }

    async fn audit_schedule(
        &self,
        request: Request<v1::AuditScheduleRequest>,
    ) -> Answer<v1::AuditScheduleReply> {
        Ok(Response::new(self.audit(request.into_inner())?))
    }
}

impl Api {
    async fn change(
        &self,
        schedule: &Schedule,
        change: ScheduleChange,
    ) -> Result<v1::ScheduleView, Refused> {
        let changed = self.engine.change_schedule(schedule.id, change).await?;
        changed.map(|schedule| view(&schedule)).map_err(Refused::from)
    }

    /// The schedule that is meant by an id, a name, or `APP/NAME`.
    fn find(&self, wanted: &str, app: &str) -> Result<Schedule, Refused> {
        let id = wanted.parse().ok();
        let book = self.engine.book();
        if let Some(schedule) = id.and_then(|id| book.schedules.get(ScheduleId(id))) {
            return Ok(schedule.clone());
        }
        let named = |it: &&Schedule| {
            it.origin != Origin::Sdk
                && (app.is_empty() || it.app == app)
                && (it.label() == wanted || format!("{}/{}", it.app, it.label()) == wanted)
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
}

/// Why a schedule was not added: what is wrong is in the call.
fn not_added(error: ScheduleError) -> Refused {
    let message = error.to_string();
    match error {
        ScheduleError::NoNext(_) => Refused::invalid("all its times are over: it would never fire"),
        ScheduleError::OfApp { name, app } => Refused::precondition("of_app", message)
            .hint(format!("capsule schedule show {app}/{name}")),
        ScheduleError::Unknown(_)
        | ScheduleError::Ended(_)
        | ScheduleError::Overlap(_)
        | ScheduleError::NoRoom { .. }
        | ScheduleError::Refused(_) => error.into(),
    }
}

impl From<ScheduleError> for Refused {
    fn from(error: ScheduleError) -> Self {
        let message = error.to_string();
        match error {
            ScheduleError::Unknown(_) => Self::not_found(message).hint("capsule schedule list"),
            ScheduleError::Ended(_) => Self::precondition("ended", message),
            ScheduleError::NoNext(name) => {
                Self::precondition("no_next", message).hint(format!("capsule schedule show {name}"))
            }
            ScheduleError::OfApp { name, app } => Self::precondition("of_app", message)
                .hint(format!("capsule schedule pause {app}/{name}")),
            ScheduleError::Overlap(task) => {
                Self::precondition("overlap", message).hint(format!("capsule wait {task}"))
            }
            ScheduleError::Refused(_) => Self::precondition("refused", message),
            ScheduleError::NoRoom { id, from, last, .. } => {
                Self::exhausted("no_room", message).hint(backfill::shorter(id, from, last))
            }
        }
    }
}
