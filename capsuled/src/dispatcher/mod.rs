//! Between the engine and the keeper: claimed attempts go to the keeper, its reports come back.
//!
//! It decides nothing. It must not know queues, retries or the wire of clients. Invariant: a
//! verdict is acknowledged to the keeper only after the engine said that it is durable, and an
//! attempt goes only to the keeper for which it was claimed.

mod forks;
mod heard;
mod hosts;
mod pause;
mod plan;
mod python;
mod registry;
mod report;
mod shared;
mod stock;
mod turns;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capsule_core::attempt::{NotStarted, Verdict};
use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsule_core::task::Task;
use capsule_core::time::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use self::forks::Forks;
use self::hosts::Hosts;
pub use self::hosts::{Caller, Calls, HostParts, NoCalls};
use self::plan::PlanError;
pub use self::plan::Surroundings;
pub use self::python::PythonSurroundings;
pub use self::report::STOCK;
use self::report::micros;
pub use self::shared::PythonParts;
use self::shared::{Refusal, Shared};
pub use self::stock::StockParts;
use self::stock::StockRunners;
use self::turns::Turns;
use crate::book::Keeper;
use crate::callback::Callbacks;
use crate::engine::{Effect, Engine, EngineError, KnownAttempt};
use crate::failpoint;
use crate::jail::Plan;
use crate::keeper::wire::{self, Command};
use crate::logs::LogDir;
use crate::runner::link::{Link, LinkError, Session};
use crate::runner::process::{self, Processes};

/// How the keeper is found, and made when there is none.
pub struct KeeperAccess {
    /// Its socket.
    pub socket: PathBuf,
    /// The store that it serves.
    pub store: uuid::Uuid,
    /// Where it writes logs.
    pub logs: OwnedFd,
    /// Starts one; returns when it listens.
    pub start: Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>,
}

impl std::fmt::Debug for KeeperAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeeperAccess").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Carries effects to the keeper and reports to the engine, session after session.
#[derive(Debug)]
pub struct Dispatcher {
    /// The one door to tasks.
    pub engine: Engine,
    /// What the engine wants done.
    pub effects: UnboundedReceiver<Effect>,
    /// How to reach the keeper.
    pub access: KeeperAccess,
    /// What attempts wrote, events among it.
    pub logs: Arc<LogDir>,
    /// What every attempt is given.
    pub surroundings: Surroundings,
    /// What the keeper runs besides attempts.
    pub processes: Processes,
    /// How many attempts the keeper may have at once.
    pub slots: u32,
    /// Tells the ends of tasks to those who asked for that.
    pub callbacks: Option<Callbacks>,
    /// Told to the keeper when the daemon ends: true = kill all and end, false = end when idle.
    pub quit: tokio::sync::watch::Receiver<Option<bool>>,
}

/// The pause before the keeper is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest of those pauses.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// Reports taken at once.
const REPORTS: usize = 256;

