//! The book against a plain list of tasks, and what stays of very many tasks that came and went.

mod histories;
mod model;

use std::collections::BTreeMap;

use capsule_core::command::Command;
use capsule_core::id::{TaskId, Uuid};
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy, Payload, TaskSpec};
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};

use super::{Book, Keeper};

/// Nothing special about it.
pub(super) fn spec(name: &str, queue: &str) -> TaskSpec {
    TaskSpec {
        app: String::new(),
        name: name.to_owned(),
        display_name: String::new(),
        owner: "ada".to_owned(),
        uid: 0,
        queue: queue.to_owned(),
        priority: 0,
        labels: BTreeMap::new(),
        payload: Payload::Inline(Vec::new()),
        retries: 0,
        backoff: Backoff::default(),
        timeout: None,
        grace: Span::ZERO,
        delivery: Delivery::AtLeastOnce,
        lock: None,
        lock_policy: LockPolicy::Wait,
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
    }
}

/// The task that a submit of `spec` makes.
pub(super) fn submitted(id: u64, spec: TaskSpec, now: Timestamp) -> Task {
    let submit = Command::Submit { id: TaskId(id), uuid: Uuid::default(), spec: Box::new(spec) };
    let mut task = None;
    for event in &capsule_core::decide(None, &submit, now).unwrap() {
        capsule_core::evolve(&mut task, event);
    }
    task.unwrap()
}

/// A book in which tasks start.
fn open(slots: u32) -> Book {
    let mut book = Book::new(slots);
    book.keeper = Some(Keeper { instance: Uuid([1; 16]), pid: 1, attribution: String::new() });
    book
}

/// That nothing is left of tasks that are all gone.
fn assert_empty(book: &Book) {
    assert!(book.entries.is_empty() && book.entries.room() == 0);
    assert!(book.keys.is_empty() && book.label_sets.is_empty());
    assert!(book.ready.is_empty() && book.locks.iter().next().is_none());
    assert!(book.by_key.is_empty() && book.unfinished.is_empty() && book.dependants.is_empty());
    assert!(book.alarms.is_empty() && book.lingering.is_empty() && book.sharing.is_empty());
    assert_eq!((book.running(), book.queues_in_use().count()), (0, 0));
    assert!(book.counts.iter().all(|(_, count)| count == 0));
}

/// `CAPSULE_BOOK_CHURN` says of how many tasks.
#[test]
fn tasks_that_came_and_went_leave_no_room_behind() {
    const LIVE: usize = 1000;
    let all = std::env::var("CAPSULE_BOOK_CHURN").ok().and_then(|n| n.parse().ok());
    let mut book = open(1);
    let mut task = submitted(1, spec("churn", "default"), Timestamp(1));
    let mut live = std::collections::VecDeque::new();
    for id in 1..=all.unwrap_or(50_000) {
        task.id = TaskId(id);
        task.spec.lock = Some(format!("lock-{id}"));
        task.spec.key = Some(format!("key-{id}"));
        task.spec.labels = BTreeMap::from([("order".to_owned(), id.to_string())]);
        book.apply(None, Some(&task));
        live.push_back(task.clone());
        if live.len() > LIVE {
            // One in 50 stays once more, so that pages empty in no order.
            live.rotate_left(usize::from(id % 50 == 0));
            book.apply(live.pop_front().as_ref(), None);
        }
        let numbers = book.keys.numbers().max(book.label_sets.numbers());
        assert!(numbers <= LIVE + 1, "{numbers} numbers at {id}");
        assert!(book.entries.room() <= 4 * LIVE + 64, "{} at {id}", book.entries.room());
    }
    for task in &live {
        book.apply(Some(task), None);
    }
    assert_empty(&book);
}
