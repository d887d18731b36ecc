use capsule_core::attempt::{Failure, How, Loss, NotStarted, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::spec::{Delivery, LockPolicy, TaskSpec};
use capsule_core::task::{Outcome, State, Status};
use capsule_core::time::Span;

use super::super::Refusal;
use super::{Bench, Effect, KnownAttempt, START, locked, report, spec};

fn known(task: TaskId, attempt: AttemptNumber) -> KnownAttempt {
    KnownAttempt { task, attempt, pid: 99, started: START, ended: false, tree_gone: false }
}

#[tokio::test]
async fn running_work_survives_the_daemon() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    let (_, attempt) = bench.start_next().await;
    bench.restart().await;
    bench.connect(vec![known(id, attempt)]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.status(id), Status::Running);
    bench.end(id, attempt, Verdict::Completed).await;
    assert_eq!(bench.status(id), Status::Completed);
}

#[tokio::test]
async fn a_claim_that_the_same_keeper_never_heard_of_is_sent_again() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    assert!(matches!(bench.effect().await, Effect::Spawn(_)));
    bench.restart().await;
    bench.connect(Vec::new()).await;
    let (again, attempt) = bench.start_next().await;
    assert_eq!((again, attempt.0), (id, 1), "the same attempt: it never started");
}

#[tokio::test]
async fn what_another_keeper_had_is_lost() {
    let mut bench = Bench::new(2).await;
    let again = bench.created(spec("at-least-once")).await;
    let once = TaskSpec { delivery: Delivery::AtMostOnce, ..spec("at-most-once") };
    let once = bench.created(once).await;
    bench.start_next().await;
    bench.start_next().await;
    bench.engine.keeper_down().unwrap();
    bench.keeper = 2;
    bench.connect(Vec::new()).await;
    let lost = Outcome::Failed(Failure::Lost(Loss::KeeperDied));
    assert_eq!(bench.task(once).state, State::Ended { at: START, outcome: lost });
    let (id, attempt) = bench.start_next().await;
    assert_eq!((id, attempt.0), (again, 2));
    let late = report(AttemptNumber(1), Verdict::Completed, START);
    bench.end_with(again, late, true).await;
    assert_eq!(bench.status(again), Status::Running, "a late report of an older attempt");
}

#[tokio::test]
async fn three_losses_in_a_row_are_the_end() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("poison")).await;
    for life in 2..=4 {
        bench.start_next().await;
        bench.engine.keeper_down().unwrap();
        bench.keeper = life;
        bench.connect(Vec::new()).await;
    }
    assert_eq!(bench.status(id), Status::Failed);
    bench.nothing_starts().await;
}

#[tokio::test]
async fn no_room_on_the_machine_uses_no_retry_and_is_tried_later() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(TaskSpec { delivery: Delivery::AtMostOnce, ..spec("a") }).await;
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, Verdict::NotStarted(NotStarted::NoResources)).await;
    assert_eq!(bench.status(id), Status::Retry);
    bench.advance(Span::from_secs(1)).await;
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, Verdict::Completed).await;
    assert_eq!((bench.status(id), bench.task(id).failures), (Status::Completed, 0));
}

#[tokio::test]
async fn a_cancel_that_may_not_have_been_said_is_said_again() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    let (_, attempt) = bench.start_next().await;
    bench.cancel(id).await.result.unwrap();
    bench.restart().await;
    bench.clock.advance(Span::from_secs(4));
    bench.connect(vec![known(id, attempt)]).await;
    let Effect::Stop { task, grace, .. } = bench.effect().await else { panic!("no stop") };
    assert_eq!((task, grace), (id, Span::from_secs(6)), "what is left of its grace");
    bench.end(id, attempt, Verdict::Stopped(How::Graceful)).await;
    assert_eq!(bench.status(id), Status::Cancelled);
}

#[tokio::test]
async fn a_cancel_of_a_claim_that_was_not_sent_is_sent_behind_it() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    bench.cancel(id).await.result.unwrap();
    bench.restart().await;
    bench.connect(Vec::new()).await;
    assert!(matches!(bench.effect().await, Effect::Spawn(task) if task.id == id));
    assert!(matches!(bench.effect().await, Effect::Stop { task, .. } if task == id));
}

#[tokio::test]
async fn an_attempt_that_no_task_has_is_killed() {
    let mut bench = Bench::new(1).await;
    bench.connect(vec![known(TaskId(7), AttemptNumber(1))]).await;
    let Effect::Stop { task, grace, .. } = bench.effect().await else { panic!("no stop") };
    assert_eq!((task, grace), (TaskId(7), Span::ZERO));
}

#[tokio::test]
async fn a_tree_that_lives_on_keeps_its_slot_over_a_restart() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    let (_, attempt) = bench.start_next().await;
    bench.end_with(id, report(attempt, Verdict::Completed, START), false).await;
    assert_eq!(bench.status(id), Status::Completed);
    bench.restart().await;
    let ended = KnownAttempt { ended: true, ..known(id, attempt) };
    bench.connect(vec![ended]).await;
    let next = bench.created(spec("b")).await;
    bench.nothing_starts().await;
    bench.engine.gone(id, attempt).unwrap();
    assert_eq!(bench.start_next().await.0, next);
}

#[tokio::test]
async fn nothing_is_forgotten_of_which_processes_may_live() {
    let mut bench = Bench::new(2).await;
    let lock = |name| locked(name, LockPolicy::Wait);
    let id = bench.created(lock("a")).await;
    let (_, attempt) = bench.start_next().await;
    bench.end_with(id, report(attempt, Verdict::Completed, START), false).await;
    bench.restart().await;
    let refused = bench.engine.remove(vec![id]).await.unwrap().pop().unwrap();
    assert_eq!(refused.result, Err(Refusal::MayLinger));
    bench.connect(vec![KnownAttempt { ended: true, ..known(id, attempt) }]).await;
    bench.created(lock("b")).await;
    bench.nothing_starts().await;
    bench.engine.gone(id, attempt).unwrap();
    bench.start_next().await;
    bench.engine.remove(vec![id]).await.unwrap().pop().unwrap().result.unwrap();
}

#[tokio::test]
async fn a_shutdown_puts_tasks_back_and_uses_no_retry() {
    let mut bench = Bench::new(1).await;
    let id = bench.created(spec("a")).await;
    let (_, attempt) = bench.start_next().await;
    assert_eq!(bench.engine.stop_all(Span::ZERO).await.unwrap(), [id]);
    bench.end(id, attempt, Verdict::Stopped(How::Graceful)).await;
    assert_eq!((bench.status(id), bench.task(id).failures), (Status::Pending, 0));
    bench.nothing_starts().await;
}

#[tokio::test]
async fn nothing_starts_without_a_keeper() {
    let mut bench = Bench::without_keeper(1);
    let id = bench.created(spec("a")).await;
    bench.nothing_starts().await;
    assert_eq!(bench.status(id), Status::Pending);
    bench.connect(Vec::new()).await;
    assert_eq!(bench.start_next().await.0, id);
}
