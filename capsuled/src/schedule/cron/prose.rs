//! A cron expression as a person would say it.

use std::fmt;

use super::lint::month_name;
use super::{Cron, Fields, Values};

/// More times than this are not listed one by one.
const LISTED: usize = 6;

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `at 03:30 from Monday to Friday, Europe/Berlin`.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}, {}", times(&self.fields), days(&self.fields), self.zone.name())
    }
}

fn times(fields: &Fields) -> String {
    let Fields { second, minute, hour, .. } = fields;
    if second.only() != Some(0) {
        let minutes = if minute.all && hour.all {
            String::new()
        } else {
            format!(" of {}", minutes(minute, hour))
        };
        return format!("{}{minutes}", each(second, "second"));
    }
    minutes(minute, hour)
}

/// Which minutes of which hours.
fn minutes(minute: &Values, hour: &Values) -> String {
    let count = minute.iter().count() * hour.iter().count();
    if !hour.all && count <= LISTED {
        let pairs = hour.iter().flat_map(|hour| minute.iter().map(move |minute| (hour, minute)));
        let times: Vec<String> =
            pairs.map(|(hour, minute)| format!("{hour:02}:{minute:02}")).collect();
        return format!("at {}", listed(&times));
    }
    let minutes = match minute.only() {
        Some(0) if hour.all => return "every hour".to_owned(),
        Some(only) => format!("at minute {only}"),
        None => each(minute, "minute"),
    };
    if hour.all {
        return if minute.only().is_some() { format!("{minutes} of every hour") } else { minutes };
    }
    match (hour.every, hour.span()) {
        (Some(step), _) => format!("{minutes} of every {} hour", ordinal(step)),
        (None, Some((first, last))) if first < last => {
            format!("{minutes} of the hours from {first} to {last}")
        }
        (None, _) => format!("{minutes} of {}", named(hour, "hour")),
    }
}

/// `every second`, `every 15 minutes`, `minute 5`, `minutes 5 and 20`.
fn each(values: &Values, unit: &str) -> String {
    match (values.all, values.every) {
        (true, _) => format!("every {unit}"),
        (false, Some(step)) if step > 1 && values.iter().count() > 1 => {
            format!("every {step} {unit}s")
        }
        (false, _) => named(values, unit),
    }
}

fn named(values: &Values, unit: &str) -> String {
    let numbers: Vec<String> = values.iter().map(|value| value.to_string()).collect();
    match (values.span(), numbers.as_slice()) {
        (_, [one]) => format!("{unit} {one}"),
        (Some((first, last)), [_, _, _, ..]) => format!("{unit}s {first} to {last}"),
        _ => format!("{unit}s {}", listed(&numbers)),
    }
}

fn days(fields: &Fields) -> String {
    let Fields { day, month, weekday, .. } = fields;
    let of_month = (!day.all).then(|| {
        let days: Vec<String> = day.iter().map(ordinal).collect();
        match day.every {
            Some(step) => format!("every {} day of the month", ordinal(step)),
            None => format!("the {} of the month", listed(&days)),
        }
    });
    let of_week = (!weekday.all).then(|| weekdays(weekday));
    let said = match (of_month, of_week) {
        (None, None) if fields.hour.all || fields.hour.every.is_some() => String::new(),
        (None, None) => " every day".to_owned(),
        (Some(days), None) => format!(" on {days}"),
        (None, Some(days)) => format!(" {days}"),
        (Some(one), Some(other)) if fields.either_day_fits() => format!(" on {one} and {other}"),
        (Some(one), Some(other)) => format!(" on {one} when it is {other}"),
    };
    if month.all {
        return said;
    }
    let months: Vec<String> = match (month.span(), month.iter().count()) {
        (Some((first, last)), 3..) => {
            let name = |month| month_name(month).unwrap_or_default();
            return format!("{said} from {} to {}", name(first), name(last));
        }
        _ => month.iter().filter_map(month_name).map(str::to_owned).collect(),
    };
    format!("{said} in {}", listed(&months))
}

fn weekdays(weekday: &Values) -> String {
    let name = |day: u32| WEEKDAYS.get(day as usize).copied().unwrap_or_default();
    if let (Some((first, last)), 3..) = (weekday.span(), weekday.iter().count()) {
        return format!("from {} to {}", name(first), name(last));
    }
    let names: Vec<String> = weekday.iter().map(|day| name(day).to_owned()).collect();
    format!("on {}", listed(&names))
}

/// `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
