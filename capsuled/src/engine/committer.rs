//! The engine's thread: gathers requests, decides them in order, commits the group with one
//! fsync, and then answers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use capsule_core::command::{Command, Report};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Status;
use capsule_core::time::{Span, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

use super::disk::{Disk, LOOK_AGAIN};
use super::group::{Carry, Group};
use super::patience::patience;
use super::request::{
    Acted, Effect, NewTask, QueueChange, Refusal, Reply, Request, SubmitError, Submitted,
};
use super::{DISK, EngineError, Shared, records, ticks};
use crate::book::Queue;
use crate::store::{Change, Table};

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
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        carry: Carry,
        (inbox, effects): (Receiver<Request>, UnboundedSender<Effect>),
        disk: Disk,
    ) -> Self {
        Self { shared, carry, inbox, effects, waiting: Vec::new(), last: 0, disk }
    }

    /// Runs until closed.
    ///
    /// # Errors
    /// The store failed: nothing more was or will be acknowledged, and the daemon must end.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        let mut group = Group::new(&self.shared, &mut self.carry);
        group.register_all_schedules();
        group.release_buffered();
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
            let wait = [left, self.alarm(), look_again, more].into_iter().flatten().min();
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
            Some(why) => group.book.degraded.insert(DISK, why.to_owned()),
            None => group.book.degraded.remove(DISK),
        };
        let somebody_waits = !requests.is_empty();
        let mut close = None;
        for request in requests {
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

/// What became of the submits of one request.
type Decisions = Vec<Result<Submitted, SubmitError>>;

impl Group<'_> {
    fn take(&mut self, request: Request) -> Result<Option<Reply<()>>, EngineError> {
        match request {
            Request::Submit { submits, reply } => {
                let results = self.submit_all(submits)?;
                self.answer_submit(reply, results);
            }
            Request::Act { tasks, command, reply } => {
                let acted: Result<Vec<Acted>, EngineError> =
                    tasks.into_iter().map(|id| self.ask(id, &command)).collect();
                let acted = acted?;
                self.answer(reply, acted);
            }
            Request::Remove { tasks, reply } => {
                let acted: Result<Vec<Acted>, EngineError> =
                    tasks.into_iter().map(|id| self.remove(id)).collect();
                let acted = acted?;
                self.answer(reply, acted);
            }
            Request::Started { task, attempt, pid, at } => {
                // Refused when it is not the live attempt; a late word changes nothing.
                drop(self.ask_at(task, &Command::Start { attempt, pid }, at)?);
            }
            Request::Report { task, report, tree_gone } => self.report(task, report, tree_gone)?,
            Request::Refresh { task, reply } => {
                let found = self.refresh(task)?;
                self.answer(reply, found);
            }
            Request::Gone { task, attempt } => {
                self.book.gone(task, attempt);
                self.ended_runs.push((task, false));
            }
            Request::KeeperUp { keeper, attempts, reply } => {
                self.keeper_up(keeper, &attempts)?;
                self.answer(reply, ());
            }
            Request::KeeperDown => self.book.keeper = None,
            Request::SetQueue { name, change, reply } => {
                let queue = self.set_queue(name, change);
                self.answer(reply, queue);
            }
            Request::Drain { on, reply } => {
                self.book.draining = on;
                self.put_back(on);
                self.answer(reply, ());
            }
            Request::StopAll { grace, reply } => {
                let stopped = self.stop_all(grace)?;
                self.answer(reply, stopped);
            }
            Request::Degraded { what, why } => {
                match why {
                    Some(why) => self.book.degraded.insert(what, why),
                    None => self.book.degraded.remove(what),
                };
            }
            Request::Deploy { app, revision, reply } => {
                let number = self.deploy(&app, *revision);
                self.answer(reply, number);
            }
            Request::Rollback { app, revision, reply } => {
                self.put_in_force(&app, revision);
                self.answer(reply, ());
            }
            Request::RemoveApp { app, reply } => {
                self.remove_app(&app);
                self.answer(reply, ());
            }
            Request::Schedule(asked) => self.asked_of_schedules(asked)?,
            Request::Close { reply } => return Ok(Some(reply)),
        }
        Ok(None)
    }

    /// Answers once the group is durable. Whoever asked may be gone by then.
    pub(super) fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, value: T) {
        self.answers.push(Box::new(move |_| Box::new(move || drop(reply.send(value)))));
    }

    /// Answers a submit. One that comes alone is told what it waits for: who looks into the book
    /// for that would have to wait for the commit of the next group.
    fn answer_submit(&mut self, reply: Reply<Decisions>, mut results: Decisions) {
        let now = self.now;
        self.answers.push(Box::new(move |book| {
            if let [Ok(submitted)] = results.as_mut_slice() {
                submitted.waiting = book.waiting(&submitted.task, now);
            }
            Box::new(move || drop(reply.send(results)))
        }));
    }

    fn submit_all(&mut self, submits: Vec<NewTask>) -> Result<Decisions, EngineError> {
        let mut results = Vec::with_capacity(submits.len());
        for new in submits {
            let mut result = self.submit(new)?;
            if let Ok(submitted) = &mut result
                && let Some(task) = self.settle(&submitted.task)?
            {
                submitted.task = task;
            }
            results.push(result);
        }
        Ok(results)
    }

    fn remove(&mut self, id: TaskId) -> Result<Acted, EngineError> {
        let before = self.load(id)?;
        let result = match &before {
            None => Err(capsule_core::Rejected::Missing.into()),
            Some(task) if !task.status().is_ended() => Err(Refusal::NotEnded(task.status())),
            Some(_) if self.book.lingering.contains_key(&id) => Err(Refusal::Lingers),
            Some(task) => {
                self.forget_task(task);
                Ok(Arc::clone(task))
            }
        };
        Ok(Acted { id, before, result })
    }

    fn report(
        &mut self,
        id: TaskId,
        report: Box<Report>,
        tree_gone: bool,
    ) -> Result<(), EngineError> {
        let attempt = report.attempt;
        let written = report.receipt.output_bytes.saturating_add(report.receipt.error_bytes);
        let acted = self.ask(id, &Command::Report(report))?;
        if let (Ok(task), false) = (&acted.result, tree_gone) {
            self.book.linger(task, attempt);
        }
        // A stale report is acknowledged too: it has been heard.
        self.effects.push(Effect::Ack { task: id, attempt, written });
        Ok(())
    }

    /// The time limit of a live attempt begins anew; false when the task has none.
    fn refresh(&mut self, id: TaskId) -> Result<bool, EngineError> {
        let Some(task) = self.load(id)? else { return Ok(false) };
        let Some(lease) = task.state.lease() else { return Ok(false) };
        if let Some(timeout) = task.spec.timeout {
            let attempt = lease.attempt;
            self.effects.push(Effect::Refresh { task: id, attempt, timeout });
        }
        Ok(true)
    }

    fn set_queue(&mut self, name: String, change: QueueChange) -> Queue {
        let mut queue = self.book.queues.get(&name).cloned().unwrap_or_default();
        if let Some(paused) = change.paused {
            queue.paused = paused;
            self.put_back(paused);
            queue.note = if paused { change.note } else { String::new() };
            queue.since = self.now;
        }
        if let Some(limit) = change.limit {
            queue.limit = limit;
            self.put_back(true);
        }
        // A queue that is as all others needs no record.
        let usual = !queue.paused && queue.limit.is_none();
        if usual {
            self.write(Change::delete(Table::Queue, name.as_bytes()));
            self.book.queues.remove(&name);
        } else {
            self.write(Change::put(Table::Queue, name.as_bytes(), records::encode(&queue)));
            self.book.queues.insert(name, queue.clone());
        }
        queue
    }

    /// After this less may start: what was claimed ahead has to be asked for again.
    fn put_back(&mut self, less: bool) {
        if less && self.book.ahead() > 0 {
            self.effects.push(Effect::PutBack);
        }
    }

    fn stop_all(&mut self, grace: Span) -> Result<Vec<TaskId>, EngineError> {
        self.book.draining = true;
        let live: Vec<TaskId> = self
            .book
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_live())
            .map(|(id, _)| id)
            .collect();
        for id in &live {
            if let Some(lease) = self.load(*id)?.and_then(|task| task.state.lease().copied()) {
                let (task, attempt) = (*id, lease.attempt);
                self.effects.push(Effect::Stop { task, attempt, grace, drain: true });
            }
        }
        Ok(live)
    }

    /// Does what the clock asks for.
    fn alarms(&mut self) -> Result<(), EngineError> {
        while let Some((at, id)) = self.book.next_alarm() {
            if at > self.now {
                return Ok(());
            }
            let status = self.book.entries.get(&id).map(|entry| entry.status);
            let command = match status {
                Some(Status::Pending) => Command::Expire,
                _ => Command::Due,
            };
            if let Err(refusal) = self.ask(id, &command)?.result {
                tracing::error!(task.id = id.0, error = %refusal, "an alarm finds nothing to do");
                return Ok(());
            }
        }
        Ok(())
    }
}

/// When an attempt that was never reported is taken to have ended.
pub(super) fn lost_report(
    attempt: AttemptNumber,
    verdict: capsule_core::attempt::Verdict,
    at: Timestamp,
) -> Report {
    Report {
        attempt,
        verdict,
        before_signal: false,
        is_final: false,
        retry_after: None,
        started: None,
        ended: at,
        receipt: capsule_core::attempt::Receipt::default(),
        result: None,
    }
}
