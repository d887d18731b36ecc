//! Between the engine and the keeper: claimed attempts go to the keeper, its reports come back.
//!
//! It decides nothing. It must not know queues, retries or the wire of clients. Invariant: a
//! verdict is acknowledged to the keeper only after the engine said that it is durable, and an
//! attempt goes only to the keeper for which it was claimed.

mod plan;
mod report;

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capsule_core::attempt::{NotStarted, ResultRefusal, Verdict};
use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsule_core::spec::{INLINE_RESULT_MAX, Payload};
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;

use self::plan::PlanError;
pub use self::plan::Surroundings;
use self::report::micros;
use crate::book::Keeper;
use crate::engine::{Effect, Engine, EngineError, KnownAttempt};
use crate::keeper::wire::{self, Command, Report};
use crate::logs::{LogDir, LogReader, Stream};
use crate::runner::link::{Link, LinkError, Session};
use crate::store::SideKind;

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
    /// Told to the keeper when the daemon ends: true = kill all and end, false = end when idle.
    pub quit: tokio::sync::watch::Receiver<Option<bool>>,
}

/// Attempts of a session that have no work files: most, and knowing costs less than looking.
type Tidy = HashSet<(TaskId, AttemptNumber)>;

/// The pause before the keeper is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest of those pauses.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// The longest event line that is looked at.
const EVENT_MAX: usize = 16 << 10;
/// The longest pause that an attempt may ask for: a day.
const RETRY_AFTER_MAX: Span = Span::from_secs(86_400);
/// Reports taken at once.
const REPORTS: usize = 256;

