//! Everything that may be asked of the engine, and what it answers.

use std::sync::Arc;

use capsule_core::Rejected;
use capsule_core::command::{Command, Report};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::spec::{SpecError, TaskSpec};
use capsule_core::task::{Status, Task};
use capsule_core::time::{Span, Timestamp};
use tokio::sync::oneshot;

use super::ticks::ScheduleRequest;
use crate::apps::Revision;
use crate::book::{Keeper, Queue};
use crate::store::StoreError;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// One thing asked of the engine.
#[derive(Debug)]
pub(super) enum Request {
    /// Create tasks; each stands for itself.
    Submit { submits: Vec<NewTask>, reply: Reply<Vec<Result<Submitted, SubmitError>>> },
    /// Ask the same of several tasks; each stands for itself.
    Act { tasks: Vec<TaskId>, command: Command, reply: Reply<Vec<Acted>> },
    /// Forget ended tasks.
    Remove { tasks: Vec<TaskId>, reply: Reply<Vec<Acted>> },
    /// A process exists.
    Started { task: TaskId, attempt: AttemptNumber, pid: u32, at: Timestamp },
    /// An attempt is over.
    Report { task: TaskId, report: Box<Report>, tree_gone: bool },
    /// Count the time limit of a live attempt anew.
    Refresh { task: TaskId, reply: Reply<bool> },
    /// The last process of an attempt is gone.
    Gone { task: TaskId, attempt: AttemptNumber },
    /// The keeper is connected and has these attempts.
    KeeperUp { keeper: Keeper, attempts: Vec<KnownAttempt>, reply: Reply<()> },
    /// The keeper is not connected.
    KeeperDown,
    /// New settings of a queue.
    SetQueue { name: String, change: QueueChange, reply: Reply<Queue> },
    /// Start nothing new, or go on.
    Drain { on: bool, reply: Reply<()> },
    /// Stop every live attempt and put its task back.
    StopAll { grace: Span, reply: Reply<Vec<TaskId>> },
    /// Something keeps the daemon from starting attempts, or no longer does.
    Degraded { what: &'static str, why: Option<String> },
    /// Register a revision of an app.
    Deploy { app: String, revision: Box<Revision>, reply: Reply<u32> },
    /// Put a kept revision in force again.
    Rollback { app: String, revision: u32, reply: Reply<()> },
    /// Forget an app.
    RemoveApp { app: String, reply: Reply<()> },
    /// The machine's clock was set: what was to come then may have come.
    ClockSet,
    /// Something about schedules.
    Schedule(ScheduleRequest),
    /// Everything asked before is done; end.
    Close { reply: Reply<()> },
}

/// A task to be created.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// What to do; its payload is filled in by the engine.
    pub spec: TaskSpec,
    /// What to run, encoded.
    pub payload: Vec<u8>,
    /// The attempt that submits it, when one does.
    pub parent: Option<TaskId>,
    /// Check only.
    pub dry_run: bool,
}

/// A submit that was accepted.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The task that stands for it.
    pub task: Arc<Task>,
    /// What became of the submit.
    pub how: How,
    /// The first gate it stands at, in words; only of a submit that came alone.
    pub waiting: Option<String>,
}

/// What became of a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// A new task.
    Created,
    /// A new task, and these were cancelled for it.
    Replaced(Vec<TaskId>),
    /// An unfinished task under the same lock stands for it.
    Merged {
        /// Its arguments are others.
        arguments_differ: bool,
        /// It was pulled forward to the earlier instant.
        pulled_forward: bool,
    },
    /// The idempotency key was known.
    Existing,
    /// Only checked.
    Checked,
}

