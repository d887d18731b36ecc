//! What must hold after every step, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::attempt::Failure;
use capsule_core::id::TaskId;
use capsule_core::task::{Outcome, State, Status, Task};

use super::play::{FINAL_CODE, IDS};
use super::world::{SLOTS, World};
use super::{Stop, ensure};
use crate::book::GateKind;
use crate::clock::Clock as _;

type Tasks = BTreeMap<TaskId, Task>;

impl World {
    /// Looks at everything, and keeps how it stands for the next look.
    pub(super) async fn look(&mut self) -> Result<(), Stop> {
        let tasks = self.tasks()?;
        self.nothing_lost(&tasks)?;
        for (id, task) in &tasks {
            match self.record.tasks.get(id) {
                Some(before) => self.moved_lawfully(before, task)?,
                None => ensure(*id > self.record.highest, IDS, || {
                    format!("{id} is new, {} was given", self.record.highest)
                })?,
            }
            within_budget(task)?;
            self.is_due(task)?;
            hears_of_ends(task, &tasks)?;
        }
        self.processes(&tasks)?;
        self.queues(&tasks)?;
        self.reasons(&tasks)?;
        self.books(&tasks)?;
        self.ticks(&tasks)?;
        self.feed(&tasks).await?;
        let highest = tasks.keys().chain(&self.record.given).max().copied();
        let schedules = self.engine.book().schedules.iter().map(|it| TaskId(it.id.0)).max();
        let record = &mut self.record;
        record.highest =
            highest.into_iter().chain(schedules).chain([record.highest]).max().unwrap();
        record.given.extend(tasks.keys());
        record.tasks = tasks;
        record.clock = self.clock.now();
        record.latest = record.latest.max(record.clock);
        record.queues = self.engine.book().queues.clone();
        record.lives = self.lives;
        record.retried.clear();
        record.moved.clear();
        record.reread.clear();
        Ok(())
    }

    fn nothing_lost(&self, tasks: &Tasks) -> Result<(), Stop> {
        let schedules = self.engine.book();
        for id in &self.record.given {
            let there = tasks.contains_key(id)
                || self.record.removed.contains(id)
                || self.record.schedules.contains(id)
                || schedules.schedules.get(capsule_core::id::ScheduleId(id.0)).is_some();
            ensure(there, "nothing acknowledged is lost", || format!("{id} is gone"))?;
        }
        Ok(())
    }

    fn moved_lawfully(&self, before: &Task, task: &Task) -> Result<(), Stop> {
        let id = task.id;
        let record = &self.record;
        let show = || format!("{before:#?}\nbecame {task:#?}");
        let forward = task.seq > before.seq || (task.seq == before.seq && task == before);
        ensure(forward, "numbers of changes never go back", show)?;
        let rises = task.attempts >= before.attempts;
        ensure(rises, "attempt numbers only rise", show)?;
        let final_end = !before.status().is_ended() || record.retried.contains(&id);
        ensure(final_end || task == before, "an end is final", show)?;
        if let Some(lease) = before.state.lease() {
            let goes_on = task.state.lease().is_some_and(|now| now.attempt == lease.attempt);
            let key = (id, lease.attempt);
            let ended =
                self.keeper.reported.contains(&key) || lease.keeper.0[0] != self.keeper.life;
            ensure(goes_on || ended, "an attempt ends only by its own report", show)?;
        }
        let lives = task.state.lease().is_some() || task.status().is_ended();
        let stopped = before.state.cancel().is_none() || lives || record.retried.contains(&id);
        ensure(stopped, "a cancelled attempt is the last", show)?;
        if let Some(due) = before.state.due() {
            let clock = record.clock.max(self.clock.now());
            let asked = record.moved.contains(&id) || record.retried.contains(&id);
            let waits = task.state.due().is_some() || task.status() == Status::Cancelled;
            let recurs = task.spec.tick.is_some();
            ensure(
                waits || asked || recurs || clock >= due,
                "nothing starts before its time",
                show,
            )?;
        }
        Ok(())
    }

    /// The clock has had its say.
    fn is_due(&self, task: &Task) -> Result<(), Stop> {
        let now = self.clock.now();
        let late = task.state.due().or_else(|| task.expires()).is_some_and(|at| at <= now);
        ensure(!late, "what is due happens", || format!("at {now:?}: {task:#?}"))
    }

