//! Schedules under the turned clock: each planned fire once, over overlaps, restarts and clocks.

use capsule_core::attempt::Verdict;
use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::{LockPolicy, TaskSpec, TickRef};
use capsule_core::task::Status;
use capsule_core::time::{Span, Timestamp};

use super::super::{NewRecurrence, ScheduleChange, ScheduleError, SubmitError};
use super::{Bench, START, locked, spec};
use crate::apps::{Revision, parse};
use crate::clock::Clock as _;
use crate::schedule::{Fire, LastTick, Outcome, Schedule, TICKS_KEPT};

pub(super) const MINUTE: Span = Span::from_secs(60);
pub(super) const HOUR: Span = Span::from_secs(3600);

/// A fire in the way that tests compare it: when, in minutes after the first full hour, and what.
pub(super) type Row = (i64, Outcome);

/// The first full hour after the start.
pub(super) fn full_hour() -> Timestamp {
    let hour = 3_600_000_000;
    Timestamp((START.0 / hour + 1) * hour)
}

pub(super) fn revision(schedules: &[(&str, &str)]) -> Revision {
    let schedules: Vec<_> = schedules
        .iter()
        .map(|(name, cron)| serde_json::json!({"name": name, "cron": cron}))
        .collect();
    let manifest = serde_json::json!({
        "format": 1, "kind": "python", "app": "leads", "schedules": schedules,
    });
    let manifest = manifest.to_string();
    let parsed = parse(&manifest).unwrap();
    Revision {
        number: 0,
        deployed: START,
        by: "ann".to_owned(),
        uid: 1000,
        dir: "/srv".to_owned(),
        manifest,
        python: parsed.python,
        definitions: parsed.definitions,
        schedules: parsed.schedules,
    }
}

impl Bench {
    pub(super) async fn deploy(&self, schedules: &[(&str, &str)]) -> u32 {
        self.engine.deploy("leads".to_owned(), revision(schedules)).await.unwrap()
    }

    pub(super) fn handler(&self, name: &str) -> Schedule {
        self.engine.book().schedules.named("leads", name).cloned().unwrap()
    }

    /// What became of its fires, oldest first.
    pub(super) fn rows(&self, id: ScheduleId) -> Vec<Row> {
        let mut rows = self.engine.ticks(id, 5000).unwrap();
        rows.reverse();
        let minutes = |at: Timestamp| (at.0 - full_hour().0) / 60_000_000;
        rows.into_iter().map(|row| (minutes(row.key.planned), row.tick.outcome)).collect()
    }

    /// Turns the clock to so many minutes after the first full hour.
    pub(super) async fn turn_to(&self, minutes: i64) {
        self.clock.set(Timestamp(full_hour().0 + minutes * 60_000_000));
        self.settle().await;
    }

    pub(super) async fn finish_next(&mut self) -> TaskId {
        let (id, attempt) = self.start_next().await;
        self.end(id, attempt, Verdict::Completed).await;
        id
    }
}

pub(super) fn fired(task: u64, how: Fire) -> Outcome {
    Outcome::Fired { task: TaskId(task), how }
}

#[tokio::test]
async fn an_hourly_schedule_fires_once_an_hour_also_over_restarts() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *")]).await;
    let id = bench.handler("hourly").id;
    assert_eq!(bench.handler("hourly").next, Some(full_hour()));
    bench.turn_to(-1).await;
    bench.nothing_starts().await;
    for hour in 0..3 {
        bench.turn_to(60 * hour).await;
        let task = bench.finish_next().await;
        let planned = full_hour().plus(Span(HOUR.0 * u64::try_from(hour).unwrap()));
        let tick = bench.task(task).spec.tick;
        assert_eq!(tick, Some(TickRef { schedule: id, planned }));
        bench.restart().await;
        bench.connect(Vec::new()).await;
        bench.nothing_starts().await;
    }
    assert_eq!(bench.task(TaskId(2)).spec.owner, "ann");
    let on_time = |task| fired(task, Fire::OnTime);
    assert_eq!(bench.rows(id), [(0, on_time(2)), (60, on_time(3)), (120, on_time(4))]);
    assert_eq!(bench.handler("hourly").former, Some(TaskId(4)));
}

