//! The end of every history: everything is up, nothing new comes, and all must come to an end.

use capsule_core::attempt::Verdict;
use capsule_core::command::{Command, Edit};
use capsule_core::id::TaskId;
use capsule_core::time::Span;

use super::super::report;
use super::play::{QUEUES, revision};
use super::steps::Told;
use super::world::{SLOTS, World};
use super::{Stop, ensure};
use crate::clock::Clock as _;
use crate::engine::{QueueChange, ScheduleChange};

/// Rounds in which everything must have ended: many more than there are attempts to make.
const ROUNDS: usize = 2000;

impl World {
    /// Opens every gate and runs until nothing is left.
    pub(super) async fn come_to_rest(&mut self) -> Result<(), Stop> {
        self.store.be_well();
        self.crash_with = None;
        if self.open_all().await.is_err() {
            // The planned crash came first.
            self.reopen()?;
            self.open_all().await?;
        }
        for _ in 0..ROUNDS {
            self.carry_out().await?;
            self.keeper.tell(&self.engine)?;
            for key in self.keeper.lingering() {
                self.keeper.gone(&self.engine, key, SLOTS)?;
            }
            for key in self.keeper.running() {
                let ended = report(key.1, Verdict::Completed, self.engine.now());
                self.keeper.end(&self.engine, (key, ended), (true, Told::AtOnce), SLOTS)?;
            }
            self.carry_out().await?;
            // Whoever no longer has a definition waits rightly, until somebody cancels it.
            let unfit: Vec<TaskId> = self.engine.book().unfit.keys().copied().collect();
            if !unfit.is_empty() {
                let cancel = Command::Cancel { reason: String::new(), grace: None };
                self.record.moved.extend(&unfit);
                drop(self.engine.act(unfit, cancel).await?);
            }
            let next = self.engine.book().next_alarm();
            let idle = self.keeper.children.is_empty();
            if let Some((at, _)) = next.filter(|_| idle) {
                self.clock.set(at.max(self.clock.now()));
            } else if idle && next.is_none() && self.unfinished()?.is_empty() {
                break;
            }
        }
        self.look().await?;
        let stuck = self.unfinished()?;
        let why = |id: &TaskId| {
            let task = self.record.tasks.get(id);
            format!("{:?}\n{task:#?}", task.map(|it| self.engine.book().gates(it, it.created)))
        };
        ensure(stuck.is_empty(), "everything ends when everything is up", || {
            stuck.iter().map(why).collect::<Vec<_>>().join("\n")
        })?;
        let book = self.engine.book();
        let free =
            book.running() == 0 && book.lingering.is_empty() && book.locks.iter().count() == 0;
        ensure(free, "all slots and locks are free in the end", || {
            format!("{} run, {:?} linger, {:?}", book.running(), book.lingering, book.locks)
        })
    }

    async fn open_all(&mut self) -> Result<(), Stop> {
        self.keeper.slow = false;
        self.connect().await?;
        let schedules: Vec<_> = self.engine.book().schedules.iter().map(|it| it.id).collect();
        for id in schedules {
            drop(self.engine.change_schedule(id, ScheduleChange::End).await?);
        }
        self.engine.deploy("tools".to_owned(), revision(true, 1)).await?;
        self.engine.deploy("leads".to_owned(), revision(false, 2)).await?;
        let handlers: Vec<_> = self.engine.book().schedules.iter().map(|it| it.id).collect();
        ensure(handlers.len() < 1000, "schedules are bounded", String::new)?;
        for queue in QUEUES {
            let change =
                QueueChange { paused: Some(false), note: String::new(), limit: Some(None) };
            drop(self.engine.set_queue(queue.to_owned(), change).await?);
        }
        let held: Vec<TaskId> =
            self.tasks()?.values().filter(|task| task.spec.hold).map(|task| task.id).collect();
        let edit = Edit { hold: Some(false), ..Edit::default() };
        self.record.moved.extend(&held);
        drop(self.engine.act(held, Command::Edit(Box::new(edit))).await?);
        self.engine.drain(false).await?;
        self.clock.advance(Span::from_secs(1));
        Ok(())
    }

    fn unfinished(&self) -> Result<Vec<TaskId>, Stop> {
        let tasks = self.tasks()?;
        Ok(tasks.values().filter(|task| !task.status().is_ended()).map(|task| task.id).collect())
    }
}
