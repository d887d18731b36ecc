//! Which tasks: one filter for every command.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::id::TaskId;
use capsule_core::task::Status;
use capsule_core::time::Timestamp;

use super::entries::Marks;
use super::{Book, Entry, Symbol, Text};

/// What a task must be like. Empty fields ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these statuses.
    pub statuses: Vec<Status>,
    /// Of this app.
    pub app: String,
    /// One of these task names; a trailing `*` stands for any rest.
    pub names: Vec<String>,
    /// None of these, read likewise.
    pub except_names: Vec<String>,
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
        let labels = entry.labels.map_or("", |labels| book.label_sets.text(labels));
        self.labels_match(labels)
            && self.without_labels(book).is_some_and(|sieve| sieve.lets(entry))
    }

    /// The filter in the book's own numbers; `None` = asks for what no task has.
    fn sieve(&self, book: &Book) -> Option<Sieve> {
        let mut sieve = self.without_labels(book)?;
        if !self.labels.is_empty() {
            let fits = book.label_sets.which(self.label_marks(), |lines| self.labels_match(lines));
            sieve.labels = Some(fits.contains(&true).then_some(fits)?);
        }
        Some(sieve)
    }

    fn without_labels(&self, book: &Book) -> Option<Sieve> {
        let known = |wanted: &str| match wanted {
            "" => Some(None),
            wanted => book.symbols.find(wanted).map(Some),
        };
        let names = if self.names.is_empty() && self.except_names.is_empty() {
            None
        } else {
            let fits: Vec<bool> =
                book.symbols.iter().map(|(_, name)| self.names_match(name)).collect();
            Some(fits.contains(&true).then_some(fits)?)
        };
        Some(Sieve {
            statuses: self.statuses.iter().fold(0, |all, status| all | bit(*status)),
            app: known(&self.app)?,
            owner: known(&self.owner)?,
            queue: known(&self.queue)?,
            lock: if self.lock.is_empty() { None } else { Some(book.keys.find(&self.lock)?) },
            names,
            labels: None,
            since: self.since,
            until: self.until,
        })
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn names_match(&self, name: &str) -> bool {
        let among = |names: &[String]| {
            names.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == wanted,
            })
        };
        (self.names.is_empty() || among(&self.names)) && !among(&self.except_names)
    }

    fn labels_match(&self, lines: &str) -> bool {
        self.labels.iter().all(|(label, wanted)| {
            let is_it = |value: &str| wanted.is_empty() || value.lines().next() == Some(wanted);
            std::iter::successors(Some(lines), |rest| rest.split_once('\n').map(|(_, rest)| rest))
                .filter_map(|rest| rest.strip_prefix(label.as_str())?.strip_prefix('='))
                .any(|value| is_it(value) && !label.contains('='))
        })
    }

    /// What a set of labels must be marked with to have all those wanted.
    fn label_marks(&self) -> Marks {
        self.labels.iter().fold(Marks::default(), |marks, (label, wanted)| {
            let marks = marks.and(Marks::of(label));
            let line = || Marks::of(&format!("{label}={wanted}"));
            if wanted.is_empty() { marks } else { marks.and(line()) }
        })
    }
}

/// A filter in numbers, to look through very many tasks. What is `None` is not asked for.
#[derive(Debug)]
struct Sieve {
    /// A bit for each status; none = any.
    statuses: u16,
    app: Option<Symbol>,
    owner: Option<Symbol>,
    queue: Option<Symbol>,
    lock: Option<Text>,
    /// For each symbol, whether it is a wanted name.
    names: Option<Vec<bool>>,
    /// For each set of labels, whether it has those wanted.
    labels: Option<Vec<bool>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

const fn bit(status: Status) -> u16 {
    1 << status as u16
}

impl Sieve {
    fn lets(&self, entry: &Entry) -> bool {
        let is_in = |fits: &Vec<bool>, index: usize| fits.get(index).copied().unwrap_or(false);
        (self.statuses == 0 || self.statuses & bit(entry.status) != 0)
            && self.since.is_none_or(|since| entry.created >= since)
            && self.until.is_none_or(|until| entry.created < until)
            && self.app.is_none_or(|app| app == entry.app)
            && self.owner.is_none_or(|owner| owner == entry.owner)
            && self.queue.is_none_or(|queue| queue == entry.queue)
            && self.lock.is_none_or(|lock| entry.lock == Some(lock))
            && self.names.as_ref().is_none_or(|fits| is_in(fits, entry.name.0 as usize))
            && self
                .labels
                .as_ref()
                .is_none_or(|fits| entry.labels.is_some_and(|labels| is_in(fits, labels.index())))
    }
}

/// A part of a column of tasks, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Of one of these statuses; none = all.
    pub statuses: Vec<Status>,
    /// So many stand before it.
    pub skip: u64,
    /// At most so many stand in it.
    pub limit: usize,
}

/// What stands in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of the whole column.
    pub total: u64,
    /// So many stand before it: as asked, or less where the column is shorter.
    pub skip: u64,
    /// Newest first.
    pub ids: Vec<TaskId>,
}

impl Window {
    const fn end(&self) -> u64 {
        self.skip.saturating_add(self.limit as u64)
    }

    fn wants(&self, status: Status) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }
}

