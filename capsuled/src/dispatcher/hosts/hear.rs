//! What hosts say, and what the clock says about them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::time::Timestamp;
use tokio::time::Instant;

use super::attempt::{Attempt, Blame, Limits};
use super::slot::{BOOT, Host};
use super::{Hosts, Note, Place, Raised};
use crate::dispatcher::heard::keep;
use crate::dispatcher::report::micros;
use crate::engine::EngineError;
use crate::logs::{LogCaps, LogWriter};
use crate::runner::host::{Ended, Event, FromHost, Hello, HostError, Known, Log, Sender, ToHost};

/// Between SIGTERM and SIGKILL of a host that does not stop an attempt: time to write its stacks,
/// and for the others to be put back.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(3);
/// How long a host may take to write its stacks.
const STACKS: Duration = Duration::from_millis(300);
/// The attempt number of what a host says of itself; its raw output has the number 1.
pub(super) const OWN_LOG: u32 = 2;

impl Hosts {
    pub(super) fn hear(&mut self, event: Event) -> Result<(), EngineError> {
        match event {
            Event::Opened { key, sender, hello } => self.opened(key, sender, hello),
            Event::Said { key, connection, frames } => {
                let Some(place) = self.place_of(key, Some(connection)) else { return Ok(()) };
                for frame in frames {
                    self.obey(&place, frame)?;
                }
                Ok(())
            }
            Event::Closed { key, connection } => {
                let Some(place) = self.place_of(key, Some(connection)) else { return Ok(()) };
                let host = self.slots.get_mut(&place).and_then(|slot| slot.host.as_mut());
                let Some(host) = host else { return Ok(()) };
                host.sender = None;
                if host.died.is_some() { self.bury(&place) } else { Ok(()) }
            }
        }
    }

    /// The place of a host; of its newest connection, if one is asked for.
    pub(super) fn place_of(&self, key: u64, connection: Option<u64>) -> Option<Place> {
        let found = self.slots.iter().find(|(_, slot)| {
            slot.host.as_ref().is_some_and(|host| {
                let current = host.sender.as_ref().map(|sender| sender.connection);
                host.key == key && (connection.is_none() || connection == current)
            })
        });
        found.map(|(place, _)| place.clone())
    }

    /// A host has connected: what it does not know of what it was given is said again.
    fn opened(&mut self, key: u64, sender: Sender, hello: Hello) -> Result<(), EngineError> {
        let Some(place) = self.place_of(key, None) else { return Ok(()) };
        let Some(host) = self.slots.get_mut(&place).and_then(|slot| slot.host.as_mut()) else {
            return Ok(());
        };
        let Hello { ready, attempts, pid, .. } = hello;
        tracing::info!(app = place.0, revision = place.1, pid, ready, "an app host is connected");
        for ((task, attempt), found) in &host.attempts {
            if found.reported {
                continue;
            }
            if let Some(start) = &found.start
                && !attempts.iter().any(|known| (known.task, known.attempt) == (task.0, attempt.0))
            {
                sender.send(ToHost::Start(start.clone()));
            }
            if let Some(grace) = found.cancel {
                let (task, attempt) = (task.0, attempt.0);
                sender.send(ToHost::Cancel { task, attempt, grace_ms: grace.0 });
            }
        }
        if host.quitting.is_some() {
            sender.send(ToHost::Quit { grace_ms: 0 });
        }
        host.sender = Some(sender);
        for known in attempts {
            self.take_known(&place, known)?;
        }
        if ready { self.ready(&place) } else { Ok(()) }
    }

    /// An attempt that a host says it has.
    fn take_known(&mut self, place: &Place, known: Known) -> Result<(), EngineError> {
        let (task, attempt) = (TaskId(known.task), AttemptNumber(known.attempt));
        let limits = match self.engine.task(task)? {
            Some(task) => Limits { timeout: task.spec.timeout, grace: task.spec.grace },
            None => Limits::default(),
        };
        let Some(host) = self.slots.get_mut(place).and_then(|slot| slot.host.as_mut()) else {
            return Ok(());
        };
        let found = host.attempts.entry((task, attempt));
        let found = found.or_insert_with(|| Attempt::new(None, limits));
        if found.started_us == 0 && known.started_us != 0 {
            found.begin(known.started_us);
        }
        match known.ended {
            Some(ended) => self.ended(place, ended),
            None => Ok(()),
        }
    }

    fn obey(&mut self, place: &Place, frame: FromHost) -> Result<(), EngineError> {
        match frame {
            FromHost::Ready => self.ready(place),
            FromHost::Failed { error } => {
                self.failed(place, error);
                Ok(())
            }
            FromHost::Started { task, attempt, at_us } => {
                self.started(place, (task, attempt), at_us)
            }
            FromHost::Ended(ended) => self.ended(place, ended),
            FromHost::Log(log) => {
                self.write(place, &log);
                Ok(())
            }
            FromHost::Turn { request_id, error } => {
                self.gatekeeper.calls().turn_ended(&request_id, error);
                Ok(())
            }
            FromHost::Hello(_) | FromHost::Call(_) | FromHost::Pong { .. } | FromHost::Unknown => {
                Ok(())
            }
        }
    }

    /// The app is booted: what waits can begin, and messages may come.
    fn ready(&mut self, place: &Place) -> Result<(), EngineError> {
        let calls = self.gatekeeper.calls();
        let Some(host) = self.slots.get_mut(place).and_then(|slot| slot.host.as_mut()) else {
            return Ok(());
        };
        host.ready = true;
        if host.attached.is_none() && host.quitting.is_none() {
            let (messages, mut incoming) = tokio::sync::mpsc::unbounded_channel();
            host.attached = Some(calls.attach(&place.0, place.1, messages));
            let (notes, key) = (self.notes.0.clone(), host.key);
            tokio::spawn(async move {
                while let Some(body) = incoming.recv().await {
                    if notes.send(Note::Message(key, body)).is_err() {
                        return;
                    }
                }
            });
        }
        self.pump(place)
    }

