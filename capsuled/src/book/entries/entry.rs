//! What is kept in memory of each task: enough to filter, to pick and to wait.

use capsule_core::id::TaskId;
use capsule_core::pick::{Lane, Rank};
use capsule_core::task::{State, Status, Task};
use capsule_core::time::Timestamp;

use super::{Text, Texts};
use crate::book::symbols::{Symbol, Symbols};

/// One task, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub status: Status,
    /// Higher starts sooner.
    pub priority: i8,
    /// Held back by hand.
    pub hold: bool,
    /// Dependencies that have not ended.
    pub dependencies: u8,
    /// Its app.
    pub app: Symbol,
    /// Its task name.
    pub name: Symbol,
    /// Who submitted it.
    pub owner: Symbol,
    /// Its queue.
    pub queue: Symbol,
    /// Its lock key, among the book's keys.
    pub lock: Option<Text>,
    /// Its labels, `k=v`, one a line, among the book's label sets.
    pub labels: Option<Text>,
    /// When it was submitted.
    pub created: Timestamp,
    /// Since when, or until when, it is in its status.
    pub at: Timestamp,
}

/// There are a million of them.
const _: () = assert!(size_of::<Entry>() <= 48);

impl Entry {
    /// What is kept of `task`. It keeps its lock key and its labels once more.
    pub(in crate::book) fn of(
        task: &Task,
        symbols: &mut Symbols,
        keys: &mut Texts,
        label_sets: &mut Texts,
    ) -> Self {
        let spec = &task.spec;
        let labels: Vec<String> = spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Self {
            status: task.status(),
            priority: spec.priority,
            hold: spec.hold,
            dependencies: u8::try_from(spec.after.len()).unwrap_or(u8::MAX),
            app: symbols.intern(&spec.app),
            name: symbols.intern(&spec.name),
            owner: symbols.intern(&spec.owner),
            queue: symbols.intern(&spec.queue),
            lock: spec.lock.as_deref().map(|key| keys.keep(key)),
            labels: (!labels.is_empty()).then(|| label_sets.keep(&labels.join("\n"))),
            created: task.created,
            at: since(&task.state),
        }
    }

    /// The lane it waits in.
    pub const fn lane(&self) -> Lane {
        Lane { queue: self.queue.0, app: self.app.0, name: self.name.0 }
    }

    /// Its place in the lane.
    pub fn rank(&self, id: TaskId) -> Rank {
        Rank::new(self.priority, self.at, id)
    }

    /// Whether no gate of its own holds it back; locks and the gates of its lane are not its own.
    pub fn is_ready(&self) -> bool {
        self.status == Status::Pending && !self.hold && self.dependencies == 0
    }

    /// Whether an attempt of it holds a slot.
    pub const fn is_live(&self) -> bool {
        matches!(self.status, Status::Claimed | Status::Running)
    }

    /// Whether it has neither begun nor ended.
    pub const fn waits(&self) -> bool {
        !self.is_live() && !self.status.is_ended()
    }

    /// The lock that it needs or has.
    pub fn lock_id(&self) -> Option<crate::book::LockId> {
        self.lock.map(|key| (self.app, key))
    }
}

/// The instant at which the clock does something to a task.
pub(in crate::book) fn alarm(task: &Task) -> Option<Timestamp> {
    task.state.due().or_else(|| task.expires())
}

const fn since(state: &State) -> Timestamp {
    match state {
        State::Scheduled { due } | State::Retry { due } => *due,
        State::Pending { since } => *since,
        State::Claimed { lease, .. } => lease.since,
        State::Running { started, .. } => *started,
        State::Ended { at, .. } => *at,
    }
}
