//! Short texts that people type: lock templates, spans, times, cron expressions.

use capsule_core::id::{AttemptNumber, Uuid};
use capsule_core::lock::Template;
use capsule_core::retry::Backoff;
use capsule_core::spec::KEY_MAX;
use capsule_core::time::{Span, Timestamp};
use capsuled::schedule::Cron;
use jiff::tz::TimeZone;

use super::text;

/// What the command line reads; the file itself, because a program has no library to ask.
#[path = "../../../capsule-cli/src/args/values.rs"]
mod values;

/// First line a template, then values in turn of two argument lists: no two lists share a key.
pub fn lock(data: &[u8]) {
    let text = text(data);
    let mut lines = text.split('\n');
    let Ok(template) = Template::parse(lines.next().unwrap_or_default()) else { return };
    let lines: Vec<&str> = lines.collect();
    let names: Vec<&str> = template.params().collect();
    let value = |name: &str, offset: usize| {
        let place = names.iter().position(|known| *known == name)?;
        lines.get(place * 2 + offset).copied()
    };
    let render = |offset: usize| template.render(|name| value(name, offset).map(str::to_owned));
    let (Ok(one), Ok(other)) = (render(0), render(1)) else { return };
    assert!(one.len() <= KEY_MAX && other.len() <= KEY_MAX);
    let same = names.iter().all(|name| value(name, 0) == value(name, 1));
    assert_eq!(one == other, same, "{template:?} makes {one:?} and {other:?}");
}

/// A span, a back-off, a time, a pair or an id.
pub fn spans(data: &[u8]) {
    let text = text(data);
    let task = Uuid([7; 16]);
    if let Ok(span) = Span::parse(&text) {
        let _std = span.to_std();
        assert!(Timestamp(i64::MAX).plus(span) >= Timestamp(0), "{text:?}");
        if let Ok(typed) = values::duration(&text) {
            let (here, there) = (values::millis(typed), span.as_millis());
            assert!(here.abs_diff(there) <= 1, "{text:?}: {here} ms typed, {there} ms deployed");
        }
    }
    if let Ok(backoff) = Backoff::parse(&text) {
        for failures in [0, 1, 31, 64, u32::MAX] {
            let longest = backoff.longest(failures);
            let pause = backoff.pause(failures, task, AttemptNumber(failures));
            assert!(pause <= longest, "{text:?} after {failures}: {pause:?} > {longest:?}");
        }
    }
    if let Ok(time) = values::time(&text) {
        let _shown = time.to_zoned(TimeZone::UTC).to_string();
    }
    drop(values::moment(&text));
    drop(values::pair(&text));
    assert!(!values::id(&text).starts_with('#'));
    if let Ok(uuid) = text.parse::<Uuid>() {
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
    }
}

/// A cron expression, behind a bar its zone: its fires lie in order, and looking back finds what looking ahead found.
pub fn cron(data: &[u8]) {
    let text = text(data);
    let (text, zone) = text.split_once('|').unwrap_or((&text, ""));
    let Ok(cron) = Cron::parse(text, zone, "name") else { return };
    let _said = (cron.to_string(), cron.lints());
    for now in [0, 1_700_000_000_000_000, 4_102_444_799_000_000, 951_782_400_000_000] {
        let now = Timestamp(now);
        let Some(next) = cron.next_after(now) else { continue };
        assert!(next > now, "{text:?} after {now:?}: {next:?}");
        assert_eq!(next.0 % 1_000_000, 0, "{text:?} fires within a second");
        let _shift = cron.shift(next);
        assert_eq!(cron.last_until(next), Some(next), "{text:?} looking back from {next:?}");
        let before = cron.last_until(Timestamp(next.0 - 1));
        assert!(before.is_none_or(|before| before <= now), "{text:?}: {before:?} after {now:?}");
    }
    for odd in [i64::MIN, -1, i64::MAX] {
        let _any = (cron.next_after(Timestamp(odd)), cron.last_until(Timestamp(odd)));
    }
}
