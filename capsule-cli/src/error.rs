//! What goes wrong, what to do about it, and the exit code that says so.

use std::io;

use capsule_proto::v1::ErrorDetail;
use prost::Message as _;
use tonic::{Code, Status};

/// The exit codes of `capsule` (`capsule help exit-codes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, also when there was nothing to do.
    Done,
    /// Anything unforeseen.
    Failure,
    /// Flags, an unknown task, arguments that do not fit its definition.
    Usage,
    /// The daemon cannot be reached.
    Unreachable,
    /// No such task, app, queue or lock.
    Missing,
    /// A precondition does not hold.
    Refused,
    /// Not allowed.
    Denied,
    /// Declined at a prompt, or nobody could be asked.
    Declined,
    /// The task failed.
    TaskFailed,
    /// The task was cancelled.
    TaskCancelled,
    /// The task ran out of time.
    TaskTimeout,
    /// The task was lost with the machine or the keeper.
    TaskLost,
    /// The task has not ended.
    Unfinished,
    /// `wait --timeout` ran out.
    WaitRanOut,
    /// A program could not be started.
    CannotStart,
    /// A program is there and cannot be executed.
    NotExecutable,
    /// There is no such program.
    NoProgram,
    /// Ended by Ctrl-C; the task goes on.
    Interrupted,
    /// The code of the program itself, or one that the daemon asks for.
    Code(u8),
}

impl Exit {
    const NAMED: [Self; 18] = [
        Self::Done,
        Self::Failure,
        Self::Usage,
        Self::Unreachable,
        Self::Missing,
        Self::Refused,
        Self::Denied,
        Self::Declined,
        Self::TaskFailed,
        Self::TaskCancelled,
        Self::TaskTimeout,
        Self::TaskLost,
        Self::Unfinished,
        Self::WaitRanOut,
        Self::CannotStart,
        Self::NotExecutable,
        Self::NoProgram,
        Self::Interrupted,
    ];

    /// The number that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Missing => 4,
            Self::Refused => 5,
            Self::Denied => 6,
            Self::Declined => 7,
            Self::TaskFailed => 20,
            Self::TaskCancelled => 21,
            Self::TaskTimeout => 22,
            Self::TaskLost => 23,
            Self::Unfinished => 24,
            Self::WaitRanOut => 124,
            Self::CannotStart => 125,
            Self::NotExecutable => 126,
            Self::NoProgram => 127,
            Self::Interrupted => 130,
            Self::Code(code) => code,
        }
    }

    /// The code of a number; what does not fit in a process's code becomes 1.
    pub(crate) fn of(number: i32) -> Self {
        let Ok(code) = u8::try_from(number) else { return Self::Failure };
        let named = Self::NAMED.into_iter().find(|exit| exit.code() == code);
        named.unwrap_or(Self::Code(code))
    }
}

/// An error that is ready to be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{}", .0.message)]
    Told(Box<Told>),
    /// clap's own error: it knows how to show itself.
    #[error("{0}")]
    Usage(Box<clap::Error>),
    /// The reader of our output went away.
    #[error("the reader closed the pipe")]
    BrokenPipe,
}

/// Message, stable code, hints and exit code of an error.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hints: Vec<String>,
    pub(crate) exit: Exit,
}

impl CliError {
    /// An error with a stable code.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self::Told(Box::new(Told { code, message, hints: Vec::new(), exit }))
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Adds a hint: it names a command that exists and works.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hints.push(hint.into());
        }
        self
    }

    /// The stable code, for decisions.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Told(told) => &told.code,
            Self::Usage(_) => "usage",
            Self::BrokenPipe => "broken_pipe",
        }
    }

    /// The exit code it asks for.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Told(told) => told.exit,
            Self::Usage(error) => Exit::of(error.exit_code()),
            Self::BrokenPipe => Exit::Done,
        }
    }
}

impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> Self {
        Self::Usage(Box::new(error))
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::new(Exit::Failure, "io", error.to_string())
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        let (exit, code) = meaning(status.code());
        let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
        let code = if detail.code.is_empty() { code } else { &detail.code };
        let exit = if detail.exit == 0 { exit } else { Exit::of(detail.exit) };
        let error = Self::new(exit, code, told(&status));
        if detail.hint.is_empty() { error } else { error.hint(detail.hint) }
    }
}

fn told(status: &Status) -> String {
    if status.message().is_empty() {
        return format!("the daemon answered {:?} without a word", status.code());
    }
    status.message().to_owned()
}

/// Exit code and stable code of a gRPC code that carries no detail.
const fn meaning(code: Code) -> (Exit, &'static str) {
    match code {
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => (Exit::Failure, "internal"),
        Code::Cancelled => (Exit::Failure, "cancelled"),
        Code::Aborted => (Exit::Failure, "aborted"),
        Code::ResourceExhausted => (Exit::Failure, "resource_exhausted"),
        Code::DeadlineExceeded => (Exit::Failure, "deadline_exceeded"),
        Code::InvalidArgument | Code::OutOfRange => (Exit::Usage, "invalid_argument"),
        Code::NotFound => (Exit::Missing, "not_found"),
        Code::AlreadyExists => (Exit::Refused, "already_exists"),
        Code::FailedPrecondition => (Exit::Refused, "failed_precondition"),
        Code::Unimplemented => (Exit::Refused, "unimplemented"),
        Code::PermissionDenied | Code::Unauthenticated => (Exit::Denied, "permission_denied"),
        Code::Unavailable => (Exit::Unreachable, "unavailable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_status_maps_by_its_grpc_code() {
        let cases = [
            (Code::NotFound, 4, "not_found"),
            (Code::InvalidArgument, 2, "invalid_argument"),
            (Code::FailedPrecondition, 5, "failed_precondition"),
            (Code::AlreadyExists, 5, "already_exists"),
            (Code::PermissionDenied, 6, "permission_denied"),
            (Code::Unavailable, 3, "unavailable"),
            (Code::DeadlineExceeded, 1, "deadline_exceeded"),
            (Code::Unimplemented, 5, "unimplemented"),
            (Code::Internal, 1, "internal"),
        ];
        for (grpc, exit, code) in cases {
            let error = CliError::from(Status::new(grpc, "no"));
            assert_eq!((error.exit().code(), error.code()), (exit, code), "{grpc:?}");
        }
    }

    #[test]
    fn the_detail_wins_over_the_grpc_code() {
        let detail = ErrorDetail {
            code: "lock_held".to_owned(),
            hint: "capsule lock list".to_owned(),
            exit: 5,
        };
        let status = Status::with_details(Code::Internal, "held", detail.encode_to_vec().into());
        let CliError::Told(told) = CliError::from(status) else { panic!("not told") };
        assert_eq!(told.code, "lock_held");
        assert_eq!(told.hints, ["capsule lock list"]);
        assert_eq!(told.exit.code(), 5);
        assert_eq!(told.message, "held");
    }

    #[test]
    fn details_that_are_not_ours_are_passed_over() {
        let status = Status::with_details(Code::NotFound, "gone", vec![0xff, 0xff].into());
        assert_eq!(CliError::from(status).exit().code(), 4);
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.exit(), Exit::Done);
    }

    #[test]
    fn numbers_round_trip() {
        for code in 0..=255_u8 {
            assert_eq!(Exit::of(i32::from(code)).code(), code);
        }
        assert_eq!(Exit::of(4), Exit::Missing);
        assert_eq!(Exit::of(42), Exit::Code(42));
        assert_eq!(Exit::of(-1).code(), 1);
        assert_eq!(Exit::of(256).code(), 1);
    }
}
