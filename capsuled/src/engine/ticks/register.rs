//! Which schedules there are: those of the apps in force, and recurrences.

use std::collections::BTreeSet;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::spec::{INLINE_PAYLOAD_MAX, Payload, TaskSpec};

use super::super::group::Group;
use super::super::request::SubmitError;
use super::super::{DISK, EngineError, PAYLOAD_MAX, SCHEDULES_MAX};
use super::door::{NewRecurrence, Recurrence};
use super::{Origin, Schedule};
use crate::apps::{By, Given, Planned, Revision};
use crate::schedule::{EVERY_MIN, Policy, Rule, Template};
use crate::store::SideKind;

/// A schedule as a revision has it.
struct Wanted {
    origin: Origin,
    /// Its own name; empty = its handler's.
    title: String,
    /// The handler or the task.
    name: String,
    rule: Rule,
    policy: Policy,
    template: Option<Template>,
}

impl Wanted {
    fn label(&self) -> &str {
        if self.title.is_empty() { &self.name } else { &self.title }
    }
}

impl Group<'_> {
    /// Makes the schedules of an app those of its revision in force; none when it is removed, and
    /// then its recurrences end too.
    pub(in crate::engine) fn register_schedules(&mut self, app: &str) -> Result<(), EngineError> {
        let known = self.book.apps.get(app);
        let in_force = known.and_then(|app| app.in_force()).cloned();
        if known.is_some() && in_force.is_none() {
            // It is there but this version cannot read it: nothing of it is taken away.
            return Ok(());
        }
        let by = in_force.as_ref().map_or("", |revision| revision.by.as_str());
        let wanted = in_force.as_ref().map_or_else(Vec::new, |revision| self.wanted(app, revision));
        let labels: BTreeSet<&str> = wanted.iter().map(Wanted::label).collect();
        let is_gone = |it: &&Schedule| {
            it.app == app
                && it.is_active()
                && if it.origin.is_deployed() {
                    !labels.contains(it.label().as_str())
                } else {
                    in_force.is_none()
                }
        };
        let gone: Vec<Schedule> = self.book.schedules.iter().filter(is_gone).cloned().collect();
        for schedule in gone {
            self.end(schedule)?;
        }
        for one in wanted {
            self.register(app, one, by)?;
        }
        Ok(())
    }

    /// The schedules of a revision: those of its code, and those of its manifest.
    fn wanted(&self, app: &str, revision: &Revision) -> Vec<Wanted> {
        let of_code = revision.python.iter().flat_map(|python| &python.schedules).map(|it| {
            // It was read when it was deployed; what cannot be read any more does not fire.
            let unread = || Rule::Cron { text: it.cron.clone(), zone: None, spread: None };
            Wanted {
                origin: Origin::App,
                title: String::new(),
                name: it.name.clone(),
                rule: it.rule(self.now).unwrap_or_else(unread),
                policy: it.policy.clone(),
                template: None,
            }
        });
        let of_manifest = revision.schedules.iter().map(|it| {
            let unread = || Rule::Cron { text: String::new(), zone: None, spread: None };
            Wanted {
                origin: Origin::Manifest,
                title: it.name.clone(),
                name: it.task.clone(),
                rule: it.rule(self.now).unwrap_or_else(unread),
                policy: it.policy.clone(),
                template: self.template(app, it, revision),
            }
        });
        of_code.chain(of_manifest).collect()
    }

    /// What each fire of a schedule of a manifest submits; it was checked when it was deployed.
    fn template(&self, app: &str, it: &Planned, revision: &Revision) -> Option<Template> {
        let (definition, known) =
            (self.book.apps.definition(app, &it.task)?, self.book.apps.get(app)?);
        let given = Given { cwd: revision.dir.clone(), ..it.arguments.clone() };
        let by = By { owner: revision.by.clone(), uid: revision.uid };
        let (work, mut spec) = known.call(app, definition, &given, by).ok()?;
        spec.arguments = work.digest();
        // A record holds no more; such a schedule says at each fire why nothing came of it.
        let payload = work.encode();
        spec.payload = Payload::Inline(payload);
        (spec.check().is_ok()).then(|| Template::of(&spec))
    }

    /// Makes good what a crash left of a deploy with more schedules than one batch holds.
    pub(in crate::engine) fn register_all_schedules(&mut self) -> Result<(), EngineError> {
        let apps: Vec<String> = self.book.apps.iter().map(|(name, _)| name.clone()).collect();
        for app in apps {
            self.register_schedules(&app)?;
        }
        Ok(())
    }

    /// Registers one schedule of an app. The same rule as before goes on as it was; another one
    /// begins now, and never with an instant that has had its tick. What people did to it by hand
    /// stays.
    fn register(&mut self, app: &str, wanted: Wanted, by: &str) -> Result<(), EngineError> {
        let known = self.book.schedules.named(app, wanted.label()).cloned();
        let before = known.clone();
        let Wanted { origin, title, name, rule, policy, template } = wanted;
        let mut schedule = if let Some(it) = known {
            self.adapt(it, rule, policy)?
        } else {
            let id = self.schedule_id();
            let new = Schedule { policy, ..Schedule::new(id, rule, self.now) };
            let next = new.next_after(self.now);
            Schedule { app: app.to_owned(), next, ..new }
        };
        (schedule.origin, schedule.title, schedule.name) = (origin, title, name);
        schedule.template = template;
        by.clone_into(&mut schedule.owner);
        if before.as_ref() == Some(&schedule) { Ok(()) } else { self.keep(schedule, Vec::new()) }
    }

    /// From the counter of tasks, so that one number never means two things.
    pub(super) const fn schedule_id(&mut self) -> ScheduleId {
        self.carry.last_id.0 += 1;
        ScheduleId(self.carry.last_id.0)
    }

    pub(super) fn end(&mut self, mut schedule: Schedule) -> Result<Schedule, EngineError> {
        self.drop_waiting(&mut schedule)?;
        let rows = schedule.note_pause(self.now);
        let schedule = Schedule { next: None, ended: Some(self.now), ..schedule };
        self.keep(schedule.clone(), rows.into_iter().collect())?;
        Ok(schedule)
    }

    /// Registers a recurrence, or gives the one that stands under the same lock.
    pub(super) fn recur(
        &mut self,
        new: NewRecurrence,
    ) -> Result<Result<Recurrence, SubmitError>, EngineError> {
        let NewRecurrence { mut spec, payload, every, first } = new;
        (spec.key, spec.not_before, spec.hold, spec.tick) = (None, None, false, None);
        spec.after.clear();
        if payload.len() > PAYLOAD_MAX {
            return Ok(Err(SubmitError::PayloadTooLarge(payload.len())));
        }
        if let Err(error) = spec.check() {
            return Ok(Err(error.into()));
        }
        if let Some(why) = self.book.degraded.get(DISK) {
            return Ok(Err(SubmitError::Degraded(why.clone())));
        }
        if let Some(schedule) = self.standing(&spec) {
            return Ok(Ok(Recurrence { schedule, created: false }));
        }
        let count = self.book.schedules.count();
        if count >= SCHEDULES_MAX {
            return Ok(Err(SubmitError::SchedulesFull(count)));
        }
        let id = self.schedule_id();
        spec.payload = match self.template_payload(id, payload) {
            Ok(payload) => payload,
            Err(error) => return Ok(Err(SubmitError::Degraded(error.to_string()))),
        };
        let every = every.max(EVERY_MIN);
        let first = first.unwrap_or_else(|| self.now.plus(every)).max(self.now);
        let blank = Schedule::new(id, Rule::Every { every, first }, self.now);
        let schedule = Schedule {
            app: spec.app.clone(),
            name: spec.name.clone(),
            owner: spec.owner.clone(),
            next: Some(first),
            template: Some(Template::of(&spec)),
            ..blank
        };
        self.keep(schedule.clone(), Vec::new())?;
        Ok(Ok(Recurrence { schedule, created: true }))
    }

    /// The arguments of a template; large ones go into a file under its number.
    pub(super) fn template_payload(
        &self,
        id: ScheduleId,
        payload: Vec<u8>,
    ) -> Result<Payload, EngineError> {
        if payload.len() <= INLINE_PAYLOAD_MAX {
            return Ok(Payload::Inline(payload));
        }
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.shared.write_side(SideKind::Payload, TaskId(id.0), &payload, PAYLOAD_MAX)?;
        Ok(Payload::Side { length })
    }

    /// The recurrence of the same task and owner under the same lock.
    fn standing(&self, spec: &TaskSpec) -> Option<Schedule> {
        spec.lock.as_ref()?;
        let same = |it: &Template| it.spec().is_ok_and(|it| it.lock == spec.lock);
        let stands = |it: &&Schedule| {
            it.origin == Origin::Sdk
                && it.is_active()
                && (&it.app, &it.name, &it.owner) == (&spec.app, &spec.name, &spec.owner)
                && it.template.as_ref().is_some_and(same)
        };
        self.book.schedules.iter().find(stands).cloned()
    }
}
