//! The keeper and the dispatcher as the simulation plays them: who lives, who waits for a slot,
//! what was said and what is still to be said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use capsule_core::attempt::{NotStarted, Verdict};
use capsule_core::command::Report;
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Task;
use capsule_core::time::Timestamp;

use super::super::report;
use super::steps::Told;
use super::{Stop, ensure};
use crate::engine::{Engine, KnownAttempt};

/// One attempt of one task.
pub(super) type Key = (TaskId, AttemptNumber);

/// An attempt that the keeper has.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four things that come in any order")]
pub(super) struct Child {
    pub(super) lock: Option<(String, String)>,
    pub(super) shares: bool,
    pub(super) began: Timestamp,
    /// How it ended.
    pub(super) ended: Option<Report>,
    pub(super) tree_gone: bool,
    /// It was told to stop.
    pub(super) stop: bool,
    pub(super) acknowledged: bool,
}

/// What is said to the engine.
#[derive(Clone, Debug)]
enum Word {
    Started(Key, Timestamp),
    Ended(Key),
    Gone(Key),
}

/// The keeper, and what the daemon's end of the connection knows.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pub(super) life: u8,
    pub(super) connected: bool,
    /// It does nothing of what it is asked, for now.
    pub(super) slow: bool,
    pub(super) children: BTreeMap<Key, Child>,
    /// Every attempt that ever ran.
    pub(super) ran: BTreeSet<Key>,
    /// Every attempt whose end was ever told.
    pub(super) reported: BTreeSet<Key>,
    /// Acknowledged and forgotten.
    pub(super) old: Vec<Key>,
    /// The daemon's: claimed and without a slot.
    waiting: VecDeque<(Key, Child)>,
    /// Under way to the daemon.
    outbox: VecDeque<Word>,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self { life: 1, ..Self::default() }
    }

    /// Those whose processes live.
    pub(super) fn alive(&self) -> impl Iterator<Item = (&Key, &Child)> {
        self.children.iter().filter(|(_, child)| !child.tree_gone)
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<Key> {
        self.children.iter().filter(|(_, it)| it.ended.is_none()).map(|(key, _)| *key).collect()
    }

    /// Those that have ended but for their trees.
    pub(super) fn lingering(&self) -> Vec<Key> {
        let lingers = |child: &Child| child.ended.is_some() && !child.tree_gone;
        self.children.iter().filter(|(_, it)| lingers(it)).map(|(key, _)| *key).collect()
    }

    /// Whether a claim waits for a slot.
    pub(super) fn waits(&self, key: Key) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == key)
    }

    /// Has an attempt started, once it has a slot.
    pub(super) fn spawn(
        &mut self,
        engine: &Engine,
        (task, shares): (&Task, bool),
        slots: usize,
    ) -> Result<(), Stop> {
        let Some(lease) = task.state.lease() else { return Ok(()) };
        if lease.keeper.0 != [self.life; 16] {
            return Ok(());
        }
        let key = (task.id, lease.attempt);
        let lock = task.spec.lock.clone().map(|lock| (task.spec.app.clone(), lock));
        let child = Child {
            lock,
            shares,
            began: engine.now(),
            ended: None,
            tree_gone: false,
            stop: false,
            acknowledged: false,
        };
        let known = self.children.contains_key(&key);
        if known || self.waits(key) {
            return Ok(());
        }
        self.waiting.push_back((key, child));
        self.start_waiting(engine, slots)
    }

    /// Starts those that wait, as long as there are slots.
    fn start_waiting(&mut self, engine: &Engine, slots: usize) -> Result<(), Stop> {
        while let Some((_, next)) = self.waiting.front() {
            let used = self.alive().filter(|(_, child)| !child.shares).count();
            if used >= slots && !next.shares {
                return Ok(());
            }
            let Some((key, child)) = self.waiting.pop_front() else { return Ok(()) };
            ensure(self.ran.insert(key), "no attempt runs twice", || format!("{key:?}"))?;
            let began = child.began;
            self.children.insert(key, child);
            // Every fourth start is told late.
            if (key.0.0 + u64::from(key.1.0)) % 4 == 0 {
                self.outbox.push_back(Word::Started(key, began));
            } else {
                engine.started(key.0, key.1, 7, began)?;
            }
        }
        Ok(())
    }

    /// Stops an attempt; one without a slot is given back.
    pub(super) fn stop(&mut self, engine: &Engine, key: Key) -> Result<(), Stop> {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != key);
        if self.waiting.len() < before {
            return self.released(engine, key);
        }
        if let Some(child) = self.children.get_mut(&key).filter(|child| child.ended.is_none()) {
            child.stop = true;
        }
        Ok(())
    }

    /// Gives back what has no slot.
    pub(super) fn put_back(&mut self, engine: &Engine) -> Result<(), Stop> {
        for (key, _) in std::mem::take(&mut self.waiting) {
            self.released(engine, key)?;
        }
        Ok(())
    }

    fn released(&mut self, engine: &Engine, key: Key) -> Result<(), Stop> {
        self.reported.insert(key);
        let report = report(key.1, Verdict::NotStarted(NotStarted::Released), engine.now());
        Ok(engine.report(key.0, report, true)?)
    }

    /// The daemon has the verdict.
    pub(super) fn acknowledged(&mut self, key: Key) {
        let Some(child) = self.children.get_mut(&key).filter(|it| it.ended.is_some()) else {
            return;
        };
        child.acknowledged = true;
        if child.tree_gone {
            self.children.remove(&key);
            self.old.push(key);
        }
    }

    /// The main process of an attempt is gone, and perhaps its tree.
    pub(super) fn end(
        &mut self,
        engine: &Engine,
        (key, report): (Key, Report),
        (tree_gone, told): (bool, Told),
        slots: usize,
    ) -> Result<(), Stop> {
        let Some(child) = self.children.get_mut(&key) else { return Ok(()) };
        child.ended = Some(report);
        child.tree_gone = tree_gone;
        self.outbox.push_back(Word::Ended(key));
        if told == Told::Twice {
            self.outbox.push_back(Word::Ended(key));
        }
        if told != Told::Later {
            self.tell(engine)?;
        }
        self.make_room(engine, slots)
    }

    /// The last process of an attempt is gone.
    pub(super) fn gone(&mut self, engine: &Engine, key: Key, slots: usize) -> Result<(), Stop> {
        let Some(child) = self.children.get_mut(&key) else { return Ok(()) };
        child.tree_gone = true;
        if child.acknowledged {
            self.children.remove(&key);
            self.old.push(key);
        }
        self.outbox.push_back(Word::Gone(key));
        let held = self.outbox.iter().any(|word| matches!(word, Word::Ended(of) if *of == key));
        if !held {
            self.tell(engine)?;
        }
        self.make_room(engine, slots)
    }

    fn make_room(&mut self, engine: &Engine, slots: usize) -> Result<(), Stop> {
        if self.connected { self.start_waiting(engine, slots) } else { Ok(()) }
    }

    /// Says what is to be said, in order.
    pub(super) fn tell(&mut self, engine: &Engine) -> Result<(), Stop> {
        if !self.connected {
            return Ok(());
        }
        for word in std::mem::take(&mut self.outbox) {
            match word {
                Word::Started((task, attempt), at) => engine.started(task, attempt, 7, at)?,
                Word::Ended(key) => self.tell_end(engine, key)?,
                Word::Gone((task, attempt)) => engine.gone(task, attempt)?,
            }
        }
        Ok(())
    }

    fn tell_end(&mut self, engine: &Engine, key: Key) -> Result<(), Stop> {
        let Some(child) = self.children.get(&key) else { return Ok(()) };
        if let Some(report) = child.ended.clone() {
            self.reported.insert(key);
            engine.report(key.0, report, child.tree_gone)?;
        }
        Ok(())
    }

    /// The connection is gone, and what was under way in it.
    pub(super) fn cut_off(&mut self) {
        self.connected = false;
        self.outbox.clear();
        self.waiting.clear();
    }

    /// It is gone with all its children; another one will come.
    pub(super) fn die(&mut self) {
        self.cut_off();
        self.life = self.life.wrapping_add(1);
        self.old.extend(self.children.keys());
        self.children.clear();
    }

    /// What it has, for whoever connects.
    pub(super) fn inventory(&self) -> Vec<KnownAttempt> {
        let known = |((task, attempt), child): (&Key, &Child)| KnownAttempt {
            task: *task,
            attempt: *attempt,
            pid: 7,
            started: child.began,
            ended: child.ended.is_some(),
            tree_gone: child.tree_gone,
        };
        self.children.iter().map(known).collect()
    }

    /// Tells every end again, as behind an inventory.
    pub(super) fn tell_all(&mut self, engine: &Engine) -> Result<(), Stop> {
        let keys: Vec<Key> = self.children.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.tell_end(engine, key))
    }
}
