//! What the SDK asks of its gateway: the services of package `capsule`, for our own host and for
//! stock runners, and the chats that people hold with apps.
//!
//! Owns the SDK's wire: nothing else names `capsule_proto::sdk`. It must not know the store or
//! processes. Invariant: an answer to a write means that what it says is on disk.

mod chat;
mod data;
mod rooms;
mod runner;
mod secrets;
mod server;
mod sessions;
mod stock;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use capsule_core::id::{AttemptNumber, TaskId};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

pub use self::chat::{Chat, ChatError, Opening};
pub use self::rooms::{Attached, ChatEvent};
pub use self::secrets::{Secret, SecretError};
pub use self::server::{serve, socket_path};
pub use self::stock::{Listening, StockEnd, StockEvent, StockReport, StockTask};
use crate::appdata::{AppData, DataError};
use crate::engine::{Engine, EngineError, SubmitError};

/// The largest message either way, in bytes: what the SDK allows itself.
pub const MESSAGE_MAX: usize = 16 << 20;

/// The gateway; clones are the same.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    data: AppData,
    secrets: PathBuf,
    rooms: rooms::Rooms,
    stock: Mutex<stock::Stock>,
    reports: mpsc::UnboundedSender<StockReport>,
    streams: mpsc::UnboundedSender<Listening>,
}

/// What the gateway wants done, for the dispatcher.
#[derive(Debug)]
pub struct Wanted {
    /// What stock runners say of their attempts.
    pub reports: mpsc::UnboundedReceiver<StockReport>,
    /// Which stock runners listen.
    pub streams: mpsc::UnboundedReceiver<Listening>,
}

/// Who calls: code of an app, in a host, an attempt or a stock runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The app.
    pub app: String,
    /// Its revision.
    pub revision: u32,
    /// Who deployed it.
    pub user_id: String,
    /// It runs from the project's folder, with data of its own.
    pub serve: bool,
    /// The attempt that calls, when one does.
    pub task: Option<(TaskId, AttemptNumber)>,
}

impl Gateway {
    /// A gateway over this engine and these data; secrets are files in `secrets`.
    pub fn new(engine: Engine, data: AppData, secrets: PathBuf) -> (Self, Wanted) {
        let (reports, told) = mpsc::unbounded_channel();
        let (streams, listening) = mpsc::unbounded_channel();
        let inner = Inner {
            engine,
            data,
            secrets,
            rooms: rooms::Rooms::default(),
            stock: Mutex::default(),
            reports,
            streams,
        };
        (Self { inner: Arc::new(inner) }, Wanted { reports: told, streams: listening })
    }

    /// One unary call of the SDK, by `Service/Method`, request and reply as protobuf.
    ///
    /// # Errors
    /// What the SDK is told: the code and text of gRPC.
    pub async fn call(
        &self,
        caller: &Caller,
        method: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, Status> {
        let unknown = || Status::unimplemented(format!("{method} is not served by this daemon"));
        let (service, name) = method.split_once('/').ok_or_else(unknown)?;
        let answer = match service {
            "TaskService" => Box::pin(self.task_call(caller, name, body)).await?,
            "SessionService" => Box::pin(self.session_call(caller, name, body)).await?,
            "DataService" => Box::pin(self.data_call(caller, name, body)).await?,
            "SecretService" => self.secret_call(name, body)?,
            "RunnerService" => Box::pin(self.runner_call(caller, name, body)).await?,
            _ => None,
        };
        answer.ok_or_else(unknown)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    fn data(&self) -> &AppData {
        &self.inner.data
    }
}

impl Caller {
    /// The app whose data a call means: its own, under `serve` with a name of its own.
    fn data_app(&self, asked: &str) -> Result<String, Status> {
        let served = format!("{}_dev", self.app);
        match asked {
            "" if self.serve => Ok(served),
            "" => Ok(self.app.clone()),
            asked if asked == self.app || asked == served => Ok(asked.to_owned()),
            other => Err(Status::permission_denied(format!(
                "app {} may not use the data of app {other:?}",
                self.app
            ))),
        }
    }

    /// Refuses a call that names another app.
    fn check_app(&self, asked: &str) -> Result<(), Status> {
        self.data_app(asked).map(drop)
    }
}

/// The answer of one method, encoded; `None` = there is no such method.
type Answer = Result<Option<Vec<u8>>, Status>;

fn read<T: Message + Default>(body: &[u8]) -> Result<T, Status> {
    T::decode(body).map_err(|error| Status::invalid_argument(format!("reading it: {error}")))
}

#[expect(clippy::unnecessary_wraps, reason = "it ends every arm of a match of methods")]
fn answer(reply: &impl Message) -> Answer {
    Ok(Some(reply.encode_to_vec()))
}

impl From<DataError> for Status {
    fn from(error: DataError) -> Self {
        let text = error.to_string();
        match error {
            DataError::Invalid(_) => Self::invalid_argument(text),
            DataError::Exists(_) => Self::already_exists(text),
            DataError::Missing(_) => Self::not_found(text),
            DataError::Full(_) | DataError::Busy(_) => Self::resource_exhausted(text),
            DataError::Failed(_) => Self::internal(text),
            DataError::Gone => Self::unavailable(text),
        }
    }
}

fn engine_failed(error: &EngineError) -> Status {
    let text = error.to_string();
    match error {
        EngineError::Gone => Status::unavailable(text),
        EngineError::Busy(_) => Status::resource_exhausted(text),
        EngineError::Store(_) | EngineError::Thread(_) | EngineError::Record(_) => {
            Status::internal(text)
        }
    }
}

fn submit_refused(error: &SubmitError) -> Status {
    let text = error.to_string();
    match error {
        SubmitError::Spec(_) | SubmitError::PayloadTooLarge(_) => Status::invalid_argument(text),
        SubmitError::Locked { .. } | SubmitError::KeyConflict { .. } => {
            Status::already_exists(text)
        }
        SubmitError::NoDependency(_) => Status::not_found(text),
        SubmitError::QueueFull(_) | SubmitError::SchedulesFull(_) | SubmitError::Degraded(_) => {
            Status::resource_exhausted(text)
        }
    }
}
