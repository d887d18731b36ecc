//! What memory and the other tables say, against the durable tasks.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::id::TaskId;
use capsule_core::task::Task;

use super::world::{SLOTS, World};
use super::{Stop, broken, ensure};
use crate::book::Book;
use crate::engine::Recovered;
use crate::schedule::{Fire, Outcome};
use crate::store::Store as _;

type Tasks = BTreeMap<TaskId, Task>;

const BOOK: &str = "the book says what a new one made of the store says";
const TICK: &str = "each tick happens once, with its task";
const FEED: &str = "the feed tells every change once, in order";

impl World {
    /// The book against a new one.
    pub(super) fn books(&self, tasks: &Tasks) -> Result<(), Stop> {
        let slots = u32::try_from(SLOTS).unwrap_or(0);
        let (fresh, carry) = Recovered::from_store(&*self.store, slots)?.finish(&*self.store)?;
        let book = self.engine.book();
        let counts = |book: &Book| book.counts.iter().collect::<Vec<_>>();
        let same = |same: bool, what: &str| ensure(same, BOOK, || what.to_owned());
        same(counts(&book) == counts(&fresh), "counts")?;
        same(book.next_alarm() == fresh.next_alarm(), "alarms")?;
        same(book.schedules.next_alarm() == fresh.schedules.next_alarm(), "alarms of schedules")?;
        same(carry.seq.0 == self.store.high_water(), "the number of the last change")?;
        let lingering = u32::try_from(book.lingering.len()).unwrap_or(0);
        same(book.running() == fresh.running() + lingering, "live attempts")?;
        for (id, task) in tasks {
            same(book.dependants(*id) == fresh.dependants(*id), "who waits for whom")?;
            let spec = &task.spec;
            if let Some(key) = &spec.lock {
                let (of, again) =
                    (book.unfinished(&spec.app, key), fresh.unfinished(&spec.app, key));
                same(of == again, "who is under a lock")?;
            }
            if let Some(key) = &spec.key {
                let found = [&*book, &fresh].map(|book| book.by_key(&spec.app, &spec.name, key));
                let there = found.map(|id| id.is_some());
                same(there[0] == there[1], "which task has a key")?;
            }
        }
        for (lock, holder, waiters) in book.locks.iter() {
            let live = |id: &TaskId| {
                book.lingering.contains_key(id)
                    || tasks.get(id).is_some_and(|task| task.state.lease().is_some())
            };
            let held = holder.as_ref().is_none_or(live);
            ensure(held, "a lock is free when its attempt is gone", || format!("{lock:?}"))?;
            let wait = waiters.iter().all(|id| tasks.contains_key(id));
            ensure(wait, BOOK, || format!("{waiters:?} wait for {lock:?}"))?;
        }
        Ok(())
    }

    /// Each tick once, each with its task, each task with its tick.
    pub(super) fn ticks(&mut self, tasks: &Tasks) -> Result<(), Stop> {
        let schedules: Vec<_> = self.engine.book().schedules.iter().cloned().collect();
        let mut made = BTreeSet::new();
        for schedule in &schedules {
            self.record.schedules.insert(TaskId(schedule.id.0));
            let mut planned = BTreeSet::new();
            for row in self.engine.ticks(schedule.id, 5000)? {
                let at = row.key.planned;
                let twice = || format!("{at:?} of {schedule:?}");
                let Outcome::Fired { task, how } = row.tick.outcome else {
                    ensure(planned.insert(at), TICK, twice)?;
                    continue;
                };
                ensure(how == Fire::Manual || planned.insert(at), TICK, twice)?;
                ensure(made.insert(task), TICK, || format!("{task} stands for two fires"))?;
                let of = tasks.get(&task).map(|task| task.spec.tick);
                let same = of.is_none_or(|tick| {
                    tick.is_some_and(|tick| (tick.schedule, tick.planned) == (schedule.id, at))
                });
                let there = of.is_some() || self.record.removed.contains(&task);
                ensure(same && there, TICK, || format!("{task} of {at:?}: {of:?}"))?;
            }
        }
        for task in tasks.values() {
            let Some(tick) = task.spec.tick else { continue };
            let known = schedules.iter().any(|schedule| schedule.id == tick.schedule);
            ensure(!known || made.contains(&task.id), TICK, || format!("{} has no row", task.id))?;
        }
        Ok(())
    }

    /// What was published since the last look.
    pub(super) async fn feed(&mut self, tasks: &Tasks) -> Result<(), Stop> {
        if self.engine.feed().latest() > self.record.published {
            let news = self.engine.feed().next(&mut self.cursor).await;
            let news = news.map_err(|lagged| broken(FEED, format!("{lagged:?}")))?;
            for change in news {
                let rises = change.seq > self.record.published;
                ensure(rises, FEED, || format!("{change:?} behind {}", self.record.published))?;
                self.record.published = change.seq;
                self.record.reread.insert(change.task, change.seq);
            }
        }
        if self.record.lives != self.lives {
            return Ok(());
        }
        for (id, task) in tasks {
            if self.record.tasks.get(id).is_none_or(|before| before.seq != task.seq) {
                let told = self.record.reread.get(id) == Some(&task.seq);
                ensure(told, FEED, || format!("{id} changed at {} untold", task.seq))?;
            }
        }
        Ok(())
    }
}
