//! How much all logs take together: kept up to date without looking at all of them, and when it is
//! too much, the logs of the attempts that ended first go.
//!
//! Logs of running attempts are not in it: they have a bound each. One thread looks at files, so
//! that nobody waits for a disk; it is woken only when there is enough to do.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::{LogDir, LogError};

/// Bytes that the logs of ended attempts take together, unless the daemon is told otherwise.
pub const LOGS_MAX: u64 = 5 << 30;
/// So much may have been written before the ledger is brought up to date.
const NEWS_BYTES: u64 = 64 << 20;
/// Or this part of all that may be there.
const NEWS_PART: u64 = 16;
/// And so many attempts may have ended.
const NEWS_COUNT: usize = 1024;

/// What a log belongs to, as its owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An attempt that has ended.
    Ended,
    /// An attempt that goes on, or something else that looks after its log itself.
    Live,
    /// Nothing: it can go.
    Gone,
}

/// What the thread is told, and what it tells.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    inbox: Mutex<Inbox>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    /// There is a thread.
    runs: bool,
    ending: bool,
    ended: Vec<(u64, u32)>,
    ended_bytes: u64,
    forgotten: Vec<(u64, RangeInclusive<u32>)>,
    /// Bytes of the logs of ended attempts, as of the last look.
    total: u64,
    most: u64,
}

/// The ledger's thread; it ends when this is dropped.
#[derive(Debug)]
pub struct LedgerThread {
    dir: Arc<LogDir>,
    thread: Option<JoinHandle<()>>,
}

impl LogDir {
    /// Starts keeping the logs of ended attempts below `most` bytes together. Logs that are there
    /// and belong to nothing are removed; of which kind each is, `standing` says by task and attempt.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn keep_below(
        self: &Arc<Self>,
        most: u64,
        standing: impl Fn(u64, u32) -> Standing + Send + 'static,
    ) -> io::Result<LedgerThread> {
        {
            let mut inbox = self.ledger.inbox.lock();
            (inbox.runs, inbox.most) = (true, most);
        }
        let dir = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("log-ledger".to_owned())
            .spawn(move || Keeping { dir, rows: VecDeque::new(), total: 0 }.run(&standing))?;
        Ok(LedgerThread { dir: Arc::clone(self), thread: Some(thread) })
    }

    /// An attempt has ended that wrote about so much.
    pub fn ended(&self, task: u64, attempt: u32, bytes: u64) {
        let mut inbox = self.ledger.inbox.lock();
        if !inbox.runs {
            return;
        }
        inbox.ended.push((task, attempt));
        inbox.ended_bytes = inbox.ended_bytes.saturating_add(bytes);
        if inbox.is_pressing() {
            self.ledger.bell.notify_one();
        }
    }

    /// The logs of these attempts are not wanted any more.
    pub fn forget(&self, task: u64, attempts: RangeInclusive<u32>) {
        let mut inbox = self.ledger.inbox.lock();
        if inbox.runs {
            inbox.forgotten.push((task, attempts));
            self.ledger.bell.notify_one();
            return;
        }
        drop(inbox);
        for attempt in attempts {
            report(task, self.remove(task, attempt).map(drop));
        }
    }

    /// Bytes that logs of ended attempts take together, about, and how many they may; `None` when
    /// nobody keeps count.
    pub fn tally(&self) -> Option<(u64, u64)> {
        let inbox = self.ledger.inbox.lock();
        inbox.runs.then_some((inbox.total + inbox.ended_bytes, inbox.most))
    }
}

impl Inbox {
    const fn is_pressing(&self) -> bool {
        self.ending
            || !self.forgotten.is_empty()
            || self.ended.len() >= NEWS_COUNT
            || self.ended_bytes > self.most / NEWS_PART
            || self.ended_bytes >= NEWS_BYTES
    }
}

impl Drop for LedgerThread {
    fn drop(&mut self) {
        self.dir.ledger.inbox.lock().ending = true;
        self.dir.ledger.bell.notify_one();
        // It has only this to do; a panic of it was told.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// The thread's own.
struct Keeping {
    dir: Arc<LogDir>,
    /// Attempts that have logs, in the order of their ends; of some the log is gone already.
    rows: VecDeque<(u64, u32)>,
    total: u64,
}

impl Keeping {
    fn run(mut self, standing: &dyn Fn(u64, u32) -> Standing) {
        let mut seen = self.take_stock(standing).unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "the logs cannot be counted");
            HashSet::new()
        });
        loop {
            self.make_room();
            let (ended, forgotten) = {
                let mut inbox = self.dir.ledger.inbox.lock();
                inbox.total = self.total;
                while !inbox.is_pressing() {
                    self.dir.ledger.bell.wait(&mut inbox);
                }
                if inbox.ending {
                    return;
                }
                inbox.ended_bytes = 0;
                (std::mem::take(&mut inbox.ended), std::mem::take(&mut inbox.forgotten))
            };
            for (task, attempt) in ended {
                // One that ended while stock was taken may have been counted then.
                if !seen.contains(&(task, attempt)) {
                    self.count(task, attempt);
                }
            }
            seen = HashSet::new();
            for (task, attempts) in forgotten {
                for attempt in attempts {
                    self.remove(task, attempt);
                }
            }
        }
    }

    /// Counts what is there, oldest first, and removes what belongs to nothing.
    fn take_stock(
        &mut self,
        standing: &dyn Fn(u64, u32) -> Standing,
    ) -> Result<HashSet<(u64, u32)>, LogError> {
        let mut found = Vec::new();
        let mut orphans = 0_u64;
        let dir = Arc::clone(&self.dir);
        dir.visit(|log| {
            match standing(log.task, log.attempt) {
                Standing::Live => {}
                Standing::Gone => {
                    orphans += 1;
                    report(log.task, dir.remove(log.task, log.attempt).map(drop));
                }
                Standing::Ended => {
                    self.total += log.bytes;
                    found.push((log.modified, log.task, log.attempt));
                }
            }
            if dir.ledger.inbox.lock().ending {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if orphans > 0 {
            tracing::info!(orphans, "logs that belonged to no task are removed");
        }
        found.sort_unstable();
        self.rows = found.into_iter().map(|(_, task, attempt)| (task, attempt)).collect();
        Ok(self.rows.iter().copied().collect())
    }

    fn count(&mut self, task: u64, attempt: u32) {
        match self.dir.bytes(task, attempt) {
            Ok(0) => {}
            Ok(bytes) => {
                self.total += bytes;
                self.rows.push_back((task, attempt));
            }
            Err(error) => report(task, Err(error)),
        }
    }

    fn remove(&mut self, task: u64, attempt: u32) {
        match self.dir.remove(task, attempt) {
            Ok(bytes) => self.total = self.total.saturating_sub(bytes),
            Err(error) => report(task, Err(error)),
        }
    }

    /// Lets the oldest logs go until all of them together are small enough.
    fn make_room(&mut self) {
        let most = self.dir.ledger.inbox.lock().most;
        let before = self.rows.len();
        while self.total > most
            && let Some((task, attempt)) = self.rows.pop_front()
        {
            self.remove(task, attempt);
        }
        if self.rows.len() < before {
            let (pruned, left) = (before - self.rows.len(), self.total);
            tracing::info!(pruned, left, most, "the oldest logs are removed to make room");
        }
        // Those of removed tasks are only names by now.
        if self.total == 0 {
            self.rows.clear();
        }
    }
}

fn report(task: u64, done: Result<(), LogError>) {
    if let Err(error) = done {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(task.id = task, error, "a log stays behind");
    }
}
