//! What the engine knows in memory of all tasks: rebuilt from the store at each start, changed
//! only by the engine, and only together with a commit.
//!
//! It must not know the store, the keeper or the wire. Invariant: it says the same as a new book
//! made of the stored tasks, but for the attempts that linger and the pace.

mod ahead;
mod counts;
mod ended;
mod entries;
mod filter;
mod gates;
mod live;
mod locks;
mod sets;
mod symbols;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsule_core::pick::{Rank, Ready};
use capsule_core::task::Task;
use capsule_core::time::Timestamp;

use crate::apps::Apps;
use crate::schedule::Schedules;

use self::ahead::Pace;
pub use self::counts::Counts;
use self::counts::Unfinished;
pub use self::ended::{ENDED_MAX, Ended, Keep, LAST_KEPT};
pub use self::entries::{Entries, Entry, Text, Texts};
pub use self::filter::{Filter, Seen, Window};
pub use self::gates::{Gate, GateKind};
use self::live::Live;
pub use self::live::SHARED_MAX;
pub use self::locks::{LockId, Locks};
use self::sets::Sets;
pub use self::symbols::{Symbol, Symbols};

/// Everything the engine knows in memory.
#[derive(Debug, Default)]
pub struct Book {
    /// Shared names.
    pub symbols: Symbols,
    /// Lock keys of tasks.
    pub keys: Texts,
    /// Labels of tasks, all of a task together.
    label_sets: Texts,
    /// Every task that is not pruned.
    pub entries: Entries,
    /// How many tasks are in each status.
    pub counts: Counts,
    /// The tasks that may start as soon as their lane is open.
    pub ready: Ready,
    /// Who holds and who waits.
    pub locks: Locks,
    /// Settings of queues.
    pub queues: BTreeMap<String, Queue>,
    /// Apps and their task definitions.
    pub apps: Apps,
    /// What fires again and again.
    pub schedules: Schedules,
    /// Tasks that the definition in force does not fit, and why.
    pub unfit: HashMap<TaskId, String>,
    name_limits: HashMap<(Symbol, Symbol), u32>,
    /// Tasks whose attempts run inside a process that others share.
    shared_names: HashSet<(Symbol, Symbol)>,
    /// Live attempts that took no slot when they began.
    sharing: HashSet<TaskId>,
    /// Attempts whose verdict is durable while processes of their tree still live: they keep
    /// their slot and their lock.
    pub lingering: HashMap<TaskId, AttemptNumber>,
    /// How many attempts may run at once.
    pub slots: u32,
    /// Nothing new starts.
    pub draining: bool,
    /// Why nothing new starts although it could: a full disk, say.
    pub degraded: BTreeMap<&'static str, String>,
    /// The keeper that runs attempts, while it is connected.
    pub keeper: Option<Keeper>,
    /// A keeper has said since the start what it has: until then nobody knows what lingers.
    pub greeted: bool,
    in_queues: Unfinished,
    alarms: BTreeSet<(Timestamp, TaskId)>,
    by_key: Sets<Box<str>>,
    unfinished: Sets<LockId>,
    dependants: Sets<TaskId>,
    /// Tasks by the one whose attempt submitted them.
    submitted: Sets<TaskId>,
    live: Live,
    pace: Pace,
    /// Ended tasks by their end.
    pub ended: Ended,
    /// The last id given to a task or schedule, as of the last commit.
    pub last_id: TaskId,
}

/// Settings of a queue; a queue without any is open and has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Queue {
    /// Nothing of it starts.
    #[n(0)]
    pub paused: bool,
    /// Why it is paused.
    #[n(1)]
    pub note: String,
    /// How many of it run at once.
    #[n(2)]
    pub limit: Option<u32>,
    /// Since when it is paused.
    #[n(3)]
    pub since: Timestamp,
}

/// The keeper as it introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Its life.
    pub instance: Uuid,
    /// Its process.
    pub pid: u32,
    /// How it tells processes apart: `cgroup` or `reaper`.
    pub attribution: String,
}

impl Book {
    /// An empty book for so many slots.
    pub fn new(slots: u32) -> Self {
        Self { slots, ..Self::default() }
    }

    /// Notes what became of a task: `None` = it is no longer there.
    pub fn apply(&mut self, before: Option<&Task>, after: Option<&Task>) {
        let shares = self.will_share(before, after);
        // First of all, so that what both keep is kept throughout under one number.
        let entry = after
            .map(|task| Entry::of(task, &mut self.symbols, &mut self.keys, &mut self.label_sets));
        if let Some(task) = before {
            if let Some(attempt) = self.lingering.get(&task.id).copied().filter(|_| after.is_none())
            {
                self.gone(task.id, attempt);
            }
            self.take_out(task);
        }
        match (before, after.zip(entry)) {
            (_, Some((task, entry))) => self.put_in(task, entry, shares),
            (Some(task), None) => drop(self.entries.remove(task.id)),
            (None, None) => {}
        }
        self.note_end(before, after);
    }

