//! A daemon's lives, one after the other, over one store, one clock and a row of keepers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use capsule_core::command::Command;
use capsule_core::id::{Seq, TaskId, Uuid};
use capsule_core::spec::TaskSpec;
use capsule_core::task::Task;
use capsule_core::time::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::START;
use super::keeper::Keeper;
use super::store::CrashStore;
use super::{Stop, broken, ensure};
use crate::book;
use crate::clock::HandClock;
use crate::engine::{Cursor, Effect, Engine, EngineError, EngineThread, Parts, Recovered, records};
use crate::store::{KeyRange, SideFiles, StateDir, Store as _, StoreError, Table};

/// How many attempts may run at once.
pub(super) const SLOTS: usize = 3;

/// Steps after which somebody connects again.
const OFFLINE_MAX: u32 = 3;

/// What was acknowledged, and how all tasks stood after the last step.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// Ids that were ever seen outside.
    pub(super) given: BTreeSet<TaskId>,
    pub(super) removed: BTreeSet<TaskId>,
    /// Asked to begin again, since the last look.
    pub(super) retried: BTreeSet<TaskId>,
    /// Asked to move, since the last look.
    pub(super) moved: BTreeSet<TaskId>,
    /// What was submitted with a key, and which task stands for it.
    pub(super) keyed: Vec<(TaskSpec, Vec<u8>)>,
    pub(super) keys: BTreeMap<(String, String), TaskId>,
    /// Schedules that were ever seen.
    pub(super) schedules: BTreeSet<TaskId>,
    /// The highest id that was ever seen.
    pub(super) highest: TaskId,
    /// The last change that was published.
    pub(super) published: Seq,
    /// The last change of each task in the feed, since the last look.
    pub(super) reread: BTreeMap<TaskId, Seq>,
    /// The settings of queues at the last look.
    pub(super) queues: BTreeMap<String, book::Queue>,
    /// The clock, and which life it was, at the last look.
    pub(super) clock: Timestamp,
    /// The latest that the clock ever was at a look.
    pub(super) latest: Timestamp,
    pub(super) lives: u32,
}

/// Everything.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) clock: Arc<HandClock>,
    pub(super) store: Arc<CrashStore>,
    pub(super) keeper: Keeper,
    pub(super) record: Record,
    /// What else dies in the crash that is planned: the keeper, and the machine.
    pub(super) crash_with: Option<bool>,
    pub(super) cursor: Cursor,
    effects: UnboundedReceiver<Effect>,
    thread: Option<EngineThread>,
    state: StateDir,
    boot: u32,
    offline: u32,
    pub(super) lives: u32,
    _dir: tempfile::TempDir,
}

/// A daemon in one life: its door, its thread and what it wants done.
type Life = (Engine, EngineThread, UnboundedReceiver<Effect>);

impl World {
    /// A first life, over a store that takes so many changes at once.
    pub(super) async fn new(most_changes: usize) -> Result<Self, Stop> {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        std::fs::create_dir(state.side()).unwrap();
        let store = Arc::new(CrashStore::taking(most_changes));
        let clock = Arc::new(HandClock::new(START));
        let (engine, thread, effects) = live(&state, &store, &clock, 0)?;
        let mut world = Self {
            cursor: engine.feed().cursor(),
            engine,
            clock,
            store,
            keeper: Keeper::new(),
            record: Record::default(),
            crash_with: None,
            effects,
            thread: Some(thread),
            state,
            boot: 0,
            offline: 0,
            lives: 0,
            _dir: dir,
        };
        world.connect().await?;
        Ok(world)
    }

    /// Connects to the keeper, which tells what it has.
    pub(super) async fn connect(&mut self) -> Result<(), Stop> {
        if self.keeper.connected {
            return Ok(());
        }
        self.offline = 0;
        let instance = Uuid([self.keeper.life; 16]);
        let keeper = book::Keeper { instance, pid: 1, attribution: "cgroup".to_owned() };
        self.engine.keeper_up(keeper, self.keeper.inventory()).await?;
        self.keeper.connected = true;
        self.keeper.tell_all(&self.engine)
    }

    /// The connection breaks; what was under way in it is lost.
    pub(super) fn disconnect(&mut self) -> Result<(), Stop> {
        if !self.keeper.connected {
            return Ok(());
        }
        // What the daemon itself would do of them is done at the end of a session anyway.
        while self.effects.try_recv().is_ok() {}
        self.keeper.put_back(&self.engine)?;
        self.keeper.cut_off();
        Ok(self.engine.keeper_down()?)
    }

    /// Waits until everything told before is decided, committed and visible.
    async fn settle(&self) -> Result<(), Stop> {
        // Nothing is asked of nobody: whatever was told before is decided before.
        drop(self.engine.act(Vec::new(), Command::Promote).await?);
        Ok(())
    }

    /// Has the effects carried out, and what follows from them.
    pub(super) async fn carry_out(&mut self) -> Result<(), Stop> {
        loop {
            self.settle().await?;
            if !self.keeper.connected || self.keeper.slow {
                return Ok(());
            }
            let mut some = false;
            while let Ok(effect) = self.effects.try_recv() {
                some = true;
                self.heed(effect)?;
            }
            if !some {
                return Ok(());
            }
        }
    }

