//! One group of decisions: made one after the other, committed together, visible afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use capsule_core::attempt::AttemptRecord;
use capsule_core::command::Command;
use capsule_core::event::Event;
use capsule_core::id::{AttemptNumber, ScheduleId, Seq, TaskId};
use capsule_core::task::Task;
use capsule_core::time::Timestamp;
use capsule_core::{Rejected, decide, evolve};
use parking_lot::RwLockWriteGuard;
use tokio::sync::mpsc::UnboundedSender;

use super::batches;
use super::feed::Changed;
use super::feed::post::Delivery;
use super::records;
use super::request::{Acted, Effect, Refusal};
use super::retention::Retention;
use super::{EngineError, Shared};
use crate::apps::Runner;
use crate::book::Book;
use crate::failpoint;
use crate::schedule::{Tick, TickKey};
use crate::store::{Change, StoreError};

/// What the engine thread carries from group to group.
#[derive(Debug)]
pub(super) struct Carry {
    /// The number of the last change.
    pub(super) seq: Seq,
    /// The last id given to a task.
    pub(super) last_id: TaskId,
    /// Tasks that are not over, as they are stored; bounded, so not all of them.
    pub(super) warm: HashMap<TaskId, Arc<Task>>,
    /// So many are claimed that wait for a slot.
    pub(super) ahead: u32,
    /// A keeper has told what it has. Before, a process of any attempt may live.
    pub(super) met_keeper: bool,
    pub(super) retention: Retention,
}

/// Tasks kept warm at the most: about 20 MiB.
const WARM_MAX: usize = 16_384;

/// Says what was decided, with the book as the group leaves it.
type Answer = Box<dyn FnOnce(&Book) -> Delivery + Send>;

/// Decisions that will be committed together.
pub(super) struct Group<'a> {
    pub(super) shared: &'a Shared,
    pub(super) book: RwLockWriteGuard<'a, Book>,
    pub(super) carry: &'a mut Carry,
    pub(super) now: Timestamp,
    /// Tasks as this group leaves them; `None` = removed.
    staged: BTreeMap<TaskId, Option<Arc<Task>>>,
    changes: Vec<Change>,
    /// What must be in one batch together, and with which tasks; in this order.
    units: Vec<(Vec<TaskId>, Vec<Change>)>,
    /// Rows of ticks as this group leaves them; `None` = taken away.
    pub(super) ticked: BTreeMap<TickKey, Option<Tick>>,
    feed: Vec<Changed>,
    pub(super) effects: Vec<Effect>,
    /// Tasks that may be runs of schedules, and whether they have just ended; else their last
    /// process is gone, or what they submitted.
    pub(super) ended_runs: Vec<(TaskId, bool)>,
    /// Definitions changed.
    pub(super) apps_changed: bool,
    /// Settings of a queue changed.
    pub(super) queues_changed: bool,
    /// What is said once the group is durable.
    pub(super) answers: Vec<Answer>,
    /// What is done after that.
    pub(super) afterwards: Vec<Box<dyn FnOnce() + Send>>,
}

impl<'a> Group<'a> {
    pub(super) fn new(shared: &'a Shared, carry: &'a mut Carry) -> Self {
        Self {
            shared,
            book: shared.book.write(),
            carry,
            now: shared.clock.now(),
            staged: BTreeMap::new(),
            changes: Vec::new(),
            units: Vec::new(),
            ticked: BTreeMap::new(),
            feed: Vec::new(),
            effects: Vec::new(),
            ended_runs: Vec::new(),
            apps_changed: false,
            queues_changed: false,
            answers: Vec::new(),
            afterwards: Vec::new(),
        }
    }

    /// A task as this group has it.
    pub(super) fn load(&self, id: TaskId) -> Result<Option<Arc<Task>>, EngineError> {
        if let Some(staged) = self.staged.get(&id) {
            return Ok(staged.clone());
        }
        if let Some(task) = self.carry.warm.get(&id) {
            return Ok(Some(Arc::clone(task)));
        }
        if self.book.entries.contains_key(&id) {
            return Ok(records::task(&*self.shared.store, id)?.map(Arc::new));
        }
        Ok(None)
    }

    /// Asks one thing of one task, now.
    pub(super) fn ask(&mut self, id: TaskId, command: &Command) -> Result<Acted, EngineError> {
        self.ask_at(id, command, self.now)
    }

