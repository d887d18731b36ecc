//! The plain list of tasks, and what it says to the questions that a book answers.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::{State, Status, Task};
use capsule_core::time::Timestamp;

use super::super::{Book, Filter, Queue};

/// All tasks, and the attempts whose processes live on.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) lingering: BTreeMap<TaskId, AttemptNumber>,
}

fn is_live(task: &Task) -> bool {
    task.state.lease().is_some()
}

fn fits(task: &Task, filter: &Filter) -> bool {
    let spec = &task.spec;
    let same = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
    let name = |wanted: &String| match wanted.strip_suffix('*') {
        Some(start) => spec.name.starts_with(start),
        None => spec.name == *wanted,
    };
    let label = |(label, wanted): (&String, &String)| {
        spec.labels.get(label).is_some_and(|value| same(wanted, value))
    };
    (filter.statuses.is_empty() || filter.statuses.contains(&task.status()))
        && same(&filter.app, &spec.app)
        && (filter.names.is_empty() || filter.names.iter().any(name))
        && same(&filter.owner, &spec.owner)
        && same(&filter.queue, &spec.queue)
        && same(&filter.lock, spec.lock.as_deref().unwrap_or(""))
        && filter.labels.iter().all(label)
        && filter.since.is_none_or(|since| task.created >= since)
        && filter.until.is_none_or(|until| task.created < until)
}

impl Model {
    /// The tasks that hold a slot.
    fn holders(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(|t| is_live(t) || self.lingering.contains_key(&t.id))
    }

    /// The task that starts next: the first by rank whose lock is free and whose queue has room.
    pub(super) fn pick(&self, slots: u32, queues: &BTreeMap<String, Queue>) -> Option<TaskId> {
        if self.holders().count() >= slots as usize {
            return None;
        }
        let runs = |queue: &str| self.holders().filter(|t| t.spec.queue == queue).count();
        let open = |task: &&Task| {
            let limit = queues.get(&task.spec.queue).and_then(|queue| queue.limit);
            let lock = &task.spec.lock;
            task.status() == Status::Pending
                && !task.spec.hold
                && task.spec.after.is_empty()
                && !self.lingering.contains_key(&task.id)
                && limit.is_none_or(|limit| runs(&task.spec.queue) < limit as usize)
                && (lock.is_none() || self.holders().all(|holder| holder.spec.lock != *lock))
        };
        let rank = |task: &Task| match task.state {
            State::Pending { since } => Some((
                since.0 - i64::from(task.spec.priority) * capsule_core::pick::AGEING_US,
                task.id,
            )),
            State::Scheduled { .. }
            | State::Claimed { .. }
            | State::Running { .. }
            | State::Retry { .. }
            | State::Ended { .. } => None,
        };
        self.tasks.values().filter(open).filter_map(rank).min().map(|(_, id)| id)
    }

    /// The next instant at which the clock does something.
    pub(super) fn next_alarm(&self) -> Option<(Timestamp, TaskId)> {
        let alarm = |task: &Task| Some((task.state.due().or_else(|| task.expires())?, task.id));
        self.tasks.values().filter_map(alarm).min()
    }

    /// Tasks that wait for this one.
    pub(super) fn dependants(&self, id: TaskId) -> Vec<TaskId> {
        let waits = |task: &&Task| task.spec.after.iter().any(|after| after.task == id);
        self.tasks.values().filter(waits).map(|task| task.id).collect()
    }