    /// What really runs: the keeper's processes against what is durable.
    fn processes(&self, tasks: &Tasks) -> Result<(), Stop> {
        let mut running = BTreeSet::new();
        let mut locks = BTreeSet::new();
        let mut slots = 0;
        for ((id, attempt), child) in self.keeper.alive() {
            ensure(running.insert(*id), "one live attempt for each task", || format!("{id}"))?;
            if let Some(lock) = &child.lock {
                let free = locks.insert(lock.clone());
                ensure(free, "one live attempt for each lock", || format!("{id} under {lock:?}"))?;
            }
            slots += usize::from(!child.shares);
            let task = tasks.get(id);
            if child.ended.is_none() {
                let lease = task.and_then(|task| task.state.lease());
                let holds = lease.is_some_and(|lease| lease.attempt == *attempt);
                ensure(holds, "whatever runs has a durable claim", || {
                    format!("{id} attempt {}: {task:#?}", attempt.0)
                })?;
            }
        }
        ensure(slots <= SLOTS, "no more attempts than slots", || format!("{slots}"))?;
        if !self.keeper.connected || self.keeper.slow {
            return Ok(());
        }
        for task in tasks.values() {
            let Some(lease) = task.state.lease() else { continue };
            let key = (task.id, lease.attempt);
            let child = self.keeper.children.get(&key);
            let known = child.is_some() || self.keeper.waits(key);
            ensure(known, "a claim reaches the keeper", || format!("{task:#?}"))?;
            let told = child.is_none_or(|child| child.stop || child.ended.is_some());
            ensure(told || task.state.cancel().is_none(), "a stop reaches the keeper", || {
                format!("{task:#?}")
            })?;
        }
        Ok(())
    }

    /// What begins keeps to the settings of its queue, when those were the same all the time.
    fn queues(&self, tasks: &Tasks) -> Result<(), Stop> {
        let book = self.engine.book();
        for task in tasks.values() {
            let before = self.record.tasks.get(&task.id).map_or(0, |before| before.attempts.0);
            let name = &task.spec.queue;
            let settings = book.queues.get(name);
            let same = settings == self.record.queues.get(name);
            let began = task.attempts.0 > before && task.state.lease().is_some();
            if !began || !same || !self.record.moved.is_empty() {
                continue;
            }
            let Some(queue) = settings else { continue };
            ensure(!queue.paused, "a paused queue starts nothing", || format!("{task:#?}"))?;
            let running = book.running_in_queue(name);
            let within = queue.limit.is_none_or(|limit| running <= limit);
            ensure(within, "a queue keeps to its limit", || format!("{running} of {queue:?}"))?;
        }
        Ok(())
    }

    /// Every waiting task has a reason.
    fn reasons(&self, tasks: &Tasks) -> Result<(), Stop> {
        let book = self.engine.book();
        for task in tasks.values() {
            let gates = book.gates(task, self.clock.now());
            let waits = matches!(task.state, State::Scheduled { .. } | State::Pending { .. })
                || task.status() == Status::Retry;
            ensure(waits != gates.is_empty(), "every waiting task has a reason", || {
                format!("{gates:?} for {task:#?}")
            })?;
            // A queue's limit counts what runs of it, and what waits is held by what is true.
            for gate in &gates {
                let holds = match gate.kind {
                    GateKind::Lock => gate.tasks.iter().all(|holder| {
                        book.lingering.contains_key(holder)
                            || tasks.get(holder).is_some_and(|it| it.state.lease().is_some())
                    }),
                    GateKind::Dependency => gate.tasks.iter().all(|id| tasks.contains_key(id)),
                    GateKind::NotBefore
                    | GateKind::Retry
                    | GateKind::Hold
                    | GateKind::Definition
                    | GateKind::Paused
                    | GateKind::Ending
                    | GateKind::Limit
                    | GateKind::Slot
                    | GateKind::Draining
                    | GateKind::Keeper
                    | GateKind::Degraded => true,
                };
                ensure(holds, "a reason is true", || format!("{gate:?} for {task:#?}"))?;
            }
        }
        Ok(())
    }
}

/// Whoever waits for others waits for some that have not ended.
fn hears_of_ends(task: &Task, tasks: &Tasks) -> Result<(), Stop> {
    if task.status().is_ended() {
        return Ok(());
    }
    for dependency in &task.spec.after {
        let open = tasks.get(&dependency.task).is_some_and(|it| !it.status().is_ended());
        ensure(open, "a dependant hears of the end", || {
            format!("{} waits for {}: {task:#?}", task.id, dependency.task)
        })?;
    }
    Ok(())
}

/// Retries are used up by own failures, all of them and no more.
fn within_budget(task: &Task) -> Result<(), Stop> {
    let budget = task.spec.retries + 1;
    ensure(task.failures <= budget, "no more failures than the budget", || format!("{task:#?}"))?;
    let State::Ended { outcome, .. } = &task.state else { return Ok(()) };
    let spent = match outcome {
        Outcome::Failed(Failure::Exit(code)) => *code != 1,
        Outcome::Failed(Failure::Signal(_)) | Outcome::Timeout(_) => false,
        Outcome::Failed(_) | Outcome::Completed | Outcome::Cancelled(_) => true,
    };
    ensure(spent || task.failures == budget, "the budget is used up before the end", || {
        format!("{task:#?}")
    })
}

const _: () = assert!(FINAL_CODE != 1);
