//! From the calendar on the wall to instants, where clocks are set forwards and backwards.
//!
//! The rule is Debian's cron(8): what has a fixed time happens right after a gap that it fell in,
//! and once in an hour that comes twice; what has a star in its minutes or hours follows real time.
//! Changes of three hours and more are no summer time: what fell in such a gap does not happen.

use std::sync::LazyLock;

use jiff::Timestamp as Instant;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// The longest gap after which a fixed time is made up for, in microseconds.
const GAP_MAX: i64 = 3 * 3_600_000_000 - 1;

/// A time zone of the IANA database. Times on its wall are counted like instants, in microseconds
/// as if it were UTC.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    zone: TimeZone,
    name: String,
}

/// How a time on the wall stands to real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wall {
    /// It comes once, at this instant.
    Once(i64),
    /// It comes twice.
    Twice(i64, i64),
    /// It never comes; the first instant after the gap. `None` = the gap is no summer time.
    Never(Option<i64>),
}

impl Zone {
    /// The zone of this name; an empty one is UTC.
    pub(super) fn find(name: &str) -> Option<Self> {
        static UTC: LazyLock<Zone> =
            LazyLock::new(|| Zone { zone: TimeZone::UTC, name: "UTC".to_owned() });
        if name.is_empty() || name.eq_ignore_ascii_case("utc") {
            return Some(UTC.clone());
        }
        let zone = TimeZone::get(name).ok()?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Some(Self { zone, name })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the wall shows at an instant.
    pub(super) fn wall(&self, at: i64) -> i64 {
        at + self.offset(at)
    }

    /// What the wall shows more than UTC at an instant.
    pub(super) fn offset(&self, at: i64) -> i64 {
        instant(at).map_or(0, |at| i64::from(self.zone.to_offset(at).seconds()) * 1_000_000)
    }

    /// The first change of the clocks after an instant.
    pub(super) fn change_after(&self, at: i64) -> Option<i64> {
        let change = self.zone.following(instant(at)?).next()?;
        Some(change.timestamp().as_microsecond())
    }

    /// The last change of the clocks at or before an instant.
    pub(super) fn change_until(&self, at: i64) -> Option<i64> {
        let change = self.zone.preceding(instant(at.checked_add(1)?)?).next()?;
        Some(change.timestamp().as_microsecond())
    }

    /// When a time on the wall comes.
    pub(super) fn when(&self, wall: i64) -> Wall {
        let Some(shown) = instant(wall) else { return Wall::Never(None) };
        let shown = TimeZone::UTC.to_datetime(shown);
        let micros = |offset: jiff::tz::Offset| i64::from(offset.seconds()) * 1_000_000;
        match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => Wall::Once(wall - micros(offset)),
            AmbiguousOffset::Fold { before, after } => {
                Wall::Twice(wall - micros(before), wall - micros(after))
            }
            AmbiguousOffset::Gap { before, after } => {
                let is_summer_time = micros(after) - micros(before) <= GAP_MAX;
                let change = self.change_after(wall - micros(after));
                Wall::Never(change.filter(|_| is_summer_time))
            }
        }
    }
}

/// The zone of this machine, by name; `None` = it has none in the IANA database.
pub fn local_zone() -> Option<String> {
    TimeZone::system().iana_name().map(str::to_owned)
}

fn instant(micros: i64) -> Option<Instant> {
    Instant::from_microsecond(micros).ok()
}
