//! The one translation of crontab lines: five fields with the meaning of `crontab(5)`, or six with
//! seconds first, in a time zone, on top of the crate `cron`, which knows UTC only, counts weekdays
//! from 1 = Sunday, wants a year, and takes a day only when day of month and day of week both fit.

mod field;
mod lint;
mod prose;
#[cfg(test)]
mod tests;
mod zone;

use std::ops::Range;
use std::str::FromStr as _;

use capsule_core::time::Timestamp;
use chrono::DateTime;

use self::field::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, Values, WEEKDAY};
pub use self::zone::local_zone;
use self::zone::{Wall, Zone};

/// The longest expression, in bytes: all sixty minutes by number fit.
const CRON_MAX: usize = 256;

/// When something is to happen, as a crontab says it.
#[derive(Clone, Debug)]
pub struct Cron {
    /// What was written, a word with `@` spelled out.
    fields: Fields,
    /// One, or two of which either may fit: by day of month, and by day of week.
    either: Vec<cron::Schedule>,
    zone: Zone,
}

/// The fields as they were read.
#[derive(Clone, Debug)]
struct Fields {
    second: Values,
    minute: Values,
    hour: Values,
    day: Values,
    month: Values,
    weekday: Values,
}

/// What a change of the clocks does to a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// The time on the wall is skipped that day; it fires right after the gap. In microseconds, as
    /// if the wall showed UTC.
    Gap(i64),
    /// The time on the wall comes twice; it fires only at the first.
    First,
    /// The time on the wall comes twice; this is the first of two fires.
    Earlier,
    /// The time on the wall comes twice; this is the second of two fires.
    Later,
}

/// Why a cron expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than anyone writes.
    #[error("a cron expression has at most {CRON_MAX} bytes, this has {0}")]
    Long(usize),
    /// Not five fields.
    #[error(
        "cron {text:?} has {count} fields, five are wanted: minute hour day month weekday, \
         or six with the second first"
    )]
    Fields {
        /// As written.
        text: String,
        /// How many it has.
        count: usize,
    },
    /// A word with `@` that stands for nothing.
    #[error("cron {0:?} is none of @hourly, @daily, @weekly, @monthly and @yearly")]
    Nickname(String),
    /// A field that makes no sense.
    #[error("cron {text:?}: {field}: {why}")]
    Field {
        /// The whole expression.
        text: String,
        /// Which field.
        field: &'static str,
        /// Where it stands in the text, in bytes.
        place: Range<usize>,
        /// What is wrong with it.
        why: String,
    },
    /// A day that no calendar has.
    #[error("cron {0:?} never comes: none of its months has such a day")]
    Never(String),
    /// No such zone.
    #[error("{0:?} is no time zone; write one as UTC or Europe/Berlin")]
    Zone(String),
}

impl CronError {
    /// The expression and a mark below the place that is wrong, in two lines; `None` = the whole
    /// of it is wrong.
    pub fn marked(&self) -> Option<String> {
        let Self::Field { text, place, .. } = self else { return None };
        let blank = text.get(..place.start)?.chars().count();
        let wrong = text.get(place.clone())?.chars().count().max(1);
        Some(format!("{text}\n{}{}", " ".repeat(blank), "^".repeat(wrong)))
    }
}

impl Cron {
    /// Reads five or six fields, or `@hourly` and its like, on the wall of a zone (empty: UTC).
    /// `spread` is what `~` is picked by.
    ///
    /// # Errors
    /// The first field that is wrong, a zone that is not known, or a date that never comes.
    pub fn parse(text: &str, zone: &str, spread: &str) -> Result<Self, CronError> {
        let cron = Self::read(text, zone, spread)?;
        let comes = cron.listed_after(0).is_some();
        if comes { Ok(cron) } else { Err(CronError::Never(text.trim().to_owned())) }
    }

    /// Reads what was found to come when it was registered.
    pub(super) fn read(text: &str, zone: &str, spread: &str) -> Result<Self, CronError> {
        let written = text.trim();
        if written.len() > CRON_MAX {
            return Err(CronError::Long(written.len()));
        }
        let zone = Zone::find(zone).ok_or_else(|| CronError::Zone(zone.to_owned()))?;
        let fields = Fields::read(written, spread)?;
        let never = || CronError::Never(written.to_owned());
        let lines = fields.in_words_of_the_crate();
        let either: Result<Vec<_>, _> =
            lines.iter().map(|line| cron::Schedule::from_str(line)).collect();
        Ok(Self { either: either.map_err(|_| never())?, fields, zone })
    }

    /// The name of its time zone.
    pub fn zone(&self) -> &str {
        self.zone.name()
    }

    /// What the wall of its zone shows at an instant, in microseconds as if that were UTC.
    pub fn wall(&self, at: Timestamp) -> i64 {
        self.zone.wall(at.0)
    }

