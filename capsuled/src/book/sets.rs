//! Sets of tasks under keys, most of which are sets of one.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use capsule_core::id::TaskId;

/// A set of tasks for each key; none is empty.
#[derive(Debug)]
pub(super) struct Sets<K>(HashMap<K, Set>);

#[derive(Debug)]
enum Set {
    One(TaskId),
    #[expect(clippy::box_collection, reason = "rare, and must not make the others larger")]
    Many(Box<BTreeSet<TaskId>>),
}

impl<K> Default for Sets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Sets<K> {
    /// Puts a task into the set of a key.
    pub(super) fn insert(&mut self, key: K, task: TaskId) {
        match self.0.get_mut(&key) {
            None => drop(self.0.insert(key, Set::One(task))),
            Some(Set::Many(many)) => drop(many.insert(task)),
            Some(set) => {
                if let Set::One(one) = *set
                    && one != task
                {
                    *set = Set::Many(Box::new(BTreeSet::from([one, task])));
                }
            }
        }
    }

    /// Takes a task out of the set of a key.
    pub(super) fn remove(&mut self, key: &K, task: TaskId) {
        let is_over = match self.0.get_mut(key) {
            None => false,
            Some(Set::One(one)) => *one == task,
            Some(Set::Many(many)) => {
                many.remove(&task);
                many.is_empty()
            }
        };
        if is_over {
            self.0.remove(key);
        }
    }

    /// The tasks of a key, oldest first.
    pub(super) fn of(&self, key: &K) -> Vec<TaskId> {
        match self.0.get(key) {
            None => Vec::new(),
            Some(Set::One(one)) => vec![*one],
            Some(Set::Many(many)) => many.iter().copied().collect(),
        }
    }

    /// The newest task of a key.
    pub(super) fn newest(&self, key: &K) -> Option<TaskId> {
        match self.0.get(key)? {
            Set::One(one) => Some(*one),
            Set::Many(many) => many.last().copied(),
        }
    }

    /// Whether no key has any.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