    /// Asks one thing of one task that happened at `at`.
    pub(super) fn ask_at(
        &mut self,
        id: TaskId,
        command: &Command,
        at: Timestamp,
    ) -> Result<Acted, EngineError> {
        let before = self.load(id)?;
        let result = match decide(before.as_deref(), command, at) {
            Ok(events) => self.happen(id, before.as_deref(), &events)?.ok_or(Rejected::Missing),
            Err(rejected) => Err(rejected),
        };
        Ok(Acted { id, before, result: result.map_err(Refusal::from) })
    }

    /// Applies what happened to one task and notes what follows for others.
    fn happen(
        &mut self,
        id: TaskId,
        before: Option<&Task>,
        events: &[Event],
    ) -> Result<Option<Arc<Task>>, EngineError> {
        let mut after = before.cloned();
        for event in events {
            if event.claims().is_some()
                && let Some(last) = after.as_ref().and_then(|task| task.last.as_ref())
            {
                self.keep_attempt(id, last);
            }
            evolve(&mut after, event);
        }
        let Some(mut task) = after else { return Ok(None) };
        self.carry.seq.0 += 1;
        task.seq = self.carry.seq;
        let had_slot = !self.book.shares(id);
        self.book.apply(before, Some(&task));
        let task = Arc::new(task);
        self.feed.push(Changed {
            seq: task.seq,
            task: id,
            status: Some(task.status()),
            at: self.now,
        });
        for event in events {
            match event {
                Event::Claimed { .. } => self.effects.push(Effect::Spawn(Arc::clone(&task))),
                Event::CancelRequested(request) => {
                    if let Some(lease) = task.state.lease() {
                        let (attempt, grace) = (lease.attempt, request.grace);
                        self.effects.push(Effect::Stop { task: id, attempt, grace, drain: false });
                    }
                }
                Event::AttemptEnded(record) => self.book.note_pace(record, had_slot),
                Event::Submitted(_)
                | Event::BecamePending { .. }
                | Event::Started { .. }
                | Event::ResultKept(_)
                | Event::FailureCounted
                | Event::LossCounted
                | Event::LossesForgotten
                | Event::RetryScheduled { .. }
                | Event::Rescheduled { .. }
                | Event::DependencyMet { .. }
                | Event::Ended { .. }
                | Event::BudgetRenewed { .. }
                | Event::Edited(_) => {}
            }
        }
        let ended = task.status().is_ended();
        self.staged.insert(id, Some(Arc::clone(&task)));
        if ended && before.is_some_and(|before| !before.status().is_ended()) {
            self.call_back(&task);
            self.ended_runs.push((id, true));
            self.ended_runs.extend(task.spec.parent.map(|parent| (parent, false)));
        }
        if ended {
            self.tell_dependants(&task)?;
        }
        Ok(Some(task))
    }

    /// Has the end of a task told, if its definition in force says so. The SDK's own runner tells
    /// by itself.
    fn call_back(&mut self, task: &Arc<Task>) {
        if task.spec.app.is_empty() {
            return;
        }
        let definition = self.book.apps.definition(&task.spec.app, &task.spec.name);
        let ours = definition.filter(|definition| definition.runner != Runner::Stock);
        if let Some(url) = ours.and_then(|definition| definition.callback_url.clone()) {
            self.effects.push(Effect::Callback { task: Arc::clone(task), url });
        }
    }

    fn tell_dependants(&mut self, task: &Task) -> Result<(), EngineError> {
        let status = task.status();
        for dependant in self.book.dependants(task.id) {
            let command = Command::DependencyEnded { task: task.id, status };
            // A dependant that has moved on meanwhile says no, and that is right.
            drop(self.ask(dependant, &command)?);
        }
        Ok(())
    }

    fn keep_attempt(&mut self, id: TaskId, attempt: &AttemptRecord) {
        self.changes.push(records::put_attempt(id, attempt));
        let old = attempt.number.0.saturating_sub(records::ATTEMPTS_KEPT);
        if old > 0 {
            let old = AttemptNumber(old);
            self.changes.push(records::delete_attempt(id, old));
            self.effects.push(Effect::Forgotten { task: id, first: old, last: old });
        }
    }

    /// Notes a change of a record that is not a task's.
    pub(super) fn write(&mut self, change: Change) {
        self.carry.seq.0 += 1;
        self.changes.push(change);
    }

