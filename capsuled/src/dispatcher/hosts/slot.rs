//! The place of one revision's host: the host, if there is one, and what waits for it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::time::Timestamp;
use tokio::time::Instant;

use super::super::pause::Pause;
use super::Raised;
use super::attempt::{Attempt, Limits};
use crate::apps::Revision;
use crate::logs::LogWriter;
use crate::runner::host::{Sender, Start, ToHost};
use crate::runner::process::{Process, ProcessEnd};

/// How long an app may take to boot.
pub(super) const BOOT: Duration = Duration::from_secs(120);

/// Attempts of a host, by task and number.
pub(super) type Attempts = BTreeMap<(TaskId, AttemptNumber), Attempt>;

/// One revision's place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) revision: Arc<Revision>,
    /// In force, and its app needs a host.
    pub(super) wanted: bool,
    pub(super) host: Option<Host>,
    /// Claimed, and not yet given to a host.
    pub(super) waiting: Vec<Waiting>,
    /// After the death of a host.
    pub(super) pause: Pause,
}

/// An attempt that waits for its host.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) task: TaskId,
    pub(super) attempt: AttemptNumber,
    pub(super) start: Box<Start>,
    pub(super) limits: Limits,
}

/// A host that lives, or whose death is not settled.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) key: u64,
    pub(super) process: Process,
    pub(super) sender: Option<Sender>,
    pub(super) ready: bool,
    pub(super) attempts: Attempts,
    /// When a former daemon started it, if one did.
    pub(super) adopted: Option<Timestamp>,
    /// Why it cannot serve the app.
    pub(super) failed: Option<Raised>,
    /// It was told to end; when it is killed for not doing so.
    pub(super) quitting: Option<Instant>,
    /// When it is killed: its stacks are written before.
    pub(super) doom_at: Option<Instant>,
    /// It is being killed.
    pub(super) doomed: bool,
    /// Its process has ended; when that is settled even if its connection still seems open.
    pub(super) died: Option<(ProcessEnd, Instant)>,
    /// What it says of itself.
    pub(super) log: Option<LogWriter>,
    /// Chat messages come while this is held.
    pub(super) attached: Option<Box<dyn Any + Send + Sync>>,
    pub(super) since: Instant,
}

impl Slot {
    pub(super) fn new(revision: Arc<Revision>) -> Self {
        Self { revision, wanted: false, host: None, waiting: Vec::new(), pause: Pause::default() }
    }

    /// When something is to be done if nothing happens.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let Some(host) = &self.host else {
            return self.pause.until().filter(|_| self.wanted || !self.waiting.is_empty());
        };
        let attempts = host.attempts.values().filter(|attempt| !attempt.reported);
        let deadline = attempts.filter(|a| a.blamed.is_none()).filter_map(|a| a.deadline).min();
        let quitting = host.quitting.filter(|_| !host.doomed);
        let doom = host.doom_at.filter(|_| !host.doomed);
        let died = host.died.as_ref().map(|(_, until)| *until);
        let boot = host.boots_until().filter(|_| !host.doomed);
        [deadline, quitting, doom, boot, died].into_iter().flatten().min()
    }

    /// This attempt waits here, or the host has it.
    pub(super) fn has(&self, task: TaskId, attempt: AttemptNumber) -> bool {
        self.waiting.iter().any(|one| (one.task, one.attempt) == (task, attempt))
            || self.host.iter().any(|host| host.attempts.contains_key(&(task, attempt)))
    }

    /// Takes an attempt back that was not given to a host.
    pub(super) fn withdraw(&mut self, task: TaskId, attempt: AttemptNumber) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|one| (one.task, one.attempt) != (task, attempt));
        self.waiting.len() < before
    }

    /// An attempt of the host, and the way to it.
    pub(super) fn attempt_mut(
        &mut self,
        task: TaskId,
        attempt: AttemptNumber,
    ) -> Option<(Option<&Sender>, &mut Attempt)> {
        let host = self.host.as_mut()?;
        Some((host.sender.as_ref(), host.attempts.get_mut(&(task, attempt))?))
    }

    /// The verdict of this attempt is durable: the host may forget it.
    pub(super) fn forget(&mut self, task: TaskId, attempt: AttemptNumber) {
        let Some(host) = &mut self.host else { return };
        if host.attempts.get(&(task, attempt)).is_some_and(|found| found.reported) {
            host.attempts.remove(&(task, attempt));
            if let Some(sender) = &host.sender {
                sender.send(ToHost::Ack { task: task.0, attempt: attempt.0 });
            }
        }
    }

    /// The way to a host that takes attempts now, and what it has.
    pub(super) fn ready(&mut self) -> Option<(&Sender, &mut Attempts)> {
        let host = self.host.as_mut()?;
        let ends = host.quitting.or(host.doom_at).is_some() || host.doomed || host.died.is_some();
        let takes = host.ready && !ends;
        Some((host.sender.as_ref().filter(|_| takes)?, &mut host.attempts))
    }

    /// A former daemon's host is here, has said what it has, and is the first that can have had
    /// an attempt claimed at `claimed`.
    pub(super) fn is_back(&self, claimed: Timestamp) -> bool {
        let Some(host) = &self.host else { return false };
        host.sender.is_some() && host.adopted.is_some_and(|launched| launched <= claimed)
    }

    /// There is no host, and none has died a moment ago.
    pub(super) fn may_launch(&self) -> bool {
        self.host.is_none() && self.pause.is_over()
    }
}

impl Host {
    pub(super) fn new(process: Process, adopted: Option<Timestamp>) -> Self {
        Self {
            key: process.key,
            process,
            sender: None,
            ready: false,
            attempts: Attempts::new(),
            adopted,
            failed: None,
            quitting: None,
            doom_at: None,
            doomed: false,
            died: None,
            log: None,
            attached: None,
            since: Instant::now(),
        }
    }

    /// Until when it may boot; none when that is done, or has not begun.
    pub(super) fn boots_until(&self) -> Option<Instant> {
        let boots = !self.ready && self.died.is_none() && self.process.pid().is_some();
        self.since.checked_add(BOOT).filter(|_| boots)
    }

    /// Kills it after `grace`.
    pub(super) fn doom(&mut self, grace: Duration) {
        self.doomed = true;
        self.process.stop(grace);
    }
}