#[tokio::test]
async fn a_fire_is_skipped_while_the_one_before_runs() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *")]).await;
    let id = bench.handler("hourly").id;
    bench.turn_to(0).await;
    let (task, attempt) = bench.start_next().await;
    bench.turn_to(60).await;
    bench.nothing_starts().await;
    assert_eq!(bench.engine.trigger(id).await.unwrap(), Err(ScheduleError::Overlap(task)));
    bench.end(task, attempt, Verdict::Completed).await;
    bench.turn_to(120).await;
    let next = bench.finish_next().await;
    let skipped = Outcome::Skipped { task };
    let on_time = |task: TaskId| fired(task.0, Fire::OnTime);
    assert_eq!(bench.rows(id), [(0, on_time(task)), (60, skipped), (120, on_time(next))]);
}

#[tokio::test]
async fn the_latest_missed_fire_is_caught_up_and_older_ones_are_noted() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *"), ("yearly", "0 0 1 1 *")]).await;
    let (hourly, yearly) = (bench.handler("hourly").id, bench.handler("yearly").clone());
    bench.clock.set(Timestamp(full_hour().0 + 190 * 60_000_000));
    bench.restart().await;
    bench.connect(Vec::new()).await;
    let task = bench.finish_next().await;
    let missed = Outcome::Missed { until: full_hour().plus(HOUR).plus(HOUR), count: 3 };
    let caught_up = fired(task.0, Fire::CaughtUp);
    assert_eq!(bench.rows(hourly), [(0, missed), (180, caught_up)]);
    assert_eq!(bench.rows(yearly.id), []);
    let new_year = yearly.next.unwrap();
    bench.clock.set(new_year.plus(Span::from_secs(86_401)));
    bench.settle().await;
    let outcome = bench.handler("yearly").last.unwrap().outcome;
    assert_eq!(outcome, Outcome::Missed { until: new_year, count: 1 });
}

#[tokio::test]
async fn a_clock_that_is_set_back_fires_nothing_twice() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *")]).await;
    let id = bench.handler("hourly").id;
    bench.turn_to(61).await;
    bench.finish_next().await;
    let before = bench.rows(id);
    bench.turn_to(-30).await;
    bench.restart().await;
    bench.connect(Vec::new()).await;
    bench.turn_to(61).await;
    bench.nothing_starts().await;
    assert_eq!(bench.rows(id), before);
    bench.turn_to(-30).await;
    bench.engine.trigger(id).await.unwrap().unwrap();
    // Another rule that plans the same instants begins after those that had their tick.
    bench.deploy(&[("hourly", "0 0-23 * * *")]).await;
    assert_eq!(bench.handler("hourly").next, Some(full_hour().plus(HOUR).plus(HOUR)));
}

#[tokio::test]
async fn a_deploy_keeps_an_unchanged_schedule_and_counts_up_a_changed_one() {
    let bench = Bench::new(2).await;
    let first = bench.deploy(&[("a", "0 * * * *"), ("b", "@daily")]).await;
    let (a, b) = (bench.handler("a"), bench.handler("b"));
    bench.deploy(&[("a", "0 * * * *"), ("b", "30 * * * *")]).await;
    assert_eq!(bench.handler("a"), a);
    let changed = bench.handler("b");
    assert_eq!((changed.id, changed.generation), (b.id, 2));
    assert_eq!(changed.next, Some(Timestamp(full_hour().0 - 30 * 60_000_000)));
    bench.deploy(&[("b", "30 * * * *")]).await;
    assert!(!bench.handler("a").is_active());
    bench.engine.rollback("leads".to_owned(), first).await.unwrap();
    let (again, b) = (bench.handler("a"), bench.handler("b"));
    assert_eq!((again.id, again.generation, again.is_active()), (a.id, 2, true));
    assert_eq!((b.generation, b.rule.to_string()), (3, "@daily".to_owned()));
    bench.engine.remove_app("leads".to_owned()).await.unwrap();
    assert!(!bench.handler("a").is_active() && !bench.handler("b").is_active());
    assert_eq!(bench.engine.trigger(a.id).await.unwrap(), Err(ScheduleError::Ended(a.id)));
}

