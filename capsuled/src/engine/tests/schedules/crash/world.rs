//! The daemon's lives, the keeper that outlives them, and what was done to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capsule_core::attempt::{How, Verdict};
use capsule_core::id::{AttemptNumber, ScheduleId, TaskId, Uuid};
use capsule_core::spec::{INLINE_PAYLOAD_MAX, TaskSpec};
use capsule_core::time::{Span, Timestamp};

use super::{NAMES, Step, policies};
use crate::book::Keeper;
use crate::clock::Clock as _;
use crate::engine::tests::simulation::store::{Crash, CrashStore};
use crate::engine::tests::{Bench, FAILED, START, report, spec};
use crate::engine::{
    AskedBackfill, Effect, EngineError, KnownAttempt, NewSchedule, NewTask, ScheduleChange,
};
use crate::schedule::{Overlap, Rule, Schedule, TickKey};

/// An attempt as the keeper has it.
#[derive(Clone, Debug)]
struct Attempt {
    number: AttemptNumber,
    /// How it ended, once it has; told until it is acknowledged.
    verdict: Option<Verdict>,
    acknowledged: bool,
    tree_gone: bool,
}

pub(super) struct World {
    pub(super) bench: Bench,
    store: Arc<CrashStore>,
    attempts: BTreeMap<TaskId, Attempt>,
    /// Which fire made a task.
    pub(super) runs: BTreeMap<TaskId, TickKey>,
    /// Every planned instant that ever had its task.
    pub(super) fired: BTreeMap<(ScheduleId, Timestamp), TaskId>,
    /// Schedules whose runs were ever allowed to meet.
    pub(super) free: BTreeSet<ScheduleId>,
    /// The latest that the clock ever was.
    pub(super) latest: Timestamp,
}

impl World {
    pub(super) async fn new() -> Self {
        let store = Arc::new(CrashStore::default());
        let mut bench = Bench::over(Arc::clone(&store) as Arc<dyn crate::store::Store>, 3);
        bench.may_crash = true;
        let attempts = BTreeMap::new();
        let (runs, free) = (BTreeMap::new(), BTreeSet::new());
        let fired = BTreeMap::new();
        let world = Self { bench, store, attempts, runs, fired, free, latest: START };
        world.connect().await.unwrap();
        world
    }

    /// Plays one step; when the store crashes in it, another daemon starts.
    pub(super) async fn play(&mut self, step: Step) {
        let mut played = self.act(step).await;
        loop {
            if played.is_ok() {
                played = self.settle().await;
            }
            if !self.store.has_crashed() {
                return played.unwrap();
            }
            self.bench.restart_crashed(&self.store).await;
            played = self.connect().await;
        }
    }

    async fn act(&mut self, step: Step) -> Result<(), EngineError> {
        let engine = self.bench.engine.clone();
        let now = self.bench.clock.now().0;
        match step {
            Step::Advance { seconds } => self.turn(Timestamp(now + seconds * 1_000_000)),
            Step::Leap { days } => self.turn(Timestamp(now + days * 86_400_000_000)),
            Step::Add { which, rule, policy } => self.add(which, rule, policy).await?,
            Step::Remove { which } => self.change(which, ScheduleChange::End).await?,
            Step::Pause { which } => {
                let (by, note) = ("ann".to_owned(), String::new());
                self.change(which, ScheduleChange::Pause { by, note }).await?;
            }
            Step::Resume { which } => self.change(which, ScheduleChange::Resume).await?,
            Step::SkipNext { which } => {
                let by = "ann".to_owned();
                self.change(which, ScheduleChange::SkipNext { by }).await?;
            }
            Step::Trigger { which } => {
                if let Some(it) = self.named(which) {
                    drop(engine.trigger(it.id).await?);
                }
            }
            Step::Backfill { which, back, seconds } => {
                if let Some(it) = self.named(which) {
                    let from = Timestamp(now - back * 1_000_000);
                    let until = Timestamp(from.0 + seconds * 1_000_000);
                    let asked = AskedBackfill { id: it.id, from, until, dry_run: false };
                    // More than there is room for is refused, and that is right.
                    drop(engine.backfill(asked).await?);
                }
            }
            Step::End { which, well, tree_gone } => self.end(which, well, tree_gone)?,
            Step::Gone { which } => {
                let lingers = |it: &Attempt| it.acknowledged;
                let Some((id, attempt)) = self.nth(which, lingers) else { return Ok(()) };
                self.attempts.remove(&id);
                engine.gone(id, attempt.number)?;
            }
            Step::Child { which } => {
                let lives = |it: &Attempt| it.verdict.is_none();
                let Some((id, _)) = self.nth(which, lives) else { return Ok(()) };
                let new = NewTask {
                    spec: spec("child"),
                    payload: Vec::new(),
                    parent: Some(id),
                    dry_run: false,
                };
                engine.submit(vec![new]).await?;
            }
            Step::Restart { keeper_too } => {
                self.bench.restart().await;
                if keeper_too {
                    self.bench.keeper = self.bench.keeper.wrapping_add(1);
                    self.attempts.clear();
                }
                self.connect().await?;
            }
            Step::Crash { after, behind } => {
                self.store.crash_after(after, if behind { Crash::After } else { Crash::Before });
            }
        }
        Ok(())
    }

    fn turn(&mut self, to: Timestamp) {
        self.bench.clock.set(to);
        self.latest = self.latest.max(to);
    }

    pub(super) fn named(&self, which: usize) -> Option<Schedule> {
        self.bench.engine.book().schedules.named("", NAMES[which]).cloned()
    }