    /// Notes changes that are durable all or none, together with tasks of this group, and never
    /// before those that were noted this way earlier.
    pub(super) fn write_together(&mut self, tasks: Vec<TaskId>, changes: Vec<Change>) {
        self.carry.seq.0 += changes.len() as u64;
        self.units.push((tasks, changes));
    }

    /// Lets it be seen that a schedule is another one than before.
    pub(super) fn schedule_changed(&mut self, id: ScheduleId) {
        let (seq, task) = (self.carry.seq, TaskId(id.0));
        self.feed.push(Changed { seq, task, status: None, at: self.now });
    }

    /// Takes a task away and leaves a tombstone.
    pub(super) fn bury(&mut self, task: &Task) {
        self.carry.seq.0 += 1;
        self.book.apply(Some(task), None);
        self.put_stone(task.id, task.status());
        self.changes.extend(records::bury(task));
        self.staged.insert(task.id, None);
        let seq = self.carry.seq;
        self.feed.push(Changed { seq, task: task.id, status: None, at: self.now });
    }

    /// Gives attempts to as many ready tasks as there are slots, or a few more.
    pub(super) fn claim(&mut self) -> Result<(), EngineError> {
        while let Some(id) = self.book.pick() {
            let Some(keeper) = self.book.keeper.as_ref().map(|keeper| keeper.instance) else {
                return Ok(());
            };
            let Some(task) = self.load(id)? else { continue };
            let revision = match self.fit(&task)? {
                Ok(revision) => revision,
                Err(why) => {
                    self.book.park(&task, why);
                    continue;
                }
            };
            let acted = self.ask(id, &Command::Claim { keeper, revision })?;
            if let Err(refusal) = acted.result {
                // The lane let a task through that cannot be claimed: the book is wrong.
                tracing::error!(task.id = id.0, error = %refusal, "a ready task refuses its claim");
            }
        }
        Ok(())
    }

    /// Makes the group durable, then lets it be seen: effects, feed, answers. Effects come first: a
    /// slot waits for them, and whoever carries them out is awake for the rest.
    pub(super) fn commit(mut self, effects: &UnboundedSender<Effect>) -> Result<(), StoreError> {
        let mut puts = BTreeMap::new();
        for (id, task) in std::mem::take(&mut self.staged) {
            puts.extend(task.as_deref().map(|task| (id, (turn(task), records::put_task(task)))));
            let warm = &mut self.carry.warm;
            let room = warm.len() < WARM_MAX || warm.contains_key(&id);
            match task.filter(|task| room && !task.status().is_ended()) {
                Some(task) => warm.insert(id, task),
                None => warm.remove(&id),
            };
        }
        let mut units = std::mem::take(&mut self.units);
        for (tasks, unit) in &mut units {
            unit.extend(tasks.iter().filter_map(|task| puts.remove(task)).map(|(_, put)| put));
        }
        let units = units.into_iter().map(|(_, unit)| unit).collect();
        let mut puts: Vec<_> = puts.into_values().collect();
        puts.sort_unstable_by_key(|(turn, _)| *turn);
        self.changes.extend(puts.into_iter().map(|(_, put)| put));
        self.carry.ahead = self.book.ahead();
        self.book.last_id = self.carry.last_id;
        let single = std::mem::take(&mut self.changes);
        let store = &*self.shared.store;
        for batch in batches::cut(single, units, self.carry.seq.0, store.most_changes()) {
            store.commit(&batch)?;
        }
        failpoint::pass("before-effects");
        let around = self.apps_changed || self.queues_changed;
        if self.apps_changed {
            *self.shared.apps.write() = Arc::new(self.book.apps.clone());
            self.effects.push(Effect::AppsChanged);
        }
        let answers = self.answers.into_iter().map(|answer| answer(&self.book)).collect();
        RwLockWriteGuard::unlock_fair(self.book);
        for effect in self.effects {
            // The dispatcher ends before the engine only in a shutdown.
            drop(effects.send(effect));
        }
        failpoint::pass("before-reply");
        self.shared.feed.publish(&self.feed);
        if around {
            self.shared.feed.publish_around();
        }
        self.shared.post.hand_out(answers);
        for act in self.afterwards {
            act();
        }
        Ok(())
    }
}

/// When a task is written among those of its group, should a crash tear that: what ended before what
/// waited for it, and what takes a lock, a place or a slot after whatever gave that back.
fn turn(task: &Task) -> (bool, bool, Seq) {
    (task.state.lease().is_some(), !task.status().is_ended(), task.seq)
}
