//! Why a task waits: the gates between it and its start, in the order in which they are tried.

use capsule_core::id::TaskId;
use capsule_core::task::{Status, Task};
use capsule_core::time::Timestamp;

use super::{Book, Entry, SHARED_MAX};

/// One gate that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Which kind.
    pub kind: GateKind,
    /// For people, one line.
    pub text: String,
    /// When it opens by itself.
    pub until: Option<Timestamp>,
    /// The tasks it waits for.
    pub tasks: Vec<TaskId>,
}

/// The kinds of gates, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateKind {
    /// Its first instant has not come.
    NotBefore,
    /// The pause after a failure.
    Retry,
    /// Held back by hand.
    Hold,
    /// Another task must end first.
    Dependency,
    /// Its definition does not fit it any more.
    Definition,
    /// Its queue is paused.
    Paused,
    /// Processes of its own former attempt still end.
    Ending,
    /// Its lock is held.
    Lock,
    /// Its queue or its task name runs as many as it may.
    Limit,
    /// Every slot is taken.
    Slot,
    /// Nothing new starts.
    Draining,
    /// The keeper is not there.
    Keeper,
    /// The daemon cannot start anything: a full disk, say.
    Degraded,
}

impl GateKind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotBefore => "not_before",
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Dependency => "dependency",
            Self::Definition => "definition_changed",
            Self::Paused => "paused",
            Self::Ending => "ending",
            Self::Lock => "lock",
            Self::Limit => "limit",
            Self::Slot => "slot",
            Self::Draining => "draining",
            Self::Keeper => "keeper",
            Self::Degraded => "degraded",
        }
    }
}

impl Gate {
    fn new(kind: GateKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), until: None, tasks: Vec::new() }
    }
}

impl Book {
    /// All gates that hold for a waiting task; none for one that runs or has ended.
    pub fn gates(&self, task: &Task, now: Timestamp) -> Vec<Gate> {
        let mut gates = Vec::new();
        let Some(entry) = self.entries.get(&task.id) else { return gates };
        match entry.status {
            Status::Scheduled => {
                gates.push(timed(GateKind::NotBefore, "not before its time", entry, now));
            }
            Status::Retry => {
                let text = format!("retry {} of {}", task.failures, task.spec.retries);
                gates.push(timed(GateKind::Retry, &text, entry, now));
            }
            Status::Pending => {}
            Status::Claimed
            | Status::Running
            | Status::Completed
            | Status::Failed
            | Status::Timeout
            | Status::Cancelled => return gates,
        }
        if entry.hold {
            gates.push(Gate::new(
                GateKind::Hold,
                format!("held back: capsule edit {} --no-hold", task.id),
            ));
        }
        for dependency in &task.spec.after {
            let status = self.entries.get(&dependency.task).map_or("gone", |e| e.status.word());
            let text = format!("after {} ({status})", dependency.task);
            gates.push(Gate {
                tasks: vec![dependency.task],
                ..Gate::new(GateKind::Dependency, text)
            });
        }
        if let Some(why) = self.unfit.get(&task.id) {
            gates.push(Gate::new(GateKind::Definition, why.clone()));
        }
        if self.lingering.contains_key(&task.id) {
            let text = "processes of its former attempt still end";
            gates.push(Gate::new(GateKind::Ending, text));
        }
        self.queue_gates(entry, &mut gates);
        self.lock_gate(task.id, entry, now, &mut gates);
        self.daemon_gates(task.id, entry, &mut gates);
        gates.sort_by_key(|gate| gate.kind);
        gates
    }

    /// The first gate that holds for a task, in words.
    pub fn waiting(&self, task: &Task, now: Timestamp) -> Option<String> {
        self.gates(task, now).into_iter().next().map(|gate| gate.text)
    }

    fn queue_gates(&self, entry: &Entry, gates: &mut Vec<Gate>) {
        let name = self.symbols.name(entry.queue);
        if let Some(queue) = self.queues.get(name) {
            if queue.paused {
                let note =
                    if queue.note.is_empty() { String::new() } else { format!(": {}", queue.note) };
                gates.push(Gate::new(GateKind::Paused, format!("queue {name} is paused{note}")));
            }
            let running = self.running_in_queue(name);
            if let Some(limit) = queue.limit.filter(|limit| running >= *limit) {
                let text = format!("queue {name} runs {running} of {limit}");
                gates.push(Gate::new(GateKind::Limit, text));
            }
        }
        let running = self.running_of_name(entry);
        let limit = self.name_limits.get(&(entry.app, entry.name));
        if let Some(limit) = limit.filter(|limit| running >= **limit) {
            let text = format!("{} runs {running} of {limit}", self.symbols.name(entry.name));
            gates.push(Gate::new(GateKind::Limit, text));
        }
    }

    fn lock_gate(&self, id: TaskId, entry: &Entry, now: Timestamp, gates: &mut Vec<Gate>) {
        let Some((app, key)) = entry.lock_id() else { return };
        if let Some(holder) = self.locks.holder((app, key)).filter(|holder| *holder != id) {
            let key = self.keys.text(key);
            let text = format!("lock {key} held by {holder} ({})", self.doing(holder, now));
            gates.push(Gate { tasks: vec![holder], ..Gate::new(GateKind::Lock, text) });
        }
    }

    /// What a task does right now, in a few words: `running 12s`.
    pub fn doing(&self, id: TaskId, now: Timestamp) -> String {
        match self.entries.get(&id) {
            Some(entry) if self.lingering.contains_key(&id) => {
                format!("{}, its processes end", entry.status)
            }
            Some(entry) => {
                let seconds = now.since(entry.at).as_millis() / 1000;
                let span = capsule_core::time::Span::from_secs(seconds);
                format!("{} {span}", entry.status)
            }
            None => "gone".to_owned(),
        }
    }

    fn daemon_gates(&self, id: TaskId, entry: &Entry, gates: &mut Vec<Gate>) {
        if self.draining {
            gates.push(Gate::new(GateKind::Draining, "the daemon drains: capsule drain --off"));
        }
        if self.keeper.is_none() {
            gates.push(Gate::new(GateKind::Keeper, "the keeper is not connected yet"));
        }
        for reason in self.degraded.values() {
            gates.push(Gate::new(GateKind::Degraded, reason.clone()));
        }
        let shares = self.shared_names.contains(&(entry.app, entry.name));
        if shares && self.shared_used() >= SHARED_MAX {
            let text = format!("all {SHARED_MAX} places inside app hosts are taken");
            gates.push(Gate::new(GateKind::Slot, text));
        }
        if !shares && self.slots_used() >= self.slots {
            let ahead = self.ahead_of(entry.rank(id), 1000);
            let more = if ahead == 1000 { " or more" } else { "" };
            let ending = match self.lingering.len() {
                0 => String::new(),
                some => format!(" ({some} by processes that are ending)"),
            };
            let text =
                format!("all {} slots are taken{ending}, {ahead}{more} ahead of it", self.slots);
            gates.push(Gate::new(GateKind::Slot, text));
        }
    }
}

fn timed(kind: GateKind, text: &str, entry: &Entry, now: Timestamp) -> Gate {
    let left = entry.at.since(now);
    let left = capsule_core::time::Span(left.as_millis().div_ceil(1000) * 1000);
    Gate { until: Some(entry.at), ..Gate::new(kind, format!("{text}, in {left}")) }
}
