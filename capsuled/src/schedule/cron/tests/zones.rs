//! Time zones against another implementation of the calendar, and against a rule of its own for
//! the changes of the clocks, in every zone.
//!
//! What is compared. The oracle of the calendar is `croner`, on a wall without zones. Which instants
//! a time on the wall stands for is worked out here once more, minute by minute around each
//! change, from the offsets of the zone alone. `croner` with a zone is the oracle as well, with
//! these exceptions, each by its own rule:
//!
//! - A fixed time fires there at the end of a gap whenever the search for its next time comes
//!   through the gap, whatever its hour (`22 1 * * *` at 03:00), and not at all when the gap ends on
//!   another day. A fixed time with more than one value in a field (`0,30 2 * * *`) follows real
//!   time there. Across a gap only what has a star in its clock is compared.
//! - From an instant in the second pass of an hour it begins with the first pass again, and from
//!   the first pass it may leave the second one out: only fires outside of such hours are compared.

use std::collections::BTreeSet;

use chrono::{FixedOffset, NaiveDateTime, Offset, TimeZone as _, Utc};
use croner::parser::{CronParser, Seconds};

use super::super::*;

const SECOND_MICROS: i64 = 1_000_000;
/// The windows are looked through in steps of this: no expression in them has seconds, and no clock
/// has been changed within a minute for a century.
const STEP: i64 = 60 * SECOND_MICROS;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// Choices that a seed repeats (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(u64::try_from(high - low + 1).unwrap())).unwrap()
    }

    /// A field: a star, a step, or up to three values and ranges.
    fn field(&mut self, (low, high): (i64, i64), star: u64) -> String {
        if self.below(10) < star {
            return "*".to_owned();
        }
        if self.below(5) == 0 {
            return format!("*/{}", self.between(1, (high - low).min(12)));
        }
        let parts: Vec<String> = (0..=self.below(3))
            .map(|_| {
                let (one, other) = (self.between(low, high), self.between(low, high));
                match self.below(4) {
                    // `croniter` takes 21-21/3 for more than the 21st.
                    _ if one == other => one.to_string(),
                    0 => format!("{}-{}", one.min(other), one.max(other)),
                    1 => format!("{}-{}/{}", one.min(other), one.max(other), self.between(1, 5)),
                    _ => one.to_string(),
                }
            })
            .collect();
        parts.join(",")
    }

    /// An expression; its days are such as both implementations read alike.
    pub(super) fn expression(&mut self) -> String {
        let seconds = if self.below(5) == 0 { self.field((0, 59), 2) + " " } else { String::new() };
        let (minute, hour) = (self.field((0, 59), 3), self.field((0, 23), 4));
        let month = self.field((1, 12), 7);
        let (day, weekday) = match self.below(4) {
            0 => (self.field((1, 31), 3), "*".to_owned()),
            1 => ("*".to_owned(), self.field((0, 7), 3)),
            _ => ("*".to_owned(), "*".to_owned()),
        };
        format!("{seconds}{minute} {hour} {day} {month} {weekday}")
    }
}

pub(super) fn seed(name: &str) -> u64 {
    let seed = std::env::var("CAPSULE_SEED").ok().map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|| {
        use std::hash::{BuildHasher as _, Hasher as _};
        std::hash::RandomState::new().build_hasher().finish()
    });
    eprintln!("{name}: CAPSULE_SEED={seed}");
    seed
}

/// `CAPSULE_CRON_CASES` = how many expressions are tried in each test here.
pub(super) fn cases(usual: u64) -> u64 {
    std::env::var("CAPSULE_CRON_CASES").ok().map_or(usual, |text| text.parse().unwrap())
}

fn other(text: &str) -> croner::Cron {
    CronParser::builder().seconds(Seconds::Optional).build().parse(text).unwrap()
}

fn instant(year: i32) -> i64 {
    Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap().timestamp_micros()
}

