//! When a schedule fires.

use capsule_core::time::{Span, Timestamp};
use minicbor::{Decode, Encode};

use super::EVERY_MIN;
use super::cron::{Cron, CronError};

/// A tick later than this is not caught up any more.
pub const CATCH_UP: Span = Span::from_secs(86_400);

/// Missed ticks are counted up to here.
pub const MISSED_MAX: u32 = 1000;

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Rule {
    /// A cron expression; checked when it was registered.
    #[n(0)]
    Cron {
        /// Five fields, or six with the second first.
        #[n(0)]
        text: String,
        /// The time zone on whose wall it is read; `None` = UTC.
        #[n(1)]
        zone: Option<String>,
        /// What the values of `~` are picked by; `None` = it has no `~`.
        #[n(2)]
        spread: Option<String>,
    },
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
    /// Once.
    #[n(2)]
    At(#[n(0)] Timestamp),
}

/// Why there is no such rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It is no cron expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// What stands after `@every` is no span of time.
    #[error("{text:?}: {why}")]
    Every {
        /// As written.
        text: String,
        /// What is wrong with it.
        why: String,
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
    At(Timestamp),
}

impl Rule {
    /// Reads a cron expression, or `@every 90s` counted from `now`. `zone` is where the expression
    /// is read (empty: UTC), `spread` what its `~` is picked by.
    ///
    /// # Errors
    /// It is neither, it never comes, or there is no such zone.
    pub fn parse(text: &str, zone: &str, spread: &str, now: Timestamp) -> Result<Self, RuleError> {
        let text = text.trim();
        if let Some(span) = text.strip_prefix("@every").filter(|rest| rest.starts_with(' ')) {
            let wrong = |why: String| RuleError::Every { text: text.to_owned(), why };
            let every = Span::parse(span).map_err(|error| wrong(error.to_string()))?;
            if every < EVERY_MIN {
                return Err(wrong(format!("the shortest time between two fires is {EVERY_MIN}")));
            }
            return Ok(Self::Every { every, first: now.plus(every) });
        }
        let cron = Cron::parse(text, zone, spread)?;
        let zone = (cron.zone() != "UTC").then(|| cron.zone().to_owned());
        let spread = text.contains('~').then(|| spread.to_owned());
        Ok(Self::Cron { text: text.to_owned(), zone, spread })
    }

    /// The expression, when it is one.
    pub fn cron(&self) -> Option<Cron> {
        let Self::Cron { text, zone, spread } = self else { return None };
        let (zone, spread) = (zone.as_deref(), spread.as_deref());
        Cron::read(text, zone.unwrap_or_default(), spread.unwrap_or_default()).ok()
    }

    /// Whether it is the same rule, whenever a recurrence of it began.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every { every: one, .. }, Self::Every { every: other, .. }) => one == other,
            _ => self == other,
        }
    }

    /// As a person would say it.
    pub fn prose(&self) -> String {
        match self {
            Self::Cron { text, .. } => {
                self.cron().map_or_else(|| text.clone(), |cron| cron.to_string())
            }
            Self::Every { .. } => self.to_string(),
            Self::At(_) => "once".to_owned(),
        }
    }

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
            Self::Cron { .. } => self.cron().map(Calendar::Cron),
            Self::Every { every, first } => Some(Calendar::Every(*every, *first)),
            Self::At(at) => Some(Calendar::At(*at)),
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
            Self::At(at) => Some(*at).filter(|at| *at > now),
        }
    }

    /// The last instant at or before `now`.
    fn last_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.last_until(now),
            Self::Every(every, first) => at(*every, *first, periods(*every, *first, now)?),
            Self::At(at) => Some(*at).filter(|at| *at <= now),
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
            Self::Cron { text, .. } => f.write_str(text),
            Self::Every { every, .. } => write!(f, "every {every}"),
            Self::At(at) => match jiff::Timestamp::from_microsecond(at.0) {
                Ok(at) => write!(f, "at {at}"),
                Err(_) => write!(f, "at {}", at.0),
            },
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

    fn cron(text: &str) -> Rule {
        Rule::parse(text, "", "", Timestamp(0)).unwrap()
    }

    fn one(hour: i64) -> Missed {
        let at = Timestamp(hour * HOUR);
        Missed { from: at, until: at, count: 1 }
    }

    #[test]
    fn a_tick_on_time_is_the_only_one() {
        for rule in [
            cron("0 * * * *"),
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
        let rule = cron("0 0 * * 0");
        // 1970-01-04 was a Sunday.
        let sunday = Timestamp(72 * HOUR);
        let late = rule.due(sunday, Timestamp(96 * HOUR));
        assert_eq!((late.missed, late.fire), (None, Some(sunday)));
        let too_late = rule.due(sunday, Timestamp(96 * HOUR + 1000));
        assert_eq!((too_late.missed, too_late.fire), (Some(one(72)), None));
        assert_eq!(too_late.next, Some(Timestamp((72 + 168) * HOUR)));
        let minutely = cron("* * * * *");
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
