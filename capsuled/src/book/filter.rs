//! Which tasks: one filter for every command.

use std::collections::BTreeMap;

use capsule_core::id::TaskId;
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

use super::{Book, Entry, Symbol};

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
        self.sieve(book).is_some_and(|sieve| sieve.lets(entry))
    }

    /// The filter in the book's own numbers; `None` = a name that no task has.
    fn sieve(&self, book: &Book) -> Option<Sieve<'_>> {
        let known = |wanted: &str| match wanted {
            "" => Some(None),
            wanted => book.symbols.find(wanted).map(Some),
        };
        Some(Sieve {
            filter: self,
            app: known(&self.app)?,
            owner: known(&self.owner)?,
            queue: known(&self.queue)?,
            names: self.name_numbers(book)?,
        })
    }

    fn name_numbers(&self, book: &Book) -> Option<Vec<Symbol>> {
        if self.names.is_empty() {
            return Some(Vec::new());
        }
        let names = book.symbols.iter().filter(|(_, name)| self.names_match(name));
        let names: Vec<Symbol> = names.map(|(symbol, _)| symbol).collect();
        (!names.is_empty()).then_some(names)
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

/// A filter in numbers, to look through very many tasks.
#[derive(Debug)]
struct Sieve<'a> {
    filter: &'a Filter,
    app: Option<Symbol>,
    owner: Option<Symbol>,
    queue: Option<Symbol>,
    names: Vec<Symbol>,
}

impl Sieve<'_> {
    fn lets(&self, entry: &Entry) -> bool {
        let Filter { statuses, lock, labels, since, until, .. } = self.filter;
        (statuses.is_empty() || statuses.contains(&entry.status))
            && since.is_none_or(|since| entry.created >= since)
            && until.is_none_or(|until| entry.created < until)
            && self.app.is_none_or(|app| app == entry.app)
            && self.owner.is_none_or(|owner| owner == entry.owner)
            && self.queue.is_none_or(|queue| queue == entry.queue)
            && (lock.is_empty() || entry.lock.as_deref() == Some(lock.as_str()))
            && (self.names.is_empty() || self.names.contains(&entry.name))
            && (labels.is_empty()
                || self.filter.labels_match(entry.labels.as_deref().unwrap_or("")))
    }
}

impl Book {
    /// How many tasks match, and the ids of the first `wanted` of them below `before`, newest
    /// first, in one pass; in none where the counts know that there is nothing more to find.
    pub fn page(
        &self,
        filter: &Filter,
        before: Option<TaskId>,
        wanted: usize,
    ) -> (u64, Vec<TaskId>) {
        if let Some(total) = self.counted(filter) {
            let found = usize::try_from(total).unwrap_or(usize::MAX).min(wanted);
            return (total, self.newest(filter, before).take(found).collect());
        }
        let (mut total, mut page) = (0, Vec::new());
        let before = before.unwrap_or(TaskId(u64::MAX));
        for id in self.newest(filter, None) {
            total += 1;
            if page.len() < wanted && id < before {
                page.push(id);
            }
        }
        (total, page)
    }

    /// The ids of all tasks that match, newest first, below `before`.
    pub fn newest<'a>(
        &'a self,
        filter: &'a Filter,
        before: Option<TaskId>,
    ) -> impl Iterator<Item = TaskId> + 'a {
        let end = before.unwrap_or(TaskId(u64::MAX));
        let sieve = filter.sieve(self);
        let entries = sieve.is_some().then(|| self.entries.range(..end).rev());
        entries
            .into_iter()
            .flatten()
            .filter(move |(_, entry)| sieve.as_ref().is_some_and(|sieve| sieve.lets(entry)))
            .map(|(id, _)| *id)
    }

    /// How many tasks match, where that is a filter by status alone.
    fn counted(&self, filter: &Filter) -> Option<u64> {
        let by_status = Filter { statuses: filter.statuses.clone(), ..Filter::default() };
        let wanted = |status| filter.statuses.is_empty() || filter.statuses.contains(&status);
        (*filter == by_status).then(|| {
            self.counts.iter().filter(|(status, _)| wanted(*status)).map(|(_, count)| count).sum()
        })
    }
}