/// Why a submit is refused. Nothing is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The spec breaks a bound or a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// `lock_policy = reject`, and an unfinished task is under the lock.
    #[error("lock {key} is taken by {holder} ({status})")]
    Locked {
        /// The lock key.
        key: String,
        /// The unfinished task.
        holder: TaskId,
        /// Where that stands.
        status: Status,
    },
    /// The idempotency key is known with other arguments.
    #[error("key {key:?} was used by {id} with other arguments")]
    KeyConflict {
        /// The idempotency key.
        key: String,
        /// The task it stands for.
        id: TaskId,
    },
    /// A dependency that is not there.
    #[error("there is no task {0} to wait for")]
    NoDependency(TaskId),
    /// The queue holds as many tasks as it may.
    #[error("the store holds {0} unfinished tasks, the limit is {limit}", limit = super::TASKS_MAX)]
    QueueFull(u64),
    /// There are as many schedules as there may be.
    #[error("there are {0} schedules, the limit is {limit}", limit = super::SCHEDULES_MAX)]
    SchedulesFull(usize),
    /// The payload is over its bound.
    #[error("the payload has {0} bytes, the limit is {limit}", limit = super::PAYLOAD_MAX)]
    PayloadTooLarge(usize),
    /// The disk is almost full.
    #[error("nothing new is accepted: {0}")]
    Degraded(String),
}

/// What came of asking something of one task.
#[derive(Clone, Debug)]
pub struct Acted {
    /// Which task.
    pub id: TaskId,
    /// The task as it was.
    pub before: Option<Arc<Task>>,
    /// The task as it is, or why nothing happened.
    pub result: Result<Arc<Task>, Refusal>,
}

/// Why something asked of a task did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state machine says no.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Only ended tasks are forgotten.
    #[error("only an ended task can be removed, this one is {0}")]
    NotEnded(Status),
    /// Processes of its last attempt still live.
    #[error("processes of its last attempt are still ending")]
    Lingers,
    /// Nobody knows yet whether they do.
    #[error("whether processes of it still live is not known before the keeper is connected")]
    MayLinger,
    /// Nothing can be made durable.
    #[error("the file system of the state directory is read-only, so nothing can be changed")]
    ReadOnly,
}

/// An attempt that the keeper has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownAttempt {
    /// Of which task.
    pub task: TaskId,
    /// Its number.
    pub attempt: AttemptNumber,
    /// Its process.
    pub pid: u32,
    /// When that began.
    pub started: Timestamp,
    /// Its verdict is there already and will be told.
    pub ended: bool,
    /// No process of it lives.
    pub tree_gone: bool,
}

/// New settings of a queue; `None` = as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueChange {
    /// Pause it or let it go.
    pub paused: Option<bool>,
    /// Why.
    pub note: String,
    /// A limit, or none.
    pub limit: Option<Option<u32>>,
}

/// What the dispatcher has to do, once its reason is durable.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Start the claimed attempt.
    Spawn(Arc<Task>),
    /// Stop an attempt.
    Stop {
        /// Of which task.
        task: TaskId,
        /// Which attempt.
        attempt: AttemptNumber,
        /// Between SIGTERM and SIGKILL.
        grace: Span,
        /// For a shutdown of the daemon, not for a cancel.
        drain: bool,
    },
    /// Put back what was claimed ahead and waits for a slot.
    PutBack,
    /// Count the time limit of an attempt anew.
    Refresh {
        /// Of which task.
        task: TaskId,
        /// Which attempt.
        attempt: AttemptNumber,
        /// Its time limit.
        timeout: Span,
    },
    /// A task has ended whose definition wants that told.
    Callback {
        /// The task.
        task: Arc<Task>,
        /// To whom.
        url: String,
    },
    /// Other revisions are in force.
    AppsChanged,
    /// The verdict is durable.
    Ack {
        /// Of which task.
        task: TaskId,
        /// Which attempt.
        attempt: AttemptNumber,
        /// Bytes that it wrote to its outputs.
        written: u64,
    },
    /// These attempts are forgotten, from the first to the last.
    Forgotten {
        /// Of which task.
        task: TaskId,
        /// The first.
        first: AttemptNumber,
        /// The last.
        last: AttemptNumber,
    },
}

/// The engine is gone: the daemon is about to end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It has ended or is ending.
    #[error("the daemon is shutting down")]
    Gone,
    /// More is asked than it can take.
    #[error("the daemon is busy: {0} requests wait")]
    Busy(usize),
    /// The store failed.
    #[error("using the store")]
    Store(#[from] StoreError),
    /// The thread cannot be started.
    #[error("starting the engine's thread")]
    Thread(#[source] std::io::Error),
    /// A record cannot be read.
    #[error("a record of task {0} cannot be read")]
    Record(TaskId),
}