    fn put_in(&mut self, task: &Task, entry: Entry, shares: bool) {
        self.count_in(&entry, 1);
        if let Some(at) = entries::alarm(task) {
            self.alarms.insert((at, task.id));
        }
        if let Some(key) = &task.spec.key {
            self.by_key.insert(key_of(&task.spec.app, &task.spec.name, key), task.id);
        }
        if let Some(parent) = task.spec.parent {
            self.submitted.insert(parent, task.id);
        }
        for dependency in &task.spec.after {
            self.dependants.insert(dependency.task, task.id);
        }
        let lock = entry.lock_id();
        if let Some(lock) = lock.filter(|_| !entry.status.is_ended()) {
            self.unfinished.insert(lock, task.id);
        }
        if entry.is_live() {
            if shares {
                self.sharing.insert(task.id);
            }
            self.occupy(entry.lane(), 1, shares);
            if let Some(lock) = lock {
                self.locks.acquire(lock, task.id, &mut self.ready);
            }
        } else if entry.is_ready() && self.may_stand(task.id) {
            self.stand(task.id, &entry);
        }
        if self.lingering.contains_key(&task.id) {
            self.occupy(entry.lane(), 1, false);
        }
        self.entries.insert(task.id, entry);
    }

    /// Undoes [`Book::put_in`], but leaves the entry where it is.
    fn take_out(&mut self, task: &Task) {
        let Some(entry) = self.entries.get(&task.id).copied() else { return };
        self.unfit.remove(&task.id);
        self.count_in(&entry, -1);
        if let Some(at) = entries::alarm(task) {
            self.alarms.remove(&(at, task.id));
        }
        if let Some(key) = &task.spec.key {
            let key = key_of(&task.spec.app, &task.spec.name, key);
            self.by_key.remove(&key, task.id);
        }
        if let Some(parent) = task.spec.parent {
            self.submitted.remove(&parent, task.id);
        }
        for dependency in &task.spec.after {
            self.dependants.remove(&dependency.task, task.id);
        }
        let lock = entry.lock_id();
        if let Some(lock) = lock {
            self.unfinished.remove(&lock, task.id);
        }
        if entry.is_live() {
            let shares = self.sharing.remove(&task.id);
            self.occupy(entry.lane(), -1, shares);
            if let Some(lock) = lock {
                self.locks.release(lock, task.id, &mut self.ready);
            }
        } else if entry.is_ready() {
            self.step_aside(task.id, &entry);
        }
        if self.lingering.contains_key(&task.id) {
            self.occupy(entry.lane(), -1, false);
        }
        entry.lock.into_iter().for_each(|key| self.keys.release(key));
        entry.labels.into_iter().for_each(|set| self.label_sets.release(set));
    }

    fn stand(&mut self, id: TaskId, entry: &Entry) {
        let (lane, rank) = (entry.lane(), entry.rank(id));
        match entry.lock_id() {
            Some(lock) => self.locks.wait(lock, lane, rank, &mut self.ready),
            None => self.ready.insert(lane, rank),
        }
    }

    fn step_aside(&mut self, id: TaskId, entry: &Entry) {
        let (lane, rank) = (entry.lane(), entry.rank(id));
        match entry.lock_id() {
            Some(lock) => self.locks.leave(lock, lane, rank, &mut self.ready),
            None => self.ready.remove(lane, rank),
        }
    }

    /// The verdict of this attempt is durable, but processes of its tree live on: its slot and
    /// its lock stay taken. Call it after [`Book::apply`] of the verdict.
    pub fn linger(&mut self, task: &Task, attempt: AttemptNumber) {
        let Some(entry) = self.entries.get(&task.id).copied() else { return };
        if entry.is_ready() {
            self.step_aside(task.id, &entry);
        }
        self.lingering.insert(task.id, attempt);
        // Only processes linger, and those have slots.
        self.occupy(entry.lane(), 1, false);
        if let Some(lock) = entry.lock_id() {
            self.locks.acquire(lock, task.id, &mut self.ready);
        }
    }

    /// The last process of a lingering attempt is gone.
    pub fn gone(&mut self, id: TaskId, attempt: AttemptNumber) {
        if self.lingering.get(&id) != Some(&attempt) {
            return;
        }
        self.lingering.remove(&id);
        let Some(entry) = self.entries.get(&id).copied() else { return };
        self.occupy(entry.lane(), -1, false);
        if let Some(lock) = entry.lock_id() {
            self.locks.release(lock, id, &mut self.ready);
        }
        if entry.is_ready() && self.may_stand(id) {
            self.stand(id, &entry);
        }
    }

