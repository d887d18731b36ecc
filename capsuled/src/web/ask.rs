//! What pages ask: the handlers of `capsule.v1`, and what their refusals mean to a browser.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use capsule_core::time::Timestamp;
use capsule_proto::query;
use capsule_proto::v1::apps_server::Apps;
use capsule_proto::v1::daemon_server::Daemon;
use capsule_proto::v1::schedules_server::Schedules;
use capsule_proto::v1::tasks_server::Tasks;
use capsule_proto::v1::{self, ErrorDetail, watch_event};
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::Site;
use super::pages::{Refused, html};
use crate::rpc::own;

/// An answer that is an error.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    code: StatusCode,
    text: String,
    /// A command that helps.
    hint: String,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: String::new() }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// In a sentence.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Something was typed that makes no sense.
    pub(super) fn of_a_form(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// What a browser is told.
    pub(super) fn code(&self) -> StatusCode {
        self.code
    }

    /// What was typed makes no sense: it is said beside it.
    pub(super) fn is_of_a_form(&self) -> bool {
        self.code == StatusCode::BAD_REQUEST
    }

    /// A page that cannot be made.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made")
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
            Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
        Self::new(code, status.message()).hint(detail.hint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.code.canonical_reason().unwrap_or("Error");
        let page = Refused { title, text: &self.text, hint: &self.hint };
        match html(&page) {
            Ok(mut page) => {
                *page.status_mut() = self.code;
                page
            }
            Err(_) => self.code.into_response(),
        }
    }
}

pub(super) type WatchStream = <crate::rpc::Api as Tasks>::WatchStream;
pub(super) type TailStream = <crate::rpc::Api as Tasks>::TailStream;
type Answer<T> = Result<T, Refusal>;

impl Site {
    pub(super) fn now(&self) -> Timestamp {
        self.api.engine.now()
    }

    /// What the words of the filter language ask for.
    pub(super) fn filter(&self, words: &str) -> Answer<v1::Filter> {
        let filter = query::parse(words, self.now().0).map_err(Refusal::of_a_form)?;
        if self.hides() && !filter.text.is_empty() {
            // Whoever may ask whether a text is in them can read them.
            return Err(Refusal::of_a_form("no text is looked for: arguments are not shown here"));
        }
        Ok(filter)
    }

    /// What stands in the windows of a board, and again after each change.
    pub(super) async fn watch(&self, request: v1::WatchRequest) -> Answer<WatchStream> {
        let told = Tasks::watch(&self.api, own(request)).await?.into_inner();
        if !self.hides() {
            return Ok(told);
        }
        Ok(Box::pin(told.map(|event| {
            event.map(|mut event| {
                if let Some(watch_event::Event::Task(task)) = &mut event.event {
                    task.summary.clear();
                }
                event
            })
        })))
    }

    /// What tasks were given is not shown.
    pub(super) fn hides(&self) -> bool {
        self.entrance.plan.hides_arguments
    }

    pub(super) async fn list(&self, request: v1::ListRequest) -> Answer<v1::ListReply> {
        let mut reply = Tasks::list(&self.api, own(request)).await?.into_inner();
        if self.hides() {
            reply.tasks.iter_mut().for_each(|task| task.summary.clear());
        }
        Ok(reply)
    }

    pub(super) async fn show(&self, id: &str) -> Answer<v1::ShowReply> {
        let request = v1::ShowRequest { id: id.to_owned() };
        let mut reply = Tasks::show(&self.api, own(request)).await?.into_inner();
        if self.hides() {
            (reply.payload_json, reply.program) = (String::new(), None);
            reply.task.iter_mut().for_each(|task| task.summary.clear());
        }
        Ok(reply)
    }

    /// Whether there is a task with this number.
    pub(super) fn is_there(&self, id: &str) -> bool {
        id.parse().is_ok_and(|id| self.api.engine.book().entries.contains_key(&id))
    }

