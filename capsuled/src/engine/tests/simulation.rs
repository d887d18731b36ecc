//! Whole lives of an engine by chance: submits, ends, cancels, losses, restarts. The seed is
//! printed; the oracle is what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::attempt::{How, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::spec::{Delivery, LockPolicy, TaskSpec};
use capsule_core::time::Span;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Bench, Effect, FAILED, KnownAttempt, START, report, spec};
use crate::book::Book;

#[derive(Clone, Debug)]
enum Step {
    Submit { lock: Option<u8>, retries: u32, once: bool, priority: i8, delay: u64 },
    End { which: usize, verdict: u8, tree_gone: bool },
    Gone { which: usize },
    Cancel { which: usize },
    Advance { seconds: u64 },
    Restart { keeper_too: bool },
    Pause { on: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (proptest::option::of(0u8..3), 0u32..3, any::<bool>(), -3i8..3, 0u64..20).prop_map(
            |(lock, retries, once, priority, delay)| Step::Submit { lock, retries, once, priority, delay }
        ),
        6 => (any::<usize>(), 0u8..4, any::<bool>())
            .prop_map(|(which, verdict, tree_gone)| Step::End { which, verdict, tree_gone }),
        2 => any::<usize>().prop_map(|which| Step::Gone { which }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        3 => (0u64..1000).prop_map(|seconds| Step::Advance { seconds }),
        1 => any::<bool>().prop_map(|keeper_too| Step::Restart { keeper_too }),
        1 => any::<bool>().prop_map(|on| Step::Pause { on }),
    ]
}

/// What the keeper would know.
#[derive(Default)]
struct Played {
    live: BTreeMap<TaskId, AttemptNumber>,
    lingering: BTreeMap<TaskId, AttemptNumber>,
    acknowledged: BTreeSet<TaskId>,
    started: BTreeSet<(TaskId, AttemptNumber)>,
}

const SLOTS: u32 = 3;

impl Played {
    /// Takes the engine's effects; each spawn must be of a task whose last attempt is gone.
    async fn carry_out(&mut self, bench: &mut Bench) {
        bench.settle().await;
        while let Ok(effect) = bench.effects.try_recv() {
            if let Effect::Spawn(task) = effect {
                let attempt = task.state.lease().unwrap().attempt;
                assert!(!self.lingering.contains_key(&task.id), "{} lingers", task.id);
                let other = self.live.insert(task.id, attempt);
                assert!(other.is_none_or(|o| o == attempt), "{} runs twice at once", task.id);
                self.started.insert((task.id, attempt));
                bench.engine.started(task.id, attempt, 5, START).unwrap();
            }
        }
        bench.settle().await;
        let used = self.live.len() + self.lingering.len();
        assert!(used <= SLOTS as usize, "{used} attempts in {SLOTS} slots");
        let mut keys = BTreeSet::new();
        for id in self.live.keys().chain(self.lingering.keys()) {
            if let Some(key) = bench.task(*id).spec.lock {
                assert!(keys.insert(key.clone()), "two attempts hold {key}");
            }
        }
    }

    async fn play(&mut self, bench: &mut Bench, step: Step) {
        match step {
            Step::Submit { lock, retries, once, priority, delay } => {
                let retries = if once { 0 } else { retries };
                let spec = TaskSpec {
                    lock: lock.map(|lock| format!("l:{lock}")),
                    lock_policy: LockPolicy::Wait,
                    retries,
                    delivery: if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
                    priority,
                    not_before: (delay > 10)
                        .then(|| bench.engine.now().plus(Span::from_secs(delay))),
                    ..spec("sim")
                };
                let id = bench.submit(spec).await.unwrap().task.id;
                assert!(self.acknowledged.insert(id), "{id} was given twice");
            }
            Step::End { which, verdict, tree_gone } => {
                let Some((id, attempt)) = nth(&self.live, which) else { return };
                self.live.remove(&id);
                let verdict = match verdict {
                    0 => FAILED,
                    1 => Verdict::Timeout(How::Killed),
                    2 if bench.task(id).state.cancel().is_some() => Verdict::Stopped(How::Graceful),
                    _ => Verdict::Completed,
                };
                if !tree_gone {
                    self.lingering.insert(id, attempt);
                }
                let report = report(attempt, verdict, bench.engine.now());
                bench.end_with(id, report, tree_gone).await;
            }
            Step::Gone { which } => {
                let Some((id, attempt)) = nth(&self.lingering, which) else { return };
                self.lingering.remove(&id);
                bench.engine.gone(id, attempt).unwrap();
            }
            Step::Cancel { which } => {
                let ids: Vec<TaskId> = self.acknowledged.iter().copied().collect();
                if !ids.is_empty() {
                    drop(bench.cancel(ids[which % ids.len()]).await);
                }
            }
            Step::Advance { seconds } => bench.advance(Span::from_secs(seconds)).await,
            Step::Pause { on } => {
                let change = super::super::QueueChange { paused: Some(on), ..Default::default() };
                drop(bench.engine.set_queue("default".to_owned(), change).await.unwrap());
            }
            Step::Restart { keeper_too } => {
                bench.restart().await;
                if keeper_too {
                    bench.keeper = bench.keeper.wrapping_add(1);
                    self.live.clear();
                    self.lingering.clear();
                }
                let known = |(task, attempt): (&TaskId, &AttemptNumber), ended| KnownAttempt {
                    task: *task,
                    attempt: *attempt,
                    pid: 5,
                    started: START,
                    ended,
                    tree_gone: false,
                };
                let live = self.live.iter().map(|pair| known(pair, false));
                let lingering = self.lingering.iter().map(|pair| known(pair, true));
                bench.connect(live.chain(lingering).collect()).await;
            }
        }
    }

    /// Nothing acknowledged is lost, and the book says what a new one made of the store says.
    fn check(&self, bench: &Bench) {
        let mut fresh = Book::new(SLOTS);
        for id in &self.acknowledged {
            let task = bench.task(*id);
            let budget = task.spec.retries;
            assert!(task.failures <= budget + 1, "{id} failed {} times", task.failures);
            fresh.apply(None, Some(&task));
        }
        let book = bench.engine.book();
        let counts = |book: &Book| book.counts.iter().collect::<Vec<_>>();
        assert_eq!(counts(&book), counts(&fresh));
        assert_eq!(book.next_alarm(), fresh.next_alarm());
        assert_eq!(book.slots_used() as usize, self.live.len() + self.lingering.len());
    }
}

fn nth(map: &BTreeMap<TaskId, AttemptNumber>, which: usize) -> Option<(TaskId, AttemptNumber)> {
    let pair = map.iter().nth(which.checked_rem(map.len())?)?;
    Some((*pair.0, *pair.1))
}

#[test]
fn no_life_loses_a_task_or_runs_one_twice_at_once() {
    let cases = std::env::var("CAPSULE_SIM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&proptest::collection::vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let mut bench = Bench::new(SLOTS).await;
                let mut played = Played::default();
                for step in steps {
                    played.play(&mut bench, step).await;
                    played.carry_out(&mut bench).await;
                    played.check(&bench);
                }
            });
            Ok(())
        })
        .unwrap();
}