    fn may_stand(&self, id: TaskId) -> bool {
        !self.lingering.contains_key(&id) && !self.unfit.contains_key(&id)
    }

    /// A picked task does not fit its definition: it waits until that changes.
    pub fn park(&mut self, task: &Task, why: String) {
        if let Some(entry) = self.entries.get(&task.id).copied() {
            self.step_aside(task.id, &entry);
        }
        self.unfit.insert(task.id, why);
    }

    /// The definitions of an app are others: its parked tasks get another look, and its limits
    /// are those of the revision in force.
    pub fn definitions_changed(&mut self, app: &str) {
        let symbol = self.symbols.intern(app);
        self.name_limits.retain(|(owner, _), _| *owner != symbol);
        self.shared_names.retain(|(owner, _)| *owner != symbol);
        let revision = self.apps.get(app).and_then(|app| app.in_force()).cloned();
        for definition in revision.iter().flat_map(|revision| revision.definitions.values()) {
            let name = self.symbols.intern(&definition.name);
            if let Some(limit) = definition.concurrency {
                self.name_limits.insert((symbol, name), limit);
            }
            if definition.runner.is_shared() {
                self.shared_names.insert((symbol, name));
            }
        }
        let parked: Vec<TaskId> = self.unfit.keys().copied().collect();
        for id in parked {
            let Some(entry) = self.entries.get(&id).filter(|entry| entry.app == symbol).copied()
            else {
                continue;
            };
            self.unfit.remove(&id);
            if entry.is_ready() && self.may_stand(id) {
                self.stand(id, &entry);
            }
        }
    }

    /// The task that starts next, taken out of its lane; `None` = a gate holds for all.
    pub fn pick(&mut self) -> Option<TaskId> {
        if self.draining || self.keeper.is_none() || !self.degraded.is_empty() {
            return None;
        }
        let slots = self.slots.saturating_add(self.pace.ahead(self.slots));
        let (slot_free, room) = (self.live.slots < slots, self.live.shared < SHARED_MAX);
        if !slot_free && (!room || self.shared_names.is_empty()) {
            return None;
        }
        let Self { ready, symbols, queues, name_limits, shared_names, live, .. } = self;
        let all_alike = slot_free == room || shared_names.is_empty();
        ready.pop(|lane| {
            let shares =
                !all_alike && shared_names.contains(&(Symbol(lane.app), Symbol(lane.name)));
            let has_place = if shares { room } else { slot_free };
            has_place
                && live.lets_through(
                    lane,
                    queues.get(symbols.name(Symbol(lane.queue))),
                    name_limits,
                )
        })
    }

    /// How many ready tasks start before one of this rank, at most `limit`.
    fn ahead_of(&self, rank: Rank, limit: usize) -> usize {
        self.ready.ahead_of(rank, limit, |lane| {
            let queue = self.queues.get(self.symbols.name(Symbol(lane.queue)));
            self.live.lets_through(lane, queue, &self.name_limits)
        })
    }

    /// The next instant at which the clock does something, and to whom.
    pub fn next_alarm(&self) -> Option<(Timestamp, TaskId)> {
        self.alarms.first().copied()
    }

    /// The task that an idempotency key stands for: the newest, should an older one be begun again.
    pub fn by_key(&self, app: &str, name: &str, key: &str) -> Option<TaskId> {
        self.by_key.newest(&key_of(app, name, key))
    }

    /// Unfinished tasks under a lock, oldest first.
    pub fn unfinished(&self, app: &str, key: &str) -> Vec<TaskId> {
        let lock = self.symbols.find(app).zip(self.keys.find(key));
        lock.map(|lock| self.unfinished.of(&lock)).unwrap_or_default()
    }

    /// Tasks that wait for this one.
    pub fn dependants(&self, id: TaskId) -> Vec<TaskId> {
        self.dependants.of(&id)
    }

    /// The tasks that attempts of this one have submitted and that are kept, oldest first.
    pub fn submitted_by(&self, id: TaskId) -> Vec<TaskId> {
        self.submitted.of(&id)
    }

    /// Live attempts of a queue.
    pub fn running_in_queue(&self, queue: &str) -> u32 {
        self.symbols
            .find(queue)
            .and_then(|symbol| self.live.by_queue.get(&symbol.0).copied())
            .unwrap_or(0)
    }

    fn running_of_name(&self, entry: &Entry) -> u32 {
        self.live.by_name.get(&(entry.app.0, entry.name.0)).copied().unwrap_or(0)
    }
}

/// A key is the task's own; all ad hoc programs together count as one task, because their names
/// are only taken from their command lines.
fn key_of(app: &str, name: &str, key: &str) -> Box<str> {
    let name = if app.is_empty() { "" } else { name };
    format!("{app}\0{name}\0{key}").into()
}
