//! App hosts: which there are, what they run, and what becomes of that.
//!
//! It must not know queues or the keeper's words. Invariant: every attempt given to a host is
//! reported to the engine, by its host's verdict or, once that host is gone, as lost; and a host is
//! told that a verdict is durable only after the engine said so.

mod attempt;
mod calls;
mod hear;
mod life;
mod recover;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use capsule_core::attempt::{NotStarted, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use self::attempt::{Attempt, Limits};
use self::calls::Gatekeeper;
pub use self::calls::{Caller, Calls, NoCalls};

use self::slot::{Slot, Waiting};
use super::PythonSurroundings;
use super::registry::Registry;
use super::report::{Raised, never_ran};
use crate::apps::{Definition, Kind, Revision};
use crate::engine::{Engine, EngineError};
use crate::logs::LogDir;
use crate::runner::host::{EVENTS, Event, Start, ToHost, serve};
use crate::runner::process::{ProcessEnd, Processes};

/// What hosts are made with.
#[derive(Debug)]
pub struct HostParts {
    /// The socket that hosts connect to.
    pub listener: UnixListener,
    /// Where hosts are noted for the next daemon.
    pub registry: PathBuf,
    /// Where the words of attempts in processes of their own are.
    pub work: PathBuf,
    /// Who answers the SDK's calls.
    pub calls: Arc<dyn Calls>,
}

/// All hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    engine: Engine,
    processes: Processes,
    surroundings: PythonSurroundings,
    logs: Arc<LogDir>,
    registry: Registry,
    gatekeeper: Arc<Gatekeeper>,
    events: mpsc::Receiver<Event>,
    notes: (mpsc::UnboundedSender<Note>, mpsc::UnboundedReceiver<Note>),
    slots: BTreeMap<Place, Slot>,
    /// Before this another daemon gave attempts to hosts.
    born: Timestamp,
    serving: AbortHandle,
}

/// An app and the number of a revision.
type Place = (String, u32);

/// What others have to say about a host.
#[derive(Debug)]
pub(super) enum Note {
    /// Its process has ended.
    Died(u64, ProcessEnd),
    /// A chat message for it.
    Message(u64, Vec<u8>),
}

