//! How many tasks there are of each kind, so that nobody counts them one by one.

use std::collections::HashMap;

use capsule_core::task::Status;

use super::{Book, Entry, Symbol};

/// How many tasks are in each status.
#[derive(Clone, Debug, Default)]
pub struct Counts([u64; Status::ALL.len()]);

/// How many tasks of each queue have not ended: those that wait, and all.
#[derive(Debug, Default)]
pub(super) struct Unfinished(HashMap<Symbol, (u64, u64)>);

impl Counts {
    fn add(&mut self, status: Status, change: i64) {
        if let Some(count) = self.0.get_mut(status as usize) {
            *count = count.saturating_add_signed(change);
        }
    }

    /// How many tasks are in this status.
    pub fn of(&self, status: Status) -> u64 {
        self.0.get(status as usize).copied().unwrap_or(0)
    }

    /// Each status with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Status, u64)> {
        Status::ALL.into_iter().map(|status| (status, self.of(status)))
    }
}

impl Unfinished {
    fn add(&mut self, entry: &Entry, change: i64) {
        if entry.status.is_ended() {
            return;
        }
        let (waiting, all) = self.0.entry(entry.queue).or_default();
        *all = all.saturating_add_signed(change);
        if entry.waits() {
            *waiting = waiting.saturating_add_signed(change);
        }
        if *all == 0 {
            self.0.remove(&entry.queue);
        }
    }
}

impl Book {
    /// Notes that a task like this came or went.
    pub(super) fn count_in(&mut self, entry: &Entry, change: i64) {
        self.counts.add(entry.status, change);
        self.in_queues.add(entry, change);
    }

    /// How many tasks of a queue have not begun.
    pub fn waiting_in_queue(&self, queue: &str) -> u64 {
        let counts = self.symbols.find(queue).and_then(|symbol| self.in_queues.0.get(&symbol));
        counts.map_or(0, |(waiting, _)| *waiting)
    }

    /// The queues with tasks that have not ended, in no order.
    pub fn queues_in_use(&self) -> impl Iterator<Item = &str> {
        self.in_queues.0.keys().map(|symbol| self.symbols.name(*symbol))
    }
}
