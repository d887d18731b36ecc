//! What may happen to a daemon, drawn by chance. Who it happens to is picked when it happens,
//! from those to whom it can, so that histories go deep.

use proptest::prelude::*;

use super::store::Crash;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit(Vec<Wish>),
    /// The same submit once more, by its key.
    Again {
        which: usize,
        other_arguments: bool,
    },
    Ask {
        which: Vec<usize>,
        what: Ask,
    },
    Remove(Vec<usize>),
    Queue {
        queue: u8,
        paused: Option<bool>,
        /// Three stands for none.
        limit: Option<u32>,
    },
    Drain(bool),
    StopAll,
    Refresh(usize),
    Deploy {
        tools: bool,
        what: Revise,
    },
    Schedule(Plan),
    Runner(Runner),
    Advance(u64),
    /// The clock is set back.
    Back(u64),
    /// The daemon is stopped as it should be, and started.
    Restart,
    Crash {
        commits: u8,
        how: Crash,
        with_keeper: Option<bool>,
    },
}

/// What somebody wants done.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Of which app and name.
    pub(super) work: u8,
    pub(super) lock: Option<u8>,
    pub(super) policy: u8,
    pub(super) key: Option<u8>,
    pub(super) retries: u32,
    pub(super) once: bool,
    pub(super) priority: i8,
    pub(super) delay: u64,
    pub(super) within: Option<u64>,
    pub(super) after: Vec<(usize, u8)>,
    pub(super) hold: bool,
    pub(super) queue: u8,
    pub(super) parent: Option<usize>,
    pub(super) large: bool,
}

/// What is asked of tasks.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Cancel { now: bool },
    Retry { retries: Option<u32> },
    Promote,
    Hold(bool),
    Priority(i8),
    Queue(u8),
    At(u64),
}

/// What becomes of an app's revisions.
#[derive(Clone, Debug)]
pub(super) enum Revise {
    Deploy(u8),
    Rollback(usize),
    Remove,
}

/// What is asked of schedules.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Recur { every: u64, lock: Option<u8>, first: Option<i64> },
    End(usize),
    Trigger(usize),
}

/// What becomes of the keeper and its attempts.
#[derive(Clone, Debug)]
pub(super) enum Runner {
    /// It does nothing of what it is asked, or all at once.
    Slow(bool),
    End {
        which: usize,
        verdict: u8,
        tree_gone: bool,
        told: Told,
    },
    /// Runs all that it has to their ends, quickly.
    Flush(u8),
    Gone(usize),
    /// Tells what was held back.
    Tell,
    /// Tells of an attempt that was over long ago.
    Stale(usize),
    /// The connection breaks: what is under way in it is lost.
    Disconnect,
    Connect,
    /// It dies with all its children.
    Die,
}

/// When the end of an attempt is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    AtOnce,
    Twice,
    Later,
}

fn wish() -> impl Strategy<Value = Wish> {
    use proptest::option::{of, weighted};
    let what = (0u8..8, weighted(0.5, 0u8..3), 0u8..4, weighted(0.2, 0u8..3), any::<bool>());
    let how = (0u32..3, prop::bool::weighted(0.2), -3i8..3, 0u64..40, weighted(0.15, 1u64..60));
    let when = (
        proptest::collection::vec((any::<usize>(), 0u8..3), 0..3),
        prop::bool::weighted(0.05),
        0u8..3,
        weighted(0.1, any::<usize>()),
        prop::bool::weighted(0.01),
        of(Just(())),
    );
    (what, how, when).prop_map(|(what, how, when)| {
        let (work, lock, policy, key, merges) = what;
        let (retries, once, priority, delay, within) = how;
        let (after, hold, queue, parent, large, depends) = when;
        Wish {
            work,
            lock,
            policy: if merges { policy } else { 1 },
            key,
            retries: if once { 0 } else { retries },
            once,
            priority,
            delay: delay.saturating_sub(25),
            within,
            after: if depends.is_some() { after } else { Vec::new() },
            hold,
            queue,
            parent,
            large,
        }
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => any::<bool>().prop_map(|now| Ask::Cancel { now }),
        3 => proptest::option::of(0u32..3).prop_map(|retries| Ask::Retry { retries }),
        2 => Just(Ask::Promote),
        2 => any::<bool>().prop_map(Ask::Hold),
        1 => (-3i8..3).prop_map(Ask::Priority),
        1 => (0u8..3).prop_map(Ask::Queue),
        1 => (0u64..30).prop_map(Ask::At),
    ]
}

fn runner() -> impl Strategy<Value = Runner> {
    let told = prop_oneof![4 => Just(Told::AtOnce), 1 => Just(Told::Twice), 2 => Just(Told::Later)];
    prop_oneof![
        3 => any::<bool>().prop_map(Runner::Slow),
        24 => (any::<usize>(), 0u8..12, prop::bool::weighted(0.7), told).prop_map(
            |(which, verdict, tree_gone, told)| Runner::End { which, verdict, tree_gone, told }
        ),
        2 => (1u8..40).prop_map(Runner::Flush),
        6 => any::<usize>().prop_map(Runner::Gone),
        4 => Just(Runner::Tell),
        2 => any::<usize>().prop_map(Runner::Stale),
        2 => Just(Runner::Disconnect),
        6 => Just(Runner::Connect),
        1 => Just(Runner::Die),
    ]
}

fn revise() -> impl Strategy<Value = Revise> {
    prop_oneof![
        3 => (0u8..4).prop_map(Revise::Deploy),
        1 => any::<usize>().prop_map(Revise::Rollback),
        1 => Just(Revise::Remove),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    use proptest::option::of;
    prop_oneof![
        (10u64..100, of(0u8..2), of(-20i64..20)).prop_map(|(every, lock, first)| Plan::Recur {
            every,
            lock,
            first
        }),
        any::<usize>().prop_map(Plan::End),
        any::<usize>().prop_map(Plan::Trigger),
    ]
}

/// One step by chance.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let of = proptest::collection::vec(any::<usize>(), 1..4);
    let crash = prop_oneof![Just(Crash::Before), Just(Crash::After)];
    prop_oneof![
        20 => proptest::collection::vec(wish(), 1..4).prop_map(Step::Submit),
        2 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(which, other_arguments)| Step::Again { which, other_arguments }),
        10 => (of.clone(), ask()).prop_map(|(which, what)| Step::Ask { which, what }),
        4 => of.prop_map(Step::Remove),
        3 => (0u8..3, proptest::option::of(any::<bool>()),
            proptest::option::of(0u32..4))
            .prop_map(|(queue, paused, limit)| Step::Queue { queue, paused, limit }),
        2 => prop::bool::weighted(0.3).prop_map(Step::Drain),
        1 => Just(Step::StopAll),
        1 => any::<usize>().prop_map(Step::Refresh),
        5 => (any::<bool>(), revise()).prop_map(|(tools, what)| Step::Deploy { tools, what }),
        3 => plan().prop_map(Step::Schedule),
        40 => runner().prop_map(Step::Runner),
        10 => (0u64..60).prop_map(Step::Advance),
        1 => (60u64..100_000).prop_map(Step::Advance),
        2 => (1u64..500).prop_map(Step::Back),
        2 => Just(Step::Restart),
        6 => (0u8..6, crash, proptest::option::weighted(0.2, any::<bool>())).prop_map(
            |(commits, how, with_keeper)| Step::Crash { commits, how, with_keeper }
        ),
    ]
}
