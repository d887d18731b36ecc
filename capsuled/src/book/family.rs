//! Which tasks a task has submitted.

use std::collections::{BTreeSet, HashMap};

use capsule_core::id::TaskId;
use capsule_core::task::Task;

use super::Book;

/// Tasks by the task whose attempt submitted them.
#[derive(Debug, Default)]
pub(super) struct Family(HashMap<TaskId, BTreeSet<TaskId>>);

impl Family {
    pub(super) fn put_in(&mut self, task: &Task) {
        if let Some(parent) = task.spec.parent {
            self.0.entry(parent).or_default().insert(task.id);
        }
    }

    pub(super) fn take_out(&mut self, task: &Task) {
        let Some(parent) = task.spec.parent else { return };
        if let Some(tasks) = self.0.get_mut(&parent) {
            tasks.remove(&task.id);
            if tasks.is_empty() {
                self.0.remove(&parent);
            }
        }
    }
}

impl Book {
    /// The tasks that attempts of a task have submitted and that are kept, oldest first.
    pub fn submitted_by(&self, id: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        self.family.0.get(&id).into_iter().flatten().copied()
    }
}
