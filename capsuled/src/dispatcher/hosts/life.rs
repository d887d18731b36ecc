//! From the start of a host to its death, and which hosts there are to be.

use std::sync::Arc;
use std::time::Duration;

use capsule_core::attempt::{Loss, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use tokio::time::Instant;

use super::hear::OWN_LOG;

use super::slot::{Host, Slot};
use super::{Hosts, Note, Place, Raised};
use crate::apps::{Mode, Python, Revision, Runner};
use crate::dispatcher::python::{Of, new_token};
use crate::dispatcher::registry::Record;
use crate::dispatcher::report::{never_ran, unbooted, unserved};
use crate::engine::EngineError;
use crate::runner::host::ToHost;
use crate::runner::process::{Process, ProcessEnd};

/// How long the connection of a dead host may still give what it had said.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What an old host may still do when nothing of it runs any more.
const QUIT_GRACE: Duration = Duration::from_secs(5);
/// How long a host may take to end when told to: its own graces, and then some.
const QUIT: Duration = Duration::from_secs(30);

impl Hosts {
    /// Starts hosts that are wanted and ends those that are not, once their attempts have ended.
    pub(in crate::dispatcher) fn reconcile(&mut self) -> Result<(), EngineError> {
        let apps = self.engine.apps();
        for slot in self.slots.values_mut() {
            slot.wanted = false;
        }
        let in_force = apps.iter().filter_map(|(name, app)| Some((name, app.in_force()?)));
        for (name, revision) in in_force.filter(|(_, revision)| needs_host(revision)) {
            let place = (name.clone(), revision.number);
            let slot = self.slots.entry(place.clone());
            let slot = slot.or_insert_with(|| Slot::new(Arc::clone(revision)));
            if !Arc::ptr_eq(&slot.revision, revision) {
                // The app was removed and made again: another revision has the number.
                if slot.host.is_some() {
                    continue;
                }
                slot.revision = Arc::clone(revision);
            }
            slot.wanted = true;
            if slot.may_launch() {
                self.launch(&place)?;
            }
        }
        self.retire();
        Ok(())
    }

    /// Tells hosts to end that are not wanted and have nothing to do.
    pub(super) fn retire(&mut self) {
        for slot in self.slots.values_mut().filter(|slot| !slot.wanted) {
            let idle = slot.waiting.is_empty();
            if let Some(host) = &mut slot.host
                && idle
                && host.attempts.is_empty()
                && host.quitting.is_none()
            {
                host.attached = None;
                host.quitting = Instant::now().checked_add(QUIT);
                match &host.sender {
                    Some(sender) => {
                        let grace_ms = u64::try_from(QUIT_GRACE.as_millis()).unwrap_or(0);
                        sender.send(ToHost::Quit { grace_ms });
                    }
                    None => host.process.stop(QUIT),
                }
            }
        }
        self.slots.retain(|_, s| s.wanted || s.host.is_some() || !s.waiting.is_empty());
    }

    /// Starts the host of a place.
    pub(super) fn launch(&mut self, place: &Place) -> Result<(), EngineError> {
        let (app, number) = place;
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let Some(python) = slot.revision.python.clone() else { return Ok(()) };
        slot.pause.started();
        let token = new_token();
        let of = Of { app, revision: &slot.revision, python: &python };
        let plan = match self.surroundings.host_plan(of, &token) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(app, revision = number, %error, "a host cannot be prepared");
                slot.pause.died(Duration::ZERO);
                let kind = "HostError".to_owned();
                let message = format!("preparing the app's host: {error}");
                return self.unserve(place, &Raised { kind, message, ..Raised::default() });
            }
        };
        let process = self.processes.begin(plan, &format!("the host of {app}@r{number}"));
        let launched_us = self.engine.now().0;
        let record =
            Record { app: app.clone(), revision: *number, token: token.clone(), launched_us };
        if let Err(error) = self.registry.note(process.key, &record) {
            tracing::warn!(app, %error, "the next daemon will not know this host");
        }
        self.gatekeeper.expect(process.key, &token, app, &slot.revision);
        tracing::info!(app, revision = number, "an app host starts");
        slot.host = Some(Host::new(process.clone(), None));
        self.watch(process);
        Ok(())
    }

    /// Has the end of a process told.
    pub(super) fn watch(&self, mut process: Process) {
        let notes = self.notes.0.clone();
        tokio::spawn(async move {
            let end = process.ended().await;
            // Nobody listens any more when the daemon ends.
            let _ending = notes.send(Note::Died(process.key, end));
        });
    }

    /// A host's process has ended; what it said before comes first.
    pub(super) fn died(&mut self, key: u64, end: ProcessEnd) -> Result<(), EngineError> {
        let Some(place) = self.place_of(key, None) else { return Ok(()) };
        let Some(host) = self.slots.get_mut(&place).and_then(|slot| slot.host.as_mut()) else {
            return Ok(());
        };
        let connected = host.sender.is_some();
        host.died = Some((end, Instant::now() + LAST_WORDS));
        if connected { Ok(()) } else { self.bury(&place) }
    }

    /// Settles what a dead host leaves behind.
    pub(super) fn bury(&mut self, place: &Place) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let Some(mut host) = slot.host.take() else { return Ok(()) };
        let Some((end, _)) = host.died.take() else { return Ok(()) };
        self.registry.forget(host.key);
        self.gatekeeper.forget(host.key);
        if host.quitting.is_none() {
            slot.pause.died(host.since.elapsed());
            tracing::warn!(app = place.0, revision = place.1, ?end, "an app host has died");
        }
        let now = self.engine.now();
        for ((task, attempt), mut found) in std::mem::take(&mut host.attempts) {
            if !found.reported {
                found.close_log();
                self.engine.report(task, found.lost(attempt, now), true)?;
            }
        }
        let told_to = host.quitting.is_some() || (host.doomed && host.failed.is_none());
        // One of a former daemon may have been ready long ago; the next will show.
        let unknown = host.adopted.is_some() && host.failed.is_none();
        if !host.ready && !told_to && !unknown {
            let raised = host.failed.clone().unwrap_or_else(|| unbooted("host", &end));
            self.unserve(place, &raised)?;
        }
        drop(host.log.take());
        self.forget_output(&host.process);
        self.reconcile()?;
        self.pump(place)
    }

    fn forget_output(&self, process: &Process) {
        process.forget_output();
        if let Err(error) = self.logs.remove(process.key, OWN_LOG) {
            tracing::warn!(what = %process.what, %error, "what a host said stays behind");
        }
    }

    /// What waits for a host that cannot be had fails, by its own budget.
    fn unserve(&mut self, place: &Place, raised: &Raised) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(place) else { return Ok(()) };
        let now = self.engine.now();
        for one in std::mem::take(&mut slot.waiting) {
            self.engine.report(one.task, unserved(one.attempt, raised, now), true)?;
        }
        Ok(())
    }

    /// An attempt that a former daemon gave to a host that is gone.
    pub(super) fn lost_before(
        &self,
        task: TaskId,
        attempt: AttemptNumber,
    ) -> Result<(), EngineError> {
        let verdict = Verdict::Lost(Loss::HostDied);
        let mut ending = never_ran(attempt, verdict, self.engine.now());
        ending.before_signal = false;
        self.engine.report(task, ending, true)
    }
}

/// An app needs a host when anything of it runs in one.
fn needs_host(revision: &Revision) -> bool {
    let Some(python) = &revision.python else { return false };
    let Python { mode, handlers, .. } = &**python;
    let shared = |runner| matches!(runner, Runner::Loop | Runner::Thread);
    *mode == Mode::Host
        && (!handlers.message.is_empty()
            || !handlers.action.is_empty()
            || revision.definitions.values().any(|definition| shared(definition.runner)))
}