/// Every zone, with all changes of its clocks from 2020 to 2045.
fn zones() -> Vec<(String, Vec<i64>)> {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    assert!(names.len() > 400, "only {} zones are known here", names.len());
    let (from, until) = (instant(2020), instant(2046));
    let changes = |zone: &Zone| {
        let mut found = Vec::new();
        let mut at = from;
        while let Some(change) = zone.change_after(at).filter(|change| *change < until) {
            // Files of zones end with a change to what there was before.
            if zone.offset(change - 1) != zone.offset(change) {
                found.push(change);
            }
            at = change;
        }
        found
    };
    names
        .into_iter()
        .filter(|name| name != "posixrules" && name != "Factory")
        .map(|name| {
            let changes = changes(&Zone::find(&name).unwrap());
            (name, changes)
        })
        .collect()
}

/// The fires from an instant until another, worked out from what the wall shows at each minute and
/// what `croner` lists, by the words of Debian's cron(8).
fn expected(text: &str, zone: &Zone, from: i64, until: i64) -> BTreeSet<i64> {
    let lists = other(text);
    let words: Vec<&str> = text.split(' ').collect();
    let clock = &words[..words.len() - 3];
    let follows = clock.iter().any(|word| word.starts_with('*'));
    let listed = |wall: i64| {
        lists.is_time_matching(&DateTime::from_timestamp_micros(wall).unwrap()).unwrap()
    };
    let (mut fires, mut shown) = (BTreeSet::new(), from + zone.offset(from - STEP));
    let mut at = from;
    while at <= until {
        let wall = at + zone.offset(at);
        if wall > shown && !follows && wall - shown < 3 * 3600 * SECOND_MICROS {
            let mut skipped = shown;
            while skipped < wall {
                if listed(skipped) {
                    fires.insert(at);
                }
                skipped += STEP;
            }
        }
        let again = wall < shown;
        if listed(wall) && (follows || !again) {
            fires.insert(at);
        }
        shown = if follows { wall + STEP } else { shown.max(wall + STEP) };
        at += STEP;
    }
    fires
}

#[test]
fn around_every_change_of_the_clocks_it_does_as_debian() {
    let mut random = Random(seed("around_every_change_of_the_clocks_it_does_as_debian"));
    let all = zones();
    // Many zones have the same changes: each distinct one is tried once.
    let mut seen = BTreeSet::new();
    for (name, changes) in &all {
        let zone = Zone::find(name).unwrap();
        for change in changes {
            if !seen.insert((*change, zone.offset(change - 1), zone.offset(*change))) {
                continue;
            }
            for _ in 0..cases(3) {
                let hours = 1_i64
                    .max((zone.wall(change - 1).rem_euclid(DAY_MICROS)) / 3600 / SECOND_MICROS);
                let minute = random.field((0, 59), 2);
                let hour = if random.below(3) == 0 {
                    "*".to_owned()
                } else {
                    format!("{},{}", hours, (hours + 1 + random.between(0, 1)) % 24)
                };
                let text = format!("{minute} {hour} * * *");
                let (from, until) =
                    (change - 3600 * SECOND_MICROS, change + 2 * 3600 * SECOND_MICROS);
                let expected = expected(&text, &zone, from, until);
                let cron = Cron::parse(&text, name, "").unwrap();
                let mut found = BTreeSet::new();
                let mut now = Timestamp(from - 1);
                while let Some(at) = cron.next_after(now).filter(|at| at.0 <= until) {
                    assert!(at > now, "{text} in {name} after {now:?}");
                    assert_eq!(cron.last_until(at), Some(at), "{text} in {name}");
                    let before = cron.last_until(Timestamp(at.0 - 1));
                    assert!(
                        before.is_none_or(|before| before <= now),
                        "{text} in {name}: {before:?} between {now:?} and {at:?}"
                    );
                    found.insert(at.0);
                    now = at;
                }
                assert_eq!(found, expected, "{text} in {name} around {change}");
            }
        }
    }
    eprintln!("{} distinct changes of {} zones", seen.len(), all.len());
    assert!(seen.len() > 500, "{}", seen.len());
}

/// A zone as `croner` wants it.
#[derive(Clone, Debug)]
struct Shown(Zone);

#[derive(Clone, Copy, Debug)]
struct ShownOffset(FixedOffset);

impl Offset for ShownOffset {
    fn fix(&self) -> FixedOffset {
        self.0
    }
}

fn fixed(micros: i64) -> ShownOffset {
    ShownOffset(FixedOffset::east_opt(i32::try_from(micros / SECOND_MICROS).unwrap()).unwrap())
}

