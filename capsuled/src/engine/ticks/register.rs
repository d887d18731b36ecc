//! Which schedules there are: those of the apps in force, and recurrences.

use std::collections::BTreeMap;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::{INLINE_PAYLOAD_MAX, Payload, TaskSpec};

use super::super::group::Group;
use super::super::request::SubmitError;
use super::super::{DISK, PAYLOAD_MAX};
use super::door::{NewRecurrence, Recurrence, ScheduleError};
use super::{Origin, Schedule, put};
use crate::schedule::{EVERY_MIN, Rule};
use crate::store::SideKind;

impl Group<'_> {
    /// Makes the schedules of an app those of its revision in force; none when it is removed, and
    /// then its recurrences end too.
    pub(in crate::engine) fn register_schedules(&mut self, app: &str) {
        let known = self.book.apps.get(app);
        let in_force = known.and_then(|app| app.in_force()).cloned();
        if known.is_some() && in_force.is_none() {
            // It is there but this version cannot read it: nothing of it is taken away.
            return;
        }
        let python = in_force.as_ref().and_then(|revision| revision.python.clone());
        let schedules = python.iter().flat_map(|python| &python.schedules);
        let wanted: BTreeMap<&str, &str> =
            schedules.map(|it| (it.name.as_str(), it.cron.as_str())).collect();
        let is_gone = |it: &&Schedule| {
            it.app == app
                && it.is_active()
                && match it.origin {
                    Origin::App => !wanted.contains_key(it.name.as_str()),
                    Origin::Sdk => in_force.is_none(),
                }
        };
        let gone: Vec<Schedule> = self.book.schedules.iter().filter(is_gone).cloned().collect();
        for schedule in gone {
            self.end(schedule);
        }
        let by = in_force.as_ref().map_or("", |revision| revision.by.as_str());
        for (name, cron) in wanted {
            // It was read when it was deployed; what cannot be read any more does not fire.
            let unread = || Rule::Cron { text: cron.to_owned(), zone: None, spread: None };
            let rule = Rule::parse(cron, "", name, self.now).unwrap_or_else(|_| unread());
            self.register(app, name, rule, by);
        }
    }

    /// Makes good what a crash left of a deploy with more schedules than one batch holds.
    pub(in crate::engine) fn register_all_schedules(&mut self) {
        let apps: Vec<String> = self.book.apps.iter().map(|(name, _)| name.clone()).collect();
        for app in apps {
            self.register_schedules(&app);
        }
    }

    /// Registers one schedule of an app. The same rule as before goes on as it was; another one
    /// begins now, and never with an instant that has had its tick.
    fn register(&mut self, app: &str, name: &str, rule: Rule, by: &str) {
        let known = self.book.schedules.of_handler(app, name).cloned();
        let same = |it: &Schedule| it.is_active() && it.rule.is_like(&rule);
        let schedule = match known {
            Some(it) if same(&it) && it.owner == by => return,
            Some(it) if same(&it) => Schedule { owner: by.to_owned(), ..it },
            Some(it) => {
                let next = rule.next_after(self.now.max(it.decided));
                let generation = it.generation.saturating_add(1);
                Schedule { rule, generation, next, ended: None, owner: by.to_owned(), ..it }
            }
            None => Schedule {
                id: self.schedule_id(),
                app: app.to_owned(),
                name: name.to_owned(),
                next: rule.next_after(self.now),
                rule,
                generation: 1,
                origin: Origin::App,
                owner: by.to_owned(),
                created: self.now,
                ended: None,
                last: None,
                former: None,
                template: None,
                decided: self.now,
            },
        };
        self.write(put(&schedule));
        self.book.schedules.put(schedule);
    }

    /// From the counter of tasks, so that one number never means two things.
    const fn schedule_id(&mut self) -> ScheduleId {
        self.carry.last_id.0 += 1;
        ScheduleId(self.carry.last_id.0)
    }

    fn end(&mut self, schedule: Schedule) -> Schedule {
        let schedule = Schedule { next: None, ended: Some(self.now), ..schedule };
        self.write(put(&schedule));
        self.book.schedules.put(schedule.clone());
        schedule
    }

    /// Ends a recurrence; an app's schedule ends with its app's code.
    pub(super) fn end_recurrence(&mut self, id: ScheduleId) -> Result<Schedule, ScheduleError> {
        let known = self.book.schedules.get(id).cloned().ok_or(ScheduleError::Unknown(id))?;
        match known.origin {
            Origin::App => Err(ScheduleError::OfApp { name: known.name, app: known.app }),
            Origin::Sdk if !known.is_active() => Err(ScheduleError::Ended(id)),
            Origin::Sdk => Ok(self.end(known)),
        }
    }

    /// Registers a recurrence, or gives the one that stands under the same lock.
    pub(super) fn recur(&mut self, new: NewRecurrence) -> Result<Recurrence, SubmitError> {
        let NewRecurrence { mut spec, payload, every, first } = new;
        (spec.key, spec.not_before, spec.hold, spec.tick) = (None, None, false, None);
        spec.after.clear();
        if payload.len() > PAYLOAD_MAX {
            return Err(SubmitError::PayloadTooLarge(payload.len()));
        }
        spec.check()?;
        if let Some(why) = self.book.degraded.get(DISK) {
            return Err(SubmitError::Degraded(why.clone()));
        }
        if let Some(schedule) = self.standing(&spec) {
            return Ok(Recurrence { schedule, created: false });
        }
        let id = self.schedule_id();
        spec.payload = if payload.len() <= INLINE_PAYLOAD_MAX {
            Payload::Inline(payload)
        } else {
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            self.shared
                .write_side(SideKind::Payload, TaskId(id.0), &payload, PAYLOAD_MAX)
                .map_err(|error| SubmitError::Degraded(error.to_string()))?;
            Payload::Side { length }
        };
        let every = every.max(EVERY_MIN);
        let first = first.unwrap_or_else(|| self.now.plus(every)).max(self.now);
        let schedule = Schedule {
            id,
            app: spec.app.clone(),
            name: spec.name.clone(),
            rule: Rule::Every { every, first },
            generation: 1,
            origin: Origin::Sdk,
            owner: spec.owner.clone(),
            created: self.now,
            next: Some(first),
            ended: None,
            last: None,
            former: None,
            template: Some(Box::new(spec)),
            decided: self.now,
        };
        self.write(put(&schedule));
        self.book.schedules.put(schedule.clone());
        Ok(Recurrence { schedule, created: true })
    }

    /// The recurrence of the same task and owner under the same lock.
    fn standing(&self, spec: &TaskSpec) -> Option<Schedule> {
        spec.lock.as_ref()?;
        let same = |it: &TaskSpec| {
            (&it.lock, &it.app, &it.name, &it.owner)
                == (&spec.lock, &spec.app, &spec.name, &spec.owner)
        };
        let stands = |it: &&Schedule| {
            it.is_active() && it.template.as_ref().is_some_and(|template| same(template))
        };
        self.book.schedules.iter().find(stands).cloned()
    }
}
