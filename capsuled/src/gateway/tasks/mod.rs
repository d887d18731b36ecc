//! `TaskService`: an app submits, finds, counts, cancels and refreshes its tasks.

mod recurring;

use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::spec::{Payload, TaskSpec};
use capsule_core::task::{State, Status as TaskStatus, Task};
use capsule_core::time::{Span, Timestamp};
use capsule_proto::sdk;
use serde_json::{Map, Value};
use tonic::Status;

use super::{Answer, Caller, Gateway, answer, engine_failed, read, submit_refused};
use crate::apps::{By, Given, Kind};
use crate::book::Filter;
use crate::engine::NewTask;
use crate::store::SideKind;
use crate::work::{SESSION_LABEL, Work};

/// Tasks that one `FindTasks` gives, unless said otherwise, and at the most.
const FIND: usize = 100;
const FIND_MAX: usize = 1000;
/// Records read before others get their turn.
const BREATH: usize = 64;

impl Gateway {
    pub(in crate::gateway) async fn task_call(
        &self,
        caller: &Caller,
        name: &str,
        body: &[u8],
    ) -> Answer {
        match name {
            "SubmitTask" => answer(&self.submit_task(caller, read(body)?).await?),
            "GetTask" => {
                let request: sdk::GetTaskRequest = read(body)?;
                let task = match self.own_recurrence(caller, &request.task_id) {
                    Some(schedule) => self.recurrence_record(&schedule),
                    None => self.record(&self.own_task(caller, &request.task_id)?),
                };
                answer(&sdk::GetTaskResponse { task: Some(task) })
            }
            "FindTasks" => answer(&self.find_tasks(caller, read(body)?).await?),
            "CountTasks" => answer(&self.count_tasks(caller, read(body)?).await?),
            "CancelTasks" => answer(&self.cancel_tasks(caller, read(body)?).await?),
            "RefreshTaskTimeout" => answer(&self.refresh(caller, &read(body)?).await?),
            _ => Ok(None),
        }
    }

    async fn submit_task(
        &self,
        caller: &Caller,
        request: sdk::SubmitTaskRequest,
    ) -> Result<sdk::SubmitTaskResponse, Status> {
        caller.check_app(&request.app_id)?;
        if request.recurrence_seconds > 0 {
            return self.submit_recurring(caller, &request).await;
        }
        let (work, spec) = self.called(caller, &request)?;
        let new = NewTask {
            spec: TaskSpec { arguments: work.digest(), ..spec },
            payload: work.encode(),
            parent: caller.task.map(|(task, _)| task),
            dry_run: false,
        };
        let submitted = self.engine().submit(vec![new]).await;
        let submitted = submitted
            .map_err(|error| engine_failed(&error))?
            .pop()
            .ok_or_else(|| Status::internal("a submit had no result"))?
            .map_err(|error| submit_refused(&error))?;
        let task_id = submitted.task.id.to_string();
        Ok(sdk::SubmitTaskResponse { ok: true, task_id, err_msg: String::new() })
    }

    /// The work and the spec of a submit: the definition's, with what the request says itself.
    pub(in crate::gateway) fn called(
        &self,
        caller: &Caller,
        request: &sdk::SubmitTaskRequest,
    ) -> Result<(Work, TaskSpec), Status> {
        let name = &request.task_name;
        let apps = self.engine().apps();
        let missing = || Status::not_found(format!("app {} has no task {name:?}", caller.app));
        let app = apps.get(&caller.app).ok_or_else(missing)?;
        let definition = apps
            .definition(&caller.app, name)
            .filter(|definition| definition.kind == Kind::Task)
            .ok_or_else(missing)?;
        let payload = std::str::from_utf8(&request.kwargs_json)
            .map_err(|_| Status::invalid_argument("the arguments are no text"))?;
        let given = Given { payload: payload.to_owned(), ..Given::default() };
        let users = [&request.user_id, &caller.user_id];
        let owner = users.into_iter().find(|user| !user.is_empty());
        let owner = owner.map_or_else(|| "app".to_owned(), Clone::clone);
        let by = By { owner, uid: nix::unistd::geteuid().as_raw() };
        let (work, mut spec) = app
            .call(&caller.app, definition, &given, by)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Ok(retries) = u32::try_from(request.max_retries)
            && retries > 0
        {
            spec.retries = retries;
        }
        if let Ok(seconds) = u64::try_from(request.timeout)
            && seconds > 0
        {
            spec.timeout = Some(Span::from_secs(seconds));
        }
        if spec.lock.is_none() && !request.lock_key.is_empty() {
            spec.lock = Some(request.lock_key.clone());
        }
        spec.display_name.clone_from(&request.display_name);
        if !request.session_id.is_empty() {
            spec.labels.insert(SESSION_LABEL.to_owned(), request.session_id.clone());
        }
        spec.not_before = instant(&request.scheduled_at)?;
        Ok((work, spec))
    }

