//! From the start of a stock runner to its death, and which there are to be.

use std::sync::Arc;
use std::time::Duration;

use capsule_core::attempt::{Loss, Verdict};
use capsule_core::id::AttemptNumber;
use capsule_core::task::Task;
use tokio::time::Instant;

use super::attempt::{Attempt, Limits, Stop};
use super::slot::{BOOT, Runner, Slot};
use super::{Place, StockRunners};
use crate::apps::{Mode, Revision};
use crate::dispatcher::python::Of;
use crate::dispatcher::registry::Record;
use crate::dispatcher::report::{Raised, never_ran, unbooted, unserved};
use crate::engine::EngineError;
use crate::runner::process::{Process, ProcessEnd};

/// How long the connections of a dead runner may still give what it had said.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a runner with nothing to do may take to end: its own graces, and then some.
const QUIT: Duration = Duration::from_secs(20);

impl StockRunners {
    /// Starts runners that are wanted and ends those that are not, once their attempts have ended.
    pub(in crate::dispatcher) fn reconcile(&mut self) -> Result<(), EngineError> {
        let apps = self.engine.apps();
        for slot in self.slots.values_mut() {
            slot.wanted = false;
        }
        let in_force = apps.iter().filter_map(|(name, app)| Some((name, app.in_force()?)));
        for (name, revision) in in_force.filter(|(_, revision)| needs_runner(revision)) {
            let place = (name.clone(), revision.number);
            let slot = self.slots.entry(place.clone());
            let slot = slot.or_insert_with(|| Slot::new(Arc::clone(revision)));
            if !Arc::ptr_eq(&slot.revision, revision) {
                // The app was removed and made again: another revision has the number.
                if slot.runner.is_some() {
                    continue;
                }
                slot.revision = Arc::clone(revision);
            }
            slot.wanted = true;
            if slot.may_launch() {
                self.launch(&place)?;
            }
        }
        self.retire();
        Ok(())
    }

