//! The one door to change a task. Whoever wants something sends a request; one thread decides,
//! commits and only then answers, publishes and has things done.
//!
//! It must not know the wire, the keeper's protocol or processes. Invariant: nothing that leaves
//! this module (an answer, a change in the feed, an effect) rests on bytes that are not on disk.

mod batches;
mod committer;
mod deploy;
mod disk;
mod feed;
mod group;
mod records;
mod recover;
mod request;
mod retention;
mod submit;
#[cfg(test)]
mod tests;
mod ticks;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use capsule_core::command::{Command, Report};
use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, oneshot};

pub use self::deploy::APPS_MAX;
use self::disk::Disk;
pub use self::disk::FLOOR as DISK_FLOOR;
use self::feed::post::Post;
pub use self::feed::{Changed, Cursor, Feed, Lagged, RING};
pub use self::records::{
    ATTEMPTS_KEPT, Tombstone, attempts, keep_ids, oldest_attempt, task, tombstone,
};
pub use self::recover::Recovered;
pub use self::request::{
    Acted, Effect, EngineError, How, KnownAttempt, NewTask, QueueChange, Refusal, SubmitError,
    Submitted,
};
use self::request::{Reply, Request};
pub use self::retention::{STONES_KEPT, STONES_MAX};
pub use self::ticks::{
    Added, AskedBackfill, Backfilled, NewRecurrence, NewSchedule, Recurrence, SCHEDULES_MAX,
    ScheduleChange, ScheduleError, TickRow,
};
use crate::apps::Apps;
use crate::book::{Book, Keep, Keeper, Queue};
use crate::clock::Clock;
use crate::store::{SideFiles, SideKind, Store};

/// The longest payload, in bytes.
pub const PAYLOAD_MAX: usize = 1 << 20;
/// The longest result, in bytes.
pub const RESULT_MAX: usize = 1 << 20;
/// The most unfinished tasks.
pub const TASKS_MAX: u64 = 1_000_000;
/// The most queues with settings of their own.
pub const QUEUES_MAX: usize = 1000;
/// How long after its end a task still stands for its idempotency key.
pub const KEY_KEPT: Span = Span::from_secs(86_400);
/// The reason in [`Book::degraded`] that also refuses submits.
pub const DISK: &str = "disk";
/// Requests that may wait for the engine: more than all clients' streams together may hold.
pub const WAITING_MAX: usize = 16_384;

/// What the engine thread and its readers share.
#[derive(Debug)]
struct Shared {
    book: RwLock<Book>,
    /// The apps of the book, for those who must not wait for a commit.
    apps: RwLock<Arc<Apps>>,
    store: Arc<dyn Store>,
    side: SideFiles,
    clock: Arc<dyn Clock>,
    feed: Feed,
    post: Post,
    /// Names this boot of the machine.
    boot_id: String,
    keep: Keep,
}

/// A handle to the engine; clones are the same engine.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    requests: SyncSender<Request>,
}

/// The engine's thread, to be waited for at the end.
pub type EngineThread = JoinHandle<Result<(), EngineError>>;

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where tasks are durable.
    pub store: Arc<dyn Store>,
    /// Where large payloads and results are.
    pub side: SideFiles,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What the store holds, and how many attempts may run at once.
    pub recovered: Recovered,
    /// Names this boot of the machine (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The state directory: its disk must not fill up.
    pub state_dir: std::path::PathBuf,
}

