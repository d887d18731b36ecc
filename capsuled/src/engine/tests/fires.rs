//! Random lives of schedules: deploys, clocks that jump both ways, restarts, runs that take long.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::attempt::Verdict;
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::time::{Span, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::Effect;
use super::Bench;
use super::ticks::revision;
use crate::clock::Clock as _;
use crate::schedule::{Fire, Outcome};

#[derive(Clone, Debug)]
enum Step {
    Advance { seconds: u64 },
    SetBack { seconds: i64 },
    Deploy { rule: usize },
    Remove,
    Trigger,
    End { which: usize },
    Restart,
}

const RULES: [&str; 4] = ["* * * * *", "*/7 * * * *", "0 */3 * * *", "@daily"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..10_000).prop_map(|seconds| Step::Advance { seconds }),
        1 => (1_u64..400_000).prop_map(|seconds| Step::Advance { seconds }),
        2 => (1_i64..20_000).prop_map(|seconds| Step::SetBack { seconds }),
        3 => (0..RULES.len()).prop_map(|rule| Step::Deploy { rule }),
        1 => Just(Step::Remove),
        2 => Just(Step::Trigger),
        4 => (0_usize..8).prop_map(|which| Step::End { which }),
        2 => Just(Step::Restart),
    ]
}

/// Tasks that run, by what the test knows.
type Running = BTreeMap<TaskId, AttemptNumber>;

async fn play(bench: &mut Bench, running: &mut Running, step: Step) {
    let app = "leads".to_owned();
    match step {
        Step::Advance { seconds } => bench.clock.advance(Span::from_secs(seconds)),
        Step::SetBack { seconds } => {
            bench.clock.set(Timestamp(bench.clock.now().0 - seconds * 1_000_000));
        }
        Step::Deploy { rule } => {
            let revision = revision(&[("a", RULES[rule]), ("b", RULES[0])]);
            bench.engine.deploy(app, revision).await.unwrap();
        }
        Step::Remove => bench.engine.remove_app(app).await.unwrap(),
        Step::Trigger => {
            let id = bench.engine.book().schedules.named("leads", "a").map(|it| it.id);
            if let Some(id) = id {
                drop(bench.engine.trigger(id).await.unwrap());
            }
        }
        Step::End { which } => {
            let ended = running.iter().nth(which).map(|(id, attempt)| (*id, *attempt));
            if let Some((id, attempt)) = ended {
                running.remove(&id);
                bench.end(id, attempt, Verdict::Completed).await;
            }
        }
        Step::Restart => {
            bench.restart().await;
            let known = |(task, attempt): (&TaskId, &AttemptNumber)| super::KnownAttempt {
                task: *task,
                attempt: *attempt,
                pid: 5,
                started: super::START,
                ended: false,
                tree_gone: false,
            };
            bench.connect(running.iter().map(known).collect()).await;
        }
    }
    bench.settle().await;
    while let Ok(effect) = bench.effects.try_recv() {
        if let Effect::Spawn(task) = effect {
            let attempt = task.state.lease().unwrap().attempt;
            bench.engine.started(task.id, attempt, 7, bench.clock.now()).unwrap();
            running.insert(task.id, attempt);
        }
    }
    bench.settle().await;
}

/// No instant fires twice, whatever rule planned it; each fire has its task, each task its fire.
fn check(bench: &Bench) {
    let mut tasks = BTreeSet::new();
    let schedules: Vec<_> = bench.engine.book().schedules.iter().cloned().collect();
    for schedule in &schedules {
        let mut planned = BTreeSet::new();
        for row in bench.engine.ticks(schedule.id, 5000).unwrap() {
            let at = row.key.planned;
            match row.tick.outcome {
                Outcome::Fired { task, how } => {
                    assert!(how == Fire::Manual || planned.insert(at), "{at:?} fired twice");
                    let tick = bench.task(task).spec.tick.unwrap();
                    assert_eq!((tick.schedule, tick.planned), (schedule.id, at));
                    assert!(tasks.insert(task), "{task} stands for two fires");
                }
                Outcome::Skipped { .. } | Outcome::Missed { .. } | Outcome::Refused { .. } => {
                    assert!(planned.insert(at), "{at:?} was decided twice");
                }
                Outcome::Paused { .. }
                | Outcome::Buffered { .. }
                | Outcome::PassedOver { .. }
                | Outcome::ToBackfill => {
                    panic!("nobody asked for {:?}", row.tick.outcome);
                }
            }
        }
        let last = planned.last().copied().unwrap_or_default();
        assert!(schedule.next.is_none_or(|next| next > last), "{schedule:?} goes back");
    }
    let book = bench.engine.book();
    let mut unfinished = BTreeSet::new();
    for (id, entry) in &book.entries {
        assert!(tasks.contains(&id), "{id} has no fire");
        let name = (!entry.status.is_ended()).then_some(entry.name);
        assert!(name.is_none_or(|name| unfinished.insert(name)), "two at once");
    }
}

#[test]
fn no_life_fires_an_instant_twice_or_loses_a_fire() {
    let cases = std::env::var("CAPSULE_SIM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&proptest::collection::vec(step(), 1..50), |steps| {
            runtime.block_on(async {
                let mut bench = Bench::new(2).await;
                let mut running = Running::new();
                bench
                    .engine
                    .deploy("leads".to_owned(), revision(&[("a", RULES[0])]))
                    .await
                    .unwrap();
                for step in steps {
                    play(&mut bench, &mut running, step).await;
                    check(&bench);
                }
            });
            Ok(())
        })
        .unwrap();
}
