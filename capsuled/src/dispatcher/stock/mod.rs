//! Stock runners: `python -m cpsl.runner`, one for each revision that is run by it, and what
//! becomes of the attempts given to them.
//!
//! It must not know queues, the SDK's wire or the keeper's words. Invariant: every attempt given
//! to a runner is reported to the engine once, by what its runner says or, once that is gone, as
//! lost; and a runner hears that its verdict was taken only when that is durable.

mod attempt;
mod hear;
mod life;
mod slot;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use capsule_core::attempt::{NotStarted, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::attempt::{Attempt, Limits, Stop};
use self::slot::{Slot, Waiting};
use super::PythonSurroundings;
use super::python::SESSION_LABEL;
use super::registry::Registry;
use super::report::never_ran;
use crate::apps::{Definition, Kind, Revision};
use crate::engine::{Engine, EngineError, KnownAttempt};
use crate::gateway::{Gateway, Listening, StockReport, StockTask, Wanted};
use crate::runner::process::{ProcessEnd, Processes};

/// What stock runners are made with.
#[derive(Debug)]
pub struct StockParts {
    /// Whom they speak to.
    pub gateway: Gateway,
    /// What it hears of them.
    pub wanted: Wanted,
    /// Its socket.
    pub socket: PathBuf,
    /// Where runners are noted for the next daemon.
    pub registry: PathBuf,
}

/// All stock runners.
#[derive(Debug)]
pub(super) struct StockRunners {
    engine: Engine,
    processes: Processes,
    surroundings: PythonSurroundings,
    gateway: Gateway,
    wanted: Wanted,
    socket: PathBuf,
    registry: Registry,
    ends: (mpsc::UnboundedSender<Died>, mpsc::UnboundedReceiver<Died>),
    slots: BTreeMap<Place, Slot>,
    /// Before this another daemon gave attempts to runners.
    born: Timestamp,
}

/// An app and the number of a revision.
type Place = (String, u32);

/// The process with this key has ended.
type Died = (u64, ProcessEnd);

/// What [`StockRunners::next`] gives.
#[derive(Debug)]
pub(super) enum Happening {
    /// The gateway heard of an attempt.
    Said(StockReport),
    /// A runner has begun or ceased to listen.
    Listens(Listening),
    /// A runner's process has ended.
    Died(Died),
    /// Something is due.
    Time,
}

impl StockRunners {
    /// None yet, but those of a former daemon are expected back.
    pub(super) fn new(
        parts: StockParts,
        (engine, processes): (Engine, Processes),
        surroundings: PythonSurroundings,
    ) -> Self {
        let StockParts { gateway, wanted, socket, registry } = parts;
        let mut runners = Self {
            born: engine.now(),
            engine,
            processes,
            surroundings,
            gateway,
            wanted,
            socket,
            registry: Registry::new(registry),
            ends: mpsc::unbounded_channel(),
            slots: BTreeMap::new(),
        };
        runners.expect_back();
        runners
    }

    /// The next thing to be handled. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Happening {
        let alarm = self.slots.values().filter_map(Slot::alarm).min();
        let due = async {
            match alarm {
                Some(alarm) => sleep_until(alarm).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(said) = self.wanted.reports.recv() => Happening::Said(said),
            Some(listening) = self.wanted.streams.recv() => Happening::Listens(listening),
            Some(died) = self.ends.1.recv() => Happening::Died(died),
            () = due => Happening::Time,
        }
    }

    /// Handles what [`StockRunners::next`] gave.
    pub(super) fn handle(&mut self, happening: Happening) -> Result<(), EngineError> {
        match happening {
            Happening::Said(said) => self.hear(said),
            Happening::Listens(listening) => self.listens(&listening),
            Happening::Died((key, end)) => self.died(key, end),
            Happening::Time => self.on_time(Instant::now()),
        }
    }

    /// Gives a claimed attempt to the runner of its revision.
    pub(super) fn spawn(
        &mut self,
        task: &Task,
        (revision, definition): (Arc<Revision>, &Definition),
        arguments: &serde_json::Value,
    ) -> Result<(), EngineError> {
        let Some(lease) = task.state.lease().copied() else { return Ok(()) };
        if self.has(task.id, lease.attempt) {
            return Ok(());
        }
        let place = (task.spec.app.clone(), revision.number);
        let slot = self.slots.entry(place.clone()).or_insert_with(|| Slot::new(revision));
        let limits = Limits { timeout: task.spec.timeout, grace: task.spec.grace };
        let tick = definition.kind == Kind::Tick;
        if lease.since < self.born {
            return self.take_over(&place, task, (lease.attempt, limits));
        }
        let delivery = StockTask {
            task: task.id,
            attempt: lease.attempt,
            name: task.spec.name.clone(),
            kwargs: arguments.to_string(),
            session_id: task.spec.labels.get(SESSION_LABEL).cloned().unwrap_or_default(),
            // The limit is ours to keep, so that it can be counted anew.
            timeout: i32::MAX,
            tick,
        };
        slot.waiting.push(Waiting { delivery, limits });
        self.pump(&place)
    }

