//! Downtime, jitter, bounds, and many at once.

use capsule_core::attempt::Verdict;
use capsule_core::time::Span;

use super::super::super::ScheduleChange;
use super::super::ticks::{fired, full_hour};
use super::super::{Bench, START};
use super::{minute, overlaps, rule};
use crate::apps::{Revision, parse};
use crate::clock::Clock as _;
use crate::schedule::{CatchUp, Fire, Outcome, Overlap, Policy, Rule};

fn catching_up(catch_up: CatchUp) -> Policy {
    Policy { catch_up, ..overlaps(Overlap::Allow) }
}

/// Of the app `seed`, with one task and these schedules of it.
fn manifest(schedules: &str) -> Revision {
    let manifest = format!(
        "[app]\nname = \"seed\"\n\
         [tasks.sweep]\ncommand = [\"/bin/true\"]\n{schedules}"
    );
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

#[tokio::test]
async fn downtime_is_caught_up_as_promised() {
    let mut bench = Bench::new(8).await;
    let all = bench.add("all", "0 * * * *", catching_up(CatchUp::All(3))).await;
    let none = bench.add("none", "0 * * * *", catching_up(CatchUp::Skip)).await;
    let last = bench.add("last", "0 * * * *", catching_up(CatchUp::Latest)).await;
    bench.clock.set(minute(5 * 60 + 15));
    bench.restart_with(&[]).await;
    let missed = |until: i64, count| Outcome::Missed { until: minute(60 * until), count };
    let rows = bench.rows(all);
    assert_eq!(rows.first(), Some(&(0, missed(2, 3))));
    let caught_up =
        |outcome: &Outcome| matches!(outcome, Outcome::Fired { how: Fire::CaughtUp, .. });
    let hours: Vec<i64> = rows.iter().filter(|row| caught_up(&row.1)).map(|row| row.0).collect();
    assert_eq!(hours, [180, 240, 300]);
    assert_eq!(bench.rows(none), [(0, missed(5, 6))]);
    let rows = bench.rows(last);
    assert_eq!((rows.len(), &rows[0], rows[1].0), (2, &(0, missed(4, 5)), 300));
    assert!(caught_up(&rows[1].1));
    for id in [all, none, last] {
        assert_eq!(bench.of(id).next, Some(minute(360)));
    }
}

#[tokio::test]
async fn a_long_downtime_is_caught_up_tick_by_tick() {
    let mut bench = Bench::new(1).await;
    let id = bench.add("all", "* * * * *", catching_up(CatchUp::All(300))).await;
    bench.clock.set(minute(24 * 60));
    bench.restart_with(&[]).await;
    // More than one group carries out.
    while bench.of(id).next.unwrap() <= bench.clock.now() {
        bench.settle().await;
    }
    let rows = bench.rows(id);
    let missed = Outcome::Missed { until: minute(24 * 60 - 300), count: 1000 };
    assert_eq!((rows.len(), &rows[0].1), (301, &missed));
    let fires = rows.iter().skip(1).map(|row| row.0);
    assert!(fires.eq(24 * 60 - 299..=24 * 60), "{rows:?}");
    assert_eq!(bench.engine.book().entries.len(), 300);
}

#[tokio::test]
async fn jitter_comes_later_and_the_same_over_restarts() {
    let mut bench = Bench::new(2).await;
    let policy = Policy { jitter: Span::from_secs(1800), ..Policy::default() };
    let id = bench.add("hourly", "0 * * * *", policy.clone()).await;
    let due = bench.of(id).due_at(full_hour());
    assert!(due > full_hour() && due <= minute(30), "{due:?}");
    bench.clock.set(capsule_core::time::Timestamp(due.0 - 1));
    bench.restart_with(&[]).await;
    bench.nothing_starts().await;
    assert_eq!(bench.of(id).due_at(full_hour()), due);
    // Other settings do not lose the fire that is held back.
    let policy = Policy { limit: Some(5), ..policy };
    bench.add("hourly", "0 * * * *", policy).await;
    assert_eq!(bench.of(id).next, Some(full_hour()));
    bench.clock.set(due);
    bench.settle().await;
    let task = bench.finish_next().await;
    assert_eq!(bench.rows(id), [(0, fired(task.0, Fire::OnTime))]);
}

#[tokio::test]
async fn bounds_hold_and_only_true_fires_count() {
    let mut bench = Bench::new(2).await;
    let (start, end) = (Some(minute(60)), Some(minute(180)));
    let policy = Policy { start, end, ..Policy::default() };
    let bounded = bench.add("bounded", "0 * * * *", policy).await;
    assert_eq!(bench.of(bounded).next, start);
    let policy = Policy { limit: Some(2), ..Policy::default() };
    let limited = bench.add("limited", "30 * * * *", policy).await;
    bench.change(limited, ScheduleChange::SkipNext { by: "ann".to_owned() }).await;
    for half_hours in -1..12 {
        bench.turn_to(30 * half_hours).await;
        while let Ok(effect) = bench.effects.try_recv() {
            if let super::super::Effect::Spawn(task) = effect {
                let attempt = task.state.lease().unwrap().attempt;
                bench.end(task.id, attempt, Verdict::Completed).await;
            }
        }
    }
    let minutes = |id| bench.rows(id).iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(minutes(bounded), [60, 120, 180]);
    assert_eq!(minutes(limited), [-30, 30, 90]);
    let passed_over = Outcome::PassedOver { by: "ann".to_owned() };
    assert_eq!(bench.rows(limited)[0].1, passed_over);
    for id in [bounded, limited] {
        let it = bench.of(id);
        assert!(it.is_active() && !it.is_enabled() && it.next.is_none(), "{it:?}");
    }
}

#[tokio::test]
async fn one_shots_are_done_and_no_deploy_and_no_clock_brings_them_back() {
    let mut bench = Bench::new(2).await;
    let once = "[schedules.once]\ntask = \"sweep\"\nat = 2023-11-14T23:30:00Z\n\
                [schedules.often]\ntask = \"sweep\"\nevery = \"24h\"\n";
    bench.engine.deploy("seed".to_owned(), manifest(once)).await.unwrap();
    let named = |bench: &Bench, name: &str| {
        bench.engine.book().schedules.named("seed", name).cloned().unwrap()
    };
    let (id, often) = (named(&bench, "once").id, named(&bench, "often"));
    assert_eq!(bench.of(id).next, Some(minute(30)));
    bench.turn_to(30).await;
    let task = bench.finish_next().await;
    assert_eq!(bench.rows(id), [(30, fired(task.0, Fire::OnTime))]);
    // The clock is set back before it, and everything is deployed again, with other settings too.
    bench.turn_to(-10).await;
    bench.restart_with(&[]).await;
    for settings in ["", "overlap = \"allow\"\n", "jitter = \"5s\"\n"] {
        let text = once.replace("[schedules.often]", &format!("{settings}[schedules.often]"));
        bench.engine.deploy("seed".to_owned(), manifest(&text)).await.unwrap();
        assert_eq!(bench.of(id).next, None);
    }
    // A recurrence goes on in its step.
    let again = named(&bench, "often");
    assert_eq!((&again.rule, again.next), (&often.rule, often.next));
    assert_eq!(often.next, Some(START.plus(Span::from_secs(86_400))));
    bench.turn_to(40).await;
    assert_eq!(bench.rows(id).len(), 1);
}

#[tokio::test]
async fn a_thousand_in_one_second_have_one_fire_each() {
    let mut bench = Bench::new(1).await;
    let mut ids = Vec::new();
    for number in 0..1000 {
        ids.push(bench.add(&format!("s{number}"), "0 * * * *", Policy::default()).await);
    }
    bench.turn_to(0).await;
    while bench.engine.book().schedules.next_alarm().unwrap().0 <= bench.clock.now() {
        bench.settle().await;
    }
    for id in &ids {
        let rows = bench.rows(*id);
        assert!(matches!(rows.as_slice(), [(0, Outcome::Fired { how: Fire::OnTime, .. })]));
    }
    let schedules = bench.engine.book().schedules.clone();
    assert!(schedules.clone().check());
    bench.restart_with(&[]).await;
    let after = bench.engine.book().schedules.clone();
    assert!(after.iter().eq(schedules.iter()));
    assert_eq!(bench.engine.book().entries.len(), 1000);
}

/// The engine sleeps until a fire by what the clock said before; nobody else wakes it.
#[tokio::test]
async fn a_clock_that_is_set_is_looked_at_when_that_is_told() {
    let mut bench = Bench::new(1).await;
    let id = bench.add("hourly", "0 * * * *", Policy::default()).await;
    bench.clock.set(minute(0));
    bench.engine.clock_set().unwrap();
    let effect = bench.effect().await;
    assert!(matches!(effect, super::super::Effect::Spawn(_)), "{effect:?}");
    assert_eq!(bench.of(id).next, Some(minute(60)));
}

#[tokio::test]
async fn a_plan_that_has_no_fire_is_refused() {
    let bench = Bench::new(1).await;
    let past = Rule::At(capsule_core::time::Timestamp(START.0 - 1));
    assert!(bench.try_add("past", past, Policy::default()).await.is_err());
    let over = Policy { end: Some(START), ..Policy::default() };
    assert!(bench.try_add("over", rule("0 * * * *"), over).await.is_err());
    assert_eq!(bench.engine.book().schedules.iter().count(), 0);
}
