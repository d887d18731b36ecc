//! What pages ask: the handlers of `capsule.v1`, and what their refusals mean to a browser.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use capsule_core::time::Timestamp;
use capsule_proto::v1::apps_server::Apps;
use capsule_proto::v1::tasks_server::Tasks;
use capsule_proto::v1::{self, ErrorDetail};
use prost::Message as _;
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

type Answer<T> = Result<T, Refusal>;

impl Site {
    pub(super) fn now(&self) -> Timestamp {
        self.api.engine.now()
    }

    /// The number of the last change there is.
    pub(super) fn latest(&self) -> u64 {
        self.api.engine.feed().latest().0
    }

    pub(super) async fn list(&self, request: v1::ListRequest) -> Answer<v1::ListReply> {
        Ok(Tasks::list(&self.api, own(request)).await?.into_inner())
    }

    pub(super) async fn show(&self, id: &str) -> Answer<v1::ShowReply> {
        let request = v1::ShowRequest { id: id.to_owned() };
        Ok(Tasks::show(&self.api, own(request)).await?.into_inner())
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

    /// The log of a task from a cursor, or its last lines; with `follow` it grows.
    pub(super) async fn tail(
        &self,
        request: v1::TailRequest,
    ) -> Answer<<crate::rpc::Api as Tasks>::TailStream> {
        Ok(Tasks::tail(&self.api, own(request)).await?.into_inner())
    }
}
