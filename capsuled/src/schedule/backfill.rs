//! What of a plan can still be done for a time that is over.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::time::Timestamp;

use super::{CATCH_UP_MAX, Fire, Outcome, Schedule, TICKS_KEPT, TICKS_MAX, Tick, TickKey};

/// The rows of one schedule.
pub type Rows = BTreeMap<TickKey, Tick>;

/// The planned fires of a period that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backfill {
    /// Those that have not fired, oldest first; at most one more than [`CATCH_UP_MAX`].
    pub fires: Vec<Timestamp>,
    /// How many have fired.
    pub fired: u32,
    /// How many are still to come: by plan, or because they wait for their turn.
    pub waiting: u32,
    /// Of how many nobody knows any more whether they have fired.
    pub forgotten: u32,
}

impl Schedule {
    /// Sorts out the ticks of the rule in force from one instant to another by their rows. Of the
    /// three counts, [`super::MISSED_MAX`] may stand for more.
    pub fn backfill_of(&self, rows: &Rows, from: Timestamp, until: Timestamp) -> Backfill {
        let mut found = Backfill::default();
        let Some(plan) = self.rule.calendar() else { return found };
        let from = self.policy.start.map_or(from, |start| start.max(from));
        let until = self.policy.end.map_or(until, |end| end.min(until));
        // A pause has swallowed what came since; of a plan that has no next, nothing comes.
        let come = match (self.next, &self.paused) {
            (Some(_), Some(_)) => None,
            (Some(next), None) => Some(next),
            (None, _) => Some(Timestamp(self.decided.0.saturating_add(1))),
        };
        let of = |wanted: fn(&Outcome) -> bool| -> BTreeSet<Timestamp> {
            let some = rows.iter().filter(|(_, tick)| wanted(&tick.outcome));
            some.map(|(key, _)| key.planned).collect()
        };
        let fired = of(|it| matches!(it, Outcome::Fired { how, .. } if *how != Fire::Manual));
        let waiting = of(|it| matches!(it, Outcome::Buffered { .. } | Outcome::ToBackfill));
        let known_from = self.known_from(rows, until);
        let mut next = plan.next_after(Timestamp(from.0.saturating_sub(1)));
        while let Some(at) = next.filter(|at| *at <= until) {
            next = plan.next_after(at);
            if come.is_some_and(|come| at >= come) {
                let is_next = self.next.is_some();
                let count = if is_next { plan.count(at, until) } else { 0 };
                found.waiting = found.waiting.saturating_add(count);
                break;
            } else if fired.contains(&at) {
                found.fired += 1;
            } else if waiting.contains(&at) {
                found.waiting += 1;
            } else if let Some(end) = self.forgotten_until(at, known_from) {
                let count = plan.count(at, end.min(until));
                found.forgotten = found.forgotten.saturating_add(count);
                next = plan.next_after(end);
            } else if found.fires.len() > CATCH_UP_MAX as usize {
                break;
            } else {
                found.fires.push(at);
            }
        }
        found
    }

    /// Since it was registered, rows are taken away oldest first: from here on all are there.
    fn known_from(&self, rows: &Rows, until: Timestamp) -> Timestamp {
        let latest = rows.values().map(|tick| tick.at).max().map_or(until, |at| at.max(until));
        let age = latest.max(self.decided).since(self.created);
        if rows.len() < TICKS_MAX as usize && age <= TICKS_KEPT {
            return self.created;
        }
        let by_plan = |(key, tick): (&TickKey, &Tick)| {
            let by_hand = matches!(
                tick.outcome,
                Outcome::Fired { how: Fire::Manual | Fire::Backfilled, .. } | Outcome::ToBackfill
            );
            (!by_hand && key.planned > self.created).then_some(key.planned)
        };
        let oldest = rows.iter().filter_map(by_plan).min();
        oldest.unwrap_or_else(|| Timestamp(self.decided.0.saturating_add(1)))
    }

    /// Until when nothing is known any more, at an instant at which nothing is.
    fn forgotten_until(&self, at: Timestamp, known_from: Timestamp) -> Option<Timestamp> {
        if at > self.created {
            return (at < known_from).then(|| Timestamp(known_from.0.saturating_sub(1)));
        }
        self.forgotten.filter(|(first, last)| (*first..=*last).contains(&at)).map(|(_, last)| last)
    }

    /// The row of a tick is not kept any more.
    pub fn forget_row(&mut self, planned: Timestamp) {
        if planned <= self.created {
            let (first, last) = self.forgotten.unwrap_or((planned, planned));
            self.forgotten = Some((first.min(planned), last.max(planned)));
        }
    }

