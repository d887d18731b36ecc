//! What is allowed and seldom meant.

use super::field::{HOUR, MINUTE, SECOND};
use super::{Cron, Field, Values};

impl Cron {
    /// What whoever wrote this may not have meant, a sentence each.
    pub fn lints(&self) -> Vec<String> {
        let fields = &self.fields;
        let stepped = [
            (&SECOND, &fields.second, "a minute"),
            (&MINUTE, &fields.minute, "an hour"),
            (&HOUR, &fields.hour, "a day"),
        ];
        let mut lints: Vec<String> =
            stepped.iter().filter_map(|(field, values, of)| step(field, values, of)).collect();
        if fields.minute.all && fields.hour.only().is_some() {
            lints.push(format!(
                "it fires in every minute of hour {}; once is 0 in place of the first *",
                fields.hour.iter().next().unwrap_or_default()
            ));
        }
        if fields.either_day_fits() {
            lints.push(
                "day of month and day of week are both given: it fires when either fits".to_owned(),
            );
        }
        let first_day = fields.day.iter().next().unwrap_or_default();
        if !fields.either_day_fits() && first_day > 28 {
            let short = |month: u32| first_day > days_of(month);
            let passed: Vec<&str> =
                fields.month.iter().filter(|month| short(*month)).filter_map(month_name).collect();
            if !passed.is_empty() {
                lints.push(format!("there is no day {first_day} in {}", passed.join(", ")));
            }
        }
        lints
    }
}

/// A step that does not do what its number says.
fn step(field: &Field, values: &Values, of: &str) -> Option<String> {
    let step = values.every?;
    let (name, len) = (field.name, field.len());
    if step >= len {
        return Some(format!("*/{step} is {name} 0 alone: {of} has {len} {name}s"));
    }
    let rest = len % step;
    (rest != 0).then(|| {
        format!("*/{step} begins anew when {of} does: its last step is {rest} {name}s, not {step}")
    })
}

/// The days of a month in years that are no leap years.
const fn days_of(month: u32) -> u32 {
    match month {
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The name of a month, January = 1.
pub(super) fn month_name(month: u32) -> Option<&'static str> {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    NAMES.get(month.checked_sub(1)? as usize).copied()
}
