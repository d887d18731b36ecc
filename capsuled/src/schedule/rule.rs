//! When a schedule fires.

use capsule_core::time::{Span, Timestamp};
use minicbor::{Decode, Encode};

use super::EVERY_MIN;
use super::cron::{Cron, CronError};

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

/// A rule ready for use.
#[derive(Debug)]
pub(super) enum Calendar {
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

    /// Whether this instant is one of its own.
    pub fn has(&self, at: Timestamp) -> bool {
        self.next_after(Timestamp(at.0.saturating_sub(1))) == Some(at)
    }

    /// Ready for use; `None` = this version cannot read it.
    pub(super) fn calendar(&self) -> Option<Calendar> {
        match self {
            Self::Cron { .. } => self.cron().map(Calendar::Cron),
            Self::Every { every, first } => Some(Calendar::Every(*every, *first)),
            Self::At(at) => Some(Calendar::At(*at)),
        }
    }
}

impl Calendar {
    /// The first instant after `now`.
    pub(super) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
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
    pub(super) fn last_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.last_until(now),
            Self::Every(every, first) => at(*every, *first, periods(*every, *first, now)?),
            Self::At(at) => Some(*at).filter(|at| *at <= now),
        }
    }

    /// How many ticks there are from one to another; at most [`MISSED_MAX`].
    pub(super) fn count(&self, from: Timestamp, until: Timestamp) -> u32 {
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

    fn cron(text: &str) -> Rule {
        Rule::parse(text, "", "", Timestamp(0)).unwrap()
    }

    #[test]
    fn the_form_of_the_first_version_is_read() {
        // Cron(["0 * * * *"]), as it was before zones.
        let old = minicbor::to_vec((0_u32, ["0 * * * *"])).unwrap();
        let read: Rule = minicbor::decode(&old).unwrap();
        assert_eq!(read, cron("0 * * * *"));
    }

    #[test]
    fn words_become_rules() {
        let read = |text: &str, zone: &str| Rule::parse(text, zone, "sweep", Timestamp(5));
        let every = read("@every 90s", "").unwrap();
        assert_eq!(every, Rule::Every { every: Span::from_secs(90), first: Timestamp(90_000_005) });
        let local = read(" 0 3 * * * ", "europe/berlin").unwrap();
        let Rule::Cron { text, zone, spread } = &local else { panic!("{local:?}") };
        assert_eq!((text.as_str(), zone.as_deref()), ("0 3 * * *", Some("Europe/Berlin")));
        assert_eq!(spread, &None);
        assert_eq!(local.prose(), "at 03:00 every day, Europe/Berlin");
        let spread = read("~ 3 * * *", "UTC").unwrap();
        assert!(
            matches!(&spread, Rule::Cron { spread: Some(name), zone: None, .. } if name == "sweep")
        );
        for wrong in ["@every", "@every 5", "@every 0s", "@everyday", "0 0 30 2 *"] {
            assert!(read(wrong, "").is_err(), "{wrong}");
        }
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
