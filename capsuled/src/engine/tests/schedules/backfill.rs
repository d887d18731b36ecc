//! Fires that are asked for after their time.

use capsule_core::attempt::Verdict;
use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::TickRef;
use capsule_core::time::{Span, Timestamp};

use super::super::super::{AskedBackfill, Backfilled, ScheduleChange, ScheduleError};
use super::super::ticks::{Row, fired};
use super::super::{Bench, FAILED};
use super::{minute, overlaps, rule};
use crate::clock::Clock as _;
use crate::engine::ticks::DROPPED;
use crate::schedule::{
    BUFFER_MAX, CATCH_UP_MAX, CatchUp, Fire, Outcome, Overlap, Policy, Schedule, TICKS_KEPT,
};

fn backfilled(task: TaskId) -> Outcome {
    fired(task.0, Fire::Backfilled)
}

fn missed(until: i64, count: u32) -> Outcome {
    Outcome::Missed { until: minute(until), count }
}

impl Bench {
    /// Asks for the fires between two minutes.
    async fn ask_backfill(
        &self,
        id: ScheduleId,
        from: i64,
        until: i64,
    ) -> Result<Backfilled, ScheduleError> {
        let (from, until) = (minute(from), minute(until));
        let asked = AskedBackfill { id, from, until, dry_run: false };
        let answer = self.engine.backfill(asked).await.unwrap();
        self.settle().await;
        answer
    }

    async fn backfill(&self, id: ScheduleId, from: i64, until: i64) -> Backfilled {
        self.ask_backfill(id, from, until).await.unwrap()
    }

    /// An hourly schedule that has missed minutes 0 to 300, at minute 315.
    async fn missed(&mut self, policy: Policy) -> ScheduleId {
        let policy = Policy { catch_up: CatchUp::Skip, ..policy };
        let id = self.add("hourly", "0 * * * *", policy).await;
        self.clock.set(minute(315));
        self.restart_with(&[]).await;
        assert_eq!(self.rows(id), [(0, missed(300, 6))]);
        id
    }

    /// Every planned fire since it is there has a row, and nothing is between the rows.
    fn has_no_gap(&self, id: ScheduleId) {
        let it = self.of(id);
        let rows = self.engine.ticks(id, 5000).unwrap();
        let mut next = it.planned_after(it.created);
        while let Some(at) = next.filter(|at| *at <= self.clock.now()) {
            let covers = rows.iter().filter(|row| {
                let until = row.tick.outcome.until().unwrap_or(row.key.planned);
                (row.key.planned..=until).contains(&at)
            });
            assert_eq!(covers.count(), 1, "{at:?}: {rows:#?}");
            next = it.planned_after(at);
        }
    }
}

#[tokio::test]
async fn part_of_a_missed_range_runs_one_after_another_once_over_restarts() {
    let mut bench = Bench::new(4).await;
    let id = bench.missed(overlaps(Overlap::Skip)).await;
    let before = bench.of(id);
    // The first tick of the range is the key of its row.
    let asked = bench.backfill(id, -10, 130).await;
    assert_eq!(asked.found.fires, [minute(0), minute(60), minute(120)]);
    assert_eq!((asked.started, asked.schedule.backfill), (1, 2));
    let (first, attempt) = bench.start_next().await;
    let tick = Some(TickRef { schedule: id, planned: minute(0) });
    assert_eq!(bench.task(first).spec.tick, tick);
    let rows = |one, two, three| -> [Row; 4] {
        [(0, one), (60, two), (120, three), (180, missed(300, 3))]
    };
    let waits = Outcome::ToBackfill;
    assert_eq!(bench.rows(id), rows(backfilled(first), waits.clone(), waits.clone()));
    bench.has_no_gap(id);
    bench.nothing_starts().await;
    bench.restart_with(&[(first, attempt, false)]).await;
    bench.nothing_starts().await;
    let again = bench.backfill(id, -10, 130).await;
    assert_eq!((again.found.fired, again.found.waiting, again.found.fires.len()), (1, 2, 0));
    bench.end_but_linger(first, attempt).await;
    bench.nothing_starts().await;
    bench.restart_with(&[(first, attempt, true)]).await;
    bench.engine.gone(first, attempt).unwrap();
    let (second, attempt) = bench.start_next().await;
    assert_eq!(bench.rows(id), rows(backfilled(first), backfilled(second), waits));
    bench.has_no_gap(id);
    bench.end(second, attempt, Verdict::Completed).await;
    let third = bench.finish_next().await;
    let done = rows(backfilled(first), backfilled(second), backfilled(third));
    assert_eq!(bench.rows(id), done);
    bench.restart_with(&[]).await;
    let again = bench.backfill(id, -10, 130).await;
    assert_eq!((again.found.fired, again.found.fires.len(), again.started), (3, 0, 0));
    bench.nothing_starts().await;
    assert_eq!(bench.rows(id), done);
    bench.has_no_gap(id);
    let after = bench.of(id);
    assert_eq!((after.next, after.fires, after.backfill), (before.next, 0, 0));
    assert_eq!(after.last.unwrap().planned, minute(180), "the rest of what was missed");
}