impl Seen {
    /// Takes in one more task of the column; says whether it stands in the window, or before it.
    fn pass(&mut self, window: &Window, id: TaskId) -> bool {
        self.total += 1;
        if self.total <= window.skip {
            self.skip += 1;
        } else if self.ids.len() < window.limit {
            self.ids.push(id);
        }
        self.total <= window.end()
    }
}

impl Book {
    /// What stands in each window, of all tasks that match, or of those of `among` that do. One
    /// pass over all tasks; where the counts know the totals it ends as soon as all windows are full.
    pub fn windows(
        &self,
        filter: &Filter,
        among: Option<&BTreeSet<TaskId>>,
        windows: &[Window],
    ) -> Vec<Seen> {
        let mut seen = vec![Seen::default(); windows.len()];
        let Some(sieve) = filter.sieve(self) else { return seen };
        let totals = if among.is_none() { self.totals(filter, windows) } else { None };
        // How many tasks may still come that have a place in a window, or before one.
        let mut open = totals.as_ref().map_or(u64::MAX, |totals| {
            windows.iter().zip(totals).map(|(window, total)| window.end().min(*total)).sum()
        });
        let all: Box<dyn Iterator<Item = (TaskId, &Entry)>> = match among {
            Some(ids) => {
                let entry = |id: &TaskId| Some((*id, self.entries.get(id)?));
                Box::new(ids.iter().rev().filter_map(entry))
            }
            None => Box::new(self.entries.iter().rev()),
        };
        for (id, entry) in all.filter(|(_, entry)| sieve.lets(entry)) {
            if open == 0 {
                break;
            }
            for (window, seen) in windows.iter().zip(&mut seen) {
                if window.wants(entry.status) {
                    open -= u64::from(seen.pass(window, id));
                }
            }
        }
        for (seen, total) in seen.iter_mut().zip(totals.into_iter().flatten()) {
            seen.total = total;
        }
        seen
    }

    /// How many tasks are in each column, where the counts know.
    fn totals(&self, filter: &Filter, windows: &[Window]) -> Option<Vec<u64>> {
        self.counted(filter)?;
        let lets = |status| filter.statuses.is_empty() || filter.statuses.contains(&status);
        let total = |window: &Window| {
            let counts = self.counts.iter().filter(|it| lets(it.0) && window.wants(it.0));
            counts.map(|(_, count)| count).sum()
        };
        Some(windows.iter().map(total).collect())
    }

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
        let Some(sieve) = filter.sieve(self) else { return (0, Vec::new()) };
        let before = before.unwrap_or(TaskId(u64::MAX));
        self.entries.sift(|entry| sieve.lets(entry), before, wanted)
    }

    /// The ids of all tasks that match, newest first, below `before`.
    pub fn newest<'a>(
        &'a self,
        filter: &'a Filter,
        before: Option<TaskId>,
    ) -> impl Iterator<Item = TaskId> + 'a {
        let end = before.unwrap_or(TaskId(u64::MAX));
        let sieve = filter.sieve(self);
        sieve.into_iter().flat_map(move |sieve| {
            let entries = self.entries.below(end);
            entries.filter(move |(_, entry)| sieve.lets(entry)).map(|(id, _)| id)
        })
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
    use capsule_core::task::Task;

    use super::*;
    use crate::book::tests::{spec, submitted};

    fn window(statuses: &[Status], skip: u64, limit: usize) -> Window {
        Window { statuses: statuses.to_vec(), skip, limit }
    }

    fn task(id: u64, name: &str, queue: &str) -> Task {
        let mut spec = spec(name, queue);
        spec.labels.insert("team".to_owned(), queue.to_owned());
        submitted(id, spec, Timestamp(1))
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

    #[test]
    fn windows_say_the_same_whether_counts_help_or_not() {
        let book = book();
        let all =
            [window(&[], 0, 3), window(&[Status::Pending], 8, 5), window(&[Status::Failed], 0, 3)];
        let everything: BTreeSet<TaskId> = book.entries.keys().collect();
        let quick = book.windows(&Filter::default(), None, &all);
        assert_eq!(quick, book.windows(&Filter::default(), Some(&everything), &all));
        let ids = |seen: &Seen| seen.ids.iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!((quick[0].total, ids(&quick[0])), (10, vec![10, 9, 8]));
        assert_eq!((quick[1].total, quick[1].skip, ids(&quick[1])), (10, 8, vec![2, 1]));
        assert_eq!((quick[2].total, ids(&quick[2])), (0, vec![]));
        let mail = Filter { names: vec!["mail".to_owned()], ..Filter::default() };
        let mail = book.windows(&mail, None, &[window(&[], 4, 9), window(&[], 9, 9)]);
        assert_eq!((mail[0].total, ids(&mail[0])), (5, vec![2]));
        assert_eq!((mail[1].total, mail[1].skip, ids(&mail[1])), (5, 5, vec![]));
        let but_mail = Filter { except_names: vec!["ma*".to_owned()], ..Filter::default() };
        assert_eq!(book.windows(&but_mail, None, &all)[0].total, 5);
        let pending = Filter { statuses: vec![Status::Pending], ..Filter::default() };
        assert_eq!(
            book.windows(&pending, None, &all),
            book.windows(&pending, Some(&everything), &all)
        );
    }
}
