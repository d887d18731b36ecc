//! When a schedule fires.

use capsule_core::time::{Span, Timestamp};
use minicbor::{Decode, Encode};

use super::cron::Cron;

/// A tick later than this is not caught up any more.
pub const CATCH_UP: Span = Span::from_secs(86_400);

/// Missed ticks are counted up to here.
pub const MISSED_MAX: u32 = 1000;

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Rule {
    /// Five fields, UTC; checked when it was registered.
    #[n(0)]
    Cron(#[n(0)] String),
    /// Again and again.
    #[n(1)]
    Every {
        /// From one to the next.
        #[n(0)]
        every: Span,
        /// The first.
        #[n(1)]
        first: Timestamp,
    },
}

/// What is due of a schedule whose next tick has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Ticks that are too late.
    pub missed: Option<Missed>,
    /// The tick to carry out now.
    pub fire: Option<Timestamp>,
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
    /// How many; [`MISSED_MAX`] = so many or more.
    pub count: u32,
}

/// A rule ready for use.
enum Calendar {
    Cron(Cron),
    Every(Span, Timestamp),
}

impl Rule {
    /// The first instant after `now`.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.calendar()?.next_after(now)
    }

    /// Sorts out what has come due since `planned`, the tick that was waited for: the latest is
    /// carried out unless it is older than [`CATCH_UP`], what was before it is missed. No tick is
    /// older than its period when it is the latest.
    pub fn due(&self, planned: Timestamp, now: Timestamp) -> Due {
        let Some(calendar) = self.calendar() else {
            return Due { missed: None, fire: None, next: None };
        };
        let latest = calendar.last_until(now).map_or(planned, |latest| latest.max(planned));
        let next = calendar.next_after(now.max(planned));
        let fire = (now.since(latest) <= CATCH_UP).then_some(latest);
        let until = match fire {
            Some(fire) => calendar.last_until(Timestamp(fire.0.saturating_sub(1))),
            None => Some(latest),
        };
        let missed = until.filter(|until| *until >= planned).map(|until| Missed {
            from: planned,
            until,
            count: calendar.count(planned, until),
        });
        Due { missed, fire, next }
    }

    fn calendar(&self) -> Option<Calendar> {
        match self {
            Self::Cron(text) => Cron::read(text).ok().map(Calendar::Cron),
            Self::Every { every, first } => Some(Calendar::Every(*every, *first)),
        }
    }
}

impl Calendar {
    fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.next_after(now),
            Self::Every(every, first) => match periods(*every, *first, now) {
                None => Some(*first),
                Some(done) => at(*every, *first, done.checked_add(1)?),
            },
        }
    }

    /// The last instant at or before `now`.
    fn last_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.last_until(now),
            Self::Every(every, first) => at(*every, *first, periods(*every, *first, now)?),
        }
    }

    fn count(&self, from: Timestamp, until: Timestamp) -> u32 {
        let mut count = 1;
        let mut at = from;
        while count < MISSED_MAX
            && let Some(next) = self.next_after(at)
            && next <= until
        {
            (at, count) = (next, count + 1);
        }
        count
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cron(text) => f.write_str(text),
            Self::Every { every, .. } => write!(f, "every {every}"),
        }
    }
}

/// How many whole periods have gone by since the first tick; `None` = it has not come.
fn periods(every: Span, first: Timestamp, now: Timestamp) -> Option<i64> {
    let period = i64::try_from(every.as_micros()).ok()?.max(1);
    let since = now.0.checked_sub(first.0)?;
    (since >= 0).then_some(since / period)
}

fn at(every: Span, first: Timestamp, periods: i64) -> Option<Timestamp> {
    let period = i64::try_from(every.as_micros()).ok()?.max(1);
    first.0.checked_add(period.checked_mul(periods)?).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn one(hour: i64) -> Missed {
        let at = Timestamp(hour * HOUR);
        Missed { from: at, until: at, count: 1 }
    }

    #[test]
    fn a_tick_on_time_is_the_only_one() {
        for rule in [
            Rule::Cron("0 * * * *".to_owned()),
            Rule::Every { every: Span::from_secs(3600), first: Timestamp(HOUR) },
        ] {
            let due = rule.due(Timestamp(5 * HOUR), Timestamp(5 * HOUR + 7));
            let next = Some(Timestamp(6 * HOUR));
            assert_eq!(due, Due { missed: None, fire: Some(Timestamp(5 * HOUR)), next });
            let due = rule.due(Timestamp(5 * HOUR), Timestamp(6 * HOUR + 7));
            let next = Some(Timestamp(7 * HOUR));
            assert_eq!(due, Due { missed: Some(one(5)), fire: Some(Timestamp(6 * HOUR)), next });
        }
    }

    #[test]
    fn older_ticks_are_missed_and_counted_and_a_day_is_the_end() {
        let rule = Rule::Cron("0 0 * * 0".to_owned());
        // 1970-01-04 was a Sunday.
        let sunday = Timestamp(72 * HOUR);
        let late = rule.due(sunday, Timestamp(96 * HOUR));
        assert_eq!((late.missed, late.fire), (None, Some(sunday)));
        let too_late = rule.due(sunday, Timestamp(96 * HOUR + 1000));
        assert_eq!((too_late.missed, too_late.fire), (Some(one(72)), None));
        assert_eq!(too_late.next, Some(Timestamp((72 + 168) * HOUR)));
        let minutely = Rule::Cron("* * * * *".to_owned());
        let missed = minutely.due(Timestamp(0), Timestamp(1_000_000 * HOUR)).missed.unwrap();
        assert_eq!(missed.count, MISSED_MAX);
        assert_eq!(missed.until, Timestamp(1_000_000 * HOUR - 60_000_000));
    }

    #[test]
    fn a_recurrence_keeps_its_step() {
        let every = Span::from_secs(90);
        let rule = Rule::Every { every, first: Timestamp(10) };
        assert_eq!(rule.next_after(Timestamp(9)), Some(Timestamp(10)));
        assert_eq!(rule.to_string(), "every 1m30s");
        let rule = rule.calendar().unwrap();
        assert_eq!(rule.last_until(Timestamp(9)), None);
        assert_eq!(rule.next_after(Timestamp(10)), Some(Timestamp(90_000_010)));
        assert_eq!(rule.last_until(Timestamp(90_000_009)), Some(Timestamp(10)));
        assert_eq!(rule.next_after(Timestamp(i64::MAX)), None);
    }
}
