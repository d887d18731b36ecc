//! What happened to a task: facts, applied by `evolve`.

use crate::attempt::AttemptRecord;
use crate::command::Edit;
use crate::id::{AttemptNumber, TaskId};
use crate::spec::Payload;
use crate::task::{CancelRequest, Lease, Outcome, Task};
use crate::time::{Span, Timestamp};

/// One fact about one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It exists.
    Submitted(Box<Task>),
    /// It may start as soon as no gate holds.
    BecamePending {
        /// When.
        at: Timestamp,
    },
    /// It has a new attempt number.
    Claimed {
        /// The right to it.
        lease: Lease,
        /// The revision it runs on.
        revision: u32,
    },
    /// Its process exists.
    Started {
        /// When.
        at: Timestamp,
        /// Process id.
        pid: u32,
    },
    /// Its attempt is over.
    AttemptEnded(Box<AttemptRecord>),
    /// It gave something back.
    ResultKept(Payload),
    /// An own failure was counted.
    FailureCounted,
    /// An infrastructure loss was counted.
    LossCounted,
    /// The losses in a row are over.
    LossesForgotten,
    /// It waits for its next attempt.
    RetryScheduled {
        /// Until when.
        due: Timestamp,
    },
    /// Its first instant was moved.
    Rescheduled {
        /// To when.
        due: Timestamp,
    },
    /// A cancel was asked for while an attempt lives.
    CancelRequested(CancelRequest),
    /// One dependency less.
    DependencyMet {
        /// Which.
        task: TaskId,
    },
    /// It is over.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
    /// A fresh budget.
    BudgetRenewed {
        /// A new number of retries.
        retries: Option<u32>,
        /// A new timeout; zero = none.
        timeout: Option<Span>,
    },
    /// New values.
    Edited(Box<Edit>),
}

impl Event {
    /// The attempt that this event gives a number to.
    pub fn claims(&self) -> Option<AttemptNumber> {
        if let Self::Claimed { lease, .. } = self { Some(lease.attempt) } else { None }
    }
}
