//! Schedules that are added by hand, and new settings of those that are there.

use capsule_core::id::ScheduleId;
use capsule_core::time::Timestamp;

use super::super::group::Group;
use super::super::request::SubmitError;
use super::super::{DISK, EngineError, PAYLOAD_MAX, SCHEDULES_MAX};
use super::door::{Added, NewSchedule, ScheduleError};
use super::{Origin, Schedule};
use crate::schedule::{Policy, Rule, Template};

impl Group<'_> {
    /// Adds a schedule, or gives the one of that name these settings.
    pub(super) fn add_schedule(
        &mut self,
        new: NewSchedule,
    ) -> Result<Result<Added, ScheduleError>, EngineError> {
        let NewSchedule { title, mut spec, payload, rule, policy } = new;
        (spec.key, spec.not_before, spec.hold, spec.tick) = (None, None, false, None);
        spec.after.clear();
        let known = self.book.schedules.named(&spec.app, &title).cloned();
        if let Some(it) = known.as_ref().filter(|it| it.is_active() && it.origin.is_deployed()) {
            let (name, app) = (it.label(), it.app.clone());
            return Ok(Err(ScheduleError::OfApp { name, app }));
        }
        let refused = |why: String| Ok(Err(ScheduleError::Refused(why)));
        let count = self.book.schedules.count();
        if known.is_none() && count >= SCHEDULES_MAX {
            return refused(SubmitError::SchedulesFull(count).to_string());
        }
        if let Some(why) = self.book.degraded.get(DISK) {
            return refused(why.clone());
        }
        if payload.len() > PAYLOAD_MAX {
            return refused(format!("its arguments have {} bytes", payload.len()));
        }
        if let Err(error) = spec.check() {
            return refused(error.to_string());
        }
        let since = known.as_ref().map_or(self.now, |it| it.decided.max(self.now));
        let wanted = Schedule { policy: policy.clone(), ..blank(rule.clone(), self.now) };
        if wanted.next_after(since).is_none() {
            return Ok(Err(ScheduleError::NoNext(title)));
        }
        let id = known.as_ref().map_or_else(|| self.schedule_id(), |it| it.id);
        spec.payload = match self.template_payload(id, payload) {
            Ok(payload) => payload,
            Err(error) => return refused(error.to_string()),
        };
        let created = known.as_ref().is_none_or(|it| !it.is_active());
        let mut schedule = match known {
            Some(it) => self.adapt(it, rule, policy)?,
            None => Schedule { id, next: wanted.next_after(since), ..wanted },
        };
        if created {
            (schedule.paused, schedule.skip, schedule.failures) = (None, None, 0);
        }
        (schedule.origin, schedule.title) = (Origin::Manual, title);
        schedule.app.clone_from(&spec.app);
        schedule.owner.clone_from(&spec.owner);
        schedule.name.clone_from(&spec.name);
        schedule.template = Some(Template::of(&spec));
        self.keep(schedule.clone(), Vec::new())?;
        Ok(Ok(Added { schedule, created }))
    }

    /// Gives a schedule another plan. What is due by the one before is decided by that; the same
    /// rule goes on as it was, and another one begins now, and never with an instant that has had
    /// its tick. What people did to it by hand stays.
    pub(super) fn adapt(
        &mut self,
        known: Schedule,
        rule: Rule,
        policy: Policy,
    ) -> Result<Schedule, EngineError> {
        let same_rule = known.is_active() && known.rule.is_like(&rule);
        let bounds = |it: &Policy| (it.start, it.end, it.limit);
        let same_bounds = bounds(&known.policy) == bounds(&policy);
        if same_rule && known.policy == policy {
            return Ok(known);
        }
        let mut it = self.decide_due(known)?;
        if !same_rule {
            self.drop_waiting(&mut it)?;
            let generation = it.generation.saturating_add(1);
            it = Schedule { rule, generation, fires: 0, ended: None, ..it };
        }
        it.policy = policy;
        if !(same_rule && same_bounds) {
            it.since = Some(self.now.max(it.decided));
            // One that its jitter holds back is still to come.
            let held = it.next.filter(|next| same_rule && *next <= self.now);
            let after =
                held.map_or(self.now.max(it.decided), |held| Timestamp(held.0.saturating_sub(1)));
            it.next = it.next_after(after);
        }
        Ok(it)
    }

    /// Decides what is due of a schedule by its plan so far.
    fn decide_due(&mut self, mut schedule: Schedule) -> Result<Schedule, EngineError> {
        let id = schedule.id;
        if let Some(row) = schedule.note_pause(self.now) {
            self.keep(schedule.clone(), vec![row])?;
        }
        while schedule.is_enabled()
            && let Some(planned) = schedule.next
            && schedule.due_at(planned) <= self.now
        {
            self.come(schedule.clone(), planned)?;
            let Some(now) = self.book.schedules.get(id).cloned() else { break };
            schedule = now;
        }
        Ok(schedule)
    }
}

fn blank(rule: Rule, now: Timestamp) -> Schedule {
    Schedule::new(ScheduleId(0), rule, now)
}
