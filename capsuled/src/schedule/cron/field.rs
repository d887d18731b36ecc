//! One field of a cron expression: what may be written, and the values it stands for.

/// One of the six fields.
pub(super) struct Field {
    pub(super) name: &'static str,
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

pub(super) const SECOND: Field = Field { name: "second", ..MINUTE };
pub(super) const MINUTE: Field =
    Field { name: "minute", low: 0, high: 59, written: 59, words: &[], shift: 0 };
pub(super) const HOUR: Field =
    Field { name: "hour", low: 0, high: 23, written: 23, words: &[], shift: 0 };
pub(super) const DAY: Field =
    Field { name: "day of month", low: 1, high: 31, written: 31, words: &[], shift: 0 };
pub(super) const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    written: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    shift: 0,
};
pub(super) const WEEKDAY: Field = Field {
    name: "day of week",
    low: 0,
    high: 6,
    written: 7,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    shift: 1,
};

/// The values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values {
    /// Bit `n` stands for the value `n`; Sunday is 0.
    bits: u64,
    /// It was written beginning with a star, which restricts nothing by itself (crontab(5)).
    pub(super) star: bool,
    /// It stands for every value.
    pub(super) all: bool,
    /// The one step that it was written with, as `*/15`, and nothing else.
    pub(super) every: Option<u32>,
}

impl Values {
    /// All of them, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..64).filter(|value| self.bits & (1 << value) != 0)
    }

    /// The only one, when there is just one.
    pub(super) fn only(&self) -> Option<u32> {
        self.bits.is_power_of_two().then(|| self.bits.trailing_zeros())
    }

    /// The first and the last, when none between them is missing.
    pub(super) fn span(&self) -> Option<(u32, u32)> {
        let (first, last) = (self.bits.trailing_zeros(), 63 - self.bits.leading_zeros().min(63));
        let width = last.checked_sub(first)? + 1;
        (self.bits.count_ones() == width).then_some((first, last))
    }
}

impl Field {
    /// Reads what was written. `spread` picks the values that `~` stands for: the same each time
    /// for the same name.
    pub(super) fn read(&self, text: &str, spread: &str) -> Result<Values, String> {
        let mut bits = 0_u64;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(Self::step(step)?)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('~') {
                Some(ends) => self.spread(ends, step, spread)?,
                None => self.range(range, step.is_some())?,
            };
            for value in (from..=to).step_by(step.unwrap_or(1) as usize) {
                // Sunday is 0 and 7.
                bits |= 1 << if value > self.high { self.low } else { value };
            }
        }
        let all = (self.low..=self.high).all(|value| bits & (1 << value) != 0);
        let every = text.strip_prefix("*/").and_then(|step| step.parse().ok());
        Ok(Values { bits, star: text.starts_with('*'), all, every })
    }

    /// The values in the crate's own words, each by its number.
    pub(super) fn in_words_of_the_crate(&self, values: &Values) -> String {
        if values.all {
            return "*".to_owned();
        }
        let numbers: Vec<String> =
            values.iter().map(|value| (value + self.shift).to_string()).collect();
        numbers.join(",")
    }

    /// How many values `*` stands for.
    pub(super) const fn len(&self) -> u32 {
        self.high - self.low + 1
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

    /// `~`, `10~20`, `~/15`: one value, or one offset of a step, that the name picks.
    fn spread(
        &self,
        (from, to): (&str, &str),
        step: Option<u32>,
        name: &str,
    ) -> Result<(u32, u32), String> {
        let end = |text: &str, open: u32| if text.is_empty() { Ok(open) } else { self.value(text) };
        let (first, last) = (end(from, self.low)?, end(to, self.high)?);
        if first > last {
            return Err(format!("{from}~{to} goes backwards"));
        }
        let choices = step.unwrap_or(u32::MAX).min(last - first + 1);
        let picked = first + crc32fast::hash(format!("{}:{name}", self.name).as_bytes()) % choices;
        Ok((picked, if step.is_some() { last } else { picked }))
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

    fn step(text: &str) -> Result<u32, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err(format!("a step is a number from 1 on, not {text:?}")),
            Ok(step) => Ok(step),
        }
    }
}
