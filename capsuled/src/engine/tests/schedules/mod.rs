//! Everything that a schedule promises, under the turned clock.

mod added;
mod backfill;
mod crash;
mod hand;
mod overlap;
mod plans;

use capsule_core::attempt::Verdict;
use capsule_core::id::{AttemptNumber, ScheduleId, TaskId};
use capsule_core::spec::TaskSpec;
use capsule_core::time::Timestamp;

use super::super::{Added, KnownAttempt, NewSchedule, ScheduleChange, ScheduleError};
use super::{Bench, START, report, spec};
use crate::clock::Clock as _;
use crate::schedule::{Overlap, Policy, Rule, Schedule};

pub(super) fn rule(text: &str) -> Rule {
    Rule::parse(text, "", "", START).unwrap()
}

pub(super) fn overlaps(overlap: Overlap) -> Policy {
    Policy { overlap, ..Policy::default() }
}

impl Bench {
    pub(super) async fn try_add(
        &self,
        name: &str,
        rule: Rule,
        policy: Policy,
    ) -> Result<Added, ScheduleError> {
        let spec = TaskSpec { app: String::new(), ..spec("sweep") };
        let (title, payload) = (name.to_owned(), b"work".to_vec());
        let new = NewSchedule { title, spec, payload, rule, policy };
        self.engine.add_schedule(new).await.unwrap()
    }

    /// Adds a schedule by a cron expression.
    async fn add(&self, name: &str, cron: &str, policy: Policy) -> ScheduleId {
        self.try_add(name, rule(cron), policy).await.unwrap().schedule.id
    }

    fn of(&self, id: ScheduleId) -> Schedule {
        self.engine.schedule(id).unwrap()
    }

    async fn change(&self, id: ScheduleId, change: ScheduleChange) -> Schedule {
        self.engine.change_schedule(id, change).await.unwrap().unwrap()
    }

    async fn pause(&self, id: ScheduleId) -> Schedule {
        let (by, note) = ("ann".to_owned(), "deploying".to_owned());
        self.change(id, ScheduleChange::Pause { by, note }).await
    }

    /// The daemon dies; the keeper has these attempts, and of those that have ended the tree.
    async fn restart_with(&mut self, attempts: &[(TaskId, AttemptNumber, bool)]) {
        self.restart().await;
        let known = |(task, attempt, ended): &(TaskId, AttemptNumber, bool)| KnownAttempt {
            task: *task,
            attempt: *attempt,
            pid: 5,
            started: START,
            ended: *ended,
            tree_gone: false,
        };
        self.connect(attempts.iter().map(known).collect()).await;
        self.settle().await;
    }

    /// The attempt ends, but processes of it live on.
    async fn end_but_linger(&self, id: TaskId, attempt: AttemptNumber) {
        let report = report(attempt, Verdict::Completed, self.clock.now());
        self.end_with(id, report, false).await;
    }
}

/// So many minutes after the first full hour.
fn minute(minutes: i64) -> Timestamp {
    Timestamp(super::ticks::full_hour().0 + minutes * 60_000_000)
}
