//! Random lives of schedules over a store that crashes at any commit, under a clock that jumps by
//! seconds to years, both ways. `CAPSULE_SIM_CASES` sets how many lives, `PROPTEST_RNG_SEED` which.

mod check;
mod world;

use capsule_core::time::Span;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::world::World;
use super::overlaps;
use crate::schedule::{CatchUp, Counted, Overlap, Policy};

#[derive(Clone, Debug)]
enum Step {
    Advance { seconds: i64 },
    Leap { days: i64 },
    Add { which: usize, rule: usize, policy: usize },
    Remove { which: usize },
    Pause { which: usize },
    Resume { which: usize },
    SkipNext { which: usize },
    Trigger { which: usize },
    Backfill { which: usize, back: i64, seconds: i64 },
    End { which: usize, well: bool, tree_gone: bool },
    Gone { which: usize },
    Child { which: usize },
    Restart { keeper_too: bool },
    Crash { after: u8, behind: bool },
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const RULES: usize = 7;

fn policies() -> Vec<Policy> {
    let jitter = Span::from_secs(3000);
    let all = |most, overlap| Policy { catch_up: CatchUp::All(most), ..overlaps(overlap) };
    vec![
        Policy::default(),
        overlaps(Overlap::BufferOne),
        all(7, Overlap::BufferAll),
        overlaps(Overlap::CancelOther),
        all(80, Overlap::Allow),
        Policy { jitter, catch_up: CatchUp::Skip, ..Policy::default() },
        Policy { limit: Some(3), ..overlaps(Overlap::BufferOne) },
        Policy { counts: Counted::Submitted, ..overlaps(Overlap::BufferAll) },
        Policy { pause_after_failures: Some(2), jitter, ..all(3, Overlap::Skip) },
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..NAMES.len();
    let add = (which.clone(), 0..RULES, 0..policies().len());
    let end = (0_usize..8, any::<bool>(), any::<bool>());
    prop_oneof![
        8 => (1_i64..10_000).prop_map(|seconds| Step::Advance { seconds }),
        2 => (-20_000_i64..200_000).prop_map(|seconds| Step::Advance { seconds }),
        1 => (-1500_i64..1500).prop_map(|days| Step::Leap { days }),
        5 => add.prop_map(|(which, rule, policy)| Step::Add { which, rule, policy }),
        1 => which.clone().prop_map(|which| Step::Remove { which }),
        1 => which.clone().prop_map(|which| Step::Pause { which }),
        2 => which.clone().prop_map(|which| Step::Resume { which }),
        1 => which.clone().prop_map(|which| Step::SkipNext { which }),
        2 => which.clone().prop_map(|which| Step::Trigger { which }),
        4 => (which, 0_i64..40_000, 0_i64..9000)
            .prop_map(|(which, back, seconds)| Step::Backfill { which, back, seconds }),
        6 => end.prop_map(|(which, well, tree_gone)| Step::End { which, well, tree_gone }),
        3 => (0_usize..8).prop_map(|which| Step::Gone { which }),
        2 => (0_usize..8).prop_map(|which| Step::Child { which }),
        2 => any::<bool>().prop_map(|keeper_too| Step::Restart { keeper_too }),
        4 => (0_u8..5, any::<bool>()).prop_map(|(after, behind)| Step::Crash { after, behind }),
    ]
}

#[test]
fn no_life_fires_a_tick_twice_or_leaves_one_out() {
    let cases = std::env::var("CAPSULE_SIM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&proptest::collection::vec(step(), 1..60), |steps| {
            runtime.block_on(async {
                let mut world = World::new().await;
                world.play(Step::Add { which: 0, rule: 0, policy: 0 }).await;
                for step in steps {
                    world.play(step).await;
                    world.check();
                }
            });
            Ok(())
        })
        .unwrap();
}
