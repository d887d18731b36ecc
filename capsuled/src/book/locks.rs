//! Who holds which lock and who waits for it.
//!
//! A lock is a property of the live attempt: it is held from claim until the last process of the
//! attempt is gone, and has no lifetime of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use capsule_core::id::TaskId;
use capsule_core::pick::{Lane, Rank, Ready};

use super::entries::Text;
use super::symbols::Symbol;

/// A lock: the key within its app. Every task that holds it or waits for it keeps the key.
pub type LockId = (Symbol, Text);

/// All locks that are held or waited for.
#[derive(Debug, Default)]
pub struct Locks {
    locks: HashMap<LockId, Lock>,
}

#[derive(Debug, Default)]
struct Lock {
    holder: Option<TaskId>,
    /// While nobody holds it, the first of each lane stands in `Ready`.
    waiters: BTreeMap<Lane, BTreeSet<Rank>>,
}

impl Locks {
    /// The task whose attempt holds the lock.
    pub fn holder(&self, id: LockId) -> Option<TaskId> {
        self.locks.get(&id).and_then(|lock| lock.holder)
    }

    /// Lets a task wait for the lock, or stand in its lane when the lock is free.
    pub fn wait(&mut self, id: LockId, lane: Lane, rank: Rank, ready: &mut Ready) {
        let lock = self.locks.entry(id).or_default();
        lock.withdraw(ready);
        lock.waiters.entry(lane).or_default().insert(rank);
        lock.offer(ready);
    }

    /// A task waits no longer.
    pub fn leave(&mut self, id: LockId, lane: Lane, rank: Rank, ready: &mut Ready) {
        if let Some(lock) = self.locks.get_mut(&id) {
            lock.withdraw(ready);
            if let Some(ranks) = lock.waiters.get_mut(&lane) {
                ranks.remove(&rank);
                if ranks.is_empty() {
                    lock.waiters.remove(&lane);
                }
            }
            lock.offer(ready);
            self.forget(id);
        }
    }

    /// The attempt of `task` holds the lock from now on.
    pub fn acquire(&mut self, id: LockId, task: TaskId, ready: &mut Ready) {
        let lock = self.locks.entry(id).or_default();
        lock.withdraw(ready);
        lock.holder = Some(task);
    }

    /// The tree of `task`'s attempt is gone.
    pub fn release(&mut self, id: LockId, task: TaskId, ready: &mut Ready) {
        if let Some(lock) = self.locks.get_mut(&id)
            && lock.holder == Some(task)
        {
            lock.holder = None;
            lock.offer(ready);
            self.forget(id);
        }
    }

    /// Every lock with its holder and its waiters in the order in which they would get it.
    pub fn iter(&self) -> impl Iterator<Item = (LockId, Option<TaskId>, Vec<TaskId>)> {
        self.locks.iter().map(|(id, lock)| {
            let mut waiters: Vec<Rank> = lock.waiters.values().flatten().copied().collect();
            waiters.sort_unstable();
            (*id, lock.holder, waiters.into_iter().map(Rank::task).collect())
        })
    }

    fn forget(&mut self, id: LockId) {
        if self.locks.get(&id).is_some_and(|l| l.holder.is_none() && l.waiters.is_empty()) {
            self.locks.remove(&id);
        }
    }
}

impl Lock {
    fn offer(&self, ready: &mut Ready) {
        if self.holder.is_none() {
            for (lane, first) in self.firsts() {
                ready.insert(lane, first);
            }
        }
    }

    fn withdraw(&self, ready: &mut Ready) {
        if self.holder.is_none() {
            for (lane, first) in self.firsts() {
                ready.remove(lane, first);
            }
        }
    }

    fn firsts(&self) -> impl Iterator<Item = (Lane, Rank)> {
        self.waiters.iter().filter_map(|(lane, ranks)| Some((*lane, *ranks.first()?)))
    }
}
