//! What is forgotten and when, over the model store and a turned clock.

use capsule_core::attempt::Verdict;
use capsule_core::id::TaskId;
use capsule_core::spec::{Dependency, DependencyOn, TaskSpec};
use capsule_core::time::Span;

use super::super::tests::{Bench, FAILED, report, spec};
use super::super::{NewRecurrence, QueueChange, SCHEDULES_MAX, STONES_KEPT, STONES_MAX, tombstone};
use crate::book::{Keep, LAST_KEPT};
use crate::clock::Clock as _;
use crate::store::{KeyRange, Table};

const DAY: Span = Span::from_secs(86_400);

fn days(days: u64) -> Span {
    Span(days * DAY.0)
}

impl Bench {
    /// Ends a task of this name and gives its id.
    async fn ended(&mut self, spec: TaskSpec, verdict: Verdict) -> TaskId {
        let id = self.created(spec).await;
        let (started, attempt) = self.start_next().await;
        assert_eq!(started, id);
        self.end(id, attempt, verdict).await;
        id
    }

    async fn keeping(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self.restart().await;
        self.connect(Vec::new()).await;
        self
    }

    fn is_there(&self, id: TaskId) -> bool {
        self.left(&[id]) == [id]
    }

    /// Which of these are still there, at one moment.
    fn left(&self, ids: &[TaskId]) -> Vec<TaskId> {
        let book = self.engine.book();
        let is_there = |id: &TaskId| {
            let stored = super::super::task(&*self.store, *id).unwrap().is_some();
            assert_eq!(stored, book.entries.contains_key(id), "{id}");
            stored
        };
        ids.iter().copied().filter(is_there).collect()
    }