/// What [`Hosts::next`] gives.
#[derive(Debug)]
pub(super) enum Happening {
    /// A host did something.
    Event(Event),
    /// Something is said about one.
    Note(Note),
    /// Something is due.
    Time,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Hosts {
    /// Serves the socket; hosts of a former daemon are expected back.
    pub(super) fn new(
        parts: HostParts,
        (engine, processes): (Engine, Processes),
        surroundings: PythonSurroundings,
        logs: Arc<LogDir>,
    ) -> Self {
        let HostParts { listener, registry, work, calls } = parts;
        let gatekeeper = Arc::new(Gatekeeper::new(engine.clone(), calls, work));
        let (events, heard) = mpsc::channel(EVENTS);
        let door = Arc::clone(&gatekeeper);
        let serving = tokio::spawn(serve(listener, door, events)).abort_handle();
        let mut hosts = Self {
            born: engine.now(),
            engine,
            processes,
            surroundings,
            logs,
            registry: Registry::new(registry),
            gatekeeper,
            events: heard,
            notes: mpsc::unbounded_channel(),
            slots: BTreeMap::new(),
            serving,
        };
        hosts.expect_back();
        hosts
    }

    /// The next thing to be handled. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Happening {
        let alarm = self.slots.values().filter_map(Slot::alarm).min();
        let due = async {
            match alarm {
                Some(alarm) => sleep_until(alarm).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.events.recv() => Happening::Event(event),
            Some(note) = self.notes.1.recv() => Happening::Note(note),
            () = due => Happening::Time,
        }
    }

    /// Handles what [`Hosts::next`] gave.
    pub(super) fn handle(&mut self, happening: Happening) -> Result<(), EngineError> {
        match happening {
            Happening::Event(event) => self.hear(event),
            Happening::Note(Note::Died(key, end)) => self.died(key, end),
            Happening::Note(Note::Message(key, body)) => {
                self.deliver(key, &body);
                Ok(())
            }
            Happening::Time => self.on_time(Instant::now()),
        }
    }

    /// Gives a claimed attempt to the host of its revision.
    pub(super) fn spawn(
        &mut self,
        task: &Task,
        (revision, definition): (Arc<Revision>, &Definition),
        arguments: serde_json::Value,
    ) -> Result<(), EngineError> {
        let Some(lease) = task.state.lease().copied() else { return Ok(()) };
        if self.has(task.id, lease.attempt) {
            return Ok(());
        }
        let limits = Limits { timeout: task.spec.timeout, grace: task.spec.grace };
        let start = Box::new(start_of(task, lease.attempt, definition.kind, arguments));
        let place = (task.spec.app.clone(), revision.number);
        let slot = self.slots.entry(place.clone()).or_insert_with(|| Slot::new(revision));
        // It may have begun in a host that is gone: then it is not begun again.
        if lease.since < self.born && !slot.is_back(lease.since) {
            return self.lost_before(task.id, lease.attempt);
        }
        slot.waiting.push(Waiting { task: task.id, attempt: lease.attempt, start, limits });
        self.pump(&place)
    }

    /// Stops an attempt. False: no host has it.
    pub(super) fn stop(
        &mut self,
        task: TaskId,
        attempt: AttemptNumber,
        grace: Span,
    ) -> Result<bool, EngineError> {
        for slot in self.slots.values_mut() {
            if slot.withdraw(task, attempt) {
                let verdict = Verdict::NotStarted(NotStarted::Released);
                let ending = never_ran(attempt, verdict, self.engine.now());
                self.engine.report(task, ending, true)?;
                return Ok(true);
            }
            let Some((sender, found)) = slot.attempt_mut(task, attempt) else { continue };
            if !found.reported {
                found.stop(grace);
                if let Some(sender) = sender {
                    let (task, attempt) = (task.0, attempt.0);
                    sender.send(ToHost::Cancel { task, attempt, grace_ms: grace.0 });
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether a host has this attempt, or will.
    pub(super) fn has(&self, task: TaskId, attempt: AttemptNumber) -> bool {
        self.slots.values().any(|slot| slot.has(task, attempt))
    }

    /// The verdict of an attempt is durable.
    pub(super) fn ack(&mut self, task: TaskId, attempt: AttemptNumber) {
        for slot in self.slots.values_mut() {
            slot.forget(task, attempt);
        }
        self.retire();
    }

    /// Counts the time limit of an attempt anew. False: no host has it.
    pub(super) fn refresh(&mut self, task: TaskId, attempt: AttemptNumber) -> bool {
        for slot in self.slots.values_mut() {
            if let Some((sender, found)) = slot.attempt_mut(task, attempt) {
                found.count_anew();
                if let Some(sender) = sender {
                    sender.send(ToHost::Refresh { task: task.0, attempt: attempt.0 });
                }
                return true;
            }
        }
        false
    }

    /// Sends what waits to a host that is ready for it; starts one when there is none.
    fn pump(&mut self, place: &Place) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        if slot.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut slot.waiting);
        if let Some((sender, attempts)) = slot.ready() {
            for Waiting { task, attempt, start, limits } in waiting {
                sender.send(ToHost::Start(start.clone()));
                attempts.insert((task, attempt), Attempt::new(Some(start), limits));
            }
            return Ok(());
        }
        slot.waiting = waiting;
        if slot.may_launch() { self.launch(place) } else { Ok(()) }
    }
}

fn start_of(task: &Task, attempt: AttemptNumber, kind: Kind, kwargs: serde_json::Value) -> Start {
    let labels = &task.spec.labels;
    Start {
        kind: match kind {
            Kind::Task => "task",
            Kind::Tick => "tick",
        },
        task: task.id.0,
        attempt: attempt.0,
        name: task.spec.name.clone(),
        kwargs,
        session_id: labels.get(super::python::SESSION_LABEL).cloned().unwrap_or_default(),
        timeout_ms: task.spec.timeout.map_or(0, |timeout| timeout.0),
        user_id: task.spec.owner.clone(),
    }
}
