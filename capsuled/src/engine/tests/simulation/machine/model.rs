//! What the life of a task may be, in short: the reference that the engine is held against. It
//! shares no code with the core.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::super::store::Crash;

/// How many run at once, as in the world.
pub(super) const SLOTS: usize = super::super::world::SLOTS;
/// The pause after a failure, in seconds.
pub(super) const PAUSE: u64 = 5;

/// Where a task of the model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Since when, in seconds.
    Waits(u64),
    /// Whether a cancel was asked for.
    Runs {
        cancelled: bool,
    },
    /// Until when.
    Pauses(u64),
    Completed,
    Failed,
    Cancelled,
}

/// A task of the model.
#[derive(Clone, Debug)]
pub(super) struct ModelTask {
    pub(super) lock: Option<u8>,
    pub(super) retries: u32,
    pub(super) once: bool,
    pub(super) attempts: u32,
    pub(super) failures: u32,
    losses: u32,
    pub(super) stand: Stand,
}

/// All tasks, in the order of their ids, and the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) tasks: Vec<ModelTask>,
    now: u64,
}

/// What is asked or happens.
#[derive(Clone, Debug)]
pub(super) enum What {
    Submit { lock: Option<u8>, retries: u32, once: bool },
    End { task: usize, completed: bool },
    Cancel(usize),
    Retry(usize),
    Advance(u64),
    KeeperDies,
}

/// That, and whether the store crashes at its first commit.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) what: What,
    pub(super) crash: Option<Crash>,
}

impl Model {
    fn running(&self) -> usize {
        self.tasks.iter().filter(|task| matches!(task.stand, Stand::Runs { .. })).count()
    }

    /// Starts who waits longest, as long as there is a slot and their lock is free.
    fn start(&mut self) {
        let mut order: Vec<(u64, usize)> = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            if let Stand::Waits(since) = task.stand {
                order.push((since, index));
            }
        }
        order.sort_unstable();
        let runs = |task: &&ModelTask| matches!(task.stand, Stand::Runs { .. });
        let mut held: BTreeSet<u8> =
            self.tasks.iter().filter(runs).filter_map(|task| task.lock).collect();
        for (_, index) in order {
            let free = self.tasks[index].lock.is_none_or(|lock| !held.contains(&lock));
            if free && self.running() < SLOTS {
                held.extend(self.tasks[index].lock);
                let task = &mut self.tasks[index];
                task.attempts += 1;
                task.stand = Stand::Runs { cancelled: false };
            }
        }
    }

    fn end(&mut self, index: usize, completed: bool) {
        let (now, task) = (self.now, &mut self.tasks[index]);
        task.stand = match (task.stand, completed) {
            (Stand::Runs { cancelled: true }, _) => Stand::Cancelled,
            (_, true) => {
                task.losses = 0;
                Stand::Completed
            }
            (_, false) => {
                task.losses = 0;
                task.failures += 1;
                if task.failures > task.retries {
                    Stand::Failed
                } else {
                    Stand::Pauses(now + PAUSE)
                }
            }
        };
    }

    fn keeper_dies(&mut self) {
        for task in &mut self.tasks {
            let Stand::Runs { cancelled } = task.stand else { continue };
            if cancelled {
                task.stand = Stand::Cancelled;
                continue;
            }
            task.losses += 1;
            let over = task.losses >= 3 || task.once;
            task.stand = if over { Stand::Failed } else { Stand::Waits(self.now) };
        }
    }

    fn cancel(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.stand = match task.stand {
            Stand::Runs { .. } => Stand::Runs { cancelled: true },
            Stand::Waits(_)
            | Stand::Pauses(_)
            | Stand::Completed
            | Stand::Failed
            | Stand::Cancelled => Stand::Cancelled,
        };
    }

    fn advance(&mut self, seconds: u64) {
        self.now += seconds;
        for task in &mut self.tasks {
            if matches!(task.stand, Stand::Pauses(until) if until <= self.now) {
                task.stand = Stand::Waits(self.now);
            }
        }
    }

    fn is_over(&self, index: usize) -> Option<Stand> {
        self.tasks.get(index).map(|task| task.stand)
    }
}

/// The tasks for which something is so, by index.
fn those(model: &Model, is: impl Fn(&Stand) -> bool) -> Vec<usize> {
    let indices = 0..model.tasks.len();
    indices.filter(|index| is(&model.tasks[*index].stand)).collect()
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Move;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Move> {
        use proptest::option::{of, weighted};
        let submit =
            (of(0u8..3), 0u32..3, prop::bool::weighted(0.2)).prop_map(|(lock, retries, once)| {
                What::Submit { lock, retries: if once { 0 } else { retries }, once }
            });
        let mut all = vec![
            (4, submit.boxed()),
            (2, (1u64..2 * PAUSE).prop_map(What::Advance).boxed()),
            (1, Just(What::KeeperDies).boxed()),
        ];
        let runs = those(model, |stand| matches!(stand, Stand::Runs { .. }));
        if !runs.is_empty() {
            let end = (prop::sample::select(runs), any::<bool>());
            all.push((6, end.prop_map(|(task, completed)| What::End { task, completed }).boxed()));
        }
        let open = those(model, is_open);
        if !open.is_empty() {
            all.push((2, prop::sample::select(open).prop_map(What::Cancel).boxed()));
        }
        let failed = those(model, |it| matches!(it, Stand::Failed | Stand::Cancelled));
        if !failed.is_empty() {
            all.push((2, prop::sample::select(failed).prop_map(What::Retry).boxed()));
        }
        let crash = weighted(0.25, prop_oneof![Just(Crash::Before), Just(Crash::After)]);
        (proptest::strategy::Union::new_weighted(all), crash)
            .prop_map(|(what, crash)| Move { what, crash })
            .boxed()
    }

    fn preconditions(model: &Self, it: &Move) -> bool {
        match it.what {
            What::End { task, .. } => {
                model.is_over(task).is_some_and(|stand| matches!(stand, Stand::Runs { .. }))
            }
            What::Cancel(task) => model.is_over(task).is_some_and(|stand| is_open(&stand)),
            What::Retry(task) => model
                .is_over(task)
                .is_some_and(|stand| matches!(stand, Stand::Failed | Stand::Cancelled)),
            What::Submit { .. } | What::Advance(_) | What::KeeperDies => true,
        }
    }

    fn apply(mut model: Self, it: &Move) -> Self {
        // A request of which nothing was durable did not happen. What the keeper has to tell is
        // told again, and time does not go back.
        let lost = it.crash == Some(Crash::Before);
        match it.what {
            What::Submit { .. } | What::Cancel(_) | What::Retry(_) if lost => return model,
            What::Submit { lock, retries, once } => model.tasks.push(ModelTask {
                lock,
                retries,
                once,
                attempts: 0,
                failures: 0,
                losses: 0,
                stand: Stand::Waits(model.now),
            }),
            What::End { task, completed } => model.end(task, completed),
            What::Cancel(task) => model.cancel(task),
            What::Retry(task) => {
                let now = model.now;
                let task = &mut model.tasks[task];
                (task.failures, task.losses, task.stand) = (0, 0, Stand::Waits(now));
            }
            What::Advance(seconds) => model.advance(seconds),
            What::KeeperDies => model.keeper_dies(),
        }
        model.start();
        model
    }
}

/// Not over, and no cancel was asked for.
fn is_open(stand: &Stand) -> bool {
    match stand {
        Stand::Waits(_) | Stand::Pauses(_) => true,
        Stand::Runs { cancelled } => !cancelled,
        Stand::Completed | Stand::Failed | Stand::Cancelled => false,
    }
}
