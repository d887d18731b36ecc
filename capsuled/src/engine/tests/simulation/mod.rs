//! Whole lives of a daemon by chance: the real engine over a store that crashes, a clock that is
//! turned both ways, and a keeper that is slow, lingers, loses its connection and dies.
//!
//! Each case has a seed of its own. `CAPSULE_SIM_CASES` and `CAPSULE_SIM_SEED` choose how many and
//! from which on; a failure prints the invariant by its name, the shortest history that proptest
//! finds, and how to play it again.

mod books;
mod invariants;
mod keeper;
mod machine;
mod play;
mod quiet;
mod runs;
mod steps;
pub(super) mod store;
mod world;

use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::spec::{Dependency, DependencyOn, TaskSpec};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::steps::{Step, step};
use self::store::{Crash, batches};
use self::world::World;
use super::spec;
use crate::engine::{EngineError, NewTask};
use crate::store::MAX_BATCH_CHANGES;

/// Why a history stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// The engine is gone.
    Crash,
    /// An invariant does not hold.
    Broken { invariant: &'static str, how: String },
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Gone => Self::Crash,
            EngineError::Busy(_)
            | EngineError::Store(_)
            | EngineError::Thread(_)
            | EngineError::Record(_) => broken("the store can be read", error.to_string()),
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Crash => f.write_str("the daemon died"),
            Self::Broken { invariant, how } => write!(f, "BROKEN: {invariant}: {how}"),
        }
    }
}

/// An invariant by its name, and what was seen instead.
pub(super) const fn broken(invariant: &'static str, how: String) -> Stop {
    Stop::Broken { invariant, how }
}

/// Holds an invariant up.
pub(super) fn ensure(
    holds: bool,
    invariant: &'static str,
    how: impl FnOnce() -> String,
) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(broken(invariant, how())) }
}

/// The most steps of one history.
const STEPS: usize = 80;

/// What all histories together did.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    steps: u64,
    tasks: u64,
    commits: u64,
    crashes: u64,
    attempts: u64,
}

/// Has one thing happen, or, after a crash, the next life begin, and looks at everything.
async fn one(world: &mut World, step: &Step) -> Result<(), Stop> {
    let mut played = world.play(step).await;
    loop {
        if played.is_ok() {
            played = world.carry_out().await;
        }
        match played {
            Ok(()) => break,
            Err(Stop::Crash) => {
                world.reopen()?;
                played = world.connect().await;
            }
            broken @ Err(Stop::Broken { .. }) => return broken,
        }
    }
    world.look().await
}

/// One history, from the first start until everything is quiet.
async fn history(most_changes: usize, steps: &[Step]) -> Result<Totals, Stop> {
    let mut world = World::new(most_changes).await?;
    for step in steps {
        one(&mut world, step).await?;
        if matches!(world.after_step().await, Err(Stop::Crash)) {
            world.reopen()?;
        }
    }
    world.come_to_rest().await?;
    let (commits, crashes) = world.store.totals();
    Ok(Totals {
        steps: steps.len() as u64,
        tasks: world.record.given.len() as u64,
        commits,
        crashes,
        attempts: world.keeper.ran.len() as u64,
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A seed that nobody chose.
fn by_chance() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1 >> 24
}

/// Plays histories of this seed on; one that breaks an invariant is shortened first.
fn case(seed: u64, totals: &mut Totals) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: 1, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = std::cell::Cell::new(Totals::default());
    let told = std::cell::Cell::new(false);
    let lives = (batches(), proptest::collection::vec(step(), 1..STEPS));
    let result = runner.run(&lives, |(most_changes, steps)| {
        let ended = runtime.block_on(history(most_changes, &steps));
        if let Err(stop) = &ended
            && !told.replace(true)
        {
            eprintln!("seed {seed}: {stop}\nlooking for a shorter history");
        }
        ended.map(|totals| done.set(totals)).map_err(|stop| TestCaseError::fail(stop.to_string()))
    });
    let (now, sum) = (done.get(), totals);
    sum.steps += now.steps;
    sum.tasks += now.tasks;
    sum.commits += now.commits;
    sum.crashes += now.crashes;
    sum.attempts += now.attempts;
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (most, steps))) => panic!(
            "{why}\nthe shortest history found, {most} changes in a batch:\n{steps:#?}\n\
             again: CAPSULE_SIM_SEED={seed} CAPSULE_SIM_CASES=1"
        ),
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
}

#[test]
fn no_life_breaks_a_promise() {
    let cases = number("CAPSULE_SIM_CASES").unwrap_or(300);
    let seed = number("CAPSULE_SIM_SEED").unwrap_or_else(by_chance);
    eprintln!("CAPSULE_SIM_SEED={seed} CAPSULE_SIM_CASES={cases}");
    let mut totals = Totals::default();
    for case_seed in seed..seed + cases {
        case(case_seed, &mut totals);
        if (case_seed - seed) % 200 == 199 {
            eprintln!("up to seed {case_seed}: {totals:?}");
        }
    }
    eprintln!("{cases} histories, {totals:?}");
}

#[tokio::test]
async fn a_crash_between_two_batches_leaves_no_dependant_waiting() -> Result<(), Stop> {
    const PAIRS: u64 = 400;
    let mut world = World::new(MAX_BATCH_CHANGES).await?;
    world.engine.drain(true).await?;
    let new = |after: Option<u64>| {
        let on = DependencyOn::Any;
        let after = after.map(|id| Dependency { task: TaskId(id), on }).into_iter().collect();
        NewTask {
            spec: TaskSpec { after, ..spec("a") },
            payload: vec![0; 1400],
            parent: None,
            dry_run: false,
        }
    };
    world.engine.submit((0..PAIRS).map(|_| new(None)).collect()).await?;
    world.engine.submit((1..=PAIRS).map(|id| new(Some(id))).collect()).await?;
    world.store.crash_after(1, Crash::Before);
    let cancel = Command::Cancel { reason: String::new(), grace: None };
    let died = world.engine.act((1..=PAIRS).map(TaskId).collect(), cancel).await;
    assert!(died.is_err(), "the group had several batches");
    world.reopen()?;
    world.carry_out().await?;
    let tasks = world.tasks()?;
    let ended = (1..=PAIRS).filter(|id| tasks[&TaskId(*id)].status().is_ended()).count();
    assert!(ended > 100, "{ended} were durable");
    world.look().await
}
