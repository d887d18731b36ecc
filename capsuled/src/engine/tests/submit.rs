use capsule_core::attempt::Verdict;
use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::retry::Backoff;
use capsule_core::spec::{Dependency, DependencyOn, TaskSpec};
use capsule_core::task::{Cancellation, Outcome, State, Status};
use capsule_core::time::Span;

use super::{Bench, FAILED, How, START, SubmitError, spec};

#[tokio::test]
async fn a_submit_with_a_free_slot_is_claimed_in_the_same_commit() {
    let mut bench = Bench::new(1).await;
    let submitted = bench.submit(spec("a")).await.unwrap();
    assert_eq!(bench.status(submitted.task.id), Status::Claimed);
    let (id, attempt) = bench.start_next().await;
    assert_eq!((id, attempt.0), (TaskId(1), 1));
    assert_eq!(bench.status(id), Status::Running);
    bench.end(id, attempt, Verdict::Completed).await;
    assert_eq!(bench.status(id), Status::Completed);
}

#[tokio::test]
async fn two_retries_are_three_attempts_with_their_pauses_on_disk() {
    let mut bench = Bench::new(1).await;
    let backoff = Backoff::Fixed(Span::from_secs(7));
    let id = bench.created(TaskSpec { retries: 2, backoff, ..spec("a") }).await;
    for number in 1..=2 {
        let (_, attempt) = bench.start_next().await;
        assert_eq!(attempt.0, number);
        bench.end(id, attempt, FAILED).await;
        let due = START.plus(Span::from_secs(7 * u64::from(number)));
        assert_eq!(bench.task(id).state, State::Retry { due });
        bench.advance(Span(6_999)).await;
        bench.nothing_starts().await;
        bench.restart().await;
        bench.connect(Vec::new()).await;
        bench.nothing_starts().await;
        bench.advance(Span(1)).await;
    }
    let (_, attempt) = bench.start_next().await;
    assert_eq!(attempt.0, 3);
    bench.end(id, attempt, FAILED).await;
    assert_eq!(bench.status(id), Status::Failed);
    assert_eq!(super::super::attempts(&*bench.store, &bench.task(id)).unwrap().len(), 3);
    bench.advance(Span::from_secs(86_400)).await;
    bench.nothing_starts().await;
}

#[tokio::test]
async fn an_idempotency_key_stands_for_its_task_until_a_day_after_its_end() {
    let mut bench = Bench::new(1).await;
    let keyed = || TaskSpec { key: Some("k".to_owned()), ..spec("a") };
    let id = bench.created(keyed()).await;
    let again = bench.submit(keyed()).await.unwrap();
    assert_eq!((again.task.id, again.how), (id, How::Existing));
    let other = bench.submit(TaskSpec { arguments: 2, ..keyed() }).await;
    assert_eq!(other.unwrap_err(), SubmitError::KeyConflict { key: "k".to_owned(), id });
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, Verdict::Completed).await;
    bench.restart().await;
    bench.connect(Vec::new()).await;
    bench.advance(Span::from_secs(86_400)).await;
    assert_eq!(bench.submit(keyed()).await.unwrap().task.id, id);
    bench.advance(Span(1)).await;
    assert_ne!(bench.created(keyed()).await, id);
}

#[tokio::test]
async fn an_idempotency_key_stands_for_the_newest_task_that_has_it() {
    let mut bench = Bench::new(1).await;
    let keyed = || TaskSpec { key: Some("k".to_owned()), ..spec("a") };
    let old = bench.created(keyed()).await;
    let (_, attempt) = bench.start_next().await;
    bench.end(old, attempt, FAILED).await;
    bench.advance(Span::from_secs(86_401)).await;
    let new = bench.created(keyed()).await;
    bench.act(old, Command::Retry { retries: None, timeout: None }).await.result.unwrap();
    assert_eq!(bench.submit(keyed()).await.unwrap().task.id, new);
    bench.cancel(old).await.result.unwrap();
    bench.engine.remove(vec![old]).await.unwrap().pop().unwrap().result.unwrap();
    assert_eq!(bench.submit(keyed()).await.unwrap().task.id, new);
}

#[tokio::test]
async fn ids_are_never_used_again() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, Verdict::Completed).await;
    bench.engine.remove(vec![id]).await.unwrap().pop().unwrap().result.unwrap();
    bench.restart().await;
    assert_eq!(bench.created(spec("a")).await, TaskId(2));
    assert!(super::super::tombstone(&*bench.store, id).unwrap().is_some());
}

