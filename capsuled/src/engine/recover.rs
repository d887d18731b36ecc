//! After a start: the book from the store; after a keeper's greeting: what it knows against what
//! the store says. No heartbeats and no guesses by clock: an attempt lives if the keeper has it.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use capsule_core::attempt::{Loss, Verdict};
use capsule_core::command::Command;
use capsule_core::id::{AttemptNumber, ScheduleId, Seq, TaskId};
use capsule_core::task::{CancelRequest, State, Status, Task};
use capsule_core::time::Span;

use super::committer::lost_report;
use super::group::{Carry, Group};
use super::request::{Effect, KnownAttempt};
use super::retention::Retention;
use super::{EngineError, records};
use crate::book::{Book, Keep, Keeper, Queue};
use crate::store::{Change, KeyRange, Store, Table};

const BOOT: &[u8] = b"boot";

/// What a start takes from the store into memory, record by record, so that one pass over the
/// store both checks and rebuilds.
#[derive(Debug)]
pub struct Recovered {
    book: Book,
    last_id: u64,
    retention: Retention,
    failed: Option<EngineError>,
}

impl Recovered {
    /// Nothing, for so many slots.
    pub fn new(slots: u32) -> Self {
        let mut book = Book::new(slots);
        book.unsettle_ended();
        Self { book, last_id: 0, retention: Retention::default(), failed: None }
    }

    /// Keeps ended tasks as this says.
    #[must_use]
    pub fn keeping(mut self, keep: Keep) -> Self {
        self.retention.keep = keep;
        self
    }

    /// Takes in one record; of which table decides what it means.
    pub fn take(&mut self, table: Table, key: &[u8], value: &[u8]) {
        match table {
            Table::Task => match records::decode_task(key, value) {
                Ok(task) => {
                    self.last_id = self.last_id.max(task.id.0);
                    self.book.apply(None, Some(&task));
                }
                Err(error) => self.failed = Some(error),
            },
            Table::Queue => {
                if let (Ok(name), Ok(queue)) =
                    (std::str::from_utf8(key), minicbor::decode::<Queue>(value))
                {
                    self.book.queues.insert(name.to_owned(), queue);
                }
            }
            Table::Tombstone => {
                let id = TaskId(records::number(key));
                self.last_id = self.last_id.max(id.0);
                match records::decode(id, value) {
                    Ok(stone) => self.retention.stones.found(id, &stone),
                    Err(error) => self.failed = Some(error),
                }
            }
            Table::Schedule => {
                let id = records::number(key);
                self.last_id = self.last_id.max(id);
                match minicbor::decode(value) {
                    Ok(schedule) => self.book.schedules.put(schedule),
                    Err(_) => self.failed = Some(EngineError::Record(TaskId(id))),
                }
            }
            Table::Tick => {
                let id = records::number(key);
                self.last_id = self.last_id.max(id);
                self.book.schedules.count_ticks(ScheduleId(id), 1);
            }
            Table::Meta | Table::Attempt | Table::App | Table::Key => {}
        }
    }

    /// Everything that a store holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn from_store(store: &dyn Store, slots: u32) -> Result<Self, EngineError> {
        let mut recovered = Self::new(slots);
        for table in [Table::Queue, Table::Task, Table::Tombstone, Table::Schedule, Table::Tick] {
            store.scan(table, KeyRange::ALL, &mut |key, value| {
                recovered.take(table, key, value);
                ControlFlow::Continue(())
            })?;
        }
        Ok(recovered)
    }

    /// The book, once the apps are known too.
    pub(super) fn finish(self, store: &dyn Store) -> Result<(Book, Carry), EngineError> {
        let Self { mut book, last_id, mut retention, failed } = self;
        if let Some(error) = failed {
            return Err(error);
        }
        let last_id = last_id.max(records::id_floor(store)?);
        book.apps = super::deploy::load(store)?;
        let apps: Vec<String> = book.apps.iter().map(|(name, _)| name.clone()).collect();
        for app in apps {
            book.definitions_changed(&app);
        }
        book.count_shared();
        book.settle_ended();
        book.last_id = TaskId(last_id);
        retention.stones.sort();
        let carry = Carry {
            seq: Seq(store.high_water()),
            last_id: TaskId(last_id),
            warm: HashMap::new(),
            ahead: 0,
            met_keeper: false,
            retention,
        };
        Ok((book, carry))
    }
}

