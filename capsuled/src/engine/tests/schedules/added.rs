//! Schedules that are added again, changed and taken away.

use capsule_core::attempt::Verdict;
use capsule_core::id::ScheduleId;
use capsule_core::spec::TaskSpec;

use super::super::super::{NewSchedule, ScheduleChange, ScheduleError};
use super::super::ticks::fired;
use super::super::{Bench, START, spec};
use super::{minute, overlaps, rule};
use crate::schedule::{Fire, Outcome, Overlap, Policy, Schedule, Template};

#[tokio::test]
async fn the_same_again_changes_nothing_and_another_rule_begins_now() {
    let mut bench = Bench::new(2).await;
    let buffer = overlaps(Overlap::BufferOne);
    let id = bench.add("hourly", "0 * * * *", buffer.clone()).await;
    bench.turn_to(0).await;
    let (first, attempt) = bench.start_next().await;
    bench.turn_to(60).await;
    let before = bench.of(id);
    let again = bench.try_add("hourly", rule("0 * * * *"), buffer.clone()).await.unwrap();
    assert_eq!((again.created, &again.schedule), (false, &before));
    let changed = bench.try_add("hourly", rule("*/10 * * * *"), buffer).await.unwrap();
    let it = changed.schedule;
    assert_eq!((changed.created, it.id, it.generation), (false, id, 2));
    assert_eq!((it.next, it.buffered.len(), it.fires), (Some(minute(70)), 0, 0));
    let rows = bench.rows(id);
    let skipped = Outcome::Skipped { task: first };
    assert_eq!(rows, [(0, fired(first.0, Fire::OnTime)), (60, skipped)], "history stays");
    bench.end(first, attempt, Verdict::Completed).await;
    bench.nothing_starts().await;
}

#[tokio::test]
async fn a_change_decides_what_was_due_and_a_pause_stays() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", Policy::default()).await;
    bench.pause(id).await;
    bench.turn_to(130).await;
    let policy = Policy { limit: Some(3), ..Policy::default() };
    bench.add("hourly", "0 * * * *", policy.clone()).await;
    let passed = |until, count| Outcome::Paused { until: minute(until), count };
    assert_eq!(bench.rows(id), [(0, passed(120, 3))]);
    bench.turn_to(250).await;
    bench.add("hourly", "30 * * * *", policy).await;
    let it = bench.of(id);
    assert!(it.paused.is_some() && it.next == Some(minute(270)));
    bench.turn_to(290).await;
    bench.change(id, ScheduleChange::Resume).await;
    let rows = [(0, passed(120, 3)), (180, passed(240, 2)), (270, passed(270, 1))];
    assert_eq!(bench.rows(id), rows);
    // What is due right now fires by the rule before.
    bench.clock.set(minute(330));
    bench.add("hourly", "45 * * * *", Policy::default()).await;
    let task = bench.finish_next().await;
    assert_eq!(bench.rows(id).last(), Some(&(330, fired(task.0, Fire::OnTime))));
    assert_eq!(bench.of(id).next, Some(minute(345)));
}

#[tokio::test]
async fn one_that_was_removed_begins_anew_and_meets_none_of_its_old_ticks() {
    let mut bench = Bench::new(2).await;
    let id = bench.add("hourly", "0 * * * *", Policy::default()).await;
    bench.turn_to(0).await;
    let task = bench.finish_next().await;
    bench.pause(id).await;
    bench.turn_to(70).await;
    bench.change(id, ScheduleChange::End).await;
    let rows =
        [(0, fired(task.0, Fire::OnTime)), (60, Outcome::Paused { until: minute(60), count: 1 })];
    assert_eq!(bench.rows(id), rows);
    // Even when the clock is set back before them.
    bench.turn_to(-20).await;
    let again = bench.try_add("hourly", rule("0 * * * *"), Policy::default()).await.unwrap();
    assert_eq!((again.created, again.schedule.id, again.schedule.generation), (true, id, 2));
    assert_eq!((again.schedule.paused, again.schedule.next), (None, Some(minute(120))));
    bench.turn_to(70).await;
    bench.nothing_starts().await;
    bench.turn_to(120).await;
    bench.finish_next().await;
    assert_eq!(bench.rows(id).len(), 3);
}

#[tokio::test]
async fn a_name_of_an_apps_code_is_not_taken() {
    let bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *")]).await;
    let new = NewSchedule {
        title: "hourly".to_owned(),
        spec: TaskSpec { app: "leads".to_owned(), ..spec("hourly") },
        payload: Vec::new(),
        rule: rule("@daily"),
        policy: Policy::default(),
    };
    let refused = bench.engine.add_schedule(new).await.unwrap();
    assert!(matches!(refused, Err(ScheduleError::OfApp { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_changed_cron_of_an_app_keeps_history_and_pause() {
    let mut bench = Bench::new(2).await;
    bench.deploy(&[("hourly", "0 * * * *")]).await;
    let id = bench.handler("hourly").id;
    bench.turn_to(0).await;
    let task = bench.finish_next().await;
    bench.pause(id).await;
    bench.turn_to(70).await;
    bench.deploy(&[("hourly", "30 * * * *")]).await;
    let it = bench.handler("hourly");
    assert_eq!((it.id, it.generation, it.next), (id, 2, Some(minute(90))));
    assert!(it.paused.is_some());
    let rows =
        [(0, fired(task.0, Fire::OnTime)), (60, Outcome::Paused { until: minute(60), count: 1 })];
    assert_eq!(bench.rows(id), rows);
}

#[test]
fn a_template_lies_in_its_record_as_the_task_itself_would() {
    let spec = spec("sweep");
    let template = Template::of(&spec);
    assert_eq!(template.spec().unwrap(), spec);
    assert_eq!(minicbor::to_vec(&template).unwrap(), minicbor::to_vec(&spec).unwrap());
    let blank = Schedule::new(ScheduleId(1), rule("0 * * * *"), START);
    let schedule = Schedule { template: Some(template), title: "last".to_owned(), ..blank };
    let bytes = minicbor::to_vec(&schedule).unwrap();
    let read: Schedule = minicbor::decode(&bytes).unwrap();
    assert_eq!(read, schedule);
    assert_eq!(read.submits(), Some(spec));
    assert!(minicbor::decode::<Template>(&[0x01]).is_err(), "a number is no task");
}