    /// Whatever leaves the engine rests on what is durable.
    fn rests_on_disk(&self, effect: &Effect) -> Result<(), Stop> {
        let (task, durable) = match effect {
            Effect::Spawn(task) => {
                let now = self.task(task.id)?;
                (task.id, now.is_some_and(|now| now.attempts >= task.attempts))
            }
            Effect::Ack { task, attempt, .. } => {
                let live = self.task(*task)?.and_then(|task| task.state.lease().copied());
                (*task, live.is_none_or(|lease| lease.attempt != *attempt))
            }
            Effect::Stop { .. }
            | Effect::PutBack
            | Effect::Refresh { .. }
            | Effect::Callback { .. }
            | Effect::Forgotten { .. }
            | Effect::AppsChanged => return Ok(()),
        };
        let durable = durable || self.record.removed.contains(&task);
        ensure(durable, "no effect before its reason is durable", || format!("{effect:#?}"))
    }

    fn heed(&mut self, effect: Effect) -> Result<(), Stop> {
        self.rests_on_disk(&effect)?;
        let engine = &self.engine;
        match effect {
            Effect::Spawn(task) => {
                let shares = engine.book().shares(task.id);
                self.keeper.spawn(engine, (&task, shares), SLOTS)
            }
            Effect::Stop { task, attempt, .. } => self.keeper.stop(engine, (task, attempt)),
            Effect::PutBack => self.keeper.put_back(engine),
            Effect::Ack { task, attempt, .. } => {
                self.keeper.acknowledged((task, attempt));
                Ok(())
            }
            Effect::Refresh { .. }
            | Effect::Callback { .. }
            | Effect::Forgotten { .. }
            | Effect::AppsChanged => Ok(()),
        }
    }

    /// Lets time pass for those that nobody is connected to.
    pub(super) async fn after_step(&mut self) -> Result<(), Stop> {
        self.offline = if self.keeper.connected { 0 } else { self.offline + 1 };
        if self.offline >= OFFLINE_MAX { self.connect().await } else { Ok(()) }
    }

    /// The daemon ends in order, and another one begins.
    pub(super) async fn restart(&mut self) -> Result<(), Stop> {
        self.engine.close().await;
        if self.store.has_crashed() {
            return Err(Stop::Crash);
        }
        self.begin_again(false)
    }

    /// The daemon has died: begins again with what is durable.
    pub(super) fn reopen(&mut self) -> Result<(), Stop> {
        if let Some(reboot) = self.crash_with.take() {
            self.keeper.die();
            self.boot += u32::from(reboot);
        }
        self.begin_again(true)
    }

    fn begin_again(&mut self, died: bool) -> Result<(), Stop> {
        let ended = self.thread.take().map(EngineThread::join);
        let as_planned = match &ended {
            Some(Ok(Err(EngineError::Store(StoreError::Poisoned { .. })))) => died,
            Some(Ok(Ok(()))) => !died,
            Some(Ok(Err(_)) | Err(_)) | None => false,
        };
        ensure(as_planned, "the engine ends only with its store", || format!("{ended:?}"))?;
        // What the last life still sent may have been heard.
        while let Ok(effect) = self.effects.try_recv() {
            self.rests_on_disk(&effect)?;
        }
        self.keeper.cut_off();
        self.store.reopen();
        let (engine, thread, effects) = live(&self.state, &self.store, &self.clock, self.boot)?;
        let latest = engine.feed().latest();
        ensure(latest >= self.record.published, "numbers of changes never go back", || {
            format!("{latest} after {}", self.record.published)
        })?;
        self.record.published = latest;
        self.cursor = engine.feed().cursor();
        self.lives += 1;
        (self.engine, self.effects, self.thread) = (engine, effects, Some(thread));
        Ok(())
    }

    /// A task as it is durable.
    pub(super) fn task(&self, id: TaskId) -> Result<Option<Task>, Stop> {
        Ok(records::task(&*self.store, id)?)
    }

    /// All tasks as they are durable.
    pub(super) fn tasks(&self) -> Result<BTreeMap<TaskId, Task>, Stop> {
        let mut tasks = BTreeMap::new();
        let mut failed = None;
        let scanned = self.store.scan(Table::Task, KeyRange::ALL, &mut |key, value| {
            match records::decode_task(key, value) {
                Ok(task) => drop(tasks.insert(task.id, task)),
                Err(error) => failed = Some(error),
            }
            ControlFlow::Continue(())
        });
        match (scanned, failed) {
            (Ok(()), None) => Ok(tasks),
            (Err(error), _) => Err(broken("the store can be read", error.to_string())),
            (_, Some(error)) => Err(error.into()),
        }
    }
}

fn live(
    state: &StateDir,
    store: &Arc<CrashStore>,
    clock: &Arc<HandClock>,
    boot: u32,
) -> Result<Life, Stop> {
    let parts = Parts {
        side: SideFiles::new(state),
        clock: Arc::clone(clock) as Arc<dyn crate::clock::Clock>,
        recovered: Recovered::from_store(&**store, u32::try_from(SLOTS).unwrap_or(0))?,
        boot_id: format!("boot {boot}"),
        state_dir: state.root().to_path_buf(),
        store: Arc::clone(store) as Arc<dyn crate::store::Store>,
    };
    Ok(Engine::start(parts)?)
}