thread_local! {
    static ZONE: std::cell::RefCell<Option<Zone>> = const { std::cell::RefCell::new(None) };
}

impl chrono::TimeZone for Shown {
    type Offset = ShownOffset;

    fn from_offset(_: &ShownOffset) -> Self {
        ZONE.with(|zone| Self(zone.borrow().clone().unwrap()))
    }

    fn offset_from_local_date(
        &self,
        day: &chrono::NaiveDate,
    ) -> chrono::MappedLocalTime<ShownOffset> {
        self.offset_from_local_datetime(&day.and_hms_opt(0, 0, 0).unwrap())
    }

    fn offset_from_local_datetime(
        &self,
        wall: &NaiveDateTime,
    ) -> chrono::MappedLocalTime<ShownOffset> {
        let wall = wall.and_utc().timestamp_micros();
        match self.0.when(wall) {
            Wall::Once(at) => chrono::MappedLocalTime::Single(fixed(wall - at)),
            Wall::Twice(one, other) => {
                chrono::MappedLocalTime::Ambiguous(fixed(wall - one), fixed(wall - other))
            }
            Wall::Never(_) => chrono::MappedLocalTime::None,
        }
    }

    fn offset_from_utc_date(&self, day: &chrono::NaiveDate) -> ShownOffset {
        self.offset_from_utc_datetime(&day.and_hms_opt(0, 0, 0).unwrap())
    }

    fn offset_from_utc_datetime(&self, at: &NaiveDateTime) -> ShownOffset {
        fixed(self.0.offset(at.and_utc().timestamp_micros()))
    }
}

fn has_star(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    words[..words.len() - 3].iter().any(|word| word.starts_with('*'))
}

#[test]
fn in_every_zone_it_agrees_with_another_implementation() {
    let mut random = Random(seed("in_every_zone_it_agrees_with_another_implementation"));
    let all = zones();
    let (from, until) = (instant(2020), instant(2045));
    let (mut compared, mut left_out) = (0_u64, 0_u64);
    for number in 0..cases(14_000) {
        let (name, changes) = &all[usize::try_from(number).unwrap() % all.len()];
        let zone = Zone::find(name).unwrap();
        ZONE.with(|set| *set.borrow_mut() = Some(zone.clone()));
        let text = random.expression();
        let Ok(cron) = Cron::parse(&text, name, "") else { continue };
        let lists = other(&text);
        // Every other instant is near a change.
        let near = usize::try_from(random.below(changes.len().max(1) as u64)).unwrap();
        let start = match changes.get(near) {
            Some(change) if number % 2 == 0 => change - random.between(0, 2 * DAY_MICROS),
            Some(_) | None => random.between(from, until),
        };
        let mut now = start.div_euclid(SECOND_MICROS) * SECOND_MICROS;
        for _ in 0..9 {
            let twice = |at: i64| matches!(zone.when(zone.wall(at)), Wall::Twice(..));
            let shown = Shown(zone.clone()).timestamp_micros(now).unwrap();
            let next = lists.find_next_occurrence(&shown, false).unwrap().timestamp_micros();
            let ours = cron.next_after(Timestamp(now)).unwrap().0;
            // What is left out is told of above.
            let change = zone.change_after(now).filter(|change| *change <= ours.max(next));
            let steady = change.is_none() && !twice(now) && !twice(ours) && !twice(next);
            let spring = change.is_some_and(|change| {
                let back = zone.offset(change) < zone.offset(change - 1);
                !back
                    && zone.wall(change - 1).div_euclid(DAY_MICROS)
                        == zone.wall(change).div_euclid(DAY_MICROS)
            }) && has_star(&text)
                && !twice(now)
                && !twice(ours);
            if steady || spring {
                compared += 1;
                assert_eq!(ours, next, "{text} in {name} after {now}");
            } else {
                left_out += 1;
            }
            now = ours;
        }
    }
    eprintln!("{compared} instants compared, {left_out} left out, {} zones", all.len());
    assert!(compared > 100_000 || std::env::var_os("CAPSULE_CRON_CASES").is_some(), "{compared}");
    assert!(compared > left_out * 9, "{compared} compared, {left_out} left out");
}
