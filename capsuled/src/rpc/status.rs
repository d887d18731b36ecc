//! From our errors to gRPC codes: one table. The details carry a stable code, a hint that is a
//! runnable command, and the exit code of the CLI.

use capsule_core::Rejected;
use capsule_core::lock::LockError;
use capsule_core::spec::SpecError;
use capsule_proto::v1::ErrorDetail;
use prost::Message as _;
use tonic::{Code, Status};

use crate::backup::BackupError;
use crate::engine::{EngineError, Refusal, SubmitError};
use crate::secrets::SecretError;
use crate::web::WebError;

/// An answer that is an error.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) name: &'static str,
    pub(super) message: String,
    pub(super) hint: String,
    pub(super) exit: i32,
}

impl Refused {
    /// Arguments that make no sense: exit code 2.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, "invalid_argument", message, 2)
    }

    /// Something that is not there: exit code 4.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, "not_found", message, 4)
    }

    /// One more than there may be: exit code 5.
    pub(super) fn exhausted(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, name, message, 5)
    }

    /// Something that cannot be now: exit code 5.
    pub(super) fn precondition(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, name, message, 5)
    }

    pub(super) fn new(
        code: Code,
        name: &'static str,
        message: impl Into<String>,
        exit: i32,
    ) -> Self {
        Self { code, name, message: message.into(), hint: String::new(), exit }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let Refused { code, name, message, hint, exit } = refused;
        let detail = ErrorDetail { code: name.to_owned(), hint, exit };
        Self::with_details(code, message, detail.encode_to_vec().into())
    }
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        let message = chain(&error);
        match error {
            EngineError::Gone => Self::new(Code::Unavailable, "unavailable", message, 3),
            EngineError::Busy(_) => Self::new(Code::ResourceExhausted, "busy", message, 1),
            EngineError::Store(_) | EngineError::Thread(_) | EngineError::Record(_) => {
                Self::new(Code::Internal, "internal", message, 1)
            }
        }
    }
}

impl From<SpecError> for Refused {
    fn from(error: SpecError) -> Self {
        let hint = match &error {
            SpecError::AtMostOnceRetries(_) => "capsule help states",
            SpecError::Empty { .. }
            | SpecError::TooLong { .. }
            | SpecError::BadName { .. }
            | SpecError::Range { .. } => "capsule submit --help",
        };
        Self::invalid(error.to_string()).hint(hint)
    }
}

impl From<LockError> for Refused {
    fn from(error: LockError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<SubmitError> for Refused {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Spec(error) => error.into(),
            SubmitError::Locked { holder, .. } => {
                Self::new(Code::AlreadyExists, "locked", message, 5)
                    .hint(format!("capsule wait {holder}"))
            }
            SubmitError::KeyConflict { id, .. } => {
                Self::new(Code::AlreadyExists, "key_conflict", message, 5)
                    .hint(format!("capsule show {id}"))
            }
            SubmitError::NoDependency(_) => Self::not_found(message).hint("capsule list"),
            SubmitError::QueueFull(_) => {
                Self::new(Code::ResourceExhausted, "queue_full", message, 5).hint("capsule status")
            }
            SubmitError::SchedulesFull(_) => {
                Self::new(Code::ResourceExhausted, "schedules_full", message, 5)
                    .hint("capsule schedule list")
            }
            SubmitError::PayloadTooLarge(_) => Self::invalid(message)
                .hint("put the data into a file and pass its path: capsule help data"),
            SubmitError::Degraded(_) => {
                Self::new(Code::ResourceExhausted, "disk_full", message, 5).hint("capsule status")
            }
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Rejected(Rejected::OutOfBounds) => Self::invalid(message),
            Refusal::Rejected(Rejected::Missing) => Self::not_found(message).hint("capsule list"),
            Refusal::Rejected(
                Rejected::Exists
                | Rejected::AlreadyEnded(_)
                | Rejected::StaleAttempt(_)
                | Rejected::NotNow(_)
                | Rejected::NotDue
                | Rejected::Unchanged
                | Rejected::Completed,
            )
            | Refusal::NotEnded(_)
            | Refusal::Lingers
            | Refusal::MayLinger
            | Refusal::ReadOnly => Self::precondition("precondition", message),
        }
    }
}

impl From<BackupError> for Refused {
    fn from(error: BackupError) -> Self {
        let message = chain(&error);
        match error {
            BackupError::Name(_) => Self::invalid(message).hint("capsule backup create --help"),
            BackupError::Exists(_) => {
                Self::new(Code::AlreadyExists, "exists", message, 5).hint("capsule backup list")
            }
            BackupError::Busy => Self::precondition("busy", message).hint("capsule backup list"),
            BackupError::Ending => Self::new(Code::Unavailable, "unavailable", message, 3),
            BackupError::Archive(_) | BackupError::Data(_) | BackupError::Thread(_) => {
                Self::new(Code::Internal, "internal", message, 1)
            }
        }
    }
}

impl From<WebError> for Refused {
    fn from(error: WebError) -> Self {
        let message = error.to_string();
        match error {
            WebError::Off => {
                Self::precondition("web_off", message).hint("capsuled run --web 127.0.0.1:7788")
            }
            WebError::Listen { .. } => {
                Self::precondition("web_listen", message).hint("capsuled run --web 127.0.0.1:0")
            }
            WebError::Ending => Self::new(Code::Unavailable, "unavailable", message, 3),
            WebError::Random => Self::new(Code::Internal, "internal", message, 1),
        }
    }
}

impl From<SecretError> for Refused {
    fn from(error: SecretError) -> Self {
        let message = chain(&error);
        match error {
            SecretError::Name(_) | SecretError::Value { .. } => {
                Self::invalid(message).hint("capsule secret set --help")
            }
            SecretError::Io { .. } => Self::new(Code::Internal, "internal", message, 1),
        }
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
