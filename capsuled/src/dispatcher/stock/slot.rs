//! The place of one revision's stock runner: the runner, if there is one, and what waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capsule_core::id::{AttemptNumber, TaskId};
use tokio::time::Instant;

use super::super::pause::Pause;
use super::attempt::{Attempt, Limits};
use crate::apps::Revision;
use crate::gateway::StockTask;
use crate::runner::process::{Process, ProcessEnd};

/// How long a runner that has listened may be deaf: its longest pause before it connects again,
/// and then some.
pub(super) const DEAF: Duration = Duration::from_secs(60);

/// How long an app may boot.
pub(super) const BOOT: Duration = Duration::from_secs(120);

/// One revision's place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) revision: Arc<Revision>,
    /// In force, and there is something to run.
    pub(super) wanted: bool,
    pub(super) runner: Option<Runner>,
    /// Claimed, and not yet given to a runner.
    pub(super) waiting: Vec<Waiting>,
    /// After the death of a runner.
    pub(super) pause: Pause,
}

/// An attempt that waits for its runner.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) delivery: StockTask,
    pub(super) limits: Limits,
}

/// A runner that lives, or whose death is not settled.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each happens by itself")]
pub(super) struct Runner {
    pub(super) process: Process,
    pub(super) token: String,
    /// It takes what it is given.
    pub(super) listens: bool,
    /// It listened once, or a former daemon started it.
    pub(super) booted: bool,
    /// When it is killed for not listening, or not again.
    pub(super) deaf: Option<Instant>,
    pub(super) attempts: BTreeMap<(TaskId, AttemptNumber), Attempt>,
    /// It was told to end.
    pub(super) quitting: bool,
    /// It is being killed.
    pub(super) doomed: bool,
    /// Its process has ended; when that is settled even if its stream still seems open.
    pub(super) died: Option<(ProcessEnd, Instant)>,
    pub(super) since: Instant,
}

impl Slot {
    pub(super) fn new(revision: Arc<Revision>) -> Self {
        Self { revision, wanted: false, runner: None, waiting: Vec::new(), pause: Pause::default() }
    }

    /// When something is to be done if nothing happens.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let Some(runner) = &self.runner else {
            return self.pause.until().filter(|_| self.wanted || !self.waiting.is_empty());
        };
        if let Some((_, until)) = &runner.died {
            return Some(*until);
        }
        let attempts = runner.attempts.values().filter_map(Attempt::alarm);
        attempts.chain(runner.deaf.filter(|_| !runner.doomed)).min()
    }

    /// This attempt waits here, or the runner has it.
    pub(super) fn has(&self, task: TaskId, attempt: AttemptNumber) -> bool {
        let runner = self.runner.as_ref();
        runner.is_some_and(|runner| runner.attempts.contains_key(&(task, attempt)))
            || self.waiting.iter().any(|one| one.is(task, attempt))
    }

    /// Takes an attempt back that was not given to a runner.
    pub(super) fn withdraw(&mut self, task: TaskId, attempt: AttemptNumber) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|one| !one.is(task, attempt));
        self.waiting.len() < before
    }

    /// An attempt of the runner.
    pub(super) fn attempt_mut(
        &mut self,
        task: TaskId,
        attempt: AttemptNumber,
    ) -> Option<&mut Attempt> {
        self.runner.as_mut()?.attempts.get_mut(&(task, attempt))
    }

    /// Nothing is awaited of this attempt any more.
    pub(super) fn remove(&mut self, task: TaskId, attempt: AttemptNumber) -> Option<Attempt> {
        self.runner.as_mut()?.attempts.remove(&(task, attempt))
    }

    /// There is no runner, and none has died a moment ago.
    pub(super) fn may_launch(&self) -> bool {
        self.runner.is_none() && self.pause.is_over()
    }
}

impl Waiting {
    fn is(&self, task: TaskId, attempt: AttemptNumber) -> bool {
        (self.delivery.task, self.delivery.attempt) == (task, attempt)
    }
}

impl Runner {
    /// One that was started just now or, when `adopted`, by a former daemon.
    pub(super) fn new(process: Process, token: String, adopted: bool) -> Self {
        let since = Instant::now();
        Self {
            process,
            token,
            listens: false,
            booted: adopted,
            deaf: since.checked_add(if adopted { DEAF } else { BOOT }),
            attempts: BTreeMap::new(),
            quitting: false,
            doomed: false,
            died: None,
            since,
        }
    }

    /// It can be given attempts.
    pub(super) const fn takes(&self) -> bool {
        self.listens && !self.quitting && !self.doomed && self.died.is_none()
    }

    /// Kills it and all that it started.
    pub(super) fn doom(&mut self) {
        self.doomed = true;
        self.process.stop(Duration::ZERO);
    }
}
