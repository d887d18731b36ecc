//! Fork servers: a warm process for each revision in force whose tasks run in processes of their own.
//!
//! It must not know attempts. Invariant: a server is an offer; whatever becomes of it, the keeper
//! can start each attempt by its plan alone. A restarted daemon lets the old ones end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::pause::Pause;
use super::python::{Of, PythonSurroundings};
use crate::apps::{Mode, Revision, Runner};
use crate::engine::Engine;
use crate::jail::Fork;
use crate::keeper::wire::{Attribution, MINOR_OF_FORKS, Welcome};
use crate::runner::process::{Process, ProcessEnd, Processes};

/// How long a server may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// An app and the number of a revision.
type Place = (String, u32);

/// All fork servers.
#[derive(Debug)]
pub(super) struct Forks {
    engine: Engine,
    processes: Processes,
    surroundings: PythonSurroundings,
    /// The keeper can fork.
    usable: bool,
    slots: BTreeMap<Place, Slot>,
    deaths: (mpsc::UnboundedSender<Death>, mpsc::UnboundedReceiver<Death>),
}

/// The end of a server's process.
pub(super) type Death = (u64, ProcessEnd);

/// The place of one revision's server.
#[derive(Debug)]
struct Slot {
    revision: Arc<Revision>,
    process: Option<Process>,
    /// After the death of a server.
    pause: Pause,
    /// It ended of its own will: the app cannot be forked.
    refused: bool,
}

impl Forks {
    pub(super) fn new(
        (engine, processes): (Engine, Processes),
        surroundings: PythonSurroundings,
    ) -> Self {
        let (usable, slots, deaths) = (false, BTreeMap::new(), mpsc::unbounded_channel());
        Self { engine, processes, surroundings, usable, slots, deaths }
    }

    /// A session with this keeper is open.
    pub(super) fn connected(&mut self, welcome: &Welcome) {
        let grouped = welcome.attribution() == Attribution::Cgroup;
        self.usable = grouped && welcome.minor >= MINOR_OF_FORKS;
        self.reconcile();
    }

    /// Starts servers that are wanted and ends those that are not.
    pub(super) fn reconcile(&mut self) {
        let apps = self.engine.apps();
        let in_force = apps.iter().filter_map(|(name, app)| Some((name, app.in_force()?)));
        let wanted: BTreeMap<Place, &Arc<Revision>> = in_force
            .filter(|(_, revision)| self.usable && needs_server(revision))
            .map(|(name, revision)| ((name.clone(), revision.number), revision))
            .collect();
        self.slots.retain(|place, slot| {
            // An app that was removed and made again may have the same number.
            let stays = wanted.get(place).is_some_and(|found| Arc::ptr_eq(found, &slot.revision));
            if let Some(process) = slot.process.as_ref().filter(|_| !stays) {
                process.stop(GRACE);
            }
            stays
        });
        for (place, revision) in wanted {
            let slot = Slot {
                revision: Arc::clone(revision),
                process: None,
                pause: Pause::default(),
                refused: false,
            };
            self.slots.entry(place.clone()).or_insert(slot);
            self.launch(&place);
        }
    }

    /// What the plan of an attempt says of its server.
    pub(super) fn server_of(&mut self, app: &str, revision: &Revision) -> Option<Fork> {
        let place = (app.to_owned(), revision.number);
        self.launch(&place);
        let process = self.slots.get(&place)?.process.as_ref()?;
        Some(Fork { server: process.key })
    }

    /// The next end of a server. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Death> {
        self.deaths.1.recv().await
    }

    /// Takes what [`Forks::next`] gave.
    pub(super) fn died(&mut self, (key, end): &Death) {
        let of = |slot: &Slot| slot.process.as_ref().is_some_and(|process| process.key == *key);
        let Some((place, slot)) = self.slots.iter_mut().find(|(_, slot)| of(slot)) else { return };
        slot.process = None;
        slot.refused = end.exit_code == Some(0);
        if end.lost {
            // Its keeper died, not it.
            let place = place.clone();
            return self.launch(&place);
        }
        slot.pause.died(Duration::ZERO);
        tracing::warn!(app = place.0, revision = place.1, ?end, "a fork server has ended");
    }

    /// Starts the server of a place, unless there is one or it is too early for another.
    fn launch(&mut self, place: &Place) {
        let (app, number) = place;
        let Some(slot) = self.slots.get_mut(place) else { return };
        if !self.usable || slot.process.is_some() || slot.refused || !slot.pause.is_over() {
            return;
        }
        let Some(python) = slot.revision.python.clone() else { return };
        let of = Of { app, revision: &slot.revision, python: &python };
        let plan = match self.surroundings.forks_plan(of) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(app, revision = number, %error, "a fork server cannot be prepared");
                slot.pause.died(Duration::ZERO);
                return;
            }
        };
        let process = self.processes.begin(plan, &format!("the fork server of {app}@r{number}"));
        slot.process = Some(process.clone());
        watch(process, self.deaths.0.clone());
    }
}

/// Has the end of a server told.
fn watch(mut process: Process, deaths: mpsc::UnboundedSender<Death>) {
    tokio::spawn(async move {
        let end = process.ended().await;
        process.forget_output();
        // Nobody listens any more when the daemon ends.
        let _ending = deaths.send((process.key, end));
    });
}

/// A server is of use when tasks run in processes of their own, and a fork has all that they need:
/// threads do not come along.
fn needs_server(revision: &Revision) -> bool {
    let Some(python) = &revision.python else { return false };
    let mut definitions = revision.definitions.values();
    python.mode == Mode::Host
        && !python.threads_at_import
        && definitions.any(|definition| definition.runner == Runner::Process)
}
