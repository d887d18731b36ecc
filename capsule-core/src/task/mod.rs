//! A task and the states it can be in. Data sits in the state's variant.

pub mod attempt;
pub mod spec;

use std::fmt;

use minicbor::{Decode, Encode};

use crate::attempt::{AttemptRecord, Failure, How};
use crate::id::{AttemptNumber, Seq, TaskId, Uuid};
use crate::spec::{Payload, TaskSpec};
use crate::time::{Span, Timestamp};

/// One submitted unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Task {
    /// What people type.
    #[n(0)]
    pub id: TaskId,
    /// Unique over all stores.
    #[n(1)]
    pub uuid: Uuid,
    /// What was asked for.
    #[n(2)]
    pub spec: TaskSpec,
    /// When it was submitted.
    #[n(3)]
    pub created: Timestamp,
    /// Where it stands.
    #[n(4)]
    pub state: State,
    /// Attempts begun so far; the number of the newest.
    #[n(5)]
    pub attempts: AttemptNumber,
    /// Own failures used up of the present budget.
    #[n(6)]
    pub failures: u32,
    /// Infrastructure losses in a row.
    #[n(7)]
    pub losses: u32,
    /// The newest attempt that began.
    #[n(8)]
    pub last: Option<AttemptRecord>,
    /// Number of the last change.
    #[n(9)]
    pub seq: Seq,
    /// When it became due, for `start_within`.
    #[n(10)]
    pub due_since: Timestamp,
    /// What its newest attempt gave back, JSON.
    #[n(11)]
    pub result: Option<Payload>,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum State {
    /// Waits for its first instant.
    #[n(0)]
    Scheduled {
        /// That instant.
        #[n(0)]
        due: Timestamp,
    },
    /// May start as soon as no gate holds.
    #[n(1)]
    Pending {
        /// Since when.
        #[n(0)]
        since: Timestamp,
    },
    /// An attempt has its number, durably; its process may or may not exist yet.
    #[n(2)]
    Claimed {
        /// The right to this attempt.
        #[n(0)]
        lease: Lease,
        /// A cancel that was asked for.
        #[n(1)]
        cancel: Option<CancelRequest>,
    },
    /// The process exists.
    #[n(3)]
    Running {
        /// The right to this attempt.
        #[n(0)]
        lease: Lease,
        /// When the process began.
        #[n(1)]
        started: Timestamp,
        /// Its process id.
        #[n(2)]
        pid: u32,
        /// A cancel that was asked for.
        #[n(3)]
        cancel: Option<CancelRequest>,
    },
    /// Waits for its next attempt.
    #[n(4)]
    Retry {
        /// When that is due.
        #[n(0)]
        due: Timestamp,
    },
    /// Over.
    #[n(5)]
    Ended {
        /// Since when.
        #[n(0)]
        at: Timestamp,
        /// How.
        #[n(1)]
        outcome: Outcome,
    },
}

/// The right to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// Its number.
    #[n(0)]
    pub attempt: AttemptNumber,
    /// Since when.
    #[n(1)]
    pub since: Timestamp,
    /// The life of the keeper it was claimed for.
    #[n(2)]
    pub keeper: Uuid,
}

/// Somebody asked that the task be cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CancelRequest {
    /// When.
    #[n(0)]
    pub at: Timestamp,
    /// Between SIGTERM and SIGKILL.
    #[n(1)]
    pub grace: Span,
    /// Why; may be empty.
    #[n(2)]
    pub reason: String,
}