    async fn change(&self, which: usize, change: ScheduleChange) -> Result<(), EngineError> {
        if let Some(it) = self.named(which) {
            // One that has ended says no.
            drop(self.bench.engine.change_schedule(it.id, change).await?);
        }
        Ok(())
    }

    async fn add(&mut self, which: usize, rule: usize, policy: usize) -> Result<(), EngineError> {
        let now = self.bench.clock.now();
        let cron = |text, zone| Rule::parse(text, zone, "", now).unwrap();
        let rule = match rule {
            0 => cron("* * * * *", ""),
            1 => cron("*/7 * * * *", ""),
            2 => cron("0 */3 * * *", ""),
            3 => cron("@daily", ""),
            4 => cron("30 2 * * *", "Europe/Berlin"),
            5 => cron("@every 100s", ""),
            _ => Rule::At(now.plus(Span::from_secs(5000))),
        };
        let policy = policies().swap_remove(policy);
        let allows = policy.overlap == Overlap::Allow;
        // Large enough that one group takes several batches.
        let payload = vec![7; if allows { INLINE_PAYLOAD_MAX } else { 10 }];
        let spec = TaskSpec { app: String::new(), ..spec("sweep") };
        let new = NewSchedule { title: NAMES[which].to_owned(), spec, payload, rule, policy };
        // One that has no fire any more is refused, and that is right.
        let added = self.bench.engine.add_schedule(new).await;
        let known = self.named(which).filter(|_| allows);
        self.free.extend(known.map(|it| it.id));
        added.map(drop)
    }

    fn end(&mut self, which: usize, well: bool, tree_gone: bool) -> Result<(), EngineError> {
        let lives = |it: &Attempt| it.verdict.is_none();
        let Some((id, _)) = self.nth(which, lives) else { return Ok(()) };
        let cancelled = self.bench.task(id).state.cancel().is_some();
        let verdict = match well {
            _ if cancelled => Verdict::Stopped(How::Graceful),
            true => Verdict::Completed,
            false => FAILED,
        };
        if let Some(attempt) = self.attempts.get_mut(&id) {
            (attempt.verdict, attempt.tree_gone) = (Some(verdict), tree_gone);
        }
        self.tell(id)
    }

    /// Tells a verdict that was not acknowledged.
    fn tell(&self, id: TaskId) -> Result<(), EngineError> {
        let Some(attempt) = self.attempts.get(&id).filter(|it| !it.acknowledged) else {
            return Ok(());
        };
        let Some(verdict) = attempt.verdict.clone() else { return Ok(()) };
        let report = report(attempt.number, verdict, self.bench.clock.now());
        self.bench.engine.report(id, report, attempt.tree_gone)
    }

    fn nth(&self, which: usize, wanted: impl Fn(&Attempt) -> bool) -> Option<(TaskId, Attempt)> {
        let mut found = self.attempts.iter().filter(|(_, it)| wanted(it));
        found.nth(which).map(|(id, attempt)| (*id, attempt.clone()))
    }

    async fn connect(&self) -> Result<(), EngineError> {
        let known = |(task, it): (&TaskId, &Attempt)| KnownAttempt {
            task: *task,
            attempt: it.number,
            pid: 5,
            started: START,
            ended: it.verdict.is_some(),
            tree_gone: it.verdict.is_some() && it.tree_gone,
        };
        let attempts = self.attempts.iter().map(known).collect();
        let instance = Uuid([self.bench.keeper; 16]);
        let keeper = Keeper { instance, pid: 1, attribution: "cgroup".to_owned() };
        self.bench.engine.keeper_up(keeper, attempts).await?;
        self.attempts.keys().try_for_each(|id| self.tell(*id))
    }

    /// Until nothing is due and no effect waits.
    async fn settle(&mut self) -> Result<(), EngineError> {
        loop {
            for _ in 0..2 {
                self.bench.engine.drain(false).await?;
            }
            let mut quiet = true;
            while let Ok(effect) = self.bench.effects.try_recv() {
                quiet = false;
                self.carry_out(effect)?;
            }
            let next = self.bench.engine.book().schedules.next_alarm();
            if quiet && next.is_none_or(|(at, _)| at > self.bench.clock.now()) {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), EngineError> {
        match effect {
            Effect::Spawn(task) => {
                let number = task.state.lease().unwrap().attempt;
                let new = Attempt { number, verdict: None, acknowledged: false, tree_gone: true };
                self.attempts.entry(task.id).or_insert(new);
                self.bench.engine.started(task.id, number, 7, self.bench.clock.now())?;
            }
            Effect::Ack { task, .. } => {
                if let Some(attempt) = self.attempts.get_mut(&task) {
                    attempt.acknowledged = true;
                    if attempt.tree_gone {
                        self.attempts.remove(&task);
                    }
                }
            }
            Effect::Stop { .. }
            | Effect::PutBack
            | Effect::Refresh { .. }
            | Effect::Callback { .. }
            | Effect::Forgotten { .. }
            | Effect::AppsChanged => {}
        }
        Ok(())
    }

    /// Whether a process of it lives.
    pub(super) fn has_process(&self, id: TaskId) -> bool {
        self.attempts.contains_key(&id)
    }
}

impl Bench {
    /// The store has ended the daemon; it opens again with what is durable.
    async fn restart_crashed(&mut self, store: &CrashStore) {
        self.engine.close().await;
        store.reopen();
        self.restart().await;
    }
}
