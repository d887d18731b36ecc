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

    /// How many tasks match.
    pub fn count(&self, filter: &Filter) -> u64 {
        self.page(filter, None, 0).0
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

#[cfg(test)]
mod tests {
    use capsule_core::command::Command;
    use capsule_core::id::Uuid;
    use capsule_core::retry::Backoff;
    use capsule_core::spec::{Delivery, LockPolicy, Payload, TaskSpec};
    use capsule_core::task::Task;
    use capsule_core::time::Span;

    use super::*;

    fn task(id: u64, name: &str, queue: &str) -> Task {
        let spec = TaskSpec {
            app: String::new(),
            name: name.to_owned(),
            display_name: String::new(),
            owner: "ada".to_owned(),
            uid: 0,
            queue: queue.to_owned(),
            priority: 0,
            labels: BTreeMap::from([("team".to_owned(), queue.to_owned())]),
            payload: Payload::Inline(Vec::new()),
            retries: 0,
            backoff: Backoff::default(),
            timeout: None,
            grace: Span::ZERO,
            delivery: Delivery::AtMostOnce,
            lock: None,
            lock_policy: LockPolicy::Merge,
            key: None,
            start_within: None,
            after: Vec::new(),
            no_retry_exit_codes: Vec::new(),
            no_retry_on: Vec::new(),
            revision: 0,
            arguments: 0,
            summary: String::new(),
            not_before: None,
            hold: false,
            tick: None,
            parent: None,
        };
        let submit =
            Command::Submit { id: TaskId(id), uuid: Uuid::default(), spec: Box::new(spec) };
        let mut task = None;
        for event in &capsule_core::decide(None, &submit, Timestamp(1)).unwrap() {
            capsule_core::evolve(&mut task, event);
        }
        task.unwrap()
    }

    /// Tasks 1 to 10: the even ones `mail` in `slow`, the odd ones `sync` in `fast`.
    fn book() -> Book {
        let mut book = Book::new(1);
        for id in 1..=10 {
            let (name, queue) = if id % 2 == 0 { ("mail", "slow") } else { ("sync", "fast") };
            book.apply(None, Some(&task(id, name, queue)));
        }
        book
    }

    fn page(filter: &Filter, before: Option<u64>, wanted: usize) -> (u64, Vec<u64>) {
        let (total, ids) = book().page(filter, before.map(TaskId), wanted);
        (total, ids.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn a_page_counts_all_and_shows_the_newest_below_a_task() {
        let slow = Filter { queue: "slow".to_owned(), ..Filter::default() };
        assert_eq!(page(&slow, None, 2), (5, vec![10, 8]));
        assert_eq!(page(&slow, Some(8), 2), (5, vec![6, 4]));
        assert_eq!(page(&slow, None, 0), (5, vec![]));
        let pending = Filter { statuses: vec![Status::Pending], ..Filter::default() };
        assert_eq!(page(&pending, Some(3), 5), (10, vec![2, 1]));
        let failed = Filter { statuses: vec![Status::Failed], ..Filter::default() };
        assert_eq!(page(&failed, None, 5), (0, vec![]));
    }

    #[test]
    fn names_may_end_in_a_star_and_unknown_ones_match_nothing() {
        let named = |name: &str| Filter { names: vec![name.to_owned()], ..Filter::default() };
        assert_eq!(page(&named("sy*"), None, 1), (5, vec![9]));
        assert_eq!(page(&named("sy"), None, 1), (0, vec![]));
        let nobody = Filter { owner: "bob".to_owned(), ..Filter::default() };
        assert_eq!(page(&nobody, None, 1), (0, vec![]));
        let labelled = Filter {
            labels: BTreeMap::from([("team".to_owned(), "fast".to_owned())]),
            ..named("*")
        };
        assert_eq!(page(&labelled, None, 2), (5, vec![9, 7]));
    }
}
