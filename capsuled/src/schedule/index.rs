//! All schedules in memory, by what they are looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::time::Timestamp;

use super::{Origin, Schedule};

/// All schedules, ended ones too; rebuilt from the store at each start.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    /// Boxed: a node of the tree has room for eleven, and on the average half of it is empty.
    all: BTreeMap<ScheduleId, Box<Schedule>>,
    /// Those with a name of their own, by app and name.
    named: BTreeMap<(String, String), ScheduleId>,
    alarms: BTreeSet<(Timestamp, ScheduleId)>,
    /// The last task that each has made: its end is heard of.
    former: HashMap<TaskId, ScheduleId>,
    /// How many have an alarm by what they say of themselves; see [`Schedules::check`].
    expected: usize,
    /// How many ticks are on disk.
    ticks: HashMap<ScheduleId, u32>,
}

impl Schedules {
    /// Notes a schedule as it is now.
    pub fn put(&mut self, schedule: Schedule) {
        self.take_out(schedule.id);
        if schedule.origin != Origin::Sdk {
            self.named.insert((schedule.app.clone(), schedule.label()), schedule.id);
        }
        self.alarms.extend(schedule.alarm().map(|at| (at, schedule.id)));
        self.former.extend(schedule.former.map(|task| (task, schedule.id)));
        self.expected += usize::from(wants_alarm(&schedule));
        self.all.insert(schedule.id, Box::new(schedule));
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
        if let Some(task) = schedule.former {
            self.former.remove(&task);
        }
        self.expected -= usize::from(wants_alarm(&schedule));
        if schedule.origin != Origin::Sdk {
            let name = (schedule.app.clone(), schedule.label());
            if self.named.get(&name) == Some(&id) {
                self.named.remove(&name);
            }
        }
    }

    /// A schedule.
    pub fn get(&self, id: ScheduleId) -> Option<&Schedule> {
        self.all.get(&id).map(|it| &**it)
    }

    /// The schedule of this name, of an app or of none.
    pub fn named(&self, app: &str, name: &str) -> Option<&Schedule> {
        let id = self.named.get(&(app.to_owned(), name.to_owned()))?;
        self.all.get(id).map(|it| &**it)
    }

    /// The schedule whose last fire made this task.
    pub fn of_run(&self, task: TaskId) -> Option<&Schedule> {
        self.all.get(self.former.get(&task)?).map(|it| &**it)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Schedule> {
        self.all.values().map(|it| &**it)
    }

    /// The next instant at which the clock does something, and to whom.
    pub fn next_alarm(&self) -> Option<(Timestamp, ScheduleId)> {
        self.alarms.first().copied()
    }

    /// Whether every schedule that is to fire has exactly one alarm; if not, makes it so. Costs
    /// nothing while that is true.
    pub fn check(&mut self) -> bool {
        if self.alarms.len() == self.expected {
            return true;
        }
        let alarms = self.all.values().filter_map(|it| it.alarm().map(|at| (at, it.id)));
        self.alarms = alarms.collect();
        self.expected = self.all.values().filter(|it| wants_alarm(it)).count();
        false
    }

    /// Notes that so many ticks more, or fewer, are on disk; gives how many there are.
    pub fn count_ticks(&mut self, id: ScheduleId, change: i32) -> u32 {
        let count = self.ticks.entry(id).or_default();
        *count = count.saturating_add_signed(change);
        *count
    }
}

/// An enabled schedule has one for its next fire, an ended one for the end of its history.
const fn wants_alarm(schedule: &Schedule) -> bool {
    schedule.is_enabled() || schedule.ended.is_some()
}
