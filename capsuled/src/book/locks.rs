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

/// While nobody holds it, the first waiter of each lane stands in `Ready`.
#[derive(Debug, Default)]
struct Lock {
    holder: Option<TaskId>,
    waiters: Waiters,
}

/// A lock that is one task's own is the most frequent one, and must cost little.
#[derive(Debug, Default)]
enum Waiters {
    #[default]
    None,
    One(Lane, Rank),
    #[expect(clippy::box_collection, reason = "rare, and must not make the others larger")]
    Many(Box<BTreeMap<Lane, BTreeSet<Rank>>>),
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
        lock.waiters.insert(lane, rank);
        lock.offer(ready);
    }

    /// A task waits no longer.
    pub fn leave(&mut self, id: LockId, lane: Lane, rank: Rank, ready: &mut Ready) {
        if let Some(lock) = self.locks.get_mut(&id) {
            lock.withdraw(ready);
            lock.waiters.remove(lane, rank);
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
            let mut waiters: Vec<Rank> = lock.waiters.all();
            waiters.sort_unstable();
            (*id, lock.holder, waiters.into_iter().map(Rank::task).collect())
        })
    }

    fn forget(&mut self, id: LockId) {
        let is_idle = |lock: &Lock| lock.holder.is_none() && matches!(lock.waiters, Waiters::None);
        if self.locks.get(&id).is_some_and(is_idle) {
            self.locks.remove(&id);
        }
    }
}

impl Lock {
    fn offer(&self, ready: &mut Ready) {
        if self.holder.is_none() {
            self.waiters.firsts(|lane, first| ready.insert(lane, first));
        }
    }

    fn withdraw(&self, ready: &mut Ready) {
        if self.holder.is_none() {
            self.waiters.firsts(|lane, first| ready.remove(lane, first));
        }
    }
}

impl Waiters {
    fn insert(&mut self, lane: Lane, rank: Rank) {
        match self {
            Self::None => *self = Self::One(lane, rank),
            Self::One(of, one) if (*of, *one) == (lane, rank) => {}
            Self::One(of, one) => {
                let mut many: BTreeMap<Lane, BTreeSet<Rank>> = BTreeMap::new();
                many.entry(*of).or_default().insert(*one);
                many.entry(lane).or_default().insert(rank);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => drop(many.entry(lane).or_default().insert(rank)),
        }
    }

    fn remove(&mut self, lane: Lane, rank: Rank) {
        match self {
            Self::One(of, one) if (*of, *one) == (lane, rank) => *self = Self::None,
            Self::None | Self::One(..) => {}
            Self::Many(many) => {
                if let Some(ranks) = many.get_mut(&lane) {
                    ranks.remove(&rank);
                    if ranks.is_empty() {
                        many.remove(&lane);
                    }
                }
                if many.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    /// The first of each lane.
    fn firsts(&self, mut each: impl FnMut(Lane, Rank)) {
        match self {
            Self::None => {}
            Self::One(lane, rank) => each(*lane, *rank),
            Self::Many(many) => {
                let first =
                    |(lane, ranks): (&Lane, &BTreeSet<Rank>)| Some((*lane, *ranks.first()?));
                many.iter().filter_map(first).for_each(|(lane, rank)| each(lane, rank));
            }
        }
    }

    fn all(&self) -> Vec<Rank> {
        match self {
            Self::None => Vec::new(),
            Self::One(_, rank) => vec![*rank],
            Self::Many(many) => many.values().flatten().copied().collect(),
        }
    }
}
