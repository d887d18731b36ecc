//! What of a schedule's plan is due, by its rule and its policy.

use capsule_core::time::{Span, Timestamp};

use super::rule::Calendar;
use super::{CATCH_UP_MAX, CatchUp, JITTER_MAX, Outcome, Schedule};

/// A tick later than this is not caught up any more.
const CATCH_UP: Span = Span::from_secs(86_400);

/// A fire later than this is told to be caught up, and nothing for those who want no such fires.
pub const LATE: Span = Span::from_secs(10);

/// What is due of a schedule whose next tick has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Ticks that are too late.
    pub missed: Option<Missed>,
    /// The ticks to carry out now, oldest first.
    pub fires: Vec<Timestamp>,
    /// The next one; `None` = there is none.
    pub next: Option<Timestamp>,
}

/// Ticks that nobody carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first.
    pub from: Timestamp,
    /// The last.
    pub until: Timestamp,
    /// How many; [`super::MISSED_MAX`] = so many or more.
    pub count: u32,
}

/// Sorts out what has come due from `planned`, the tick that was waited for, until `now`: which
/// ticks are carried out, and which are missed.
fn due(plan: &Calendar, planned: Timestamp, now: Timestamp, catch_up: CatchUp) -> Due {
    let latest = plan.last_until(now).map_or(planned, |latest| latest.max(planned));
    let next = plan.next_after(now.max(planned));
    let late = now.since(latest);
    let first = match catch_up {
        CatchUp::Latest => (late <= CATCH_UP).then_some(latest),
        CatchUp::Skip => (late <= LATE).then_some(latest),
        CatchUp::All(most) => Some(back_from(plan, latest, planned, most)),
    };
    let until = match first {
        Some(first) => before(plan, first),
        None => Some(latest),
    };
    let missed = until.filter(|until| *until >= planned);
    Due {
        missed: missed.map(|until| missed_ticks(plan, planned, until)),
        fires: first.map_or_else(Vec::new, |first| between(plan, first, latest)),
        next,
    }
}

fn missed_ticks(plan: &Calendar, from: Timestamp, until: Timestamp) -> Missed {
    Missed { from, until, count: plan.count(from, until) }
}

fn before(plan: &Calendar, at: Timestamp) -> Option<Timestamp> {
    plan.last_until(Timestamp(at.0.saturating_sub(1)))
}

/// The first of the last `most` ticks up to `latest`, and not before `planned`.
fn back_from(plan: &Calendar, latest: Timestamp, planned: Timestamp, most: u32) -> Timestamp {
    let mut first = latest;
    for _ in 1..most.min(CATCH_UP_MAX) {
        match before(plan, first) {
            Some(earlier) if earlier >= planned => first = earlier,
            Some(_) | None => break,
        }
    }
    first
}

fn between(plan: &Calendar, first: Timestamp, last: Timestamp) -> Vec<Timestamp> {
    let mut ticks = vec![first];
    let mut at = first;
    while let Some(next) = plan.next_after(at).filter(|next| *next <= last) {
        ticks.push(next);
        at = next;
    }
    ticks
}

