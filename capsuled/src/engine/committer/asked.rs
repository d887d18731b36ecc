//! What is done about each request.

use std::sync::Arc;

use capsule_core::command::{Command, Report};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Status;
use capsule_core::time::{Span, Timestamp};

use super::super::group::Group;
use super::super::request::{
    Acted, Effect, NewTask, QueueChange, Refusal, Reply, Request, SubmitError, Submitted,
};
use super::super::{EngineError, records};
use crate::book::Queue;
use crate::store::{Change, Table};

/// What became of the submits of one request.
type Decisions = Vec<Result<Submitted, SubmitError>>;

impl Group<'_> {
    pub(super) fn take(&mut self, request: Request) -> Result<Option<Reply<()>>, EngineError> {
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
                self.tree_gone(task)?;
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
                let number = self.deploy(&app, *revision)?;
                self.answer(reply, number);
            }
            Request::Rollback { app, revision, reply } => {
                self.put_in_force(&app, revision)?;
                self.answer(reply, ());
            }
            Request::RemoveApp { app, reply } => {
                self.remove_app(&app)?;
                self.answer(reply, ());
            }
            // That it has come is all: each group looks at the clock.
            Request::ClockSet => {}
            Request::Schedule(asked) => self.asked_of_schedules(asked)?,
            Request::Close { reply } => return Ok(Some(reply)),
        }
        Ok(None)
    }

    /// Answers once the group is durable. Whoever asked may be gone by then.
    pub(in crate::engine) fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, value: T) {
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
            Some(task) if self.may_linger(task) => Err(Refusal::MayLinger),
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
        self.queues_changed = true;
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
    pub(super) fn alarms(&mut self) -> Result<(), EngineError> {
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
pub(in crate::engine) fn lost_report(
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
