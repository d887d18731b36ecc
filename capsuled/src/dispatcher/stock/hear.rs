//! What is heard of stock runners, and what the clock says about them.

use std::time::Duration;

use capsule_core::attempt::{Loss, Verdict};
use capsule_core::id::{AttemptNumber, TaskId};
use tokio::time::Instant;

use super::attempt::Said;
use super::slot::{BOOT, DEAF, Runner};
use super::{Place, StockRunners};
use crate::dispatcher::report::never_ran;
use crate::engine::EngineError;
use crate::gateway::{Listening, StockEvent, StockReport};

impl StockRunners {
    /// The gateway heard something of an attempt. What comes too late is passed over.
    pub(super) fn hear(&mut self, said: StockReport) -> Result<(), EngineError> {
        let StockReport { task, attempt, event } = said;
        let now = self.engine.now();
        let mut runners = self.slots.values_mut().filter_map(|slot| slot.runner.as_mut());
        let found = runners.find_map(|runner| {
            let found = runner.attempts.get_mut(&(task, attempt))?;
            Some((runner.process.pid().unwrap_or(0), found))
        });
        let Some((pid, found)) = found.filter(|(_, found)| !found.reported) else { return Ok(()) };
        match event {
            StockEvent::Claimed => {
                found.begin(now);
                self.engine.started(task, attempt, pid, now)
            }
            StockEvent::Alive => {
                found.unheard = None;
                Ok(())
            }
            StockEvent::Delivered => {
                found.reported = true;
                let report = found.delivered(attempt, now);
                self.engine.started(task, attempt, pid, now)?;
                self.engine.report(task, report, true)
            }
            StockEvent::Unclaimed => {
                for slot in self.slots.values_mut() {
                    slot.remove(task, attempt);
                }
                self.release(task, attempt)
            }
            StockEvent::Ended { end, error, duration, told, durable } => {
                found.reported = true;
                found.durable = Some(durable);
                let took = Duration::try_from_secs_f32(duration).unwrap_or_default();
                let said = Said { end, error, told, took };
                self.engine.report(task, found.ended(attempt, &said, now), true)
            }
        }
    }

    /// A runner has begun or ceased to listen.
    pub(super) fn listens(&mut self, listening: &Listening) -> Result<(), EngineError> {
        let Some(place) = self.place_of(|runner| runner.token == listening.token) else {
            return Ok(());
        };
        let Some(runner) = self.slots.get_mut(&place).and_then(|slot| slot.runner.as_mut()) else {
            return Ok(());
        };
        runner.listens = listening.open;
        runner.booted = true;
        runner.deaf = Instant::now().checked_add(DEAF).filter(|_| !listening.open);
        if listening.open {
            tracing::info!(app = place.0, revision = place.1, "a stock runner listens");
            return self.pump(&place);
        }
        if runner.died.is_some() { self.bury(&place) } else { Ok(()) }
    }

    pub(super) fn place_of(&self, mut is: impl FnMut(&Runner) -> bool) -> Option<Place> {
        let found = self.slots.iter().find(|(_, slot)| slot.runner.as_ref().is_some_and(&mut is));
        found.map(|(place, _)| place.clone())
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant) -> Result<(), EngineError> {
        let places: Vec<Place> = self.slots.keys().cloned().collect();
        for place in places {
            let Some(slot) = self.slots.get_mut(&place) else { continue };
            let Some(runner) = &mut slot.runner else {
                if slot.alarm().is_some_and(|at| at <= now) {
                    self.launch(&place)?;
                }
                continue;
            };
            if let Some((_, until)) = &runner.died {
                if *until <= now {
                    self.bury(&place)?;
                }
                continue;
            }
            let late = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if late(runner.deaf) && !runner.doomed {
                if runner.process.pid().is_some() {
                    tracing::warn!(what = %runner.process.what, "a stock runner does not listen");
                    runner.doom();
                } else {
                    // The keeper has not started it yet.
                    runner.deaf = now.checked_add(BOOT);
                }
            }
            let due = runner.attempts.iter().filter(|(_, found)| late(found.alarm()));
            let due: Vec<_> = due.map(|(key, _)| *key).collect();
            for key in due {
                self.overdue(&place, key, now)?;
            }
        }
        Ok(())
    }

    /// The time of an attempt is up, or that of its runner to stop it.
    fn overdue(
        &mut self,
        place: &Place,
        (task, attempt): (TaskId, AttemptNumber),
        now: Instant,
    ) -> Result<(), EngineError> {
        let Some(runner) = self.slots.get_mut(place).and_then(|slot| slot.runner.as_mut()) else {
            return Ok(());
        };
        let Some(found) = runner.attempts.get_mut(&(task, attempt)) else { return Ok(()) };
        if found.unheard.is_some_and(|at| at <= now) {
            // Its verdict was lost while no daemon listened, or it never began.
            found.reported = true;
            self.gateway.forget_stock(task, attempt);
            let verdict = Verdict::Lost(Loss::HostDied);
            let report = never_ran(attempt, verdict, self.engine.now());
            return self.engine.report(task, report, true);
        }
        if found.stop.is_none() {
            found.expire();
            self.gateway.stop_stock(task, attempt);
            return Ok(());
        }
        tracing::warn!(task.id = task.0, "its runner does not stop it, so the runner is killed");
        found.blamed = true;
        runner.doom();
        Ok(())
    }
}
