//! What people do to schedules: pauses, fires by hand, fires passed over.

use capsule_core::attempt::Verdict;
use capsule_core::time::Span;

use super::super::super::{ScheduleChange, ScheduleError};
use super::super::ticks::fired;
use super::super::{Bench, FAILED};
use super::{minute, overlaps, rule};
use crate::schedule::{Fire, Outcome, Overlap, Policy};

#[tokio::test]
async fn a_pause_is_one_row_and_no_flood() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::Allow)).await;
    let note = bench.pause(id).await.paused.unwrap();
    assert_eq!((note.by.as_str(), note.note.as_str()), ("ann", "deploying"));
    bench.turn_to(190).await;
    bench.restart_with(&[]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.of(id).paused, Some(note));
    let skip = ScheduleChange::SkipNext { by: String::new() };
    let refused = bench.engine.change_schedule(id, skip).await.unwrap();
    assert!(matches!(refused, Err(ScheduleError::NoNext(_))), "{refused:?}");
    let resumed = bench.change(id, ScheduleChange::Resume).await;
    assert_eq!((resumed.paused, resumed.next), (None, Some(minute(240))));
    bench.nothing_starts().await;
    let passed = Outcome::Paused { until: minute(180), count: 4 };
    assert_eq!(bench.rows(id), [(0, passed.clone())]);
    bench.turn_to(240).await;
    let task = bench.finish_next().await;
    assert_eq!(bench.rows(id), [(0, passed), (240, fired(task.0, Fire::OnTime))]);
}

#[tokio::test]
async fn what_waited_at_a_pause_goes_on_after_it() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::BufferOne)).await;
    bench.turn_to(0).await;
    let (first, attempt) = bench.start_next().await;
    bench.turn_to(60).await;
    bench.pause(id).await;
    bench.end(first, attempt, Verdict::Completed).await;
    bench.restart_with(&[]).await;
    bench.nothing_starts().await;
    bench.change(id, ScheduleChange::Resume).await;
    let second = bench.finish_next().await;
    assert_eq!(bench.rows(id)[1], (60, fired(second.0, Fire::Buffered)));
}

#[tokio::test]
async fn failures_in_a_row_pause_it_and_leave_a_persons_pause_alone() {
    let mut bench = Bench::new(2).await;
    let policy = Policy { pause_after_failures: Some(2), ..Policy::default() };
    let id = bench.add("hourly", "0 * * * *", policy).await;
    for (hour, verdict) in [(0, FAILED), (1, Verdict::Completed), (2, FAILED)] {
        bench.turn_to(60 * hour).await;
        let (task, attempt) = bench.start_next().await;
        bench.end(task, attempt, verdict).await;
        assert_eq!(bench.of(id).paused, None);
        bench.restart_with(&[]).await;
    }
    bench.turn_to(180).await;
    let (task, attempt) = bench.start_next().await;
    let by_hand = bench.pause(id).await.paused;
    bench.end(task, attempt, FAILED).await;
    assert_eq!(bench.of(id).paused, by_hand);
    bench.change(id, ScheduleChange::Resume).await;
    assert_eq!(bench.of(id).failures, 0);
    for hour in [4, 5] {
        bench.turn_to(60 * hour).await;
        let (task, attempt) = bench.start_next().await;
        bench.end(task, attempt, FAILED).await;
    }
    let paused = bench.of(id).paused.unwrap();
    assert_eq!((paused.by.as_str(), paused.since), ("", minute(300)));
    assert!(paused.note.starts_with("2 runs in a row failed"), "{}", paused.note);
    bench.turn_to(360).await;
    bench.nothing_starts().await;
}

#[tokio::test]
async fn one_fire_is_passed_over_when_somebody_says_so() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", Policy::default()).await;
    bench.change(id, ScheduleChange::SkipNext { by: "bob".to_owned() }).await;
    bench.restart_with(&[]).await;
    bench.turn_to(0).await;
    bench.nothing_starts().await;
    bench.turn_to(60).await;
    let task = bench.finish_next().await;
    let passed_over = Outcome::PassedOver { by: "bob".to_owned() };
    assert_eq!(bench.rows(id), [(0, passed_over), (60, fired(task.0, Fire::OnTime))]);
    assert_eq!(bench.of(id).skip, None);
}

#[tokio::test]
async fn fires_by_hand_at_one_instant_each_have_their_row() {
    let bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::Allow)).await;
    // A minute at which it fires by plan too: neither takes the other's place.
    bench.clock.set(minute(0));
    let engine = &bench.engine;
    let (a, b, c) = tokio::join!(engine.trigger(id), engine.trigger(id), engine.trigger(id));
    let mut made: Vec<u64> = [a, b, c].map(|it| it.unwrap().unwrap().id.0).to_vec();
    bench.settle().await;
    let rows = bench.rows(id);
    let manual = |how: Fire| {
        let of = rows.iter().filter_map(move |(_, outcome)| match outcome {
            Outcome::Fired { task, how: so } if *so == how => Some(task.0),
            Outcome::Fired { .. }
            | Outcome::Skipped { .. }
            | Outcome::Missed { .. }
            | Outcome::Refused { .. }
            | Outcome::Paused { .. }
            | Outcome::Buffered { .. }
            | Outcome::PassedOver { .. }
            | Outcome::ToBackfill => None,
        });
        of.collect::<Vec<_>>()
    };
    made.sort_unstable();
    assert_eq!(manual(Fire::Manual), made);
    assert_eq!(manual(Fire::OnTime).len(), 1, "{rows:?}");
}

/// What is asked of one schedule in one group is durable in the order it was asked.
#[tokio::test]
async fn a_pause_right_behind_a_fire_by_hand_is_kept() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::Allow)).await;
    let gone = bench.add("other", "0 * * * *", overlaps(Overlap::Allow)).await;
    for _ in 0..20 {
        let pause = ScheduleChange::Pause { by: "ann".to_owned(), note: String::new() };
        let engine = &bench.engine;
        let (fired, paused) = tokio::join!(engine.trigger(id), engine.change_schedule(id, pause));
        fired.unwrap().unwrap();
        paused.unwrap().unwrap();
        bench.advance(Span(1)).await;
        bench.restart_with(&[]).await;
        assert!(bench.of(id).paused.is_some());
        bench.change(id, ScheduleChange::Resume).await;
    }
    let engine = &bench.engine;
    let end = engine.change_schedule(gone, ScheduleChange::End);
    let (fired, ended) = tokio::join!(engine.trigger(gone), end);
    fired.unwrap().unwrap();
    ended.unwrap().unwrap();
    bench.restart_with(&[]).await;
    assert!(!bench.of(gone).is_active());
    assert!(bench.try_add("other", rule("0 * * * *"), Policy::default()).await.unwrap().created);
}
