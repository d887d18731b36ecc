//! All schedules in memory, by what they are looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use capsule_core::id::ScheduleId;
use capsule_core::time::Timestamp;

use super::{Origin, Schedule};

/// All schedules, ended ones too; rebuilt from the store at each start.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    all: BTreeMap<ScheduleId, Schedule>,
    /// Those of apps, by app and handler.
    handlers: BTreeMap<(String, String), ScheduleId>,
    alarms: BTreeSet<(Timestamp, ScheduleId)>,
    /// How many ticks are on disk.
    ticks: HashMap<ScheduleId, u32>,
}

impl Schedules {
    /// Notes a schedule as it is now.
    pub fn put(&mut self, schedule: Schedule) {
        self.take_out(schedule.id);
        if schedule.origin == Origin::App {
            let key = (schedule.app.clone(), schedule.name.clone());
            self.handlers.insert(key, schedule.id);
        }
        self.alarms.extend(schedule.alarm().map(|at| (at, schedule.id)));
        self.all.insert(schedule.id, schedule);
    }

    /// Forgets a schedule.
    pub fn remove(&mut self, id: ScheduleId) {
        self.ticks.remove(&id);
        self.take_out(id);
    }

    fn take_out(&mut self, id: ScheduleId) {
        let Some(schedule) = self.all.remove(&id) else { return };
        if let Some(at) = schedule.alarm() {
            self.alarms.remove(&(at, id));
        }
        if schedule.origin == Origin::App {
            self.handlers.remove(&(schedule.app, schedule.name));
        }
    }

    /// A schedule.
    pub fn get(&self, id: ScheduleId) -> Option<&Schedule> {
        self.all.get(&id)
    }

    /// The schedule that runs this handler of an app.
    pub fn of_handler(&self, app: &str, handler: &str) -> Option<&Schedule> {
        let id = self.handlers.get(&(app.to_owned(), handler.to_owned()))?;
        self.all.get(id)
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Schedule> {
        self.all.values()
    }

    /// The next instant at which the clock does something, and to whom.
    pub fn next_alarm(&self) -> Option<(Timestamp, ScheduleId)> {
        self.alarms.first().copied()
    }

    /// Notes that so many ticks more, or fewer, are on disk; gives how many there are.
    pub fn count_ticks(&mut self, id: ScheduleId, change: i32) -> u32 {
        let count = self.ticks.entry(id).or_default();
        *count = count.saturating_add_signed(change);
        *count
    }
}