    /// Tells runners to end that are not wanted and have nothing to do.
    pub(super) fn retire(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| !slot.wanted && slot.waiting.is_empty()) {
            if let Some(runner) = &mut slot.runner
                && runner.attempts.is_empty()
                && !runner.quitting
            {
                runner.quitting = true;
                runner.process.stop(QUIT);
            }
        }
        self.slots.retain(|_, s| s.wanted || s.runner.is_some() || !s.waiting.is_empty());
    }

    /// Starts the runner of a place.
    pub(super) fn launch(&mut self, place: &Place) -> Result<(), EngineError> {
        let (app, number) = place;
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let Some(python) = slot.revision.python.clone() else { return Ok(()) };
        slot.pause.started();
        let token = self.gateway.new_token(app, *number);
        let of = Of { app, revision: &slot.revision, python: &python };
        let plan = match self.surroundings.stock_plan(of, &self.socket, &token) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(app, revision = number, %error, "a runner cannot be prepared");
                self.gateway.forget_token(&token);
                slot.pause.died(Duration::ZERO);
                let kind = "HostError".to_owned();
                let message = format!("preparing the app's runner: {error}");
                return self.unserve(place, &Raised { kind, message, ..Raised::default() });
            }
        };
        let process = self.processes.begin(plan, &format!("the stock runner of {app}@r{number}"));
        let launched_us = self.engine.now().0;
        let record =
            Record { app: app.clone(), revision: *number, token: token.clone(), launched_us };
        if let Err(error) = self.registry.note(process.key, &record) {
            tracing::warn!(app, %error, "the next daemon will not know this runner");
        }
        tracing::info!(app, revision = number, "a stock runner starts");
        slot.runner = Some(Runner::new(process.clone(), token, false));
        self.watch(process);
        Ok(())
    }

    /// Has the end of a process told.
    fn watch(&self, mut process: Process) {
        let ends = self.ends.0.clone();
        tokio::spawn(async move {
            let end = process.ended().await;
            // Nobody listens any more when the daemon ends.
            let _ending = ends.send((process.key, end));
        });
    }

    /// A runner's process has ended; what it said before comes first.
    pub(super) fn died(&mut self, key: u64, end: ProcessEnd) -> Result<(), EngineError> {
        let Some(place) = self.place_of(|runner| runner.process.key == key) else { return Ok(()) };
        let Some(runner) = self.slots.get_mut(&place).and_then(|slot| slot.runner.as_mut()) else {
            return Ok(());
        };
        let open = runner.listens;
        runner.died = Some((end, Instant::now() + LAST_WORDS));
        if open { Ok(()) } else { self.bury(&place) }
    }

    /// Settles what a dead runner leaves behind.
    pub(super) fn bury(&mut self, place: &Place) -> Result<(), EngineError> {
        while let Ok(said) = self.wanted.reports.try_recv() {
            self.hear(said)?;
        }
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let Some(mut runner) = slot.runner.take() else { return Ok(()) };
        let Some((end, _)) = runner.died.take() else { return Ok(()) };
        self.registry.forget(runner.process.key);
        self.gateway.forget_token(&runner.token);
        if !runner.quitting {
            slot.pause.died(runner.since.elapsed());
            tracing::warn!(app = place.0, revision = place.1, ?end, "a stock runner has died");
        }
        let now = self.engine.now();
        for ((task, attempt), found) in std::mem::take(&mut runner.attempts) {
            if !found.reported {
                let begun = !self.gateway.forget_stock(task, attempt);
                self.engine.report(task, found.lost(attempt, begun, now), true)?;
            }
        }
        if !runner.booted && !runner.quitting {
            let mut raised = unbooted("runner", &end);
            if runner.doomed {
                raised.message = format!("its runner did not listen within {} s", BOOT.as_secs());
            }
            self.unserve(place, &raised)?;
        }
        runner.process.forget_output();
        self.reconcile()?;
        self.pump(place)
    }

    /// What waits for a runner that cannot be had fails, by its own budget.
    fn unserve(&mut self, place: &Place, raised: &Raised) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let now = self.engine.now();
        for one in std::mem::take(&mut slot.waiting) {
            let report = unserved(one.delivery.attempt, raised, now);
            self.engine.report(one.delivery.task, report, true)?;
        }
        Ok(())
    }

    /// Expects the runners that a former daemon noted. Called before the first session with the
    /// keeper, which then keeps them.
    pub(super) fn expect_back(&mut self) {
        let apps = self.engine.apps();
        for (key, Record { app: name, revision: number, token, .. }) in self.registry.all() {
            let place = (name, number);
            let app = apps.get(&place.0);
            let revision = app.and_then(|app| app.revisions.get(&number));
            let Some(revision) = revision.filter(|_| !self.slots.contains_key(&place)) else {
                // The keeper kills what nobody expects.
                self.registry.forget(key);
                continue;
            };
            let what = format!("the stock runner of {}@r{number}", place.0);
            let process = self.processes.expect(key, &what);
            self.gateway.adopt_token(&token, &place.0, number);
            let mut slot = Slot::new(Arc::clone(revision));
            slot.runner = Some(Runner::new(process.clone(), token, true));
            self.slots.insert(place, slot);
            self.watch(process);
        }
    }

    /// An attempt that a former daemon gave away: it goes on in its runner, if that lives, and
    /// is lost otherwise.
    pub(super) fn take_over(
        &mut self,
        place: &Place,
        task: &Task,
        (attempt, limits): (AttemptNumber, Limits),
    ) -> Result<(), EngineError> {
        let now = self.engine.now();
        let slot = self.slots.get_mut(place);
        let runner = slot.and_then(|slot| slot.runner.as_mut());
        let lives = |runner: &&mut Runner| runner.booted && runner.process.pid().is_some();
        let Some(runner) = runner.filter(lives) else {
            let mut ending = never_ran(attempt, Verdict::Lost(Loss::HostDied), now);
            ending.before_signal = false;
            return self.engine.report(task.id, ending, true);
        };
        let started = task.last.as_ref().and_then(|last| last.started);
        let began = started.or_else(|| Some(task.state.lease()?.since)).unwrap_or(now);
        let mut found = Attempt::adopted(limits, began, now.since(began));
        self.gateway.adopt_stock(&place.0, place.1, task.id, attempt);
        if let Some(cancel) = task.state.cancel() {
            found.stop(Stop::Cancel, cancel.at.plus(cancel.grace).since(now));
            self.gateway.stop_stock(task.id, attempt);
        }
        runner.attempts.insert((task.id, attempt), found);
        Ok(())
    }
}

/// An app needs a runner when it has anything that runs.
fn needs_runner(revision: &Revision) -> bool {
    revision.python.as_ref().is_some_and(|python| {
        let handlers = &python.handlers;
        python.mode == Mode::Stock
            && (!handlers.message.is_empty()
                || !handlers.action.is_empty()
                || !revision.definitions.is_empty())
    })
}
