use capsule_core::attempt::Verdict;
use capsule_core::spec::{LockPolicy, TaskSpec};
use capsule_core::task::Status;
use capsule_core::time::Span;

use super::{Bench, FAILED, How, START, SubmitError, locked, report, spec};

#[tokio::test]
async fn merge_gives_the_task_that_stands() {
    let mut bench = Bench::new(4).await;
    let first = bench.created(locked("a", LockPolicy::Merge)).await;
    bench.start_next().await;
    let again = bench.submit(locked("a", LockPolicy::Merge)).await.unwrap();
    assert_eq!(again.task.id, first);
    assert_eq!(again.how, How::Merged { arguments_differ: false, pulled_forward: false });
    let other = TaskSpec { arguments: 2, ..locked("a", LockPolicy::Merge) };
    let other = bench.submit(other).await.unwrap();
    assert_eq!(other.how, How::Merged { arguments_differ: true, pulled_forward: false });
    bench.nothing_starts().await;
}

#[tokio::test]
async fn merge_pulls_a_scheduled_task_forward_but_shortens_no_backoff() {
    let mut bench = Bench::new(1).await;
    let later = Some(START.plus(Span::from_secs(100)));
    let at = |not_before| TaskSpec { not_before, retries: 1, ..locked("a", LockPolicy::Merge) };
    let id = bench.created(at(later)).await;
    let sooner = START.plus(Span::from_secs(50));
    let merged = bench.submit(at(Some(sooner))).await.unwrap();
    assert_eq!(merged.how, How::Merged { arguments_differ: false, pulled_forward: true });
    assert_eq!(bench.task(id).state.due(), Some(sooner));
    let not_later = bench.submit(at(later)).await.unwrap();
    assert_eq!(not_later.how, How::Merged { arguments_differ: false, pulled_forward: false });
    bench.submit(at(None)).await.unwrap();
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, FAILED).await;
    let due = bench.task(id).state.due();
    assert!(due.is_some());
    bench.submit(at(None)).await.unwrap();
    assert_eq!(bench.task(id).state.due(), due);
}

#[tokio::test]
async fn wait_runs_one_after_the_other() {
    let mut bench = Bench::new(4).await;
    let first = bench.created(locked("a", LockPolicy::Wait)).await;
    let second = bench.created(locked("a", LockPolicy::Wait)).await;
    let (id, attempt) = bench.start_next().await;
    assert_eq!(id, first);
    bench.nothing_starts().await;
    bench.end(first, attempt, Verdict::Completed).await;
    assert_eq!(bench.start_next().await.0, second);
}

#[tokio::test]
async fn replace_cancels_the_one_that_waits() {
    let mut bench = Bench::new(4).await;
    let running = bench.created(locked("a", LockPolicy::Replace)).await;
    let (_, attempt) = bench.start_next().await;
    let waiting = bench.created(locked("a", LockPolicy::Replace)).await;
    let newest = bench.submit(locked("a", LockPolicy::Replace)).await.unwrap();
    assert_eq!(newest.how, How::Replaced(vec![waiting]));
    assert_eq!(bench.status(waiting), Status::Cancelled);
    assert_eq!(bench.status(running), Status::Running);
    bench.nothing_starts().await;
    bench.end(running, attempt, Verdict::Completed).await;
    assert_eq!(bench.start_next().await.0, newest.task.id);
}

#[tokio::test]
async fn reject_names_the_holder() {
    let bench = Bench::new(4).await;
    let holder = bench.created(locked("a", LockPolicy::Reject)).await;
    let refused = bench.submit(locked("a", LockPolicy::Reject)).await.unwrap_err();
    let key = "owner:acme".to_owned();
    assert_eq!(refused, SubmitError::Locked { key, holder, status: Status::Claimed });
    assert_eq!(bench.engine.book().entries.len(), 1);
}

#[tokio::test]
async fn other_owners_and_other_tasks_wait_and_other_apps_do_not() {
    let mut bench = Bench::new(4).await;
    let first = bench.created(locked("a", LockPolicy::Merge)).await;
    let owner = TaskSpec { owner: "bob".to_owned(), ..locked("a", LockPolicy::Merge) };
    let other_owner = bench.created(owner).await;
    let other_name = bench.created(locked("b", LockPolicy::Reject)).await;
    let app = TaskSpec { app: "x".to_owned(), ..locked("a", LockPolicy::Merge) };
    let (id, attempt) = bench.start_next().await;
    assert_eq!(id, first);
    bench.nothing_starts().await;
    // An app without a definition is parked; what matters is that it is a task of its own.
    bench.created(app).await;
    bench.end(first, attempt, Verdict::Completed).await;
    let (id, attempt) = bench.start_next().await;
    assert_eq!(id, other_owner);
    bench.nothing_starts().await;
    bench.end(other_owner, attempt, Verdict::Completed).await;
    assert_eq!(bench.start_next().await.0, other_name);
}

#[tokio::test]
async fn a_submit_from_inside_the_holder_waits_for_it() {
    let mut bench = Bench::new(4).await;
    let holder = bench.created(locked("a", LockPolicy::Merge)).await;
    let (_, attempt) = bench.start_next().await;
    let inner = bench.submit_from(locked("a", LockPolicy::Merge), Some(holder)).await.unwrap();
    assert_eq!(inner.how, How::Created);
    let second = bench.submit_from(locked("a", LockPolicy::Merge), Some(holder)).await.unwrap();
    assert_eq!(second.task.id, inner.task.id, "the one that waits stands for the next");
    bench.nothing_starts().await;
    bench.end(holder, attempt, Verdict::Completed).await;
    assert_eq!(bench.start_next().await.0, inner.task.id);
}

#[tokio::test]
async fn a_lock_is_free_between_attempts_and_held_until_the_tree_is_gone() {
    let mut bench = Bench::new(4).await;
    let retried = TaskSpec { retries: 1, ..locked("a", LockPolicy::Wait) };
    let first = bench.created(retried).await;
    let second = bench.created(locked("b", LockPolicy::Wait)).await;
    let (_, attempt) = bench.start_next().await;
    bench.end_with(first, report(attempt, FAILED, START), false).await;
    assert_eq!(bench.status(first), Status::Retry);
    bench.nothing_starts().await;
    assert_eq!(bench.engine.book().slots_used(), 1);
    bench.engine.gone(first, attempt).unwrap();
    assert_eq!(bench.start_next().await.0, second);
    assert_eq!(bench.engine.book().slots_used(), 1);
}

#[tokio::test]
async fn a_paused_queue_does_not_hold_up_others_under_the_same_lock() {
    let mut bench = Bench::new(4).await;
    let change = super::super::QueueChange { paused: Some(true), ..Default::default() };
    bench.engine.set_queue("paused".to_owned(), change).await.unwrap();
    let queue = "paused".to_owned();
    bench.created(TaskSpec { queue, priority: 100, ..locked("a", LockPolicy::Wait) }).await;
    let open = bench.created(locked("b", LockPolicy::Wait)).await;
    assert_eq!(bench.start_next().await.0, open);
    bench.created(spec("no-lock")).await;
    bench.start_next().await;
}