    pub(super) async fn cancel(&self, request: v1::CancelRequest) -> Answer<v1::ActionReply> {
        Ok(Tasks::cancel(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn retry(&self, request: v1::RetryRequest) -> Answer<v1::ActionReply> {
        Ok(Tasks::retry(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn promote(&self, request: v1::TargetsRequest) -> Answer<v1::ActionReply> {
        Ok(Tasks::promote(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn edit(&self, request: v1::EditRequest) -> Answer<v1::ActionReply> {
        Ok(Tasks::edit(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn remove(&self, request: v1::TargetsRequest) -> Answer<v1::ActionReply> {
        Ok(Tasks::remove(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn apps(&self) -> Answer<Vec<v1::AppView>> {
        Ok(Apps::list_apps(&self.api, own(v1::ListAppsRequest {})).await?.into_inner().apps)
    }

    pub(super) async fn pages(&self, app: &str) -> Answer<v1::PagesReply> {
        let request = v1::PagesRequest { app: app.to_owned() };
        Ok(Apps::pages(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn app(&self, app: &str) -> Answer<v1::ShowAppReply> {
        let request = v1::ShowAppRequest { app: app.to_owned() };
        Ok(Apps::show_app(&self.api, own(request)).await?.into_inner())
    }

    /// What can be submitted: of all apps, or of one; all tasks, or one.
    pub(super) async fn definitions(&self, app: &str, name: &str) -> Answer<Vec<v1::Definition>> {
        let request = v1::DefinitionsRequest { app: app.to_owned(), name: name.to_owned() };
        Ok(Apps::definitions(&self.api, own(request)).await?.into_inner().definitions)
    }

    pub(super) async fn submit(&self, request: v1::SubmitRequest) -> Answer<v1::SubmitReply> {
        Ok(Tasks::submit(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn queues(&self) -> Answer<Vec<v1::QueueView>> {
        let request = own(v1::ListQueuesRequest {});
        Ok(Daemon::list_queues(&self.api, request).await?.into_inner().queues)
    }

    pub(super) async fn set_queue(&self, request: v1::SetQueueRequest) -> Answer<v1::QueueView> {
        Ok(Daemon::set_queue(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn locks(&self) -> Answer<Vec<v1::LockView>> {
        let request = own(v1::ListLocksRequest::default());
        Ok(Daemon::list_locks(&self.api, request).await?.into_inner().locks)
    }

    pub(super) async fn schedules(&self) -> Answer<Vec<v1::ScheduleView>> {
        let request = own(v1::ListSchedulesRequest::default());
        Ok(Schedules::list_schedules(&self.api, request).await?.into_inner().schedules)
    }

    pub(super) async fn fires_of(&self, id: u64, limit: u32) -> Answer<v1::ScheduleHistoryReply> {
        let (schedule, app) = (id.to_string(), String::new());
        let request = own(v1::ScheduleHistoryRequest { schedule, app, limit });
        Ok(Schedules::schedule_history(&self.api, request).await?.into_inner())
    }

    pub(super) async fn next_fires(&self, id: u64, count: u32) -> Answer<v1::NextFiresReply> {
        let (schedule, app) = (id.to_string(), String::new());
        let request = own(v1::NextFiresRequest { schedule, app, count });
        Ok(Schedules::next_fires(&self.api, request).await?.into_inner())
    }

    pub(super) async fn trigger(&self, id: u64) -> Answer<v1::TriggerScheduleReply> {
        let (schedule, app) = (id.to_string(), String::new());
        let request = own(v1::TriggerScheduleRequest { schedule, app });
        Ok(Schedules::trigger_schedule(&self.api, request).await?.into_inner())
    }

    /// Pauses or resumes a schedule, or passes its next fire over.
    pub(super) async fn change_schedule(&self, id: u64, verb: &str) -> Answer<()> {
        let (schedule, app) = (id.to_string(), String::new());
        match verb {
            "pause" => {
                let note = "from the web board".to_owned();
                let request = own(v1::PauseScheduleRequest { schedule, app, note });
                Schedules::pause_schedule(&self.api, request).await?;
            }
            "resume" => {
                let request = own(v1::ResumeScheduleRequest { schedule, app });
                Schedules::resume_schedule(&self.api, request).await?;
            }
            _ => {
                let request = own(v1::SkipNextFireRequest { schedule, app });
                Schedules::skip_next_fire(&self.api, request).await?;
            }
        }
        Ok(())
    }

    /// The log of a task from a cursor, or its last lines; with `follow` it grows.
    pub(super) async fn tail(&self, request: v1::TailRequest) -> Answer<TailStream> {
        Ok(Tasks::tail(&self.api, own(request)).await?.into_inner())
    }
}
