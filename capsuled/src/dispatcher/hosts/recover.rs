//! After a restart of the daemon: hosts that go on are found again, with what they run.

use std::sync::Arc;
use std::time::Duration;

use capsule_core::time::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::Hosts;
use super::slot::{Host, Slot};
use crate::dispatcher::report::micros;
use crate::engine::{EngineError, KnownAttempt};

/// How long hosts of a former daemon may take to come back.
const BACK: Duration = Duration::from_secs(3);

impl Hosts {
    /// Expects the hosts that a former daemon noted. Called before the first session with the
    /// keeper, which then keeps them.
    pub(super) fn expect_back(&mut self) {
        let apps = self.engine.apps();
        for (key, record) in self.registry.all() {
            let place = (record.app.clone(), record.revision);
            let app = apps.get(&record.app);
            let revision = app.and_then(|app| app.revisions.get(&record.revision));
            let Some(revision) = revision.filter(|_| !self.slots.contains_key(&place)) else {
                // The keeper kills what nobody expects.
                self.registry.forget(key);
                continue;
            };
            let what = format!("the host of {}@r{}", record.app, record.revision);
            let process = self.processes.expect(key, &what);
            self.gatekeeper.expect(key, &record.token, &record.app, revision);
            let mut slot = Slot::new(Arc::clone(revision));
            slot.host = Some(Host::new(process.clone(), Some(Timestamp(record.launched_us))));
            self.slots.insert(place, slot);
            self.watch(process);
        }
    }

    /// A session with the keeper is open: waits a moment for living hosts that have not said what
    /// they have. One that does not is killed, for what it runs cannot be told.
    pub(in crate::dispatcher) async fn gather(&mut self) -> Result<(), EngineError> {
        // The engine asks anew for all that no host has begun.
        for slot in self.slots.values_mut() {
            slot.waiting.clear();
        }
        let until = Instant::now() + BACK;
        while self.slots.values().filter_map(|slot| slot.host.as_ref()).any(is_awaited) {
            match timeout_at(until, self.next()).await {
                Ok(happening) => self.handle(happening)?,
                Err(_) => break,
            }
        }
        for host in self.slots.values_mut().filter_map(|slot| slot.host.as_mut()) {
            if is_awaited(host) {
                tracing::warn!(what = %host.process.what, "a host does not come back");
                host.doom(Duration::ZERO);
            }
        }
        Ok(())
    }

    /// What living hosts have, for the engine to compare. Say it after [`Hosts::gather`].
    pub(in crate::dispatcher) fn known(&self) -> Vec<KnownAttempt> {
        let mut known = Vec::new();
        for host in self.slots.values().filter_map(|slot| slot.host.as_ref()) {
            let Some(pid) = host.process.pid().filter(|_| host.died.is_none()) else { continue };
            for ((task, attempt), found) in &host.attempts {
                let began = found.started_us != 0;
                let started = Timestamp(micros(found.started_us));
                known.push(KnownAttempt {
                    task: *task,
                    attempt: *attempt,
                    pid,
                    started: if began { started } else { self.engine.now() },
                    ended: found.reported,
                    tree_gone: found.reported,
                });
            }
        }
        known
    }
}

fn is_awaited(host: &Host) -> bool {
    host.adopted.is_some() && host.sender.is_none() && !host.doomed && host.process.pid().is_some()
}