impl Group<'_> {
    /// Makes good what a crash left of a group of several batches: a task may have ended durably
    /// while those that waited for it were not told.
    pub(super) fn tell_all_dependants(&mut self) -> Result<(), EngineError> {
        let entries = self.book.entries.iter();
        let waiting: Vec<TaskId> = entries
            .filter(|(_, entry)| entry.dependencies > 0 && !entry.status.is_ended())
            .map(|(id, _)| id)
            .collect();
        for id in waiting {
            let Some(task) = self.load(id)? else { continue };
            for dependency in &task.spec.after {
                let other = dependency.task;
                let status = match self.book.entries.get(&other) {
                    Some(entry) => entry.status,
                    None => records::tombstone(&*self.shared.store, other)?
                        .map_or(Status::Cancelled, |stone| stone.status),
                };
                if status.is_ended() {
                    // What ends it at one dependency makes it deaf to the others.
                    drop(self.ask(id, &Command::DependencyEnded { task: other, status })?);
                }
            }
        }
        Ok(())
    }

    /// Settles every live attempt of the store with what the keeper has.
    pub(super) fn keeper_up(
        &mut self,
        keeper: Keeper,
        attempts: &[KnownAttempt],
    ) -> Result<(), EngineError> {
        let rebooted = self.note_boot()?;
        let mut known: BTreeMap<TaskId, &KnownAttempt> =
            attempts.iter().map(|attempt| (attempt.task, attempt)).collect();
        let live: Vec<TaskId> = self
            .book
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_live())
            .map(|(id, _)| id)
            .collect();
        for id in live {
            let Some(task) = self.load(id)? else { continue };
            let Some(lease) = task.state.lease().copied() else { continue };
            match known.remove(&id).filter(|known| known.attempt == lease.attempt) {
                Some(known) => self.adopt(&task, *known)?,
                None if lease.keeper == keeper.instance => {
                    // The same keeper does not know it: it was never asked to start.
                    let cancel = task.state.cancel().cloned();
                    self.effects.push(Effect::Spawn(task));
                    self.say_again(id, lease.attempt, cancel.as_ref());
                }
                None => {
                    let loss = if rebooted { Loss::Reboot } else { Loss::KeeperDied };
                    let report = lost_report(lease.attempt, Verdict::Lost(loss), self.now);
                    drop(self.ask(id, &Command::Report(Box::new(report)))?);
                }
            }
        }
        for (id, known) in known {
            self.disown(id, *known)?;
        }
        let gone: Vec<_> = self
            .book
            .lingering
            .iter()
            .filter(|(id, number)| {
                !attempts.iter().any(|known| known.task == **id && known.attempt == **number)
            })
            .map(|(id, number)| (*id, *number))
            .collect();
        for (id, number) in gone {
            self.book.gone(id, number);
            self.tree_gone(id)?;
        }
        self.book.keeper = Some(keeper);
        if !std::mem::replace(&mut self.book.greeted, true) {
            self.release_buffered();
        }
        self.carry.met_keeper = true;
        Ok(())
    }

    /// A live attempt of ours: it goes on, and a cancel that may not have been said is said.
    fn adopt(&mut self, task: &Task, known: KnownAttempt) -> Result<(), EngineError> {
        if matches!(task.state, State::Claimed { .. }) && !known.ended {
            let start = Command::Start { attempt: known.attempt, pid: known.pid };
            drop(self.ask_at(task.id, &start, known.started)?);
        }
        let cancel = task.state.cancel().filter(|_| !known.ended);
        self.say_again(task.id, known.attempt, cancel);
        Ok(())
    }

    /// Says a cancel that may not have been said, with what is left of its grace.
    fn say_again(&mut self, task: TaskId, attempt: AttemptNumber, cancel: Option<&CancelRequest>) {
        if let Some(cancel) = cancel {
            let grace = cancel.at.plus(cancel.grace).since(self.now);
            self.effects.push(Effect::Stop { task, attempt, grace, drain: false });
        }
    }

    /// An attempt that no task of the store has as its live one. A verdict of it is stale and is
    /// only acknowledged; a process that has ended but for its tree lingers; one that runs does
    /// so against the store and is killed.
    fn disown(&mut self, id: TaskId, known: KnownAttempt) -> Result<(), EngineError> {
        let task = self.load(id)?;
        if let Some(task) = task.filter(|task| known.ended && task.attempts == known.attempt) {
            if !known.tree_gone && !self.book.lingering.contains_key(&id) {
                self.book.linger(&task, known.attempt);
            }
            return Ok(());
        }
        if !known.ended {
            let (task, attempt) = (id, known.attempt);
            self.effects.push(Effect::Stop { task, attempt, grace: Span::ZERO, drain: true });
        }
        Ok(())
    }

    /// Notes the boot in the store; true when it is another one than before.
    fn note_boot(&mut self) -> Result<bool, EngineError> {
        let boot = self.shared.boot_id.clone();
        let before = self.shared.store.get(Table::Meta, BOOT)?;
        if before.as_deref() == Some(boot.as_bytes()) {
            return Ok(false);
        }
        self.write(Change::put(Table::Meta, BOOT, boot.as_bytes()));
        Ok(before.is_some())
    }
}