    /// What becomes of rows that stand for many ticks when some of those, oldest first, get rows of
    /// their own. The row of a first tick that is one of them is not among these.
    pub fn without(&self, rows: &Rows, taken: &[Timestamp]) -> Rows {
        let mut left = Rows::new();
        let Some(plan) = self.rule.calendar() else { return left };
        for (key, tick) in rows.iter().filter(|(key, _)| key.generation == self.generation) {
            let Some(until) = tick.outcome.until() else { continue };
            let inside = taken.iter().filter(|at| (key.planned..=until).contains(at));
            let mut begin = Some(key.planned);
            let mut changed = false;
            let mut piece = |from: Timestamp, last: Timestamp| {
                let outcome = tick.outcome.of_part(last, plan.count(from, last));
                left.insert(self.tick(from), Tick { at: tick.at, outcome });
            };
            for at in inside {
                changed = true;
                if let Some(from) = begin.filter(|from| from < at)
                    && let Some(last) = plan.last_until(Timestamp(at.0.saturating_sub(1)))
                {
                    piece(from, last);
                }
                begin = plan.next_after(*at);
            }
            if let Some(from) = begin.filter(|from| changed && *from <= until) {
                piece(from, until);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use capsule_core::id::{ScheduleId, TaskId};

    use super::super::{Policy, Rule};
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Hourly, registered at ten, and it is twenty.
    fn hourly() -> Schedule {
        let rule = Rule::parse("0 * * * *", "", "", hour(10)).unwrap();
        let new = Schedule::new(ScheduleId(7), rule, hour(10));
        Schedule { decided: hour(20), next: Some(hour(21)), ..new }
    }

    fn hour(hour: i64) -> Timestamp {
        Timestamp(hour * HOUR)
    }

    fn hours(hours: impl IntoIterator<Item = i64>) -> Vec<Timestamp> {
        hours.into_iter().map(hour).collect()
    }

    fn rows(of: &[(i64, Outcome)]) -> Rows {
        let row = |(at, outcome): &(i64, Outcome)| {
            (hourly().tick(hour(*at)), Tick { at: hour(30), outcome: outcome.clone() })
        };
        of.iter().map(row).collect()
    }

    fn fired(how: Fire) -> Outcome {
        Outcome::Fired { task: TaskId(1), how }
    }

    fn missed(until: i64, count: u32) -> Outcome {
        Outcome::Missed { until: hour(until), count }
    }

    #[test]
    fn what_has_not_fired_is_left() {
        let skipped = Outcome::Skipped { task: TaskId(1) };
        let of = rows(&[
            (3, fired(Fire::Backfilled)),
            (11, missed(14, 4)),
            (15, fired(Fire::OnTime)),
            (16, skipped),
            (17, Outcome::Buffered { task: TaskId(1) }),
            (18, Outcome::ToBackfill),
            (19, Outcome::Paused { until: hour(20), count: 2 }),
        ]);
        let found = hourly().backfill_of(&of, hour(1), hour(25));
        assert_eq!(found.fires, hours([1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 19, 20]));
        assert_eq!((found.fired, found.waiting, found.forgotten), (2, 2 + 5, 0));
        let bounded = Policy { start: Some(hour(2)), end: Some(hour(4)), ..Policy::default() };
        let bounded = Schedule { policy: bounded, ..hourly() };
        assert_eq!(bounded.backfill_of(&of, hour(1), hour(25)).fires, hours([2, 4]));
    }

    #[test]
    fn what_is_not_known_any_more_is_left_alone() {
        // A year later, its first rows are gone.
        let mut it = Schedule { decided: hour(8760), next: Some(hour(8761)), ..hourly() };
        for at in [5, 3, 12, 7] {
            it.forget_row(hour(at));
        }
        assert_eq!(it.forgotten, Some((hour(3), hour(7))));
        let of = rows(&[(18, fired(Fire::OnTime))]);
        let found = it.backfill_of(&of, hour(2), hour(20));
        assert_eq!(found.fires, hours([2, 8, 9, 10, 19, 20]));
        assert_eq!((found.fired, found.forgotten), (1, 5 + 7));
        let found = it.backfill_of(&Rows::new(), hour(10), hour(20));
        assert_eq!((found.fires, found.forgotten), (hours([10]), 10));
        let minutes = Rule::parse("* * * * *", "", "", hour(0)).unwrap();
        let many = Schedule { rule: minutes, created: hour(100), ..hourly() };
        let found = many.backfill_of(&Rows::new(), hour(1), hour(20));
        assert_eq!(found.fires.len(), CATCH_UP_MAX as usize + 1);
    }

    #[test]
    fn a_row_for_many_is_cut_around_those_that_have_their_own() {
        let it = hourly();
        let of = rows(&[(3, missed(4, 2)), (11, missed(19, 9))]);
        assert_eq!(it.without(&of, &hours([5, 10, 20])), Rows::new());
        let cut = |taken: &[i64]| it.without(&of, &hours(taken.iter().copied()));
        assert_eq!(cut(&[11, 12]), rows(&[(13, missed(19, 7))]));
        assert_eq!(cut(&[18, 19]), rows(&[(11, missed(17, 7))]));
        let both = rows(&[(3, missed(3, 1)), (11, missed(12, 2)), (16, missed(19, 4))]);
        assert_eq!(cut(&[4, 13, 14, 15]), both);
        let apart = rows(&[(11, missed(11, 1)), (13, missed(13, 1)), (15, missed(19, 5))]);
        assert_eq!(cut(&[12, 14]), apart);
        assert_eq!(cut(&(11..=19).collect::<Vec<_>>()), Rows::new());
    }
}