    /// A task of the caller's app.
    pub(in crate::gateway) fn own_task(&self, caller: &Caller, id: &str) -> Result<Task, Status> {
        let missing = || Status::not_found(format!("app {} has no task {id:?}", caller.app));
        let number: TaskId = id.parse().map_err(|_| missing())?;
        let task = self.engine().task(number).map_err(|error| engine_failed(&error))?;
        task.filter(|task| task.spec.app == caller.app && self.is_shown(task)).ok_or_else(missing)
    }

    /// Whether apps see a task at all: not the runs of their schedules.
    fn is_shown(&self, task: &Task) -> bool {
        let apps = self.engine().apps();
        let definition = apps.definition(&task.spec.app, &task.spec.name);
        definition.is_none_or(|definition| definition.kind == Kind::Task)
    }

    async fn find_tasks(
        &self,
        caller: &Caller,
        request: sdk::FindTasksRequest,
    ) -> Result<sdk::FindTasksResponse, Status> {
        caller.check_app(&request.app_id)?;
        let limit = match usize::try_from(request.limit).unwrap_or(0) {
            0 => FIND,
            limit => limit.min(FIND_MAX),
        };
        let offset = usize::try_from(request.offset).unwrap_or(0);
        let search = Search {
            task: request.task_name,
            status: request.status,
            session: request.session_id,
            kwargs: kwargs(&request.kwargs_filter_json)?,
        };
        // Recurrences come first: they are what goes on.
        let recurring = self.recurrences(caller, &search);
        let mut tasks: Vec<_> = recurring.iter().map(|it| self.recurrence_record(it)).collect();
        let found = self.search(caller, search, offset.saturating_add(limit)).await?;
        tasks.extend(found.iter().map(|task| self.record(task)));
        let tasks = tasks.into_iter().skip(offset).take(limit).collect();
        Ok(sdk::FindTasksResponse { tasks })
    }

    async fn count_tasks(
        &self,
        caller: &Caller,
        request: sdk::CountTasksRequest,
    ) -> Result<sdk::CountTasksResponse, Status> {
        caller.check_app(&request.app_id)?;
        let search = Search {
            task: request.task_name,
            status: request.status,
            session: request.session_id,
            kwargs: kwargs(&request.kwargs_filter_json)?,
        };
        let recurring = self.recurrences(caller, &search).len();
        let found = self.search(caller, search, usize::MAX).await?.len() + recurring;
        Ok(sdk::CountTasksResponse { count: i64::try_from(found).unwrap_or(i64::MAX) })
    }

    async fn cancel_tasks(
        &self,
        caller: &Caller,
        request: sdk::CancelTasksRequest,
    ) -> Result<sdk::CancelTasksResponse, Status> {
        caller.check_app(&request.app_id)?;
        let (recurring, tasks) = if request.task_id.is_empty() {
            let search = Search {
                task: request.task_name,
                status: request.status,
                session: request.session_id,
                kwargs: kwargs(&request.kwargs_filter_json)?,
            };
            let recurring = self.recurrences(caller, &search);
            (recurring, self.search(caller, search, usize::MAX).await?)
        } else {
            // A task that is not there cannot be cancelled: none is.
            let task = self.own_task(caller, &request.task_id).into_iter().collect();
            (self.own_recurrence(caller, &request.task_id).into_iter().collect(), task)
        };
        let ended = self.end_recurrences(&recurring).await?;
        let ids: Vec<TaskId> =
            tasks.iter().filter(|task| !task.status().is_ended()).map(|task| task.id).collect();
        let command = Command::Cancel { reason: "by its app".to_owned(), grace: None };
        let acted = self.engine().act(ids, command).await.map_err(|error| engine_failed(&error))?;
        let cancelled = acted.iter().filter(|acted| acted.result.is_ok()).count();
        let cancelled = i64::try_from(cancelled).unwrap_or(i64::MAX).saturating_add(ended);
        Ok(sdk::CancelTasksResponse { cancelled })
    }

    async fn refresh(
        &self,
        caller: &Caller,
        request: &sdk::RefreshTaskTimeoutRequest,
    ) -> Result<sdk::RefreshTaskTimeoutResponse, Status> {
        let task = self.own_task(caller, &request.task_id)?;
        let refreshed = self.engine().refresh(task.id).await;
        if !refreshed.map_err(|error| engine_failed(&error))? {
            let message = format!("task {} does not run, it is {}", task.id, task.status());
            return Err(Status::failed_precondition(message));
        }
        Ok(sdk::RefreshTaskTimeoutResponse {})
    }

    /// Tasks of the caller's app, newest first, `most` at the most.
    async fn search(
        &self,
        caller: &Caller,
        search: Search,
        most: usize,
    ) -> Result<Vec<Task>, Status> {
        let filter = Filter {
            app: caller.app.clone(),
            names: Some(search.task).filter(|name| !name.is_empty()).into_iter().collect(),
            statuses: status_from(search.status)?.into_iter().collect(),
            labels: Some(search.session)
                .filter(|session| !session.is_empty())
                .map(|session| (SESSION_LABEL.to_owned(), session))
                .into_iter()
                .collect(),
            ..Filter::default()
        };
        let ids: Vec<TaskId> = self.engine().book().newest(&filter, None).collect();
        let mut found = Vec::new();
        for (at, id) in ids.into_iter().enumerate() {
            if found.len() >= most {
                break;
            }
            if at % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            let task = self.engine().task(id).map_err(|error| engine_failed(&error))?;
            if let Some(task) = task.filter(|task| self.is_shown(task))
                && (search.kwargs.is_empty() || self.has_kwargs(&task, &search.kwargs))
            {
                found.push(task);
            }
        }
        Ok(found)
    }

