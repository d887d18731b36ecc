//! The one translation of crontab lines: five fields with the meaning of `crontab(5)`, in UTC, on
//! top of the crate `cron`, which counts weekdays from 1 = Sunday, wants seconds and a year, and
//! takes a day only when day of month and day of week both fit.

use std::str::FromStr as _;

use capsule_core::time::Timestamp;
use chrono::{DateTime, Utc};

/// The longest expression, in bytes: all sixty minutes by number fit.
const CRON_MAX: usize = 256;

/// When something is to happen, as a crontab says it.
#[derive(Clone, Debug)]
pub struct Cron {
    /// One, or two of which either may fit: by day of month, and by day of week.
    either: Vec<cron::Schedule>,
}

/// Why a cron expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than anyone writes.
    #[error("a cron expression has at most {CRON_MAX} bytes, this has {0}")]
    Long(usize),
    /// Not five fields.
    #[error("cron {text:?} has {count} fields, five are wanted: minute hour day month weekday")]
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
        /// What is wrong with it.
        why: String,
    },
    /// A day that no calendar has.
    #[error("cron {0:?} never comes: none of its months has such a day")]
    Never(String),
}

impl Cron {
    /// Reads five fields, or `@hourly` and its like.
    ///
    /// # Errors
    /// The first field that is wrong, or a date that never comes.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let cron = Self::read(text)?;
        let comes = cron.next_after(Timestamp(0)).is_some();
        if comes { Ok(cron) } else { Err(CronError::Never(text.trim().to_owned())) }
    }

    /// Reads what was found to come when it was registered.
    pub(super) fn read(text: &str) -> Result<Self, CronError> {
        let written = text.trim();
        if written.len() > CRON_MAX {
            return Err(CronError::Long(written.len()));
        }
        let lower = nickname(written)?.map_or_else(|| written.to_lowercase(), str::to_owned);
        let words: Vec<&str> = lower.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words.as_slice() else {
            let (text, count) = (written.to_owned(), words.len());
            return Err(CronError::Fields { text, count });
        };
        let read = |field: &Field, word: &str| {
            field.read(word).map_err(|why| CronError::Field {
                text: written.to_owned(),
                field: field.name,
                why,
            })
        };
        let time = format!("0 {} {}", read(&MINUTE, minute)?, read(&HOUR, hour)?);
        let (days, months) = (read(&DAY, day)?, read(&MONTH, month)?);
        let weekdays = read(&WEEKDAY, weekday)?;
        // crontab(5): a field that begins with a star restricts nothing by itself.
        let either = if day.starts_with('*') || weekday.starts_with('*') {
            vec![format!("{time} {days} {months} {weekdays}")]
        } else {
            vec![format!("{time} {days} {months} *"), format!("{time} * {months} {weekdays}")]
        };
        let either: Result<Vec<_>, _> =
            either.iter().map(|line| cron::Schedule::from_str(line)).collect();
        either.map(|either| Self { either }).map_err(|_| CronError::Never(written.to_owned()))
    }

    /// The first instant after `now`; `None` = none before the year 2101.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = DateTime::from_timestamp_micros(now.0)?;
        self.either.iter().filter_map(|one| one.after(&now).next()).min().map(|at| timestamp(&at))
    }

    /// The last instant at or before `now`; `None` = none since 1970.
    pub fn last_until(&self, now: Timestamp) -> Option<Timestamp> {
        let second = DateTime::from_timestamp(now.0.div_euclid(1_000_000), 0)?;
        let fits = |one: &cron::Schedule| {
            if one.includes(second) { Some(second) } else { one.after(&second).next_back() }
        };
        self.either.iter().filter_map(fits).max().map(|at| timestamp(&at))
    }
}

fn timestamp(at: &DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
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

/// One of the five fields.
struct Field {
    name: &'static str,
    low: u32,
    /// The highest that `*` stands for.
    high: u32,
    /// The highest that may be written.
    written: u32,
    /// Words for values, from `low` on.
    words: &'static [&'static str],
    /// What the crate adds to our numbers.
    shift: u32,
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, written: 59, words: &[], shift: 0 };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, written: 23, words: &[], shift: 0 };
const DAY: Field =
    Field { name: "day of month", low: 1, high: 31, written: 31, words: &[], shift: 0 };
const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    written: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    shift: 0,
};
const WEEKDAY: Field = Field {
    name: "day of week",
    low: 0,
    high: 6,
    written: 7,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    shift: 1,
};

impl Field {
    /// The field in the crate's own words, each value by its number.
    fn read(&self, text: &str) -> Result<String, String> {
        let mut values = 0_u64;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step)?)),
                None => (part, None),
            };
            let (from, to) = self.range(range, step.is_some())?;
            for value in (from..=to).step_by(step.unwrap_or(1)) {
                // Sunday is 0 and 7.
                values |= 1 << if value > self.high { self.low } else { value };
            }
        }
        let all = self.low..=self.high;
        if all.clone().all(|value| values & (1 << value) != 0) {
            return Ok("*".to_owned());
        }
        let numbers: Vec<String> = all
            .filter(|value| values & (1 << value) != 0)
            .map(|value| (value + self.shift).to_string())
            .collect();
        Ok(numbers.join(","))
    }

    fn range(&self, text: &str, stepped: bool) -> Result<(u32, u32), String> {
        if text == "*" {
            return Ok((self.low, self.high));
        }
        let Some((from, to)) = text.split_once('-') else {
            let value = self.value(text)?;
            return Ok((value, if stepped { self.high.max(value) } else { value }));
        };
        let first = self.value(from)?;
        let last = match self.value(to)? {
            // A week may end with Sunday: fri-sun.
            0 if to == "sun" && first > 0 => self.written,
            last => last,
        };
        if first > last {
            return Err(format!("{text} goes backwards"));
        }
        Ok((first, last))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = (self.low..).zip(self.words).find(|(_, word)| **word == text);
        if let Some((value, _)) = named {
            return Ok(value);
        }
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if plain && (self.low..=self.written).contains(&value) => Ok(value),
            Ok(_) if plain => Err(format!(
                "{text} is out of range, it goes from {} to {}",
                self.low, self.written
            )),
            Ok(_) | Err(_) if self.words.is_empty() => Err(format!("{text:?} is not a number")),
            Ok(_) | Err(_) => Err(format!("{text:?} is neither a number nor a name")),
        }
    }

    fn step(&self, text: &str) -> Result<usize, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("a step is a number from 1 on, not {text:?}")),
            Ok(step) if step > self.high as usize => {
                Err(format!("a step of {step} is longer than the field"))
            }
            Ok(step) => Ok(step),
        }
    }
}

#[cfg(test)]
mod tests;
