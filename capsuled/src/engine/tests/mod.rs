//! The engine over the model store, a turned clock and a runner that is played by the test.

mod fires;
mod keeper;
mod locks;
mod schedules;
mod shared;
mod simulation;
mod submit;
mod ticks;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capsule_core::attempt::{Failure, Receipt, Verdict};
use capsule_core::command::{Command, Report};
use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy, Payload, TaskSpec};
use capsule_core::task::{Status, Task};
use capsule_core::time::{Span, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    Acted, Effect, Engine, EngineThread, How, KnownAttempt, NewTask, Parts, Recovered, SubmitError,
    Submitted,
};
use crate::book::{Keep, Keeper};
use crate::clock::{Clock as _, HandClock};
use crate::store::{MemoryStore, SideFiles, StateDir, Store};

pub(super) const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// An engine with everything around it in the test's hands.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) effects: UnboundedReceiver<Effect>,
    pub(super) clock: Arc<HandClock>,
    pub(super) store: Arc<dyn Store>,
    pub(super) keeper: u8,
    /// The store may end a life of the engine.
    pub(super) may_crash: bool,
    /// From the next restart on.
    pub(super) keep: Keep,
    slots: u32,
    thread: Option<EngineThread>,
    state: StateDir,
    _dir: tempfile::TempDir,
}

pub(super) fn spec(name: &str) -> TaskSpec {
    TaskSpec {
        app: String::new(),
        name: name.to_owned(),
        display_name: String::new(),
        owner: "ann".to_owned(),
        uid: 1000,
        queue: "default".to_owned(),
        priority: 0,
        labels: BTreeMap::new(),
        payload: Payload::Inline(Vec::new()),
        retries: 0,
        backoff: Backoff::default(),
        timeout: None,
        grace: Span::from_secs(10),
        delivery: Delivery::AtLeastOnce,
        lock: None,
        lock_policy: LockPolicy::Merge,
        key: None,
        start_within: None,
        after: Vec::new(),
        no_retry_exit_codes: Vec::new(),
        no_retry_on: Vec::new(),
        revision: 0,
        arguments: 1,
        summary: String::new(),
        not_before: None,
        hold: false,
        tick: None,
        parent: None,
    }
}

pub(super) fn locked(name: &str, policy: LockPolicy) -> TaskSpec {
    TaskSpec { lock: Some("owner:acme".to_owned()), lock_policy: policy, ..spec(name) }
}

impl Bench {
    /// An engine with a connected keeper.
    pub(super) async fn new(slots: u32) -> Self {
        let bench = Self::without_keeper(slots);
        bench.connect(Vec::new()).await;
        bench
    }

    pub(super) fn without_keeper(slots: u32) -> Self {
        Self::over(Arc::new(MemoryStore::new()), slots)
    }

    /// Over this store, without a keeper.
    pub(super) fn over(store: Arc<dyn Store>, slots: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        std::fs::create_dir(state.side()).unwrap();
        let clock = Arc::new(HandClock::new(START));
        let keep = Keep::default();
        let (engine, thread, effects) = start(&state, &store, &clock, (slots, keep));
        let thread = Some(thread);
        let may_crash = false;
        Self {
            engine,
            effects,
            clock,
            store,
            keeper: 1,
            may_crash,
            keep,
            slots,
            thread,
            state,
            _dir: dir,
        }
    }