#[tokio::test]
async fn a_start_registers_what_a_torn_deploy_left_out() {
    use crate::store::{Batch, Change, Table};
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("a", "@daily"), ("b", "@daily")]).await;
    let (a, b) = (bench.handler("a"), bench.handler("b"));
    let torn = Change::delete(Table::Schedule, b.id.0.to_be_bytes());
    let high_water = bench.store.high_water();
    bench.store.commit(&Batch { changes: vec![torn], high_water }).unwrap();
    bench.restart().await;
    bench.settle().await;
    assert_eq!(bench.handler("a"), a);
    assert_eq!(bench.handler("b").next, b.next);
}

#[tokio::test]
async fn a_fire_by_hand_is_noted_and_changes_no_plan() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("daily", "@daily")]).await;
    let before = bench.handler("daily");
    let task = bench.engine.trigger(before.id).await.unwrap().unwrap();
    assert_eq!(bench.finish_next().await, task.id);
    let after = bench.handler("daily");
    assert_eq!(after.next, before.next);
    let outcome = bench.engine.ticks(before.id, 1).unwrap().pop().unwrap().tick.outcome;
    assert_eq!(outcome, fired(task.id.0, Fire::Manual));
    let nobody = ScheduleId(99);
    assert_eq!(bench.engine.trigger(nobody).await.unwrap(), Err(ScheduleError::Unknown(nobody)));
}

#[tokio::test]
async fn a_recurrence_submits_an_ordinary_task_each_time_until_it_ends() {
    let mut bench = Bench::new(2).await;
    let every = Span::from_secs(90);
    let payload = vec![7; 5000];
    let new = NewRecurrence {
        spec: TaskSpec { key: Some("k".to_owned()), ..locked("a", LockPolicy::Merge) },
        payload: payload.clone(),
        every,
        first: None,
    };
    let made = bench.engine.recur(new.clone()).await.unwrap().unwrap();
    let id = made.schedule.id;
    assert_eq!((id, made.created), (ScheduleId(1), true));
    assert_eq!(made.schedule.next, Some(START.plus(every)));
    let again = bench.engine.recur(new.clone()).await.unwrap().unwrap();
    assert_eq!((again.schedule.id, again.created), (id, false));
    bench.advance(Span(89_999)).await;
    bench.nothing_starts().await;
    bench.advance(Span(1)).await;
    let task = bench.finish_next().await;
    assert_eq!(task, TaskId(2));
    let stored = bench.task(task);
    assert_eq!(stored.spec.tick.map(|tick| tick.schedule), Some(id));
    assert_eq!(stored.spec.key, None);
    let kind = crate::store::SideKind::Payload;
    assert_eq!(bench.engine.side(kind, task).unwrap(), Some(payload));
    bench.restart().await;
    bench.connect(Vec::new()).await;
    bench.advance(every).await;
    let (second, attempt) = bench.start_next().await;
    let ended = bench.engine.change_schedule(id, ScheduleChange::End).await.unwrap().unwrap();
    assert_eq!((ended.next, ended.ended), (None, Some(bench.clock.now())));
    let twice = bench.engine.change_schedule(id, ScheduleChange::End).await.unwrap();
    assert_eq!(twice, Err(ScheduleError::Ended(id)));
    bench.end(second, attempt, Verdict::Completed).await;
    assert_eq!(bench.status(second), Status::Completed);
    bench.advance(HOUR).await;
    bench.nothing_starts().await;
    let bad = NewRecurrence { spec: spec("no name"), ..new };
    assert!(matches!(bench.engine.recur(bad).await.unwrap(), Err(SubmitError::Spec(_))));
}

