//! The engine's thread: gathers requests, decides them in order, commits the group with one
//! fsync, and then answers.

mod asked;
mod patience;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

pub(super) use self::asked::lost_report;
use self::patience::patience;
use super::disk::{Disk, LOOK_AGAIN};
use super::group::{Carry, Group};
use super::request::{Effect, Reply, Request};
use super::{DISK, EngineError, Shared, ticks};

/// Requests decided together at the most. More gain nothing: 64 already hide the fsync.
const GROUP_MAX: usize = 128;

/// How long a group waits for company after one that had much: those who were answered together
/// ask again together, and a commit costs more than this.
const COMPANY: Duration = Duration::from_micros(100);

/// A group of so many had much company.
const CROWD: usize = 16;

/// The engine's thread.
#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    carry: Carry,
    inbox: Receiver<Request>,
    effects: UnboundedSender<Effect>,
    waiting: Vec<Request>,
    /// How many requests the last group had.
    last: usize,
    disk: Disk,
    /// What waits until the disk can be written again.
    held: Vec<Request>,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        carry: Carry,
        (inbox, effects): (Receiver<Request>, UnboundedSender<Effect>),
        disk: Disk,
    ) -> Self {
        Self { shared, carry, inbox, effects, waiting: Vec::new(), last: 0, disk, held: Vec::new() }
    }

    /// Runs until closed.
    ///
    /// # Errors
    /// The store failed: nothing more was or will be acknowledged, and the daemon must end.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        let mut group = Group::new(&self.shared, &mut self.carry);
        group.register_all_schedules()?;
        group.tell_all_dependants()?;
        group.ticks()?;
        group.commit(&self.effects)?;
        loop {
            if !self.gather() {
                return Ok(());
            }
            self.wait_for_company();
            let requests = std::mem::take(&mut self.waiting);
            self.last = requests.len();
            if let Some(reply) = self.decide(requests)? {
                self.shared.store.close()?;
                // Whoever asked may be gone.
                let _ = reply.send(());
                return Ok(());
            }
        }
    }

    /// Waits until there is something to do: requests that were put off long enough, or an alarm.
    /// False = everybody else is gone.
    fn gather(&mut self) -> bool {
        let mut since: Option<Instant> = None;
        loop {
            while self.waiting.len() < GROUP_MAX
                && let Ok(request) = self.inbox.try_recv()
            {
                self.waiting.push(request);
            }
            let now = Instant::now();
            let left = patience(&self.waiting, self.carry.ahead)
                .map(|limit| limit.saturating_sub(now - *since.get_or_insert(now)));
            if left == Some(Duration::ZERO) {
                return true;
            }
            let look_again = self.disk.is_full().then_some(LOOK_AGAIN);
            let more = self.carry.retention.more.then_some(Duration::ZERO);
            let clock = [self.alarm(), more].into_iter().flatten().min();
            let clock = clock.filter(|_| self.disk.read_only().is_none());
            let wait = [left, clock, look_again].into_iter().flatten().min();
            let received = match wait {
                Some(wait) => self.inbox.recv_timeout(wait),
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(request) => self.waiting.push(request),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Gathers what comes right behind, when the last group was a crowd.
    fn wait_for_company(&mut self) {
        if self.last < CROWD {
            return;
        }
        let until = Instant::now() + COMPANY;
        while self.waiting.len() < self.last.min(GROUP_MAX)
            && let left = until.saturating_duration_since(Instant::now())
            && let Ok(request) = self.inbox.recv_timeout(left)
        {
            self.waiting.push(request);
        }
    }

    /// How long until the next alarm.
    fn alarm(&self) -> Option<Duration> {
        let book = self.shared.book.read();
        let task = book.next_alarm().map(|(at, _)| at);
        let old = self.carry.retention.next_alarm(&book);
        let at = [task, ticks::next_alarm(&book), old].into_iter().flatten().min()?;
        Some(Duration::from_micros(at.since(self.shared.clock.now()).as_micros()))
    }

    /// Decides and commits one group. Gives back who asked for the end, if anyone did.
    fn decide(&mut self, requests: Vec<Request>) -> Result<Option<Reply<()>>, EngineError> {
        let mut group = Group::new(&self.shared, &mut self.carry);
        match self.disk.look(group.now) {
            Some(why) => drop(group.book.degraded.insert(DISK, why.to_owned())),
            None if group.book.degraded.remove(DISK).is_some() => group.release_buffered(),
            None => {}
        }
        if let Some(why) = self.disk.read_only() {
            let close = group.take_read_only(requests, why, &mut self.held)?;
            group.commit(&self.effects)?;
            return Ok(close);
        }
        let somebody_waits = !requests.is_empty();
        let mut close = None;
        for request in self.held.drain(..).chain(requests) {
            close = group.take(request)?.or(close);
        }
        group.alarms()?;
        group.ticks()?;
        group.claim()?;
        group.retain(somebody_waits)?;
        group.commit(&self.effects)?;
        Ok(close)
    }
}
