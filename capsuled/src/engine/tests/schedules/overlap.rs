//! What becomes of a fire while the run of the one before has not ended.

use capsule_core::attempt::{How, Verdict};
use capsule_core::id::TaskId;
use capsule_core::task::Status;
use capsule_core::time::Span;

use super::super::super::Effect;
use super::super::ticks::{Row, fired};
use super::super::{Bench, spec};
use super::{minute, overlaps};
use crate::schedule::{Counted, Fire, Outcome, Overlap, Policy};

fn on_time(task: TaskId) -> Outcome {
    fired(task.0, Fire::OnTime)
}

fn waited(task: TaskId) -> Outcome {
    fired(task.0, Fire::Buffered)
}

#[tokio::test]
async fn one_fire_waits_for_the_run_before_also_over_a_restart() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::BufferOne)).await;
    bench.turn_to(0).await;
    let (first, attempt) = bench.start_next().await;
    bench.turn_to(60).await;
    bench.turn_to(120).await;
    bench.nothing_starts().await;
    let (skipped, buffered) = (Outcome::Skipped { task: first }, Outcome::Buffered { task: first });
    let rows: [Row; 3] = [(0, on_time(first)), (60, buffered), (120, skipped.clone())];
    assert_eq!(bench.rows(id), rows);
    bench.restart_with(&[(first, attempt, false)]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.of(id).buffered, [minute(60)]);
    bench.end(first, attempt, Verdict::Completed).await;
    let second = bench.finish_next().await;
    assert_eq!(bench.rows(id), [(0, on_time(first)), (60, waited(second)), (120, skipped)]);
    assert!(bench.of(id).buffered.is_empty());
}

#[tokio::test]
async fn all_fires_wait_for_their_turn_and_for_the_last_process_of_the_run_before() {
    let mut bench = Bench::new(4).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::BufferAll)).await;
    bench.turn_to(0).await;
    let (first, attempt) = bench.start_next().await;
    for hour in 1..=3 {
        bench.turn_to(60 * hour).await;
    }
    bench.end_but_linger(first, attempt).await;
    bench.nothing_starts().await;
    // Another daemon does not know that something lingers until the keeper says so.
    bench.restart_with(&[(first, attempt, true)]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.of(id).buffered.len(), 3);
    bench.engine.gone(first, attempt).unwrap();
    let (second, attempt) = bench.start_next().await;
    bench.end_but_linger(second, attempt).await;
    bench.nothing_starts().await;
    // The keeper dies, and with it whatever lingered.
    bench.keeper += 1;
    bench.connect(Vec::new()).await;
    let third = bench.finish_next().await;
    let fourth = bench.finish_next().await;
    let rows = [on_time(first), waited(second), waited(third), waited(fourth)];
    let rows: Vec<Row> = (0..).step_by(60).zip(rows).collect();
    assert_eq!(bench.rows(id), rows);
}

#[tokio::test]
async fn a_fire_before_the_keepers_first_word_waits_for_it() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::Skip)).await;
    bench.turn_to(0).await;
    let (first, attempt) = bench.start_next().await;
    bench.end_but_linger(first, attempt).await;
    bench.restart().await;
    bench.turn_to(60).await;
    assert_eq!(bench.rows(id).len(), 1, "nobody knows yet what lingers");
    bench.restart_with(&[(first, attempt, true)]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.rows(id), [(0, on_time(first)), (60, Outcome::Skipped { task: first })]);
}

#[tokio::test]
async fn the_run_before_is_cancelled_for_the_next() {
    let mut bench = Bench::new(1).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::CancelOther)).await;
    bench.turn_to(0).await;
    let (first, attempt) = bench.start_next().await;
    bench.turn_to(60).await;
    let effect = bench.effect().await;
    assert!(matches!(effect, Effect::Stop { task, .. } if task == first), "{effect:?}");
    assert_eq!(bench.of(id).buffered, [minute(60)]);
    bench.end(first, attempt, Verdict::Stopped(How::Graceful)).await;
    let (second, _) = bench.start_next().await;
    assert_eq!(bench.status(first), Status::Cancelled);
    assert_eq!(bench.rows(id), [(0, on_time(first)), (60, waited(second))]);
}

#[tokio::test]
async fn a_run_that_only_waits_makes_way_at_once() {
    let mut bench = Bench::new(1).await;
    let blocker = bench.created(spec("blocker")).await;
    assert_eq!(bench.start_next().await.0, blocker);
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::CancelOther)).await;
    bench.turn_to(0).await;
    let first = bench.of(id).former.unwrap();
    bench.clock.set(minute(60));
    // One look of the engine is all there is.
    bench.engine.drain(false).await.unwrap();
    let second = bench.of(id).former.unwrap();
    assert_eq!((bench.status(first), bench.status(second)), (Status::Cancelled, Status::Pending));
    assert_eq!(bench.rows(id), [(0, on_time(first)), (60, waited(second))]);
}

#[tokio::test]
async fn runs_that_may_meet_do() {
    let mut bench = Bench::new(3).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::Allow)).await;
    let mut rows = Vec::new();
    for hour in 0..3 {
        bench.turn_to(60 * hour).await;
        rows.push((60 * hour, on_time(bench.start_next().await.0)));
    }
    assert_eq!(bench.rows(id), rows);
}

#[tokio::test]
async fn what_a_run_has_submitted_counts_when_it_is_told_to() {
    let mut bench = Bench::new(4).await;
    let policy = Policy { counts: Counted::Submitted, ..overlaps(Overlap::BufferOne) };
    let id = bench.add("hourly", "0 * * * *", policy).await;
    bench.turn_to(0).await;
    let (run, attempt) = bench.start_next().await;
    let child = bench.submit_from(spec("child"), Some(run)).await.unwrap().task.id;
    let (started, of_child) = bench.start_next().await;
    assert_eq!(started, child);
    bench.end(run, attempt, Verdict::Completed).await;
    bench.turn_to(60).await;
    assert_eq!(bench.of(id).buffered, [minute(60)]);
    bench.restart_with(&[(child, of_child, false)]).await;
    bench.nothing_starts().await;
    bench.end_but_linger(child, of_child).await;
    bench.nothing_starts().await;
    bench.engine.gone(child, of_child).unwrap();
    let second = bench.finish_next().await;
    assert_eq!(bench.rows(id), [(0, on_time(run)), (60, waited(second))]);
    let plain = bench.add("plain", "30 * * * *", overlaps(Overlap::Skip)).await;
    bench.turn_to(90).await;
    let (run, attempt) = bench.start_next().await;
    bench.submit_from(spec("child"), Some(run)).await.unwrap();
    bench.start_next().await;
    bench.end(run, attempt, Verdict::Completed).await;
    bench.turn_to(150).await;
    assert!(bench.of(plain).last.unwrap().outcome.made().is_some());
}

#[tokio::test]
async fn a_run_longer_than_its_period_leaves_out_what_it_covers() {
    let mut bench = Bench::new(2).await;
    let policy = Policy { start: Some(minute(0)), ..overlaps(Overlap::Skip) };
    let id = bench.add("minutely", "* * * * *", policy).await;
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..5 {
        bench.turn_to(3 * round).await;
        let (run, attempt) = bench.start_next().await;
        rows.push((3 * round, on_time(run)));
        for covered in 1..3 {
            bench.turn_to(3 * round + covered).await;
            rows.push((3 * round + covered, Outcome::Skipped { task: run }));
        }
        bench.advance(Span::from_secs(30)).await;
        bench.end(run, attempt, Verdict::Completed).await;
        bench.nothing_starts().await;
    }
    assert_eq!(bench.rows(id), rows);
}