    fn records(&self, table: Table) -> usize {
        let mut count = 0;
        self.store
            .scan(table, KeyRange::ALL, &mut |_, _| {
                count += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        count
    }

    /// Waits until there is nothing left to forget.
    async fn pruned(&self) {
        let mut before = (usize::MAX, usize::MAX);
        loop {
            self.settle().await;
            let now = (self.records(Table::Task), self.records(Table::Tombstone));
            if now == before {
                return;
            }
            before = now;
        }
    }
}

#[tokio::test]
async fn age_takes_all_but_the_last_ones_of_each_definition() {
    let mut bench = Bench::new(1).await;
    let mut mail = Vec::new();
    for _ in 0..LAST_KEPT + 4 {
        mail.push(bench.ended(spec("mail"), Verdict::Completed).await);
    }
    let mut sync = Vec::new();
    for _ in 0..LAST_KEPT + 2 {
        sync.push(bench.ended(spec("sync"), FAILED).await);
    }
    bench.advance(Span(days(7).0 - 1000)).await;
    assert_eq!(bench.left(&mail), mail);
    bench.advance(Span(2000)).await;
    assert_eq!(bench.left(&mail), mail[4..]);
    assert_eq!(bench.left(&sync), sync);
    // A restart makes the same of it, and goes on where it was.
    bench.restart().await;
    bench.connect(Vec::new()).await;
    bench.advance(days(22)).await;
    assert_eq!((bench.left(&mail), bench.left(&sync)), (mail[4..].to_vec(), sync.clone()));
    bench.advance(days(2)).await;
    assert_eq!(bench.left(&sync), sync[2..]);
    assert_eq!(bench.records(Table::Task), 2 * LAST_KEPT);
    // A new end makes an old one of its definition go.
    let next = bench.ended(spec("mail"), Verdict::Completed).await;
    assert_eq!(bench.left(&mail), mail[5..]);
    assert!(bench.is_there(next));
}

#[tokio::test]
async fn the_number_takes_the_oldest_ends_first() {
    let keep = Keep { ended: 25, ..Keep::default() };
    let mut bench = Bench::new(1).await.keeping(keep).await;
    let mut ids = Vec::new();
    for number in 0..40 {
        let verdict = if number % 3 == 0 { FAILED } else { Verdict::Completed };
        ids.push(bench.ended(spec("mail"), verdict).await);
        bench.advance(Span(10)).await;
    }
    bench.pruned().await;
    assert_eq!(bench.left(&ids), ids[15..]);
    let bench = bench.keeping(Keep { ended: 0, ..keep }).await;
    bench.pruned().await;
    assert_eq!(bench.left(&ids), ids[30..], "the last of a definition stay");
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on() {
    let mut bench = Bench::new(8).await;
    let forever = Keep { completed: None, ..Keep::default() };
    bench = bench.keeping(forever).await;
    let mut ids = Vec::new();
    for _ in 0..2000 {
        ids.push(bench.created(TaskSpec { hold: true, ..spec("mail") }).await);
    }
    for id in &ids {
        assert!(bench.cancel(*id).await.result.is_ok());
    }
    bench.advance(days(1)).await;
    bench.keep = Keep { completed: Some(Span::from_secs(60)), ..Keep::default() };
    let mut steps = Vec::new();
    while steps.last() != Some(&LAST_KEPT) {
        // The next one is asked to end right behind its first steps.
        bench.restart().await;
        bench.settle().await;
        let left = bench.left(&ids);
        assert_eq!(left, ids[ids.len() - left.len()..], "the oldest go first");
        assert!(steps.last().is_none_or(|before| left.len() < *before), "it goes on: {steps:?}");
        steps.push(left.len());
    }
    assert!(steps.len() > 1, "2000 tasks do not go in one step");
    assert_eq!(bench.left(&ids), ids[ids.len() - LAST_KEPT..]);
    let next = bench.created(spec("mail")).await;
    assert!(next > *ids.last().unwrap());
}

#[tokio::test]
async fn nothing_that_has_not_ended_goes() {
    let keep = Keep { completed: Some(Span::ZERO), failed: Some(Span::ZERO), ended: 0 };
    let mut bench = Bench::new(1).await.keeping(keep).await;
    let held = bench.created(TaskSpec { hold: true, ..spec("held") }).await;
    let later = bench.engine.now().plus(days(300));
    let scheduled = bench.created(TaskSpec { not_before: Some(later), ..spec("later") }).await;
    let running = bench.created(spec("runs")).await;
    let (started, attempt) = bench.start_next().await;
    assert_eq!(started, running);
    let retried = bench.created(TaskSpec { retries: 3, ..spec("runs") }).await;
    for _ in 0..LAST_KEPT + 3 {
        let id = bench.created(TaskSpec { hold: true, ..spec("runs") }).await;
        assert!(bench.cancel(id).await.result.is_ok());
    }
    bench.advance(days(200)).await;
    let open = [held, scheduled, running, retried];
    assert_eq!(bench.left(&open), open);
    assert_eq!(bench.records(Table::Task), 4 + LAST_KEPT);
    // While processes of its tree live, an ended one stays as well.
    let report = report(attempt, FAILED, bench.clock.now());
    bench.end_with(running, report, false).await;
    for _ in 0..LAST_KEPT + 3 {
        let id = bench.created(TaskSpec { hold: true, ..spec("runs") }).await;
        assert!(bench.cancel(id).await.result.is_ok());
    }
    bench.advance(days(2)).await;
    assert!(bench.is_there(running));
    bench.engine.gone(running, attempt).unwrap();
    bench.advance(days(1)).await;
    assert!(!bench.is_there(running));
    assert_eq!(bench.left(&open), [held, scheduled, retried]);
}

#[tokio::test]
async fn a_key_in_force_keeps_its_task() {
    let keep = Keep { completed: Some(Span::ZERO), failed: Some(Span::ZERO), ended: 0 };
    let mut bench = Bench::new(1).await.keeping(keep).await;
    let keyed = || TaskSpec { key: Some("once".to_owned()), ..spec("mail") };
    let id = bench.ended(keyed(), Verdict::Completed).await;
    for _ in 0..=LAST_KEPT {
        bench.ended(spec("mail"), Verdict::Completed).await;
    }
    bench.advance(Span::from_secs(86_000)).await;
    assert!(bench.is_there(id));
    assert_eq!(bench.submit(keyed()).await.unwrap().task.id, id);
    bench.restart().await;
    bench.connect(Vec::new()).await;
    assert_eq!(bench.submit(keyed()).await.unwrap().task.id, id);
    bench.advance(Span::from_secs(3000)).await;
    assert!(!bench.is_there(id));
    assert_ne!(bench.submit(keyed()).await.unwrap().task.id, id);
}

#[tokio::test]
async fn a_task_that_others_wait_for_stays() {
    let keep = Keep { completed: Some(Span::ZERO), failed: Some(Span::ZERO), ended: 0 };
    let mut bench = Bench::new(1).await.keeping(keep).await;
    let first = bench.ended(spec("mail"), FAILED).await;
    let after = vec![Dependency { task: first, on: DependencyOn::Any }];
    let next = bench.created(TaskSpec { after, hold: true, ..spec("next") }).await;
    // It was met at once, so nothing refers to it.
    assert!(bench.task(next).spec.after.is_empty());
    for _ in 0..LAST_KEPT {
        bench.ended(spec("mail"), FAILED).await;
    }
    bench.advance(days(1)).await;
    assert!(!bench.is_there(first) && bench.is_there(next));
    let gone = vec![Dependency { task: first, on: DependencyOn::Any }];
    let refused = bench.submit(TaskSpec { after: gone, ..spec("next") }).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn tombstones_are_bounded_and_no_id_comes_again() {
    let keep = Keep { completed: Some(Span::ZERO), ..Keep::default() };
    let mut bench = Bench::new(1).await.keeping(keep).await;
    let mut last = TaskId(0);
    for _ in 0..LAST_KEPT + 30 {
        last = bench.ended(spec("mail"), Verdict::Completed).await;
    }
    bench.advance(days(1)).await;
    assert_eq!(bench.records(Table::Tombstone), 30);
    let ids: Vec<TaskId> = (0..LAST_KEPT as u64).map(|back| TaskId(last.0 - back)).collect();
    drop(bench.engine.remove(ids).await.unwrap());
    assert_eq!((bench.records(Table::Task), bench.records(Table::Tombstone)), (0, 40));
    assert!(tombstone(&*bench.store, last).unwrap().is_some());
    bench.advance(STONES_KEPT).await;
    bench.advance(Span(1)).await;
    assert_eq!(bench.records(Table::Tombstone), 0);
    assert_eq!(bench.engine.book().last_id, last);
    // Nothing but the floor knows of them now.
    bench.restart().await;
    assert_eq!(bench.engine.book().last_id, last);
    assert_eq!(bench.created(spec("mail")).await.0, last.0 + 1);
}

#[tokio::test]
async fn more_tombstones_than_the_most_go_oldest_first() {
    let keep = Keep { completed: Some(Span::ZERO), ended: 0, ..Keep::default() };
    let bench = Bench::new(1).await.keeping(keep).await;
    let mut ids = Vec::new();
    let count = STONES_MAX + LAST_KEPT + 100;
    while ids.len() < count {
        let new = |_| super::super::NewTask {
            spec: TaskSpec { hold: true, ..spec("mail") },
            payload: Vec::new(),
            parent: None,
            dry_run: false,
        };
        let submitted = bench.engine.submit((0..2000).map(new).collect()).await.unwrap();
        ids.extend(submitted.into_iter().map(|it| it.unwrap().task.id));
    }
    ids.truncate(count);
    for some in ids.chunks(1000) {
        let cancel = capsule_core::command::Command::Cancel { reason: String::new(), grace: None };
        bench.engine.act(some.to_vec(), cancel).await.unwrap();
    }
    bench.pruned().await;
    assert_eq!(bench.left(&ids), ids[count - LAST_KEPT..]);
    assert_eq!(bench.records(Table::Tombstone), STONES_MAX);
    assert_eq!(tombstone(&*bench.store, ids[99]).unwrap(), None);
    assert!(tombstone(&*bench.store, ids[100]).unwrap().is_some());
}

#[tokio::test]
async fn attempts_of_one_task_are_bounded() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("mail")).await;
    let most = super::super::ATTEMPTS_KEPT;
    for _ in 0..most + 20 {
        let (_, attempt) = bench.start_next().await;
        bench.end(id, attempt, FAILED).await;
        let retry = capsule_core::command::Command::Retry { retries: None, timeout: None };
        assert!(bench.act(id, retry).await.result.is_ok());
    }
    assert_eq!(bench.records(Table::Attempt), most as usize);
    drop(bench.cancel(id).await);
    bench.settle().await;
    let acted = bench.engine.remove(vec![id]).await.unwrap();
    if acted[0].result.is_err() {
        let (_, attempt) = bench.start_next().await;
        bench.end(id, attempt, Verdict::Completed).await;
        bench.engine.remove(vec![id]).await.unwrap();
    }
    assert_eq!(bench.records(Table::Attempt), 0, "all of them go with the task");
}

#[tokio::test]
async fn one_schedule_too_many_is_refused_with_the_limit() {
    let bench = Bench::new(1).await;
    let recur = || {
        let (every, first) = (days(1), Some(bench.engine.now().plus(days(1))));
        let new = NewRecurrence { spec: spec("mail"), payload: Vec::new(), every, first };
        bench.engine.recur(new)
    };
    for _ in 0..SCHEDULES_MAX {
        assert!(recur().await.unwrap().is_ok());
    }
    let refused = recur().await.unwrap().unwrap_err().to_string();
    assert_eq!(refused, "there are 10000 schedules, the limit is 10000");
}

#[tokio::test]
async fn a_queue_that_is_as_all_others_has_no_record() {
    let mut bench = Bench::new(1).await;
    let set = |paused, limit| QueueChange { paused, limit, ..QueueChange::default() };
    let name = || "slow".to_owned();
    bench.engine.set_queue(name(), set(Some(true), Some(Some(2)))).await.unwrap();
    assert_eq!(bench.records(Table::Queue), 1);
    bench.engine.set_queue(name(), set(Some(false), None)).await.unwrap();
    bench.restart().await;
    assert_eq!(bench.engine.book().queues.get("slow").and_then(|queue| queue.limit), Some(2));
    let queue = bench.engine.set_queue(name(), set(None, Some(None))).await.unwrap();
    assert!(!queue.paused && queue.limit.is_none());
    assert_eq!(bench.records(Table::Queue), 0);
}