#[tokio::test]
async fn a_hole_in_a_missed_range_leaves_what_is_on_both_sides() {
    let mut bench = Bench::new(4).await;
    let id = bench.missed(overlaps(Overlap::Allow)).await;
    let asked = bench.backfill(id, 120, 180).await;
    assert_eq!(asked.started, 2);
    let (two, three) = (bench.start_next().await.0, bench.start_next().await.0);
    let rows = [
        (0, missed(60, 2)),
        (120, backfilled(two)),
        (180, backfilled(three)),
        (240, missed(300, 2)),
    ];
    assert_eq!(bench.rows(id), rows);
    bench.has_no_gap(id);
    let rest = bench.backfill(id, 0, 300).await;
    assert_eq!((rest.started, rest.found.fired), (4, 2));
    bench.has_no_gap(id);
    assert!(bench.rows(id).iter().all(|(_, outcome)| outcome.made().is_some()));
}

#[tokio::test]
async fn the_same_asked_twice_at_once_is_done_once() {
    let mut bench = Bench::new(1).await;
    for overlap in [Overlap::Allow, Overlap::Skip] {
        let id = bench.add(&overlap.to_string(), "0 * * * *", overlaps(overlap)).await;
        let (from, until) = (minute(-6000), minute(-5000));
        let asked = AskedBackfill { id, from, until, dry_run: false };
        let dry = AskedBackfill { dry_run: true, ..asked };
        let looked = bench.engine.backfill(dry).await.unwrap().unwrap();
        assert_eq!((looked.found.fires.len(), bench.rows(id).len()), (17, 0));
        let (one, two) = tokio::join!(bench.engine.backfill(asked), bench.engine.backfill(asked));
        let counts = [one, two].map(|it| it.unwrap().unwrap().found.fires.len());
        assert_eq!(counts.iter().sum::<usize>(), 17, "{counts:?}");
        assert_eq!(bench.rows(id).len(), 17);
    }
    bench.restart_with(&[]).await;
    assert_eq!(bench.engine.book().entries.len(), 17 + 1);
}

#[tokio::test]
async fn more_than_there_is_room_for_is_refused_whole() {
    let bench = Bench::new(1).await;
    let skip = bench.add("skip", "* * * * *", overlaps(Overlap::Skip)).await;
    let allow = bench.add("allow", "* * * * *", overlaps(Overlap::Allow)).await;
    for (id, room) in [(skip, BUFFER_MAX), (allow, CATCH_UP_MAX as usize)] {
        let room_of = i64::try_from(room).unwrap();
        let refused = bench.ask_backfill(id, -5000, -5000 + room_of).await.unwrap_err();
        let last = Some(minute(-5000 + room_of - 1));
        let (from, count) = (minute(-5000), room + 1);
        assert_eq!(refused, ScheduleError::NoRoom { id, from, count, room, last });
        assert!(bench.rows(id).is_empty());
        let taken = bench.backfill(id, -5000, -5000 + room_of - 1).await;
        assert_eq!(taken.found.fires.len(), room);
        assert_eq!(bench.rows(id).len(), room);
    }
    // One has its task, and makes room for another.
    bench.backfill(skip, -3000, -3000).await;
    let refused = bench.ask_backfill(skip, -2000, -2000).await.unwrap_err();
    assert!(matches!(refused, ScheduleError::NoRoom { room: 0, last: None, .. }), "{refused:?}");
    assert_eq!(bench.of(allow).fires, 0);
}

#[tokio::test]
async fn a_paused_schedule_is_backfilled_until_it_is_paused_again() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", overlaps(Overlap::Skip)).await;
    bench.pause(id).await;
    bench.turn_to(250).await;
    let asked = bench.backfill(id, 60, 240).await;
    assert_eq!((asked.found.fires.len(), asked.started), (4, 1));
    let paused = Outcome::Paused { until: minute(0), count: 1 };
    assert_eq!(bench.rows(id)[0], (0, paused));
    bench.has_no_gap(id);
    bench.finish_next().await;
    let (second, attempt) = bench.start_next().await;
    bench.pause(id).await;
    bench.end(second, attempt, Verdict::Completed).await;
    bench.restart_with(&[]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.of(id).backfill, 2);
    bench.change(id, ScheduleChange::Resume).await;
    bench.finish_next().await;
    bench.finish_next().await;
    bench.nothing_starts().await;
    bench.has_no_gap(id);
}