/// The longest reason of a cancel, in bytes; the rest is cut off.
pub const REASON_MAX: usize = 200;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Its last attempt succeeded.
    #[n(0)]
    Completed,
    /// Its budget is spent, or no retry makes it good.
    #[n(1)]
    Failed(#[n(0)] Failure),
    /// Its last attempt ran longer than allowed.
    #[n(2)]
    Timeout(#[n(0)] How),
    /// Asked for, or it could never start.
    #[n(3)]
    Cancelled(#[n(0)] Cancellation),
}

/// Why a task ended cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Cancellation {
    /// Asked for before an attempt ran.
    #[n(0)]
    BeforeStart {
        /// Why; may be empty.
        #[n(0)]
        reason: String,
    },
    /// Asked for while an attempt ran.
    #[n(1)]
    Stopped {
        /// How the attempt was stopped.
        #[n(0)]
        how: How,
        /// Why; may be empty.
        #[n(1)]
        reason: String,
    },
    /// It had not started in time.
    #[n(2)]
    Expired,
    /// A dependency ended so that it can never start.
    #[n(3)]
    Dependency {
        /// Which.
        #[n(0)]
        task: TaskId,
        /// How that ended, in a word.
        #[n(1)]
        status: Status,
    },
}

/// The statuses of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Status {
    /// Waits for its first instant.
    #[n(0)]
    Scheduled,
    /// May start as soon as no gate holds.
    #[n(1)]
    Pending,
    /// Has an attempt number, no process yet.
    #[n(2)]
    Claimed,
    /// Has a process.
    #[n(3)]
    Running,
    /// Waits for its next attempt.
    #[n(4)]
    Retry,
    /// Succeeded.
    #[n(5)]
    Completed,
    /// Failed for good.
    #[n(6)]
    Failed,
    /// Ran too long, for good.
    #[n(7)]
    Timeout,
    /// Ended by request or because it could never start.
    #[n(8)]
    Cancelled,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Pending,
        Self::Claimed,
        Self::Running,
        Self::Retry,
        Self::Completed,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Retry => "retry",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Timeout | Self::Cancelled => true,
            Self::Scheduled | Self::Pending | Self::Claimed | Self::Running | Self::Retry => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl State {
    /// The word that every surface shows.
    pub const fn status(&self) -> Status {
        match self {
            Self::Scheduled { .. } => Status::Scheduled,
            Self::Pending { .. } => Status::Pending,
            Self::Claimed { .. } => Status::Claimed,
            Self::Running { .. } => Status::Running,
            Self::Retry { .. } => Status::Retry,
            Self::Ended { outcome, .. } => outcome.status(),
        }
    }

    /// The live attempt's lease, while there is one.
    pub const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Claimed { lease, .. } | Self::Running { lease, .. } => Some(lease),
            Self::Scheduled { .. }
            | Self::Pending { .. }
            | Self::Retry { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// The cancel that was asked for of a live attempt.
    pub const fn cancel(&self) -> Option<&CancelRequest> {
        match self {
            Self::Claimed { cancel, .. } | Self::Running { cancel, .. } => cancel.as_ref(),
            Self::Scheduled { .. }
            | Self::Pending { .. }
            | Self::Retry { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// When the clock moves it on.
    pub const fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { due } | Self::Retry { due } => Some(*due),
            Self::Pending { .. }
            | Self::Claimed { .. }
            | Self::Running { .. }
            | Self::Ended { .. } => None,
        }
    }
}

impl Outcome {
    /// The word that every surface shows.
    pub const fn status(&self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Failed(_) => Status::Failed,
            Self::Timeout(_) => Status::Timeout,
            Self::Cancelled(_) => Status::Cancelled,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => Ok(()),
            Self::Failed(failure) => failure.fmt(f),
            Self::Timeout(how) => write!(f, "{how}"),
            Self::Cancelled(cancellation) => cancellation.fmt(f),
        }
    }
}

impl fmt::Display for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeStart { reason } if reason.is_empty() => f.write_str("before it started"),
            Self::BeforeStart { reason } => write!(f, "before it started: {reason}"),
            Self::Stopped { how, reason } if reason.is_empty() => write!(f, "{how}"),
            Self::Stopped { how, reason } => write!(f, "{how}: {reason}"),
            Self::Expired => f.write_str("did not start in time"),
            Self::Dependency { task, status } => write!(f, "dependency {task} {status}"),
        }
    }
}

impl Task {
    /// The word that every surface shows.
    pub const fn status(&self) -> Status {
        self.state.status()
    }

    /// What people see as its name.
    pub fn title(&self) -> &str {
        if self.spec.display_name.is_empty() { &self.spec.name } else { &self.spec.display_name }
    }

    /// When `start_within` ends it, while it waits.
    pub fn expires(&self) -> Option<Timestamp> {
        match self.state {
            State::Pending { .. } => {
                self.spec.start_within.map(|within| self.due_since.plus(within))
            }
            State::Scheduled { .. }
            | State::Claimed { .. }
            | State::Running { .. }
            | State::Retry { .. }
            | State::Ended { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