    /// A chat message for a host.
    pub(super) fn deliver(&self, key: u64, body: &[u8]) {
        let place = self.place_of(key, None);
        let host = place.and_then(|place| self.slots.get(&place)?.host.as_ref());
        if let Some(sender) = host.and_then(|host| host.sender.as_ref()) {
            sender.send(ToHost::Message { body: STANDARD.encode(body) });
        }
    }

    fn failed(&mut self, (app, revision): &Place, error: HostError) {
        tracing::warn!(app, revision, kind = error.kind, message = error.message, "an app fails");
        let place = (app.clone(), *revision);
        if let Some(host) = self.slots.get_mut(&place).and_then(|slot| slot.host.as_mut()) {
            let HostError { kind, message, .. } = error;
            host.failed = Some(Raised { kind, message, ..Raised::default() });
        }
    }

    fn started(
        &mut self,
        place: &Place,
        (task, attempt): (u64, u32),
        at_us: u64,
    ) -> Result<(), EngineError> {
        let (task, attempt) = (TaskId(task), AttemptNumber(attempt));
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let pid = slot.host.as_ref().and_then(|host| host.process.pid()).unwrap_or(0);
        if let Some((_, found)) = slot.attempt_mut(task, attempt) {
            found.begin(at_us);
        }
        self.engine.started(task, attempt, pid, Timestamp(micros(at_us)))
    }

    fn ended(&mut self, place: &Place, mut ended: Ended) -> Result<(), EngineError> {
        let (task, attempt) = (TaskId(ended.task), AttemptNumber(ended.attempt));
        let Some(host) = self.slots.get_mut(place).and_then(|slot| slot.host.as_mut()) else {
            return Ok(());
        };
        let found = host.attempts.entry((task, attempt));
        let found = found.or_insert_with(|| Attempt::new(None, Limits::default()));
        if found.reported {
            return Ok(());
        }
        found.reported = true;
        found.close_log();
        let mut report = found.ended(&ended);
        if ended.verdict == "completed" {
            let bytes = serde_json::to_vec(&ended.result.take()).unwrap_or_default();
            match keep(&self.engine, task, bytes) {
                Ok(result) => report.result = Some(result),
                Err(why) => {
                    tracing::warn!(task.id = task.0, %why, "the result is not kept");
                    report.receipt.result_refused = Some(why);
                }
            }
        }
        self.engine.report(task, report, true)
    }

    fn write(&mut self, place: &Place, log: &Log) {
        let logs = &self.logs;
        let Some(slot) = self.slots.get_mut(place) else { return };
        let open = |task: u64, attempt: u32| match logs.handle() {
            Ok(dir) => Some(LogWriter::new(dir, task, attempt, LogCaps::default())),
            Err(error) => {
                tracing::error!(%error, "the output of an attempt is lost");
                None
            }
        };
        if let Some((_, found)) = slot.attempt_mut(TaskId(log.task), AttemptNumber(log.attempt)) {
            // After the verdict its log has ended; what comes late is the host's to keep.
            if !found.reported {
                found.write(log, || open(log.task, log.attempt));
            }
        } else if let Some(host) = &mut slot.host {
            let key = host.key;
            let writer = host.log.take().or_else(|| open(key, OWN_LOG));
            host.log = writer.map(|mut writer| {
                let stream = if log.stream == "err" {
                    crate::logs::Stream::Err
                } else {
                    crate::logs::Stream::Out
                };
                writer.append(log.at_us, stream, log.text.as_bytes());
                writer
            });
        }
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant) -> Result<(), EngineError> {
        let places: Vec<Place> = self.slots.keys().cloned().collect();
        for place in places {
            let Some(slot) = self.slots.get_mut(&place) else { continue };
            let Some(host) = &mut slot.host else {
                if slot.alarm().is_some_and(|at| at <= now) {
                    self.launch(&place)?;
                }
                continue;
            };
            if host.died.as_ref().is_some_and(|(_, until)| *until <= now) {
                self.bury(&place)?;
                continue;
            }
            blame(host, now);
            if !host.doomed && host.boots_until().is_some_and(|at| at <= now) {
                let message = format!("it did not boot within {} s", BOOT.as_secs());
                let kind = "HostError".to_owned();
                host.failed = Some(Raised { kind, message, ..Raised::default() });
                host.doom(LAST_GRACE);
            }
            let due = host.quitting.is_some_and(|at| at <= now);
            if !host.doomed && (due || host.doom_at.is_some_and(|at| at <= now)) {
                host.doom(LAST_GRACE);
            }
        }
        Ok(())
    }
}

/// Has a host killed for attempts that it does not stop.
fn blame(host: &mut Host, now: Instant) {
    for ((task, attempt), found) in &mut host.attempts {
        let over = found.deadline.is_some_and(|at| at <= now);
        if !over || found.reported || found.blamed.is_some() {
            continue;
        }
        tracing::warn!(task.id = task.0, "its host cannot stop it, so the host is killed");
        found.blamed = Some(if found.cancel.is_some() { Blame::Cancel } else { Blame::Timeout });
        if let Some(sender) = &host.sender {
            sender.send(ToHost::Stacks { task: task.0, attempt: attempt.0 });
        }
        host.doom_at = host.doom_at.or(now.checked_add(STACKS));
    }
}