impl Dispatcher {
    /// Runs until the engine is gone or the daemon ends.
    ///
    /// # Errors
    /// The engine is gone.
    pub async fn run(mut self) -> Result<(), EngineError> {
        let mut pause = AGAIN;
        loop {
            match self.open().await {
                Ok(session) => {
                    pause = AGAIN;
                    if self.session(session).await? {
                        return Ok(());
                    }
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
    async fn session(&mut self, session: Session) -> Result<bool, EngineError> {
        let Session { link, welcome, inventory, mut reports } = session;
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
        tracing::info!(keeper.pid, attempts = inventory.items.len(), "the keeper is connected");
        let instance = keeper.instance;
        let mut tidy = Tidy::new();
        let known = inventory.items.iter().map(known).collect();
        self.engine.keeper_up(keeper, known).await?;
        for ended in inventory.items.into_iter().filter_map(|item| item.ended) {
            self.ended(&ended, &mut tidy)?;
        }
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                effect = self.effects.recv() => match effect {
                    Some(effect) => self.carry_out(&link, instance, effect, &mut tidy)?,
                    None => return Ok(true),
                },
                count = reports.next_many(&mut batch, REPORTS) => {
                    for report in batch.drain(..) {
                        match report {
                            Ok(report) => self.hear(&report, &mut tidy)?,
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
                changed = self.quit.changed() => {
                    let kill = *self.quit.borrow_and_update();
                    if let Some(kill) = kill.filter(|_| changed.is_ok()) {
                        link.send(Command::Quit(wire::Quit { kill }));
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
        keeper: Uuid,
        effect: Effect,
        tidy: &mut Tidy,
    ) -> Result<(), EngineError> {
        match effect {
            Effect::Spawn(task) => {
                let lease = task.state.lease().copied().filter(|lease| lease.keeper == keeper);
                // Claimed for a former keeper: settled as lost when this one came.
                let Some(lease) = lease else { return Ok(()) };
                self.spawn(link, &task, lease.attempt, tidy)?;
            }
            Effect::Stop { task, attempt, grace, drain } => {
                let why = if drain { wire::StopWhy::Drain } else { wire::StopWhy::Cancel };
                let key = key(task, attempt);
                link.send(Command::Cancel(wire::Cancel {
                    key,
                    grace_ms: grace.0,
                    why: why.into(),
                }));
            }
            Effect::Ack { task, attempt } => {
                if !tidy.remove(&(task, attempt)) {
                    self.surroundings.clear(task, attempt);
                }
                link.send(Command::Ack(key(task, attempt)));
            }
        }
        Ok(())
    }

    fn spawn(
        &self,
        link: &Link,
        task: &Task,
        attempt: AttemptNumber,
        tidy: &mut Tidy,
    ) -> Result<(), EngineError> {
        match self.surroundings.plan(&self.engine, task, attempt) {
            Ok((plan, has_payload)) => {
                if !has_payload {
                    tidy.insert((task.id, attempt));
                }
                link.send(Command::Spawn(wire::Spawn { key: key(task.id, attempt), plan }));
                Ok(())
            }
            Err(error) => {
                tracing::error!(
                    task.id = task.id.0,
                    error = &error as &dyn std::error::Error,
                    "an attempt cannot be prepared"
                );
                let verdict = match error {
                    // Our disk, not the task: it may be tried again.
                    PlanError::Write { .. } => Verdict::NotStarted(NotStarted::NoResources),
                    PlanError::PayloadGone
                    | PlanError::PayloadUnreadable
                    | PlanError::NoDefinition => report::unstartable("plan", &error.to_string()),
                };
                self.never_ran(task.id, attempt, verdict)
            }
        }
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

    fn hear(&self, report: &Report, tidy: &mut Tidy) -> Result<(), EngineError> {
        match report {
            Report::Started(started) => {
                let (task, attempt) = names(started.key);
                let pid = u32::try_from(started.pid).unwrap_or(0);
                let at = Timestamp(micros(started.started_us));
                self.engine.started(task, attempt, pid, at)
            }
            Report::CannotStart(refused) => {
                let (task, _) = names(refused.key);
                let ending = report::cannot_start(refused, self.engine.now());
                self.engine.report(task, ending, true)
            }
            Report::Ended(ended) => self.ended(ended, tidy),
            Report::Gone(ended) => {
                let (task, attempt) = names(ended.key);
                self.engine.gone(task, attempt)
            }
            // An attempt that was never there needs no stopping.
            Report::NoSuch(_) => Ok(()),
            Report::Welcome(_) | Report::Refused(_) | Report::Inventory(_) => {
                tracing::warn!("the keeper said a second time what it says once");
                Ok(())
            }
        }
    }

    fn ended(&self, ended: &wire::Ended, tidy: &mut Tidy) -> Result<(), EngineError> {
        let (task, attempt) = names(ended.key);
        let mut ending = report::ended(ended);
        let mut left_nothing = false;
        if matches!(ending.verdict, Verdict::Completed | Verdict::Stopped(_)) {
            let found = self.surroundings.result(task, attempt);
            left_nothing = ended.tree_gone && matches!(found, Ok(None));
            match found.and_then(|bytes| self.keep_result(task, bytes.unwrap_or_default())) {
                Ok(result) => ending.result = result,
                Err(why) => {
                    tracing::warn!(task.id = task.0, %why, "the result is not kept");
                    ending.receipt.result_refused = Some(why);
                }
            }
        }
        if !left_nothing {
            tidy.remove(&(task, attempt));
        }
        if matches!(ending.verdict, Verdict::Failed(_)) && ended.log.event > 0 {
            ending.retry_after = self.retry_after(task, attempt);
        }
        self.engine.report(task, ending, ended.tree_gone)
    }

    /// What the attempt's last event asks for: `{"retry_after": "30s"}`.
    fn retry_after(&self, task: TaskId, attempt: AttemptNumber) -> Option<Span> {
        let mut reader = LogReader::open(Arc::clone(&self.logs), task.0, attempt.0);
        let line = reader.last_line(Stream::Event, EVENT_MAX).ok()??;
        let event: serde_json::Value = serde_json::from_slice(&line).ok()?;
        let wanted = Span::parse(event.get("retry_after")?.as_str()?).ok()?;
        Some(wanted.min(RETRY_AFTER_MAX))
    }

    fn keep_result(&self, task: TaskId, bytes: Vec<u8>) -> Result<Option<Payload>, ResultRefusal> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() <= INLINE_RESULT_MAX {
            return Ok(Some(Payload::Inline(bytes)));
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.engine.write_side(SideKind::Result, task, &bytes).map_err(|error| {
            tracing::error!(task.id = task.0, %error, "a result cannot be written");
            ResultRefusal::Unreadable
        })?;
        Ok(Some(Payload::Side { length }))
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
