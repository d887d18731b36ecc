//! What limits live attempts: slots, places inside processes that they share, queues, names.

use std::collections::HashMap;

use capsule_core::id::TaskId;
use capsule_core::pick::Lane;
use capsule_core::task::Task;

use super::{Book, Entry, Queue, Symbol};

/// Attempts at once inside processes that they share: app hosts are warm and their attempts cost
/// little, but the daemon keeps a log open for each.
pub const SHARED_MAX: u32 = 64;

/// Live attempts by what limits them.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Those with a slot.
    pub(super) slots: u32,
    /// Those inside a process that others share.
    pub(super) shared: u32,
    pub(super) by_queue: HashMap<u32, u32>,
    pub(super) by_name: HashMap<(u32, u32), u32>,
}

impl Live {
    /// Whether the shared gates of a lane are open.
    pub(super) fn lets_through(
        &self,
        lane: Lane,
        queue: Option<&Queue>,
        name_limits: &HashMap<(Symbol, Symbol), u32>,
    ) -> bool {
        let running = |count: Option<&u32>| count.copied().unwrap_or(0);
        let queue_open = queue.is_none_or(|queue| {
            let running = running(self.by_queue.get(&lane.queue));
            !queue.paused && queue.limit.is_none_or(|limit| running < limit)
        });
        let limit = name_limits.get(&(Symbol(lane.app), Symbol(lane.name)));
        let of_name = running(self.by_name.get(&(lane.app, lane.name)));
        queue_open && limit.is_none_or(|limit| of_name < *limit)
    }
}

impl Book {
    /// Attempts that hold a slot, lingering ones too.
    pub fn slots_used(&self) -> u32 {
        self.live.slots.min(self.slots)
    }

    /// Whether a live attempt runs inside a process that others share.
    pub fn shares(&self, id: TaskId) -> bool {
        self.sharing.contains(&id)
    }

    /// Attempts inside processes that they share; see [`SHARED_MAX`].
    pub const fn shared_used(&self) -> u32 {
        self.live.shared
    }

    /// All live attempts, lingering ones too.
    pub const fn running(&self) -> u32 {
        self.live.slots + self.live.shared
    }

    /// After a start, once the definitions are known: which live attempts take no slot.
    pub fn count_shared(&mut self) {
        let live =
            self.entries.iter().filter(|(id, entry)| entry.is_live() && !self.sharing.contains(id));
        let found: Vec<TaskId> = live
            .filter(|(_, entry)| self.shared_names.contains(&(entry.app, entry.name)))
            .map(|(id, _)| id)
            .collect();
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        self.live.slots = self.live.slots.saturating_sub(count);
        self.live.shared = self.live.shared.saturating_add(count);
        self.sharing.extend(found);
    }

    /// Whether a task's attempt, if it has one now, runs inside a process that others share.
    pub(super) fn will_share(&self, before: Option<&Task>, after: Option<&Task>) -> bool {
        match (before, after) {
            // Whatever its definition says meanwhile, an attempt goes on as it began.
            (Some(task), _) if self.entries.get(&task.id).is_some_and(Entry::is_live) => {
                self.sharing.contains(&task.id)
            }
            (_, Some(task)) if !self.shared_names.is_empty() => {
                self.is_shared(&task.spec.app, &task.spec.name)
            }
            (_, Some(_) | None) => false,
        }
    }

    fn is_shared(&self, app: &str, name: &str) -> bool {
        let found = (self.symbols.find(app), self.symbols.find(name));
        matches!(found, (Some(app), Some(name)) if self.shared_names.contains(&(app, name)))
    }

    pub(super) fn occupy(&mut self, lane: Lane, change: i32, shares: bool) {
        for count in [
            if shares { &mut self.live.shared } else { &mut self.live.slots },
            self.live.by_queue.entry(lane.queue).or_default(),
            self.live.by_name.entry((lane.app, lane.name)).or_default(),
        ] {
            *count = count.saturating_add_signed(change);
        }
    }
}