    /// That the book says what the list says, of everything but filters.
    pub(super) fn assert_same(&self, book: &Book) {
        for status in Status::ALL {
            let count = self.tasks.values().filter(|task| task.status() == status).count() as u64;
            assert_eq!(book.counts.of(status), count, "{status}");
        }
        assert_eq!(book.entries.len(), self.tasks.len());
        assert_eq!(book.next_alarm(), self.next_alarm());
        assert_eq!(book.slots_used() as usize, self.holders().count());
        let unfinished = || self.tasks.values().filter(|task| !task.status().is_ended());
        let queues: BTreeSet<&str> = unfinished().map(|task| &*task.spec.queue).collect();
        assert_eq!(book.queues_in_use().collect::<BTreeSet<_>>(), queues);
        for queue in queues {
            let waiting = unfinished().filter(|t| t.spec.queue == queue && !is_live(t)).count();
            assert_eq!(book.waiting_in_queue(queue), waiting as u64, "{queue}");
            let running = self.holders().filter(|task| task.spec.queue == queue).count();
            assert_eq!(book.running_in_queue(queue) as usize, running, "{queue}");
        }
        let mut locks: BTreeMap<&str, Vec<TaskId>> = BTreeMap::new();
        for task in self.tasks.values() {
            assert_eq!(book.dependants(task.id), self.dependants(task.id));
            if let Some(key) = &task.spec.key {
                assert_eq!(book.by_key("", &task.spec.name, key), Some(task.id));
            }
            if let Some(lock) = &task.spec.lock {
                let tasks = locks.entry(lock).or_default();
                tasks.extend((!task.status().is_ended()).then_some(task.id));
            }
        }
        for (lock, tasks) in &locks {
            assert_eq!(book.unfinished("", lock), *tasks, "{lock}");
        }
        self.assert_locks(book);
    }

    /// Each lock that is held or waited for, who holds it and who waits.
    fn assert_locks(&self, book: &Book) {
        let mut locks: BTreeMap<&str, (Option<TaskId>, BTreeSet<TaskId>)> = BTreeMap::new();
        for task in self.holders() {
            if let Some(lock) = &task.spec.lock {
                let former = locks.entry(lock).or_default().0.replace(task.id);
                assert_eq!(former, None, "{lock} is held twice");
            }
        }
        let ready = self.tasks.values().filter(|task| {
            let waits = task.status() == Status::Pending && !task.spec.hold;
            waits && task.spec.after.is_empty() && !self.lingering.contains_key(&task.id)
        });
        for task in ready {
            if let Some(lock) = &task.spec.lock {
                locks.entry(lock).or_default().1.insert(task.id);
            }
        }
        let said = book.locks.iter().map(|((_, key), holder, waiters)| {
            (book.keys.text(key), (holder, waiters.into_iter().collect()))
        });
        assert_eq!(said.collect::<BTreeMap<_, _>>(), locks);
    }

    /// That a filter finds the same tasks in both.
    pub(super) fn assert_finds(&self, book: &Book, filter: &Filter, before: TaskId, wanted: usize) {
        let ids: Vec<TaskId> =
            self.tasks.values().rev().filter(|t| fits(t, filter)).map(|t| t.id).collect();
        assert_eq!(book.newest(filter, None).collect::<Vec<_>>(), ids, "{filter:?}");
        assert_eq!(book.count(filter), ids.len() as u64, "{filter:?}");
        let below: Vec<TaskId> = ids.iter().copied().filter(|id| *id < before).collect();
        assert_eq!(book.newest(filter, Some(before)).collect::<Vec<_>>(), below, "{filter:?}");
        let page: Vec<TaskId> = below.into_iter().take(wanted).collect();
        assert_eq!(
            book.page(filter, Some(before), wanted),
            (ids.len() as u64, page),
            "{wanted} before {before} of {filter:?}"
        );
        for (id, entry) in &book.entries {
            assert_eq!(filter.matches(book, entry), ids.contains(&id), "{id}: {filter:?}");
        }
    }

    /// That a new book of these tasks says the same of gates, and picks the same.
    pub(super) fn assert_like_new(&self, book: &mut Book, now: Timestamp) {
        let mut fresh = super::open(book.slots);
        fresh.queues.clone_from(&book.queues);
        for task in self.tasks.values() {
            fresh.apply(None, Some(task));
        }
        for (id, attempt) in &self.lingering {
            fresh.linger(&self.tasks[id], *attempt);
        }
        for task in self.tasks.values() {
            assert_eq!(book.gates(task, now), fresh.gates(task, now), "{}", task.id);
        }
        while let Some(id) = book.pick() {
            assert_eq!(fresh.pick(), Some(id));
        }
        assert_eq!(fresh.pick(), None);
    }
}