    fn has_kwargs(&self, task: &Task, wanted: &Map<String, Value>) -> bool {
        let arguments: Map<String, Value> =
            serde_json::from_str(&self.arguments(task)).unwrap_or_default();
        wanted.iter().all(|(name, value)| arguments.get(name) == Some(value))
    }

    /// The arguments of a task as JSON; `{}` where it has none.
    pub(in crate::gateway) fn arguments(&self, task: &Task) -> String {
        self.arguments_in(&task.spec.payload, task.id)
    }

    fn arguments_in(&self, payload: &Payload, id: TaskId) -> String {
        let bytes = match payload {
            Payload::Inline(bytes) => Some(bytes.clone()),
            Payload::Side { .. } => self.engine().side(SideKind::Payload, id).ok().flatten(),
        };
        match bytes.and_then(|bytes| Work::decode(&bytes)) {
            Some(Work::Call(call)) => call.arguments,
            Some(Work::Program(_)) | None => "{}".to_owned(),
        }
    }

    fn record(&self, task: &Task) -> sdk::TaskRecord {
        let spec = &task.spec;
        let ended = match &task.state {
            State::Ended { at, .. } => Some(*at),
            State::Scheduled { .. }
            | State::Pending { .. }
            | State::Claimed { .. }
            | State::Running { .. }
            | State::Retry { .. } => None,
        };
        let started = task.last.as_ref().and_then(|last| last.started);
        let whole = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        sdk::TaskRecord {
            task_id: task.id.to_string(),
            app_id: spec.app.clone(),
            task_name: spec.name.clone(),
            session_id: spec.labels.get(SESSION_LABEL).cloned().unwrap_or_default(),
            kwargs_json: self.arguments(task).into_bytes(),
            status: status(task.status()).into(),
            attempt: whole(task.attempts.0.into()),
            max_retries: whole(spec.retries.into()),
            lock_key: spec.lock.clone().unwrap_or_default(),
            error: error_of(task),
            created_at: rfc3339(Some(task.created)),
            started_at: rfc3339(started),
            completed_at: rfc3339(ended),
            scheduled_at: rfc3339(task.state.due().or(spec.not_before)),
            timeout: spec.timeout.map_or(0, |span| whole(span.0.div_ceil(1000))),
            recurrence_seconds: 0,
            display_name: spec.display_name.clone(),
        }
    }
}

/// What a find, count or cancel asks for.
struct Search {
    task: String,
    status: i32,
    session: String,
    kwargs: Map<String, Value>,
}

fn kwargs(bytes: &[u8]) -> Result<Map<String, Value>, Status> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes)
        .map_err(|_| Status::invalid_argument("the filter by arguments is no JSON object"))
}

fn instant(text: &str) -> Result<Option<Timestamp>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| Status::invalid_argument(format!("{text:?} is no time in RFC 3339")))?;
    Ok(Some(Timestamp(at.as_microsecond())))
}

fn rfc3339(at: Option<Timestamp>) -> String {
    at.and_then(|at| jiff::Timestamp::from_microsecond(at.0).ok())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

fn error_of(task: &Task) -> String {
    match &task.state {
        State::Ended { outcome, .. } => outcome.to_string(),
        State::Retry { .. } => {
            let verdict = task.last.as_ref().and_then(|last| last.verdict.as_ref());
            verdict.map(ToString::to_string).unwrap_or_default()
        }
        State::Scheduled { .. }
        | State::Pending { .. }
        | State::Claimed { .. }
        | State::Running { .. } => String::new(),
    }
}

const fn status(status: TaskStatus) -> sdk::TaskStatus {
    match status {
        TaskStatus::Scheduled => sdk::TaskStatus::Scheduled,
        TaskStatus::Pending => sdk::TaskStatus::Pending,
        TaskStatus::Claimed => sdk::TaskStatus::Claimed,
        TaskStatus::Running => sdk::TaskStatus::Running,
        TaskStatus::Retry => sdk::TaskStatus::Retry,
        TaskStatus::Completed => sdk::TaskStatus::Completed,
        TaskStatus::Failed => sdk::TaskStatus::Failed,
        TaskStatus::Timeout => sdk::TaskStatus::Timeout,
        TaskStatus::Cancelled => sdk::TaskStatus::Cancelled,
    }
}

fn status_from(wire: i32) -> Result<Option<TaskStatus>, Status> {
    if wire == 0 {
        return Ok(None);
    }
    let known = TaskStatus::ALL.into_iter().find(|known| status(*known) as i32 == wire);
    match known {
        Some(known) => Ok(Some(known)),
        None => Err(Status::invalid_argument(format!("{wire} is no status of a task"))),
    }
}