#[tokio::test]
async fn dependencies_let_go_or_end_their_dependants() {
    let mut bench = Bench::new(1).await;
    let first = bench.created(spec("first")).await;
    let on = |on| TaskSpec { after: vec![Dependency { task: first, on }], ..spec("then") };
    let ok = bench.created(on(DependencyOn::Ok)).await;
    let any = bench.created(on(DependencyOn::Any)).await;
    let failed = bench.created(on(DependencyOn::Failed)).await;
    let (_, attempt) = bench.start_next().await;
    bench.nothing_starts().await;
    bench.end(first, attempt, FAILED).await;
    let dependency = Cancellation::Dependency { task: first, status: Status::Failed };
    let ended = |task: &capsule_core::task::Task| {
        let State::Ended { outcome: Outcome::Cancelled(why), .. } = &task.state else {
            panic!("{:?}", task.state)
        };
        why.clone()
    };
    assert_eq!(ended(&bench.task(ok)), dependency.clone());
    assert_eq!(bench.start_next().await.0, any);
    assert_eq!(bench.status(failed), Status::Pending);
    let late = bench.submit(on(DependencyOn::Ok)).await.unwrap();
    assert_eq!(ended(&late.task), dependency);
    let nobody = vec![Dependency { task: TaskId(99), on: DependencyOn::Ok }];
    let refused = bench.submit(TaskSpec { after: nobody, ..spec("x") }).await;
    assert_eq!(refused.unwrap_err(), SubmitError::NoDependency(TaskId(99)));
}

#[tokio::test]
async fn what_does_not_start_in_time_ends() {
    let mut bench = Bench::new(1).await;
    bench.created(spec("holds-the-slot")).await;
    let within = Some(Span::from_secs(5));
    let id = bench.created(TaskSpec { start_within: within, ..spec("late") }).await;
    bench.advance(Span(4_999)).await;
    assert_eq!(bench.status(id), Status::Pending);
    bench.advance(Span(1)).await;
    assert_eq!(bench.status(id), Status::Cancelled);
    bench.start_next().await;
    bench.nothing_starts().await;
}

#[tokio::test]
async fn a_scheduled_task_starts_when_it_is_due_and_can_be_pulled_forward() {
    let mut bench = Bench::new(2).await;
    let at =
        |seconds| TaskSpec { not_before: Some(START.plus(Span::from_secs(seconds))), ..spec("a") };
    let early = bench.created(at(10)).await;
    let late = bench.created(at(100)).await;
    bench.nothing_starts().await;
    bench.advance(Span::from_secs(10)).await;
    assert_eq!(bench.start_next().await.0, early);
    bench.act(late, Command::Promote).await.result.unwrap();
    assert_eq!(bench.start_next().await.0, late);
}

#[tokio::test]
async fn a_dry_run_queues_nothing() {
    let bench = Bench::new(1).await;
    let new =
        super::NewTask { spec: spec("a"), payload: vec![0; 5000], parent: None, dry_run: true };
    let checked = bench.engine.submit(vec![new]).await.unwrap().pop().unwrap().unwrap();
    assert_eq!((checked.how, checked.task.id), (How::Checked, TaskId(0)));
    assert!(bench.engine.book().entries.is_empty());
    assert_eq!(bench.created(spec("a")).await, TaskId(1));
}

#[tokio::test]
async fn a_large_payload_is_in_a_side_file() {
    let bench = Bench::new(1).await;
    let payload = vec![7; 100_000];
    let new =
        super::NewTask { spec: spec("a"), payload: payload.clone(), parent: None, dry_run: false };
    let task = bench.engine.submit(vec![new]).await.unwrap().pop().unwrap().unwrap().task;
    let kept = bench.engine.side(crate::store::SideKind::Payload, task.id).unwrap();
    assert_eq!(kept, Some(payload));
    let over = super::NewTask {
        spec: spec("a"),
        payload: vec![0; (1 << 20) + 1],
        parent: None,
        dry_run: false,
    };
    let refused = bench.engine.submit(vec![over]).await.unwrap().pop().unwrap();
    assert_eq!(refused.unwrap_err(), SubmitError::PayloadTooLarge((1 << 20) + 1));
}
