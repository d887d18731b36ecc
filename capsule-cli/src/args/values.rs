//! What people type for spans, times, pairs and ids.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

/// A span with units: `5m`, `1h30m`, `250ms`; `0` needs none.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err("expected a span such as 5m, 1h30m or 250ms".to_owned());
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits).unwrap_or((rest, ""));
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters).unwrap_or((tail, ""));
        let number: f64 =
            number.parse().map_err(|_| "expected a span such as 5m, 1h30m or 250ms".to_owned())?;
        seconds += number * unit_seconds(unit, text)?;
        rest = tail.trim_start();
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "this span is too long".to_owned())
}

fn unit_seconds(unit: &str, whole: &str) -> Result<f64, String> {
    Ok(match unit {
        "ms" => 0.001,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        "" => return Err(format!("a span needs a unit; for seconds write {}s", whole.trim())),
        _ => return Err(format!("unknown unit '{unit}': use ms, s, m, h, d or w")),
    })
}

/// Milliseconds of a span, as the protocol has them.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A time that people type, in their own zone: `2026-12-01T09:00`, `tomorrow 9:00`, RFC 3339.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    time_from(text, &Zoned::now())
}

/// A time, or a span before now: `2h` is two hours ago.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_from(text, &Zoned::now())
}

fn moment_from(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    match duration(text.trim_start_matches('-')) {
        Ok(span) => now.timestamp().checked_sub(span).map_err(|error| error.to_string()),
        Err(_) => time_from(text, now),
    }
}

fn time_from(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let zone = now.time_zone();
    match text {
        "now" => return Ok(now.timestamp()),
        "today" => return local(now.date().to_datetime(Time::midnight()), zone),
        "yesterday" => return local(shifted(now, -1)?.to_datetime(Time::midnight()), zone),
        "tomorrow" => return local(shifted(now, 1)?.to_datetime(Time::midnight()), zone),
        _ => {}
    }
    if let Some((day, clock)) = text.split_once(' ') {
        let days = match day {
            "today" => Some(0),
            "tomorrow" => Some(1),
            "yesterday" => Some(-1),
            _ => None,
        };
        if let (Some(days), Some(clock)) = (days, clock_time(clock.trim())) {
            return local(shifted(now, days)?.to_datetime(clock), zone);
        }
    }
    if let Some(clock) = clock_time(text) {
        let today = local(now.date().to_datetime(clock), zone)?;
        if today > now.timestamp() {
            return Ok(today);
        }
        return local(shifted(now, 1)?.to_datetime(clock), zone);
    }
    match text.parse::<DateTime>() {
        Ok(civil) => local(civil, zone),
        Err(_) => Err("expected a time such as 2026-12-01T09:00, 'tomorrow 9:00', 18:30 or \
                       2026-12-01T09:00:00Z"
            .to_owned()),
    }
}

fn shifted(now: &Zoned, days: i32) -> Result<Date, String> {
    now.date().checked_add(days.days()).map_err(|error| error.to_string())
}

fn local(civil: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    zone.to_timestamp(civil).map_err(|error| error.to_string())
}

/// `9:00`, `18:30` or `18:30:15`.
fn clock_time(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let hour = parts.next()?.parse().ok()?;
    let minute = parts.next()?.parse().ok()?;
    let second = match parts.next() {
        Some(second) => second.parse().ok()?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// `name=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// An id as the daemon takes it: without the `#` that people may put before it.
pub(crate) fn id(word: &str) -> String {
    word.trim().trim_start_matches('#').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-23T10:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn spans() {
        let cases = [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text).map(millis), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_the_spelling_that_works() {
        assert_eq!(duration("90").unwrap_err(), "a span needs a unit; for seconds write 90s");
        assert_eq!(duration("3x").unwrap_err(), "unknown unit 'x': use ms, s, m, h, d or w");
        for bad in ["", "m", "-5m", "1..2s", "9e99d", "99999999999999999999999w"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            ("2026-12-01T09:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01 09:00", "2026-12-01T08:00:00Z"),
            ("2026-12-01", "2026-11-30T23:00:00Z"),
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00+05:30", "2026-12-01T03:30:00Z"),
            ("tomorrow 9:00", "2026-11-24T08:00:00Z"),
            ("tomorrow", "2026-11-23T23:00:00Z"),
            ("today 18:30", "2026-11-23T17:30:00Z"),
            ("18:30", "2026-11-23T17:30:00Z"),
            ("9:00", "2026-11-24T08:00:00Z"),
            ("now", "2026-11-23T09:00:00Z"),
        ];
        for (text, expected) in cases {
            let told = time_from(text, &now()).map(|time| time.to_string());
            assert_eq!(told.as_deref(), Ok(expected), "{text}");
        }
        assert!(time_from("someday", &now()).is_err());
        assert!(time_from("25:00", &now()).is_err());
    }

    #[test]
    fn moments_look_back() {
        assert_eq!(moment_from("2h", &now()).unwrap().to_string(), "2026-11-23T07:00:00Z");
        assert_eq!(moment_from("-2h", &now()).unwrap().to_string(), "2026-11-23T07:00:00Z");
        assert_eq!(moment_from("today", &now()).unwrap().to_string(), "2026-11-22T23:00:00Z");
    }

    #[test]
    fn pairs_and_ids() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err());
        assert!(pair("a").is_err());
        assert_eq!(id("#1842"), "1842");
    }
}
