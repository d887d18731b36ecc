//! How times and spans read.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::args::TimeStyle;

/// The style of times, and the moment they are told at.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    style: TimeStyle,
    utc: bool,
    pub(crate) now: Timestamp,
}

impl Times {
    pub(crate) fn new(style: Option<TimeStyle>, utc: bool, now: Timestamp) -> Self {
        Self { style: style.unwrap_or(TimeStyle::Relative), utc, now }
    }

    /// `11m ago`, `in 5m`, or the time itself.
    pub(crate) fn told(&self, us: i64) -> String {
        match self.style {
            TimeStyle::Relative => {
                let age = self.age_of(us);
                if age.starts_with('-') {
                    return format!("in {}", age.trim_start_matches('-'));
                }
                format!("{age} ago")
            }
            TimeStyle::Absolute | TimeStyle::Iso => self.absolute(us),
        }
    }

    /// The AGE column: `11m`, `-5m` for what is to come.
    pub(crate) fn age(&self, us: i64) -> String {
        match self.style {
            TimeStyle::Relative => self.age_of(us),
            TimeStyle::Absolute | TimeStyle::Iso => self.absolute(us),
        }
    }

    /// The time itself, whatever the style: `14:02:11` today, with the date on other days.
    pub(crate) fn clock(&self, us: i64) -> String {
        if self.style == TimeStyle::Iso {
            return iso(us);
        }
        let (zoned, today) = (self.zoned(us), self.zoned(self.now.as_microsecond()));
        let format = if zoned.date() == today.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        zoned.strftime(format).to_string()
    }

    fn age_of(&self, us: i64) -> String {
        let span = self.now.duration_since(timestamp(us));
        let text = coarse(span.unsigned_abs());
        if span < SignedDuration::ZERO && text != "0s" { format!("-{text}") } else { text }
    }

    fn absolute(&self, us: i64) -> String {
        if self.style == TimeStyle::Iso {
            return iso(us);
        }
        self.zoned(us).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn zoned(&self, us: i64) -> jiff::Zoned {
        let zone = if self.utc { TimeZone::UTC } else { TimeZone::system() };
        timestamp(us).to_zoned(zone)
    }
}

/// Microseconds since the epoch; what is out of range becomes the nearest time there is.
fn timestamp(us: i64) -> Timestamp {
    let nearest = if us < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(us).unwrap_or(nearest)
}

/// RFC 3339 in UTC.
pub(crate) fn iso(us: i64) -> String {
    timestamp(us).to_string()
}

/// `2026-12-01 09:00:00` in UTC.
pub(crate) fn utc(us: i64) -> String {
    timestamp(us).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-12-01 10:00:00 CET` in the zone of this machine.
pub(crate) fn local(us: i64) -> String {
    timestamp(us).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// One unit: `12s`, `11m`, `3h`, `5d`.
fn coarse(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A span with the precision that a person wants: `250ms`, `4.1s`, `1m 12s`, `3h 5m`, `2d 4h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => {
            let tenths = span.subsec_millis() / 100;
            if tenths == 0 { format!("{seconds}s") } else { format!("{seconds}.{tenths}s") }
        }
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A span of milliseconds.
pub(crate) fn millis(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// The span between two times of microseconds.
pub(crate) fn between(from: i64, to: i64) -> String {
    span(Duration::from_micros(u64::try_from(to.saturating_sub(from)).unwrap_or_default()))
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        return format!("{large}{large_unit}");
    }
    format!("{large}{large_unit} {small}{small_unit}")
}

/// Bytes: `812 B`, `4.1 KiB`, `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    let (mut whole, mut rest, mut unit) = (count, 0, 0);
    while whole >= 1024 && unit < 4 {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"].get(unit).unwrap_or(&"TiB");
    match rest * 10 / 1024 {
        0 => format!("{whole} {name}"),
        tenths => format!("{whole}.{tenths} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let cases = [
            (0, "0ms"),
            (250, "250ms"),
            (4_100, "4.1s"),
            (5_000, "5s"),
            (72_000, "1m 12s"),
            (600_000, "10m"),
            (11_100_000, "3h 5m"),
            (187_200_000, "2d 4h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(millis(ms), expected);
        }
        assert_eq!(between(5, 1), "0ms");
    }

    #[test]
    fn times_in_every_style() {
        let now: Timestamp = "2026-12-01T09:00:00Z".parse().unwrap();
        let us = now.as_microsecond();
        let relative = Times::new(None, true, now);
        assert_eq!(relative.told(us - 660_000_000), "11m ago");
        assert_eq!(relative.told(us + 300_000_000), "in 5m");
        assert_eq!(relative.age(us - 7_300_000_000), "2h");
        assert_eq!(relative.clock(us - 1_000_000), "08:59:59");
        assert_eq!(relative.clock(us - 86_400_000_000), "2026-11-30 09:00:00");
        let iso = Times::new(Some(TimeStyle::Iso), false, now);
        assert_eq!(iso.told(us), "2026-12-01T09:00:00Z");
        let absolute = Times::new(Some(TimeStyle::Absolute), true, now);
        assert_eq!(absolute.age(us), "2026-12-01 09:00:00");
        assert_eq!(utc(us), "2026-12-01 09:00:00");
        assert!(local(us).starts_with("20"), "{}", local(us));
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(812), "812 B");
        assert_eq!(bytes(4200), "4.1 KiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }
}