#[tokio::test]
async fn a_recurrence_starts_when_it_is_told_to_and_ends_with_its_app() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *")]).await;
    let hourly = bench.handler("hourly");
    let refused = bench.engine.change_schedule(hourly.id, ScheduleChange::End).await.unwrap();
    let (name, app) = ("hourly".to_owned(), "leads".to_owned());
    assert_eq!(refused, Err(ScheduleError::OfApp { name, app: app.clone() }));
    let first = Some(START.plus(Span::from_secs(5)));
    let task = TaskSpec { app: app.clone(), name: "hourly".to_owned(), ..spec("x") };
    let new = NewRecurrence { spec: task, payload: Vec::new(), every: MINUTE, first };
    let id = bench.engine.recur(new).await.unwrap().unwrap().schedule.id;
    bench.advance(Span::from_secs(5)).await;
    bench.finish_next().await;
    assert_eq!(bench.engine.schedule(id).unwrap().next, first.map(|at| at.plus(MINUTE)));
    bench.engine.remove_app(app).await.unwrap();
    assert!(!bench.engine.schedule(id).unwrap().is_active());
    bench.advance(MINUTE).await;
    bench.nothing_starts().await;
    // What is kept of it goes in time, and its id is not given again.
    bench.advance(TICKS_KEPT).await;
    assert_eq!(bench.engine.schedule(id), None);
    assert_eq!(bench.engine.ticks(id, 10).unwrap(), []);
    bench.restart().await;
    assert!(bench.created(spec("b")).await.0 > id.0);
}

#[tokio::test]
async fn only_the_last_thousand_ticks_are_kept() {
    let mut bench = Bench::new(1).await;
    let new = NewRecurrence {
        spec: spec("a"),
        payload: Vec::new(),
        every: Span::from_secs(1),
        first: None,
    };
    let id = bench.engine.recur(new).await.unwrap().unwrap().schedule.id;
    bench.advance(Span::from_secs(1)).await;
    bench.start_next().await;
    for _ in 0..1010 {
        bench.clock.advance(Span::from_secs(1));
        bench.engine.drain(false).await.unwrap();
    }
    let rows = bench.engine.ticks(id, 5000).unwrap();
    assert_eq!(rows.len(), 1000);
    bench.restart().await;
    bench.advance(Span::from_secs(1)).await;
    assert_eq!(bench.engine.ticks(id, 5000).unwrap().len(), 1000);
}

#[tokio::test]
async fn ten_thousand_schedules_wait_in_one_line() {
    let bench = Bench::new(1).await;
    let many: Vec<(String, String)> = (0..10_000_u32)
        .map(|number| (format!("s{number}"), format!("{} {} * * *", number % 60, number / 60 % 24)))
        .collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, cron)| (name.as_str(), cron.as_str())).collect();
    let parsed = parse(&revision(&many).manifest).unwrap().python.unwrap();
    bench.engine.deploy("leads".to_owned(), revision(&many)).await.unwrap();
    assert_eq!(parsed.schedules.len(), 10_000);
    let next = bench.engine.book().schedules.next_alarm().unwrap().0;
    bench.clock.set(next);
    bench.settle().await;
    let due = bench.engine.book().schedules.iter().filter(|it| it.next == Some(next)).count();
    assert_eq!(due, 0);
}

/// The store refuses a record that is too long, so the largest recurrence must pass.
#[tokio::test]
async fn the_largest_recurrence_fits_its_record() {
    use capsule_core::spec::*;
    let bench = Bench::new(1).await;
    let text = |length: usize| "x".repeat(length);
    let rest = TEXTS_MAX - LABELS_MAX - NAME_MAX - 3;
    let task = TaskSpec {
        app: text(rest),
        name: text(NAME_MAX),
        labels: [("k".to_owned(), text(LABELS_MAX - 1))].into(),
        queue: text(1),
        owner: text(1),
        display_name: text(1),
        retries: RETRIES_MAX,
        no_retry_exit_codes: vec![i32::MIN; EXIT_CODES_MAX],
        no_retry_on: vec![FailureClass::Memory; CLASSES_MAX],
        summary: text(SUMMARY_MAX),
        ..spec("x")
    };
    let payload = vec![0xff; INLINE_PAYLOAD_MAX];
    let every = Span::from_secs(1);
    let new = NewRecurrence { spec: task, payload, every, first: None };
    let id = bench.engine.recur(new).await.unwrap().unwrap().schedule.id;
    bench.advance(every).await;
    let largest = Schedule {
        last: Some(LastTick {
            planned: Timestamp(i64::MAX),
            outcome: Outcome::Refused { why: text(200) },
        }),
        ..bench.engine.schedule(id).unwrap()
    };
    let bytes = minicbor::to_vec(&largest).unwrap().len();
    assert!(bytes < RECORD_MAX, "{bytes} bytes");
}
