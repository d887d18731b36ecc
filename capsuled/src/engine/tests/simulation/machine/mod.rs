//! The engine over the crashing store, move by move against a small model of a task's life.
//!
//! 256 histories of up to 50 moves, or `CAPSULE_MODEL_CASES`; proptest prints the shortest one that
//! fails. `PROPTEST_RNG_SEED` plays the same ones again.

mod model;

use capsule_core::attempt::{How, Verdict};
use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy, TaskSpec};
use capsule_core::task::{State, Status, Task};
use capsule_core::time::Span;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;

use self::model::{Model, ModelTask, Move, PAUSE, SLOTS, Stand, What};
use super::super::{FAILED, report, spec};
use super::Stop;
use super::steps::Told;
use super::world::World;
use crate::engine::NewTask;
use crate::store::MAX_BATCH_CHANGES;

/// The engine in its world, and a runtime to ask it from.
struct Played {
    runtime: Runtime,
    world: World,
    /// The task of the store for each of the model.
    ids: Vec<TaskId>,
}

struct Machine;

impl StateMachineTest for Machine {
    type SystemUnderTest = Played;
    type Reference = Model;

    fn init_test(_: &Model) -> Played {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = runtime.block_on(World::new(MAX_BATCH_CHANGES)).unwrap();
        Played { runtime, world, ids: Vec::new() }
    }

    fn apply(mut played: Played, model: &Model, it: Move) -> Played {
        let Played { runtime, world, ids } = &mut played;
        runtime.block_on(async {
            world.carry_out().await.unwrap();
            if let Some(how) = it.crash {
                world.store.crash_after(0, how);
            }
            let mut done = make(world, ids, &it.what).await;
            if done.is_ok() {
                done = world.carry_out().await;
            }
            if matches!(done, Err(Stop::Crash)) {
                world.reopen().unwrap();
                done = world.connect().await;
                done.unwrap();
                done = world.carry_out().await;
            }
            done.unwrap_or_else(|stop| panic!("{stop}"));
            world.store.be_well();
            world.look().await.unwrap_or_else(|stop| panic!("{stop}"));
            // What was durable although nobody was told is there too.
            let tasks = world.tasks().unwrap();
            let last = ids.last().copied().unwrap_or_default();
            ids.extend(tasks.keys().filter(|id| **id > last));
            assert_eq!(ids.len(), model.tasks.len(), "as many tasks as in the model");
            for (id, expected) in ids.iter().zip(&model.tasks) {
                compare(&tasks[id], expected);
            }
        });
        played
    }

    fn teardown(mut played: Played, _: <Model as ReferenceStateMachine>::State) {
        let rest = played.runtime.block_on(played.world.come_to_rest());
        rest.unwrap_or_else(|stop| panic!("{stop}"));
    }
}

fn compare(task: &Task, expected: &ModelTask) {
    let stand = match (expected.stand, task.status()) {
        (Stand::Waits(_), Status::Pending)
        | (Stand::Pauses(_), Status::Retry)
        | (Stand::Completed, Status::Completed)
        | (Stand::Failed, Status::Failed)
        | (Stand::Cancelled, Status::Cancelled) => true,
        (Stand::Runs { cancelled }, Status::Claimed | Status::Running) => {
            cancelled == task.state.cancel().is_some()
        }
        (_, _) => false,
    };
    assert!(stand, "{:?} in the model: {task:#?}", expected.stand);
    let (attempts, failures) = (task.attempts.0, task.failures);
    assert_eq!((attempts, failures), (expected.attempts, expected.failures), "{task:#?}");
    assert_eq!(matches!(task.state, State::Ended { .. }), task.status().is_ended());
}

async fn make(world: &mut World, ids: &mut Vec<TaskId>, what: &What) -> Result<(), Stop> {
    match what {
        What::Submit { lock, retries, once } => {
            let spec = TaskSpec {
                lock: lock.map(|lock| format!("l:{lock}")),
                lock_policy: LockPolicy::Wait,
                retries: *retries,
                backoff: Backoff::Fixed(Span::from_secs(PAUSE)),
                delivery: if *once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
                ..spec("model")
            };
            let new = NewTask { spec, payload: b"work".to_vec(), parent: None, dry_run: false };
            let submitted = world.engine.submit(vec![new]).await?.pop().unwrap().unwrap();
            ids.push(submitted.task.id);
        }
        What::End { task, completed } => {
            let attempt = world.task(ids[*task])?.unwrap().attempts;
            let key = (ids[*task], attempt);
            let stopped = world.keeper.children.get(&key).is_some_and(|child| child.stop);
            let verdict = match (stopped, completed) {
                (true, _) => Verdict::Stopped(How::Killed),
                (false, true) => Verdict::Completed,
                (false, false) => FAILED,
            };
            let report = report(attempt, verdict, world.engine.now());
            world.keeper.end(&world.engine, (key, report), (true, Told::AtOnce), SLOTS)?;
        }
        What::Cancel(task) => {
            let command = Command::Cancel { reason: String::new(), grace: None };
            drop(world.engine.act(vec![ids[*task]], command).await?);
        }
        What::Retry(task) => {
            world.record.retried.insert(ids[*task]);
            let command = Command::Retry { retries: None, timeout: None };
            drop(world.engine.act(vec![ids[*task]], command).await?);
        }
        What::Advance(seconds) => world.clock.advance(Span::from_secs(*seconds)),
        What::KeeperDies => {
            world.disconnect()?;
            world.keeper.die();
            world.connect().await?;
        }
    }
    Ok(())
}

fn config() -> Config {
    let cases = super::number("CAPSULE_MODEL_CASES").unwrap_or(256);
    let cases = u32::try_from(cases).unwrap_or(u32::MAX);
    Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() }
}

prop_state_machine! {
    #![proptest_config(config())]
    #[test]
    fn every_life_is_one_that_the_model_knows(sequential 1..50 => Machine);
}