    /// Stops an attempt; `drain` = its task is put back. False: no runner has it.
    pub(super) fn stop(
        &mut self,
        (task, attempt): (TaskId, AttemptNumber),
        grace: Span,
        drain: bool,
    ) -> Result<bool, EngineError> {
        for slot in self.slots.values_mut() {
            let Some(found) = slot.attempt_mut(task, attempt) else {
                if slot.withdraw(task, attempt) {
                    self.release(task, attempt)?;
                    return Ok(true);
                }
                continue;
            };
            if found.reported {
                return Ok(true);
            }
            if self.gateway.forget_stock(task, attempt) {
                slot.remove(task, attempt);
                self.release(task, attempt)?;
                return Ok(true);
            }
            found.stop(if drain { Stop::Drain } else { Stop::Cancel }, grace);
            self.gateway.stop_stock(task, attempt);
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether a runner has this attempt, or will.
    pub(super) fn has(&self, task: TaskId, attempt: AttemptNumber) -> bool {
        self.slots.values().any(|slot| slot.has(task, attempt))
    }

    /// The verdict of an attempt is durable.
    pub(super) fn ack(&mut self, task: TaskId, attempt: AttemptNumber) {
        for slot in self.slots.values_mut() {
            if slot.attempt_mut(task, attempt).is_some_and(|found| found.reported) {
                // With it goes what the runner's report waits for.
                slot.remove(task, attempt);
            }
        }
        self.retire();
    }

    /// Counts the time limit of an attempt anew. False: no runner has it.
    pub(super) fn refresh(&mut self, task: TaskId, attempt: AttemptNumber) -> bool {
        let mut slots = self.slots.values_mut();
        let found = slots.find_map(|slot| slot.attempt_mut(task, attempt));
        found.map(Attempt::count_anew).is_some()
    }

    /// A session with the keeper is open: the engine asks anew for all that no runner has begun.
    pub(super) fn gather(&mut self) {
        for slot in self.slots.values_mut() {
            slot.waiting.clear();
            let gateway = &self.gateway;
            if let Some(runner) = &mut slot.runner {
                runner.attempts.retain(|(task, attempt), found| {
                    found.reported || !gateway.forget_stock(*task, *attempt)
                });
            }
        }
    }

    /// What living runners have begun, for the engine to compare.
    pub(super) fn known(&self) -> Vec<KnownAttempt> {
        let mut known = Vec::new();
        for runner in self.slots.values().filter_map(|slot| slot.runner.as_ref()) {
            let Some(pid) = runner.process.pid().filter(|_| runner.died.is_none()) else {
                continue;
            };
            for ((task, attempt), found) in &runner.attempts {
                known.push(KnownAttempt {
                    task: *task,
                    attempt: *attempt,
                    pid,
                    started: found.began.unwrap_or_else(|| self.engine.now()),
                    ended: found.reported,
                    tree_gone: found.reported,
                });
            }
        }
        known
    }

    /// Gives what waits to a runner that listens; starts one when there is none.
    fn pump(&mut self, place: &Place) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        if slot.waiting.is_empty() {
            return Ok(());
        }
        if let Some(runner) = slot.runner.as_mut().filter(|runner| runner.takes()) {
            for Waiting { delivery, limits } in slot.waiting.drain(..) {
                let key = (delivery.task, delivery.attempt);
                runner.attempts.insert(key, Attempt::new(limits));
                self.gateway.deliver_stock(&place.0, place.1, delivery);
            }
            return Ok(());
        }
        if slot.may_launch() { self.launch(place) } else { Ok(()) }
    }

    /// Gives an attempt back that nobody has begun.
    fn release(&self, task: TaskId, attempt: AttemptNumber) -> Result<(), EngineError> {
        let verdict = Verdict::NotStarted(NotStarted::Released);
        self.engine.report(task, never_ran(attempt, verdict, self.engine.now()), true)
    }
}