#[tokio::test]
async fn failures_in_a_row_stop_a_backfill() {
    let mut bench = Bench::new(2).await;
    let policy = Policy { pause_after_failures: Some(2), ..Policy::default() };
    let id = bench.missed(policy).await;
    bench.pause(id).await;
    let by_hand = bench.of(id).paused.unwrap().note;
    bench.backfill(id, 0, 300).await;
    for _ in 0..2 {
        let (task, attempt) = bench.start_next().await;
        bench.end(task, attempt, FAILED).await;
    }
    bench.nothing_starts().await;
    let it = bench.of(id);
    assert_eq!((it.backfill, it.paused.unwrap().note), (4, by_hand));
}

#[tokio::test]
async fn a_fire_by_plan_is_not_lost_to_a_backfill_and_goes_before_it() {
    let mut bench = Bench::new(2).await;
    let id = bench.missed(overlaps(Overlap::Skip)).await;
    bench.backfill(id, 0, 120).await;
    let (first, attempt) = bench.start_next().await;
    bench.turn_to(360).await;
    assert_eq!(bench.of(id).buffered, [minute(360)]);
    bench.end(first, attempt, Verdict::Completed).await;
    let planned = bench.finish_next().await;
    assert_eq!(bench.task(planned).spec.tick.unwrap().planned, minute(360));
    let second = bench.finish_next().await;
    assert_eq!(bench.task(second).spec.tick.unwrap().planned, minute(60));
    bench.finish_next().await;
    bench.has_no_gap(id);
    assert_eq!((bench.of(id).fires, bench.of(id).last.unwrap().planned), (1, minute(360)));
}

#[tokio::test]
async fn what_waits_ends_with_its_rule() {
    let mut bench = Bench::new(2).await;
    let id = bench.missed(overlaps(Overlap::Skip)).await;
    bench.backfill(id, 0, 60).await;
    let (first, attempt) = bench.start_next().await;
    bench.add("hourly", "30 * * * *", overlaps(Overlap::Skip)).await;
    let dropped = Outcome::Refused { why: DROPPED.to_owned() };
    assert_eq!(bench.rows(id)[1], (60, dropped));
    bench.end(first, attempt, Verdict::Completed).await;
    bench.nothing_starts().await;
    // The new rule plans other instants of that time.
    bench.backfill(id, 0, 60).await;
    let task = bench.finish_next().await;
    assert_eq!(bench.task(task).spec.tick.unwrap().planned, minute(30));
    bench.backfill(id, 90, 90).await;
    bench.change(id, ScheduleChange::End).await;
    let asked = bench.ask_backfill(id, 0, 60).await;
    assert_eq!(asked, Err(ScheduleError::Ended(id)));
}

#[tokio::test]
async fn what_was_backfilled_is_remembered_when_its_rows_are_gone() {
    let mut bench = Bench::new(1).await;
    let id = bench.add("minutely", "* * * * *", overlaps(Overlap::Allow)).await;
    bench.backfill(id, -900, -100).await;
    bench.backfill(id, -1900, -1100).await;
    assert_eq!(bench.rows(id).len(), 1000);
    bench.restart_with(&[]).await;
    let again = bench.backfill(id, -1900, -1100).await.found;
    assert_eq!((again.fires.len(), again.fired + again.forgotten), (0, 801));
    assert!(again.forgotten > 0, "{again:?}");
    // A time without the daemon is one row, however old.
    bench.clock.advance(Span(TICKS_KEPT.0 * 4));
    bench.settle().await;
    let now = bench.clock.now();
    let from = Timestamp(now.0 - 3_600_000_000 * 24 * 300);
    let until = Timestamp(from.0 + 3_600_000_000);
    let asked = AskedBackfill { id, from, until, dry_run: true };
    let found = bench.engine.backfill(asked).await.unwrap().unwrap().found;
    assert!(found.fires.len() >= 60 && found.forgotten == 0, "{found:?}");
}

/// Records from before there were backfills.
#[test]
fn a_schedule_without_the_newer_fields_is_read() {
    let it = Schedule::new(ScheduleId(7), rule("0 * * * *"), minute(0));
    let bytes = minicbor::to_vec(&it).unwrap();
    let mut read = minicbor::Decoder::new(&bytes);
    let fields = read.map().unwrap().unwrap();
    let mut old = Vec::new();
    let mut kept = 0;
    for _ in 0..fields {
        let start = read.position();
        let number = read.u32().unwrap();
        read.skip().unwrap();
        if number < 22 {
            kept += 1;
            old.extend_from_slice(&bytes[start..read.position()]);
        }
    }
    let mut record = minicbor::Encoder::new(Vec::new());
    record.map(kept).unwrap();
    let record = [record.into_writer(), old].concat();
    assert!(record.len() < bytes.len());
    assert_eq!(minicbor::decode::<Schedule>(&record).unwrap(), it);
}