impl Schedule {
    /// Its first tick after an instant, within its bounds.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let waiting = u32::try_from(self.buffered.len()).unwrap_or(u32::MAX);
        self.next_with(at, self.fires.saturating_add(waiting))
    }

    /// The first tick after an instant, within its start and its end, however often it has fired.
    pub fn planned_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.next_with(at, 0)
    }

    fn next_with(&self, at: Timestamp, fires: u32) -> Option<Timestamp> {
        let before_start = self.policy.start.map(|start| Timestamp(start.0.saturating_sub(1)));
        let next = self.rule.next_after(before_start.map_or(at, |start| start.max(at)))?;
        let is_over = self.policy.end.is_some_and(|end| next > end)
            || self.policy.limit.is_some_and(|limit| fires >= limit);
        (!is_over).then_some(next)
    }

    /// When a tick is carried out: later than planned by its jitter, and before the next one.
    pub fn due_at(&self, planned: Timestamp) -> Timestamp {
        let jitter = self.policy.jitter.min(JITTER_MAX).as_millis();
        if jitter == 0 {
            return planned;
        }
        let mut seed = self.id.0.to_be_bytes().to_vec();
        seed.extend_from_slice(&planned.0.to_be_bytes());
        let delay = Span(u64::from(crc32fast::hash(&seed)) % (jitter + 1));
        let at = planned.plus(delay);
        let next = self.rule.next_after(planned);
        next.map_or(at, |next| at.min(Timestamp(next.0.saturating_sub(1000))).max(planned))
    }

    /// What is due of it at `now`, after its tick `planned` has come.
    pub fn due(&self, planned: Timestamp, now: Timestamp) -> Due {
        let Some(plan) = self.rule.calendar() else {
            return Due { missed: None, fires: Vec::new(), next: None };
        };
        let last = self.policy.end.map_or(now, |end| end.min(now));
        // The latest tick may still be held back by its jitter.
        let latest = plan.last_until(last).filter(|latest| *latest > planned);
        let held = latest.filter(|latest| self.due_at(*latest) > now);
        let until = held.map_or(last, |held| Timestamp(held.0.saturating_sub(1))).max(planned);
        let mut due = due(&plan, planned, until, self.policy.catch_up);
        let most = match self.policy.catch_up {
            CatchUp::Latest => Some(CATCH_UP),
            CatchUp::Skip => Some(LATE),
            CatchUp::All(_) => None,
        };
        // Its end may lie far back.
        if let (Some(most), Some(tick)) = (most, due.fires.first().copied())
            && now.since(self.due_at(tick)) > most
        {
            due.missed = Some(missed_ticks(&plan, planned, tick));
            due.fires.clear();
        }
        if let Some(limit) = self.policy.limit {
            due.fires.truncate(limit.saturating_sub(self.fires) as usize);
        }
        let fires = u32::try_from(due.fires.len()).unwrap_or(u32::MAX);
        due.next = self.next_with(until, self.fires.saturating_add(fires));
        due
    }

    /// Goes on behind the ticks until `now` that nobody wanted because it is paused, if there are
    /// any; gives what became of them.
    pub fn note_pause(&mut self, now: Timestamp) -> Option<(Timestamp, Outcome)> {
        let passed = self.paused.as_ref().and_then(|_| self.passed(now))?;
        self.go_on(passed.until);
        Some((passed.from, Outcome::Paused { until: passed.until, count: passed.count }))
    }

    /// Its ticks from `next` until `now`.
    fn passed(&self, now: Timestamp) -> Option<Missed> {
        let from = self.next.filter(|next| *next <= now)?;
        let plan = self.rule.calendar()?;
        let until = plan.last_until(self.policy.end.map_or(now, |end| end.min(now)))?;
        (until >= from).then(|| missed_ticks(&plan, from, until))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MISSED_MAX, Policy, Rule};
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn schedule(rule: Rule, policy: Policy) -> Schedule {
        let id = capsule_core::id::ScheduleId(7);
        Schedule { policy, ..Schedule::new(id, rule, Timestamp(0)) }
    }

    fn cron(text: &str) -> Schedule {
        schedule(Rule::parse(text, "", "", Timestamp(0)).unwrap(), Policy::default())
    }

    fn hours(hours: impl IntoIterator<Item = i64>) -> Vec<Timestamp> {
        hours.into_iter().map(|hour| Timestamp(hour * HOUR)).collect()
    }

    fn missed(from: i64, until: i64, count: u32) -> Missed {
        Missed { from: Timestamp(from * HOUR), until: Timestamp(until * HOUR), count }
    }

    #[test]
    fn a_tick_on_time_is_the_only_one() {
        let every = Rule::Every { every: Span::from_secs(3600), first: Timestamp(HOUR) };
        for it in [cron("0 * * * *"), schedule(every, Policy::default())] {
            let due = it.due(Timestamp(5 * HOUR), Timestamp(5 * HOUR + 7));
            let next = Some(Timestamp(6 * HOUR));
            assert_eq!(due, Due { missed: None, fires: hours([5]), next });
            let due = it.due(Timestamp(5 * HOUR), Timestamp(6 * HOUR + 7));
            let next = Some(Timestamp(7 * HOUR));
            assert_eq!(due, Due { missed: Some(missed(5, 5, 1)), fires: hours([6]), next });
        }
    }

    #[test]
    fn older_ticks_are_missed_and_counted_and_a_day_is_the_end() {
        let it = cron("0 0 * * 0");
        // 1970-01-04 was a Sunday.
        let sunday = Timestamp(72 * HOUR);
        let late = it.due(sunday, Timestamp(96 * HOUR));
        assert_eq!((late.missed, late.fires), (None, vec![sunday]));
        let too_late = it.due(sunday, Timestamp(96 * HOUR + 1000));
        assert_eq!((too_late.missed, too_late.fires), (Some(missed(72, 72, 1)), vec![]));
        assert_eq!(too_late.next, Some(Timestamp((72 + 168) * HOUR)));
        let missed =
            cron("* * * * *").due(Timestamp(0), Timestamp(1_000_000 * HOUR)).missed.unwrap();
        assert_eq!(missed.count, MISSED_MAX);
        assert_eq!(missed.until, Timestamp(1_000_000 * HOUR - 60_000_000));
    }

    #[test]
    fn who_wants_no_late_fires_has_none_and_who_wants_all_has_the_last() {
        let with = |catch_up| {
            let it = cron("0 * * * *");
            Schedule { policy: Policy { catch_up, ..Policy::default() }, ..it }
        };
        let skip = with(CatchUp::Skip);
        let (five, nine) = (Timestamp(5 * HOUR), Timestamp(9 * HOUR + 60_000_000));
        let due = skip.due(five, nine);
        assert_eq!((due.missed, due.fires), (Some(missed(5, 9, 5)), vec![]));
        let soon = skip.due(five, Timestamp(5 * HOUR + 9_000_000));
        assert_eq!((soon.missed, soon.fires), (None, hours([5])));
        let due = with(CatchUp::All(3)).due(five, nine);
        assert_eq!((due.missed, due.fires), (Some(missed(5, 6, 2)), hours([7, 8, 9])));
        let due = with(CatchUp::All(100)).due(five, nine);
        assert_eq!((due.missed, due.fires), (None, hours(5..=9)));
        assert_eq!(due.next, Some(Timestamp(10 * HOUR)));
    }

    #[test]
    fn nothing_fires_outside_of_its_bounds() {
        let mut it = cron("0 * * * *");
        it.policy.start = Some(Timestamp(5 * HOUR));
        it.policy.end = Some(Timestamp(7 * HOUR));
        assert_eq!(it.next_after(Timestamp(0)), Some(Timestamp(5 * HOUR)));
        assert_eq!(it.next_after(Timestamp(7 * HOUR)), None);
        let due = it.due(Timestamp(7 * HOUR), Timestamp(7 * HOUR + 5));
        assert_eq!((due.fires, due.next), (hours([7]), None));
        let late = it.due(Timestamp(6 * HOUR), Timestamp(40 * HOUR));
        assert_eq!((late.missed, late.fires, late.next), (Some(missed(6, 7, 2)), vec![], None));
        let mut it = cron("0 * * * *");
        it.policy.limit = Some(2);
        it.fires = 1;
        let due = it.due(Timestamp(5 * HOUR), Timestamp(5 * HOUR));
        assert_eq!((due.fires, due.next), (hours([5]), None));
    }

    #[test]
    fn jitter_is_stable_and_never_meets_the_next_tick() {
        let mut it = cron("* * * * *");
        it.policy.jitter = Span::from_secs(600);
        let mut seen = std::collections::BTreeSet::new();
        for minute in 0..200 {
            let planned = Timestamp(minute * 60_000_000);
            let at = it.due_at(planned);
            assert_eq!(at, it.due_at(planned));
            assert!(at >= planned && at.0 < planned.0 + 60_000_000, "{at:?}");
            seen.insert(at.0 - planned.0);
            let due = it.due(planned, at);
            assert_eq!((due.missed, due.fires), (None, vec![planned]));
        }
        assert!(seen.len() > 10, "{seen:?}");
        // After a while without anybody, the latest tick is still held back.
        it.policy.jitter = Span::from_secs(30);
        let planned = (20..80).map(|minute| Timestamp(minute * 60_000_000));
        let mut planned = planned;
        let held = planned.find(|at| it.due_at(*at).0 > at.0 + 5_000_000).unwrap();
        let start = Timestamp(held.0 - 600_000_000);
        let due = it.due(start, Timestamp(held.0 + 1000));
        assert_eq!(due.fires, vec![Timestamp(held.0 - 60_000_000)]);
        assert_eq!(due.next, Some(held));
    }

    #[test]
    fn what_a_pause_passes_over_is_counted() {
        let mut it = cron("0 * * * *");
        it.next = Some(Timestamp(5 * HOUR));
        assert_eq!(it.passed(Timestamp(5 * HOUR - 1)), None);
        assert_eq!(it.passed(Timestamp(8 * HOUR)), Some(missed(5, 8, 4)));
    }
}