impl Engine {
    /// Makes the book and starts the engine's thread. Each effect comes when its reason is durable.
    ///
    /// # Errors
    /// The store cannot be read, or the thread cannot be started.
    pub fn start(
        parts: Parts,
    ) -> Result<(Self, EngineThread, mpsc::UnboundedReceiver<Effect>), EngineError> {
        let Parts { store, side, clock, recovered, boot_id, state_dir } = parts;
        let (book, carry) = recovered.finish(&*store)?;
        retention::sweep_side_files(&side, &book);
        let feed = Feed::new(carry.seq);
        let shared = Arc::new(Shared {
            apps: RwLock::new(Arc::new(book.apps.clone())),
            book: RwLock::new(book),
            store,
            side,
            clock,
            feed,
            post: Post::default(),
            boot_id,
            keep: carry.retention.keep,
        });
        let (requests, inbox) = sync_channel(WAITING_MAX);
        let (effects, done) = mpsc::unbounded_channel();
        let committer = committer::Committer::new(
            Arc::clone(&shared),
            carry,
            (inbox, effects),
            Disk::new(state_dir),
        );
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || committer.run())
            .map_err(EngineError::Thread)?;
        Ok((Self { shared, requests }, thread, done))
    }

    /// Creates tasks; each submit stands for itself.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn submit(
        &self,
        submits: Vec<NewTask>,
    ) -> Result<Vec<Result<Submitted, SubmitError>>, EngineError> {
        self.ask(|reply| Request::Submit { submits, reply }).await
    }

    /// Asks the same of several tasks; each stands for itself.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn act(
        &self,
        tasks: Vec<TaskId>,
        command: Command,
    ) -> Result<Vec<Acted>, EngineError> {
        self.ask(|reply| Request::Act { tasks, command, reply }).await
    }

    /// Counts the time limit of a task's live attempt anew. False: it has no live attempt.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn refresh(&self, task: TaskId) -> Result<bool, EngineError> {
        self.ask(|reply| Request::Refresh { task, reply }).await
    }

    /// Forgets ended tasks.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn remove(&self, tasks: Vec<TaskId>) -> Result<Vec<Acted>, EngineError> {
        self.ask(|reply| Request::Remove { tasks, reply }).await
    }

    /// A process exists.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn started(
        &self,
        task: TaskId,
        attempt: AttemptNumber,
        pid: u32,
        at: Timestamp,
    ) -> Result<(), EngineError> {
        self.tell(Request::Started { task, attempt, pid, at })
    }

    /// An attempt is over; `tree_gone` when no process of it lives.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn report(&self, task: TaskId, report: Report, tree_gone: bool) -> Result<(), EngineError> {
        self.tell(Request::Report { task, report: Box::new(report), tree_gone })
    }

    /// The last process of an attempt is gone.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn gone(&self, task: TaskId, attempt: AttemptNumber) -> Result<(), EngineError> {
        self.tell(Request::Gone { task, attempt })
    }

    /// The keeper is connected and has these attempts; every other live attempt is settled.
    ///
    /// # Errors
    /// The engine is gone.
    pub async fn keeper_up(
        &self,
        keeper: Keeper,
        attempts: Vec<KnownAttempt>,
    ) -> Result<(), EngineError> {
        self.ask(|reply| Request::KeeperUp { keeper, attempts, reply }).await
    }

    /// The keeper is not connected: nothing starts until it is.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn keeper_down(&self) -> Result<(), EngineError> {
        self.tell(Request::KeeperDown)
    }

    /// Changes the settings of a queue.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn set_queue(&self, name: String, change: QueueChange) -> Result<Queue, EngineError> {
        self.ask(|reply| Request::SetQueue { name, change, reply }).await
    }

    /// Starts nothing new, or goes on. Not durable: a restart goes on.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn drain(&self, on: bool) -> Result<(), EngineError> {
        self.ask(|reply| Request::Drain { on, reply }).await
    }

    /// Stops every live attempt; its task is put back and no retry is used up.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn stop_all(&self, grace: Span) -> Result<Vec<TaskId>, EngineError> {
        self.ask(|reply| Request::StopAll { grace, reply }).await
    }

    /// Something keeps the daemon from starting attempts (`why`), or no longer does.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn degraded(&self, what: &'static str, why: Option<String>) -> Result<(), EngineError> {
        self.tell(Request::Degraded { what, why })
    }

    /// The machine's clock was set: the engine sleeps until instants of it, and looks again.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn clock_set(&self) -> Result<(), EngineError> {
        self.tell(Request::ClockSet)
    }

    /// Hands out answers where they are waited for: run it on the runtime that asks. Without it
    /// the engine's thread does so.
    pub fn hand_out_answers(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.post.run().await }
    }

    /// Ends the engine when everything asked before is done.
    pub async fn close(&self) {
        // Gone already is what was wanted.
        drop(self.ask(|reply| Request::Close { reply }).await);
    }

    /// Looks at the book; nothing is committed meanwhile, so look briefly.
    pub fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.shared.book.read()
    }

    /// Apps and their definitions as of the last commit; never waits for one.
    pub fn apps(&self) -> Arc<Apps> {
        Arc::clone(&self.shared.apps.read())
    }

    /// A task as it is on disk.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>, EngineError> {
        // Under the book's lock, so that nothing is seen before it is durable.
        let _book = self.book();
        task(self.store(), id)
    }

    /// The store, for reading.
    pub fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// The clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// How long ended tasks are kept.
    pub fn keep(&self) -> Keep {
        self.shared.keep
    }

    /// The live feed.
    pub fn feed(&self) -> &Feed {
        &self.shared.feed
    }

    /// A payload or result that is in a side file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn side(&self, kind: SideKind, id: TaskId) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.shared.side.read(kind, id.0, PAYLOAD_MAX.max(RESULT_MAX))?)
    }

    /// Writes a side file, durably.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_side(&self, kind: SideKind, id: TaskId, bytes: &[u8]) -> Result<(), EngineError> {
        self.shared.write_side(kind, id, bytes, RESULT_MAX)
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        match self.requests.try_send(request(reply)) {
            Ok(()) => answer.await.map_err(|_| EngineError::Gone),
            Err(TrySendError::Full(_)) => Err(EngineError::Busy(WAITING_MAX)),
            Err(TrySendError::Disconnected(_)) => Err(EngineError::Gone),
        }
    }

    /// Reports are bounded by the slots, so waiting for room is short and loses none.
    fn tell(&self, request: Request) -> Result<(), EngineError> {
        self.requests.send(request).map_err(|_| EngineError::Gone)
    }
}

impl Shared {
    fn write_side(
        &self,
        kind: SideKind,
        id: TaskId,
        bytes: &[u8],
        limit: usize,
    ) -> Result<(), EngineError> {
        Ok(self.side.write(kind, id.0, bytes, limit)?)
    }
}

/// A `UUIDv7` of this instant.
fn new_uuid(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.0).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000;
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, micros / 1_000_000, nanos);
    Uuid(uuid::Uuid::new_v7(stamp).into_bytes())
}
