//! What may be asked of a task.

use crate::attempt::{Receipt, Verdict};
use crate::id::{AttemptNumber, TaskId, Uuid};
use crate::spec::{DependencyOn, Payload, SpecError, TaskSpec};
use crate::task::Status;
use crate::time::{Span, Timestamp};

/// One thing asked of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Create it.
    Submit {
        /// Its counter.
        id: TaskId,
        /// Its `UUIDv7`.
        uuid: Uuid,
        /// What to do.
        spec: Box<TaskSpec>,
    },
    /// Its instant has come: scheduled or retry becomes pending.
    Due,
    /// Start it now, whatever its instant.
    Promote,
    /// Give it the number of its next attempt.
    Claim {
        /// The life of the keeper that will run it.
        keeper: Uuid,
        /// The revision it will run on.
        revision: u32,
    },
    /// Its process exists.
    Start {
        /// Of which attempt.
        attempt: AttemptNumber,
        /// Process id.
        pid: u32,
    },
    /// Its attempt is over.
    Report(Box<Report>),
    /// End it.
    Cancel {
        /// Why; may be empty. Cut off after `REASON_MAX` bytes.
        reason: String,
        /// Instead of the task's own grace.
        grace: Option<Span>,
    },
    /// It had not started in time.
    Expire,
    /// A dependency ended.
    DependencyEnded {
        /// Which.
        task: TaskId,
        /// How.
        status: Status,
    },
    /// Begin again with a fresh budget.
    Retry {
        /// A new number of retries.
        retries: Option<u32>,
        /// A new timeout; zero = none.
        timeout: Option<Span>,
    },
    /// Change what is still open.
    Edit(Box<Edit>),
}

/// The end of an attempt, as its runner tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// How it ended.
    pub verdict: Verdict,
    /// It was over before any signal of ours: a cancel came too late.
    pub before_signal: bool,
    /// Its runner says that no retry makes this failure good.
    pub is_final: bool,
    /// The attempt itself asked to be tried again after this long.
    pub retry_after: Option<Span>,
    /// When its process began and its pid (0 = unknown), should the start never have been reported.
    pub started: Option<(Timestamp, u32)>,
    /// When its main process was gone.
    pub ended: Timestamp,
    /// What it used.
    pub receipt: Receipt,
    /// What it gave back; kept whatever the verdict, but an attempt that could not start gives
    /// nothing. Inline up to `INLINE_RESULT_MAX` bytes.
    pub result: Option<Payload>,
}

/// New values for what is still open; `None` = as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Higher starts sooner.
    pub priority: Option<i8>,
    /// Another queue.
    pub queue: Option<String>,
    /// Hold it back, or let it go.
    pub hold: Option<bool>,
    /// Another first instant, of a task that has not begun.
    pub at: Option<Timestamp>,
    /// Another number of retries.
    pub retries: Option<u32>,
    /// Another timeout, from the next attempt on; zero = none.
    pub timeout: Option<Span>,
    /// Labels set or, with an empty value, taken away.
    pub labels: Vec<(String, String)>,
    /// What people see.
    pub display_name: Option<String>,
}

impl Edit {
    /// Checks the spec as it would be with these new values.
    ///
    /// # Errors
    /// The first bound or rule that the changed spec breaks.
    pub fn check(&self, spec: &TaskSpec) -> Result<(), SpecError> {
        let mut changed = spec.clone();
        self.apply(&mut changed);
        changed.check()
    }

    /// Puts the new values in; `at` is no part of a spec.
    pub(crate) fn apply(&self, spec: &mut TaskSpec) {
        spec.priority = self.priority.unwrap_or(spec.priority);
        spec.hold = self.hold.unwrap_or(spec.hold);
        spec.retries = self.retries.unwrap_or(spec.retries);
        if let Some(queue) = &self.queue {
            spec.queue.clone_from(queue);
        }
        if let Some(name) = &self.display_name {
            spec.display_name.clone_from(name);
        }
        for (label, value) in &self.labels {
            if value.is_empty() {
                spec.labels.remove(label);
            } else {
                spec.labels.insert(label.clone(), value.clone());
            }
        }
        if let Some(span) = self.timeout {
            spec.timeout = Some(span).filter(|span| *span != Span::ZERO);
        }
    }
}

impl DependencyOn {
    /// Whether a dependency that ended like this lets its dependant start.
    pub const fn satisfied_by(self, status: Status) -> bool {
        match self {
            Self::Any => status.is_ended(),
            Self::Ok => matches!(status, Status::Completed),
            Self::Failed => matches!(status, Status::Failed | Status::Timeout | Status::Cancelled),
        }
    }
}