impl Dispatcher {
    /// Runs until the engine is gone or the daemon ends.
    ///
    /// # Errors
    /// The engine is gone.
    pub async fn run(mut self, parts: PythonParts) -> Result<(), EngineError> {
        let with = || (self.engine.clone(), self.processes.clone());
        let python = || self.surroundings.python.clone();
        let mut shared = Shared {
            hosts: Hosts::new(parts.hosts, with(), python(), Arc::clone(&self.logs)),
            stock: StockRunners::new(parts.stock, with(), python()),
            forks: Forks::new(with(), python()),
            turns: Turns::new(self.slots),
            swept: false,
        };
        let mut pause = AGAIN;
        loop {
            match self.open().await {
                Ok(session) => {
                    pause = AGAIN;
                    if self.session(session, &mut shared).await? {
                        return Ok(());
                    }
                    self.processes.disconnected();
                    self.put_back(&mut shared)?;
                    self.engine.keeper_down()?;
                    tracing::warn!("the keeper is gone");
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the keeper cannot be reached"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = self.quit.changed() => return Ok(()),
                    }
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
        }
    }

    /// Connects to the keeper; starts one when nobody listens.
    async fn open(&self) -> Result<Session, LinkError> {
        match self.connect().await {
            Err(LinkError::Absent { .. }) => {
                let start = Arc::clone(&self.access.start);
                tokio::task::spawn_blocking(move || start())
                    .await
                    .map_err(std::io::Error::other)??;
                self.connect().await
            }
            other => other,
        }
    }

    async fn connect(&self) -> Result<Session, LinkError> {
        // Epochs rise with the clock; a clock set back is overtaken by the pid of the peer's lock.
        let epoch = u64::try_from(self.engine.now().0).unwrap_or(0);
        let KeeperAccess { socket, store, logs, .. } = &self.access;
        Link::connect(socket, *store, epoch, logs.as_fd()).await
    }

    /// One session from greeting to end. True = the daemon ends.
    async fn session(
        &mut self,
        session: Session,
        shared: &mut Shared,
    ) -> Result<bool, EngineError> {
        let Session { link, welcome, inventory, mut reports } = session;
        let (others, items): (Vec<_>, Vec<_>) =
            inventory.items.into_iter().partition(|item| item.key.task & process::BIT != 0);
        let keeper = Keeper {
            instance: welcome.instance.parse().unwrap_or_default(),
            pid: u32::try_from(welcome.pid).unwrap_or(0),
            attribution: match welcome.attribution() {
                wire::Attribution::Cgroup => "cgroup",
                wire::Attribution::Reaper => "reaper",
                wire::Attribution::Unknown => "unknown",
            }
            .to_owned(),
        };
        tracing::info!(keeper.pid, attempts = items.len(), "the keeper is connected");
        self.processes.connected(link.clone(), &others);
        let instance = keeper.instance;
        let mut known: Vec<KnownAttempt> = items.iter().map(known).collect();
        let live = known.iter().filter(|known| !known.tree_gone);
        shared.turns.begin(live.map(|known| (known.task, known.attempt)));
        known.extend(shared.gather().await?);
        self.engine.keeper_up(keeper, known).await?;
        for ended in items.into_iter().filter_map(|item| item.ended) {
            self.ended(&ended)?;
        }
        shared.settled(&self.surroundings, &self.engine)?;
        shared.forks.connected(&welcome);
        let mut batch = Vec::new();
        loop {
            let overdue = shared.turns.deadline();
            tokio::select! {
                effect = self.effects.recv() => match effect {
                    Some(effect) => self.carry_out(&link, shared, instance, effect)?,
                    None => return Ok(true),
                },
                happening = shared.next() => shared.handle(happening)?,
                count = reports.next_many(&mut batch, REPORTS) => {
                    // Before reports make more start: after some effects less may start.
                    while let Ok(effect) = self.effects.try_recv() {
                        self.carry_out(&link, shared, instance, effect)?;
                    }
                    for report in batch.drain(..) {
                        match report {
                            Ok(report) => {
                                self.make_room(&link, shared, &report)?;
                                self.hear(&report)?;
                            }
                            Err(error) => {
                                tracing::warn!(%error, "the session with the keeper ends");
                                return Ok(false);
                            }
                        }
                    }
                    if count == 0 {
                        return Ok(false);
                    }
                }
                () = sleep_until(overdue) => self.put_back(shared)?,
                changed = self.quit.changed() => {
                    let kill = *self.quit.borrow_and_update();
                    if let Some(kill) = kill.filter(|_| changed.is_ok()) {
                        link.send(Command::Quit(wire::Quit { kill }));
                        self.processes.disconnected();
                        drop(link);
                        // The session's end says that the keeper took the word.
                        while reports.next().await.is_some_and(|report| report.is_ok()) {}
                    }
                    return Ok(true);
                }
            }
        }
    }

    fn carry_out(
        &self,
        link: &Link,
        shared: &mut Shared,
        keeper: Uuid,
        effect: Effect,
    ) -> Result<(), EngineError> {
        match effect {
            Effect::Spawn(task) => {
                let lease = task.state.lease().copied().filter(|lease| lease.keeper == keeper);
                // Claimed for a former keeper: settled as lost when this one came.
                let Some(lease) = lease else { return Ok(()) };
                self.spawn(link, shared, &task, lease.attempt)?;
            }
            Effect::PutBack => self.put_back(shared)?,
            Effect::Stop { task, attempt, grace, drain } => {
                if shared.turns.give_up((task, attempt)) {
                    return self.released(task, attempt);
                }
                if shared.stop((task, attempt), grace, drain)? {
                    return Ok(());
                }
                let why = if drain { wire::StopWhy::Drain } else { wire::StopWhy::Cancel };
                let key = key(task, attempt);
                link.send(Command::Cancel(wire::Cancel {
                    key,
                    grace_ms: grace.0,
                    why: why.into(),
                }));
            }
            Effect::Ack { task, attempt, written } => {
                failpoint::pass("before-ack");
                self.logs.ended(task.0, attempt.0, written);
                if !shared.ack(task, attempt) {
                    self.surroundings.clear(task, attempt);
                    link.send(Command::Ack(key(task, attempt)));
                }
            }
            Effect::Refresh { task, attempt, timeout } => {
                if !shared.refresh(task, attempt) {
                    let (key, deadline_ms) = (key(task, attempt), timeout.0);
                    link.send(Command::Refresh(wire::Refresh { key, deadline_ms }));
                }
            }
            Effect::Callback { task, url } => {
                if let Some(callbacks) = &self.callbacks {
                    callbacks.tell(url, report::told(&task));
                }
            }
            Effect::Forgotten { task, first, last } => self.logs.forget(task.0, first.0..=last.0),
            Effect::AppsChanged => shared.reconcile()?,
        }
        Ok(())
    }

    fn spawn(
        &self,
        link: &Link,
        shared: &mut Shared,
        task: &Arc<Task>,
        attempt: AttemptNumber,
    ) -> Result<(), EngineError> {
        match shared.spawn(&self.engine, task) {
            Ok(true) => Ok(()),
            Ok(false) => {
                if shared.turns.take((task.id, attempt), task) {
                    self.ask_keeper(link, shared, task, attempt)?;
                }
                Ok(())
            }
            Err(Refusal::Engine(error)) => Err(error),
            Err(Refusal::Plan(error)) => self.unprepared(task.id, attempt, &error),
        }
    }

    /// Has the keeper start an attempt that has a slot.
    fn ask_keeper(
        &self,
        link: &Link,
        shared: &mut Shared,
        task: &Task,
        attempt: AttemptNumber,
    ) -> Result<(), EngineError> {
        match self.surroundings.plan(&self.engine, task, attempt) {
            Ok(plan) => {
                let plan = Plan { fork: shared.fork(&self.engine, task), ..plan };
                link.send(Command::Spawn(wire::Spawn { key: key(task.id, attempt), plan }));
                Ok(())
            }
            Err(error) => {
                shared.turns.leave((task.id, attempt));
                self.unprepared(task.id, attempt, &error)
            }
        }
    }

    fn unprepared(
        &self,
        task: TaskId,
        attempt: AttemptNumber,
        error: &PlanError,
    ) -> Result<(), EngineError> {
        tracing::error!(
            task.id = task.0,
            error = error as &dyn std::error::Error,
            "an attempt cannot be prepared"
        );
        let verdict = match error {
            // Our disk, not the task: it may be tried again.
            PlanError::Write { .. } => Verdict::NotStarted(NotStarted::NoResources),
            PlanError::PayloadGone
            | PlanError::PayloadUnreadable
            | PlanError::NoDefinition
            | PlanError::OtherRunner(_) => report::unstartable("plan", &error.to_string()),
        };
        self.never_ran(task, attempt, verdict)
    }

    fn never_ran(
        &self,
        task: TaskId,
        attempt: AttemptNumber,
        verdict: Verdict,
    ) -> Result<(), EngineError> {
        let ending = report::never_ran(attempt, verdict, self.engine.now());
        self.engine.report(task, ending, true)
    }
}

/// Sleeps for ever when there is no instant.
async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn known(item: &wire::Item) -> KnownAttempt {
    let (task, attempt) = names(item.key);
    KnownAttempt {
        task,
        attempt,
        pid: u32::try_from(item.pid).unwrap_or(0),
        started: Timestamp(micros(item.started_us)),
        ended: item.ended.is_some(),
        tree_gone: item.ended.as_ref().is_some_and(|ended| ended.tree_gone),
    }
}

fn names(key: wire::Key) -> (TaskId, AttemptNumber) {
    (TaskId(key.task), AttemptNumber(key.attempt))
}

fn key(task: TaskId, attempt: AttemptNumber) -> wire::Key {
    wire::Key { task: task.0, attempt: attempt.0 }
}
