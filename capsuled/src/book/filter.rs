//! Which tasks: one filter for every command.

use std::collections::BTreeMap;

use capsule_core::id::TaskId;
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

use super::{Book, Entry};

/// What a task must be like. Empty fields ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these statuses.
    pub statuses: Vec<Status>,
    /// Of this app.
    pub app: String,
    /// One of these task names; a trailing `*` stands for any rest.
    pub names: Vec<String>,
    /// Of this owner.
    pub owner: String,
    /// In this queue.
    pub queue: String,
    /// Under this lock key.
    pub lock: String,
    /// With all these labels; an empty value asks only for the label.
    pub labels: BTreeMap<String, String>,
    /// Submitted at or after.
    pub since: Option<Timestamp>,
    /// Submitted before.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether a task is meant.
    pub fn matches(&self, book: &Book, entry: &Entry) -> bool {
        let named = |wanted: &str, symbol| wanted.is_empty() || book.symbols.name(symbol) == wanted;
        (self.statuses.is_empty() || self.statuses.contains(&entry.status))
            && self.since.is_none_or(|since| entry.created >= since)
            && self.until.is_none_or(|until| entry.created < until)
            && named(&self.app, entry.app)
            && named(&self.owner, entry.owner)
            && named(&self.queue, entry.queue)
            && (self.lock.is_empty() || entry.lock.as_deref() == Some(self.lock.as_str()))
            && self.names_match(book.symbols.name(entry.name))
            && self.labels_match(entry.labels.as_deref().unwrap_or(""))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn names_match(&self, name: &str) -> bool {
        self.names.is_empty()
            || self.names.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == wanted,
            })
    }

    fn labels_match(&self, lines: &str) -> bool {
        self.labels.iter().all(|(label, wanted)| {
            lines.lines().any(|line| match line.split_once('=') {
                Some((name, value)) => name == label && (wanted.is_empty() || value == wanted),
                None => false,
            })
        })
    }
}

impl Book {
    /// The ids of all tasks that match, newest first, below `before`.
    pub fn newest<'a>(
        &'a self,
        filter: &'a Filter,
        before: Option<TaskId>,
    ) -> impl Iterator<Item = TaskId> + 'a {
        let end = before.unwrap_or(TaskId(u64::MAX));
        self.entries
            .range(..end)
            .rev()
            .filter(|(_, entry)| filter.matches(self, entry))
            .map(|(id, _)| *id)
    }

    /// How many tasks match. A filter by status alone is answered from the counts.
    pub fn count(&self, filter: &Filter) -> u64 {
        let by_status = Filter { statuses: filter.statuses.clone(), ..Filter::default() };
        if *filter == by_status {
            return self
                .counts
                .iter()
                .filter(|(status, _)| {
                    filter.statuses.is_empty() || filter.statuses.contains(status)
                })
                .map(|(_, count)| count)
                .sum();
        }
        self.entries.values().filter(|entry| filter.matches(self, entry)).count() as u64
    }
}
