//! All that runs attempts inside processes of several: our own hosts and the SDK's runners.

use std::sync::Arc;

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Task;
use capsule_core::time::Span;

use super::Surroundings;
use super::forks::{self, Forks};
use super::hosts::{self, HostParts, Hosts};
use super::plan::{self, PlanError};
use super::stock::{self, StockParts, StockRunners};
use super::turns::Turns;
use crate::apps::{Definition, Revision, Runner};
use crate::engine::{Engine, EngineError, KnownAttempt};
use crate::jail::Fork;

/// What runs Python apps is made with.
#[derive(Debug)]
pub struct PythonParts {
    /// For our own hosts.
    pub hosts: HostParts,
    /// For the SDK's runners.
    pub stock: StockParts,
}

/// Hosts and runners.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hosts: Hosts,
    pub(super) stock: StockRunners,
    pub(super) forks: Forks,
    pub(super) turns: Turns<Arc<Task>>,
    /// What former daemons left in the folder of attempts was looked at.
    pub(super) swept: bool,
}

/// What [`Shared::next`] gives.
#[derive(Debug)]
pub(super) enum Happening {
    Host(hosts::Happening),
    Stock(stock::Happening),
    ForksDied(forks::Death),
}

impl Shared {
    /// The engine knows which attempts there are.
    pub(super) fn settled(
        &mut self,
        surroundings: &Surroundings,
        engine: &Engine,
    ) -> Result<(), EngineError> {
        if !std::mem::replace(&mut self.swept, true) {
            surroundings.sweep(engine);
        }
        self.reconcile()
    }

    /// The next thing to be handled. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Happening {
        tokio::select! {
            happening = self.hosts.next() => Happening::Host(happening),
            happening = self.stock.next() => Happening::Stock(happening),
            Some(death) = self.forks.next() => Happening::ForksDied(death),
        }
    }

    /// Handles what [`Shared::next`] gave.
    pub(super) fn handle(&mut self, happening: Happening) -> Result<(), EngineError> {
        match happening {
            Happening::Host(happening) => self.hosts.handle(happening),
            Happening::Stock(happening) => self.stock.handle(happening),
            Happening::ForksDied(death) => {
                self.forks.died(&death);
                Ok(())
            }
        }
    }

    /// The warm server to fork an attempt from, should it be one that can be.
    pub(super) fn fork(&mut self, engine: &Engine, task: &Task) -> Option<Fork> {
        let (revision, definition) = plan::defined(engine, task)?;
        if definition.runner != Runner::Process {
            return None;
        }
        self.forks.server_of(&task.spec.app, &revision)
    }

    /// Gives a claimed attempt to whom its definition names. False: it has its own process.
    pub(super) fn spawn(&mut self, engine: &Engine, task: &Task) -> Result<bool, Refusal> {
        let Some((revision, definition)) = plan::defined(engine, task) else { return Ok(false) };
        if !definition.runner.is_shared() {
            return Ok(false);
        }
        let arguments = plan::arguments(engine, task)?;
        self.give(task, (revision, &definition), arguments)?;
        Ok(true)
    }

    fn give(
        &mut self,
        task: &Task,
        (revision, definition): (Arc<Revision>, &Definition),
        arguments: serde_json::Value,
    ) -> Result<(), EngineError> {
        if definition.runner == Runner::Stock {
            return self.stock.spawn(task, (revision, definition), &arguments);
        }
        self.hosts.spawn(task, (revision, definition), arguments)
    }

    /// Stops an attempt; `drain` = its task is put back. False: it is nowhere here.
    pub(super) fn stop(
        &mut self,
        (task, attempt): (TaskId, AttemptNumber),
        grace: Span,
        drain: bool,
    ) -> Result<bool, EngineError> {
        Ok(self.hosts.stop(task, attempt, grace)?
            || self.stock.stop((task, attempt), grace, drain)?)
    }

    /// The verdict of an attempt is durable. False: it is nowhere here.
    pub(super) fn ack(&mut self, task: TaskId, attempt: AttemptNumber) -> bool {
        if self.hosts.has(task, attempt) {
            self.hosts.ack(task, attempt);
            return true;
        }
        let has = self.stock.has(task, attempt);
        if has {
            self.stock.ack(task, attempt);
        }
        has
    }

    /// Counts the time limit of an attempt anew. False: it is nowhere here.
    pub(super) fn refresh(&mut self, task: TaskId, attempt: AttemptNumber) -> bool {
        self.hosts.refresh(task, attempt) || self.stock.refresh(task, attempt)
    }

    /// A session with the keeper is open: what they have, for the engine to compare.
    pub(super) async fn gather(&mut self) -> Result<Vec<KnownAttempt>, EngineError> {
        self.stock.gather();
        self.hosts.gather().await?;
        let mut known = self.hosts.known();
        known.extend(self.stock.known());
        Ok(known)
    }

    /// Starts and ends them as the apps in force need.
    pub(super) fn reconcile(&mut self) -> Result<(), EngineError> {
        self.hosts.reconcile()?;
        self.forks.reconcile();
        self.stock.reconcile()
    }
}

/// Why an attempt cannot be given away.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}
