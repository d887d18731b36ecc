//! `.schedule("every 5m")`: a recurrence, which the SDK sees as a task that is always SCHEDULED.

use capsule_core::id::ScheduleId;
use capsule_core::time::Span;
use capsule_proto::sdk;
use serde_json::{Map, Value};
use tonic::Status;

use super::{Search, rfc3339};
use crate::engine::{NewRecurrence, ScheduleChange};

use crate::gateway::{Caller, Gateway, engine_failed, submit_refused};
use crate::schedule::{Origin, Rule, Schedule};
use crate::work::SESSION_LABEL;

impl Gateway {
    pub(super) async fn submit_recurring(
        &self,
        caller: &Caller,
        request: &sdk::SubmitTaskRequest,
    ) -> Result<sdk::SubmitTaskResponse, Status> {
        let (work, spec) = self.called(caller, request)?;
        let seconds = u64::try_from(request.recurrence_seconds).unwrap_or(0);
        let new = NewRecurrence {
            first: spec.not_before,
            payload: work.encode(),
            every: Span::from_secs(seconds),
            spec: capsule_core::spec::TaskSpec { arguments: work.digest(), ..spec },
        };
        let made = self.engine().recur(new).await.map_err(|error| engine_failed(&error))?;
        let made = made.map_err(|error| submit_refused(&error))?;
        let task_id = made.schedule.id.to_string();
        Ok(sdk::SubmitTaskResponse { ok: true, task_id, err_msg: String::new() })
    }

    /// The recurrence of the caller's app that has this id.
    pub(super) fn own_recurrence(&self, caller: &Caller, id: &str) -> Option<Schedule> {
        let schedule = self.engine().schedule(ScheduleId(id.parse().ok()?))?;
        Some(schedule).filter(|it| it.origin == Origin::Sdk && it.app == caller.app)
    }

    /// The recurrences that a search finds, newest first: those that still fire are SCHEDULED.
    pub(super) fn recurrences(&self, caller: &Caller, search: &Search) -> Vec<Schedule> {
        let scheduled = sdk::TaskStatus::Scheduled as i32;
        if search.status != 0 && search.status != scheduled {
            return Vec::new();
        }
        let book = self.engine().book();
        let fits = |it: &&Schedule| {
            it.origin == Origin::Sdk
                && it.is_active()
                && it.app == caller.app
                && (search.task.is_empty() || search.task == it.name)
                && (search.session.is_empty()
                    || session(it).is_some_and(|own| search.session == own))
        };
        let mut found: Vec<Schedule> = book.schedules.iter().filter(fits).cloned().collect();
        drop(book);
        if !search.kwargs.is_empty() {
            found.retain(|it| {
                let arguments: Map<String, Value> =
                    serde_json::from_str(&self.recurring_arguments(it)).unwrap_or_default();
                search.kwargs.iter().all(|(name, value)| arguments.get(name) == Some(value))
            });
        }
        found.sort_by_key(|it| std::cmp::Reverse(it.id));
        found
    }

    /// Ends them; how many were still firing.
    pub(super) async fn end_recurrences(&self, schedules: &[Schedule]) -> Result<i64, Status> {
        let mut ended = 0;
        for schedule in schedules.iter().filter(|it| it.is_active()) {
            let done = self.engine().change_schedule(schedule.id, ScheduleChange::End).await;
            ended += i64::from(done.map_err(|error| engine_failed(&error))?.is_ok());
        }
        Ok(ended)
    }

    fn recurring_arguments(&self, schedule: &Schedule) -> String {
        let id = capsule_core::id::TaskId(schedule.id.0);
        let spec = schedule.submits();
        spec.map_or_else(|| "{}".to_owned(), |spec| self.arguments_in(&spec.payload, id))
    }

    /// As the SDK sees it.
    pub(super) fn recurrence_record(&self, schedule: &Schedule) -> sdk::TaskRecord {
        let status = if schedule.is_active() {
            sdk::TaskStatus::Scheduled
        } else {
            sdk::TaskStatus::Cancelled
        };
        let every = match &schedule.rule {
            Rule::Every { every, .. } => i32::try_from(every.0 / 1000).unwrap_or(i32::MAX),
            Rule::Cron { .. } | Rule::At(_) => 0,
        };
        let template = schedule.submits();
        let template = template.as_ref();
        sdk::TaskRecord {
            task_id: schedule.id.to_string(),
            app_id: schedule.app.clone(),
            task_name: schedule.name.clone(),
            session_id: session(schedule).unwrap_or_default(),
            kwargs_json: self.recurring_arguments(schedule).into_bytes(),
            status: status.into(),
            max_retries: template.map_or(0, |spec| i32::try_from(spec.retries).unwrap_or(i32::MAX)),
            lock_key: template.and_then(|spec| spec.lock.clone()).unwrap_or_default(),
            created_at: rfc3339(Some(schedule.created)),
            completed_at: rfc3339(schedule.ended),
            scheduled_at: rfc3339(schedule.next),
            recurrence_seconds: every,
            display_name: template.map(|spec| spec.display_name.clone()).unwrap_or_default(),
            ..sdk::TaskRecord::default()
        }
    }
}

/// The session that asked for it.
fn session(schedule: &Schedule) -> Option<String> {
    schedule.submits()?.labels.remove(SESSION_LABEL)
}