    /// The first instant after `now`; `None` = none before the year 2101.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        if self.follows_real_time() {
            return self.real_after(now.0).map(Timestamp);
        }
        let mut wall = self.zone.wall(now.0);
        loop {
            wall = self.listed_after(wall)?;
            // In the second pass of an hour what it shows is over.
            if let Some(at) = self.fixed(wall).filter(|at| *at > now.0) {
                return Some(Timestamp(at));
            }
        }
    }

    /// The last instant at or before `now`; `None` = none since 1970.
    pub fn last_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.follows_real_time() {
            return self.real_until(now.0).map(Timestamp);
        }
        let mut wall = self.zone.wall(now.0);
        if let Wall::Twice(first, _) = self.zone.when(wall)
            && first < now.0
            && let Some(change) = self.zone.change_until(now.0)
        {
            // In the second pass all of the hour is over.
            wall = self.zone.wall(change - 1);
        }
        loop {
            wall = self.listed_until(wall)?;
            if let Some(at) = self.fixed(wall) {
                return Some(Timestamp(at));
            }
            wall -= 1;
        }
    }

    /// What a change of the clocks did to a fire; `None` = nothing.
    pub fn shift(&self, at: Timestamp) -> Option<Shift> {
        let wall = self.zone.wall(at.0);
        if let Wall::Twice(first, _) = self.zone.when(wall) {
            let fixed = !self.follows_real_time();
            return Some(match (fixed, first == at.0) {
                (true, _) => Shift::First,
                (false, true) => Shift::Earlier,
                (false, false) => Shift::Later,
            });
        }
        let listed = self.listed_until(wall)? == wall;
        let before = self.listed_until(wall - 1)?;
        let moved = !listed && !self.follows_real_time() && self.fixed(before) == Some(at.0);
        moved.then_some(Shift::Gap(before))
    }

    /// Whether it has a star in its seconds, minutes or hours (Debian's cron: a wildcard entry).
    const fn follows_real_time(&self) -> bool {
        self.fields.second.star || self.fields.minute.star || self.fields.hour.star
    }

    /// When a fixed time on the wall comes.
    fn fixed(&self, wall: i64) -> Option<i64> {
        match self.zone.when(wall) {
            Wall::Once(at) | Wall::Twice(at, _) => Some(at),
            Wall::Never(after) => after,
        }
    }

    /// The first instant after `now` at which the wall shows a listed time.
    fn real_after(&self, now: i64) -> Option<i64> {
        let (mut since, mut after) = (now, now);
        loop {
            let offset = self.zone.offset(since);
            let at = self.listed_after(after + offset)? - offset;
            match self.zone.change_after(since) {
                Some(change) if change <= at => (since, after) = (change, change - 1),
                Some(_) | None => return Some(at),
            }
        }
    }

    fn real_until(&self, now: i64) -> Option<i64> {
        let mut until = now;
        loop {
            let offset = self.zone.offset(until);
            let at = self.listed_until(until + offset)? - offset;
            match self.zone.change_until(until) {
                Some(change) if at < change => until = change - 1,
                Some(_) | None => return Some(at),
            }
        }
    }

    /// The first time on the wall after another that the expression lists.
    fn listed_after(&self, wall: i64) -> Option<i64> {
        let wall = DateTime::from_timestamp_micros(wall)?;
        let nexts = self.either.iter().filter_map(|one| one.after(&wall).next());
        nexts.min().map(|at| at.timestamp_micros())
    }

    /// The last time on the wall, up to another, that the expression lists.
    fn listed_until(&self, wall: i64) -> Option<i64> {
        let second = DateTime::from_timestamp(wall.div_euclid(1_000_000), 0)?;
        let fits = |one: &cron::Schedule| {
            if one.includes(second) { Some(second) } else { one.after(&second).next_back() }
        };
        self.either.iter().filter_map(fits).max().map(|at| at.timestamp_micros())
    }
}

impl Fields {
    fn read(written: &str, spread: &str) -> Result<Self, CronError> {
        let text = nickname(written)?.unwrap_or(written);
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let count = words.len();
        if count == 5 {
            words.insert(0, "0");
        }
        let &[second, minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(CronError::Fields { text: written.to_owned(), count });
        };
        let read = |field: &Field, word: &str| {
            field.read(&word.to_lowercase(), spread).map_err(|why| {
                let start = (word.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
                let place = start..start + word.len();
                CronError::Field { text: text.to_owned(), field: field.name, place, why }
            })
        };
        Ok(Self {
            second: read(&SECOND, second)?,
            minute: read(&MINUTE, minute)?,
            hour: read(&HOUR, hour)?,
            day: read(&DAY, day)?,
            month: read(&MONTH, month)?,
            weekday: read(&WEEKDAY, weekday)?,
        })
    }

    fn in_words_of_the_crate(&self) -> Vec<String> {
        let say = |field: &Field, values: &Values| field.in_words_of_the_crate(values);
        let (second, minute) = (say(&SECOND, &self.second), say(&MINUTE, &self.minute));
        let time = format!("{second} {minute} {}", say(&HOUR, &self.hour));
        let (days, months) = (say(&DAY, &self.day), say(&MONTH, &self.month));
        let weekdays = say(&WEEKDAY, &self.weekday);
        if self.either_day_fits() {
            vec![format!("{time} {days} {months} *"), format!("{time} * {months} {weekdays}")]
        } else {
            vec![format!("{time} {days} {months} {weekdays}")]
        }
    }

    /// crontab(5): when both days are given, either may fit; a field that begins with a star is
    /// not given.
    const fn either_day_fits(&self) -> bool {
        !self.day.star && !self.weekday.star
    }
}

/// What a word with `@` stands for; `None` = it is no such word.
fn nickname(text: &str) -> Result<Option<&'static str>, CronError> {
    if !text.starts_with('@') {
        return Ok(None);
    }
    match text.to_lowercase().as_str() {
        "@hourly" => Ok(Some("0 * * * *")),
        "@daily" | "@midnight" => Ok(Some("0 0 * * *")),
        "@weekly" => Ok(Some("0 0 * * 0")),
        "@monthly" => Ok(Some("0 0 1 * *")),
        "@yearly" | "@annually" => Ok(Some("0 0 1 1 *")),
        _ => Err(CronError::Nickname(text.to_owned())),
    }
}