    /// The daemon dies and another one starts on the same store.
    pub(super) async fn restart(&mut self) {
        self.engine.close().await;
        let thread = self.thread.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || thread.join()).await.unwrap().unwrap();
        assert!(ended.is_ok() || self.may_crash, "{ended:?}");
        let settings = (self.slots, self.keep);
        let (engine, thread, effects) = start(&self.state, &self.store, &self.clock, settings);
        (self.engine, self.effects, self.thread) = (engine, effects, Some(thread));
    }

    pub(super) async fn connect(&self, attempts: Vec<KnownAttempt>) {
        let keeper =
            Keeper { instance: Uuid([self.keeper; 16]), pid: 1, attribution: "cgroup".to_owned() };
        self.engine.keeper_up(keeper, attempts).await.unwrap();
    }

    pub(super) async fn submit(&self, spec: TaskSpec) -> Result<Submitted, SubmitError> {
        self.submit_from(spec, None).await
    }

    pub(super) async fn submit_from(
        &self,
        spec: TaskSpec,
        parent: Option<TaskId>,
    ) -> Result<Submitted, SubmitError> {
        let new = NewTask { spec, payload: b"work".to_vec(), parent, dry_run: false };
        self.engine.submit(vec![new]).await.unwrap().pop().unwrap()
    }

    pub(super) async fn created(&self, spec: TaskSpec) -> TaskId {
        let submitted = self.submit(spec).await.unwrap();
        assert!(matches!(submitted.how, How::Created | How::Replaced(_)), "{submitted:?}");
        submitted.task.id
    }

    pub(super) async fn act(&self, id: TaskId, command: Command) -> Acted {
        self.engine.act(vec![id], command).await.unwrap().pop().unwrap()
    }

    pub(super) async fn cancel(&self, id: TaskId) -> Acted {
        self.act(id, Command::Cancel { reason: String::new(), grace: None }).await
    }

    /// Turns the clock and lets the engine look at it.
    pub(super) async fn advance(&self, span: Span) {
        self.clock.advance(span);
        self.settle().await;
    }

    /// Waits until everything told before is decided and its effects are there: they come right
    /// behind the answers, so a second question is answered after them.
    pub(super) async fn settle(&self) {
        for _ in 0..2 {
            let draining = self.engine.book().draining;
            self.engine.drain(draining).await.unwrap();
        }
    }

    pub(super) fn task(&self, id: TaskId) -> Task {
        super::task(&*self.store, id).unwrap().unwrap()
    }

    pub(super) fn status(&self, id: TaskId) -> Status {
        self.task(id).status()
    }

    /// The next effect; it is there already or comes soon.
    pub(super) async fn effect(&mut self) -> Effect {
        tokio::time::timeout(Duration::from_secs(10), self.effects.recv())
            .await
            .expect("an effect comes")
            .expect("the engine lives")
    }

    /// The next claim, told to have started.
    pub(super) async fn start_next(&mut self) -> (TaskId, AttemptNumber) {
        loop {
            if let Effect::Spawn(task) = self.effect().await {
                let attempt = task.state.lease().unwrap().attempt;
                self.engine.started(task.id, attempt, 77, self.clock.now()).unwrap();
                self.settle().await;
                return (task.id, attempt);
            }
        }
    }

    /// No claim is under way.
    pub(super) async fn nothing_starts(&mut self) {
        self.settle().await;
        while let Ok(effect) = self.effects.try_recv() {
            assert!(!matches!(effect, Effect::Spawn(_)), "{effect:?}");
        }
    }

    pub(super) async fn end(&self, id: TaskId, attempt: AttemptNumber, verdict: Verdict) {
        self.end_with(id, report(attempt, verdict, self.clock.now()), true).await;
    }

    pub(super) async fn end_with(&self, id: TaskId, report: Report, tree_gone: bool) {
        self.engine.report(id, report, tree_gone).unwrap();
        self.settle().await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The engine's thread ends when its last handle goes; nothing to wait for.
        drop(self.thread.take());
    }
}

fn start(
    state: &StateDir,
    store: &Arc<dyn Store>,
    clock: &Arc<HandClock>,
    (slots, keep): (u32, Keep),
) -> (Engine, EngineThread, UnboundedReceiver<Effect>) {
    let parts = Parts {
        store: Arc::clone(store),
        side: SideFiles::new(state),
        clock: Arc::clone(clock) as Arc<dyn crate::clock::Clock>,
        recovered: Recovered::from_store(&**store, slots).unwrap().keeping(keep),
        boot_id: "boot".to_owned(),
        state_dir: state.root().to_path_buf(),
    };
    Engine::start(parts).unwrap()
}

pub(super) fn report(attempt: AttemptNumber, verdict: Verdict, at: Timestamp) -> Report {
    let exit_code = match &verdict {
        Verdict::Completed => Some(0),
        Verdict::Failed(Failure::Exit(code)) => Some(*code),
        Verdict::Failed(_)
        | Verdict::Timeout(_)
        | Verdict::Stopped(_)
        | Verdict::Lost(_)
        | Verdict::NotStarted(_) => None,
    };
    let before_signal = !matches!(verdict, Verdict::Stopped(_) | Verdict::Timeout(_));
    let receipt = Receipt { exit_code, ..Receipt::default() };
    Report {
        attempt,
        verdict,
        before_signal,
        is_final: false,
        retry_after: None,
        started: None,
        ended: at,
        receipt,
        result: None,
    }
}

pub(super) const FAILED: Verdict = Verdict::Failed(Failure::Exit(1));
