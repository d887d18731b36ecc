//! How things read on a page. What a task wrote can steer neither the page nor its reading direction.

use std::borrow::Cow;

use capsule_proto::v1::{Status, TaskView};

use crate::text::bounded;

/// The longest text on a card or in a cell, in bytes.
const SHORT: usize = 300;

/// Text for one line, within bounds: control and direction characters are shown, not obeyed.
pub(super) fn line(text: &str) -> String {
    let text = bounded(text, SHORT);
    shown(&text, char::is_control).into_owned()
}

/// Text of several lines: as [`line()`], but whole, and line ends and tabs stay.
pub(super) fn block(text: &str) -> Cow<'_, str> {
    shown(text, |character| character.is_control() && !matches!(character, '\n' | '\t'))
}

fn shown(text: &str, controls: impl Fn(char) -> bool) -> Cow<'_, str> {
    let steers = |character: char| controls(character) || turns(character);
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if steers(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Whether a character changes the direction of text, or ends a line where none is seen.
pub(super) const fn turns(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// The name of a status.
pub(super) fn status(status: Status) -> String {
    status.as_str_name().to_ascii_lowercase()
}

/// A sign for a status, beside its name.
pub(super) const fn sign(status: Status) -> &'static str {
    match status {
        Status::Unspecified => "?",
        Status::Scheduled => "⏲",
        Status::Pending => "○",
        Status::Claimed => "◔",
        Status::Running => "▶",
        Status::Retry => "↻",
        Status::Completed => "✓",
        Status::Failed => "✗",
        Status::Timeout => "⏱",
        Status::Cancelled => "⊘",
    }
}

/// Whether a task will not change any more by itself.
pub(super) const fn ended(status: Status) -> bool {
    match status {
        Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled => true,
        Status::Unspecified
        | Status::Scheduled
        | Status::Pending
        | Status::Claimed
        | Status::Running
        | Status::Retry => false,
    }
}

/// Whether an attempt of a task goes on.
pub(super) const fn runs(status: Status) -> bool {
    matches!(status, Status::Running | Status::Claimed)
}

/// What people call a task.
pub(super) fn title(task: &TaskView) -> String {
    let names = [&task.display_name, &task.name, &task.summary];
    line(names.into_iter().find(|name| !name.is_empty()).map_or("task", String::as_str))
}

/// What a person wants to know beside the status: why it waits, how it ended, what it was given.
pub(super) fn note(task: &TaskView) -> String {
    let texts = [&task.reason, &task.waiting, &task.summary];
    let said = texts.into_iter().find(|text| !text.is_empty());
    if task.cancelling { "cancelling".to_owned() } else { line(said.map_or("", String::as_str)) }
}

/// The attempt of how many: `2/3`.
pub(super) fn tries(task: &TaskView) -> String {
    let budget = task.retries.saturating_add(1);
    match task.attempt {
        0 => String::new(),
        attempt if attempt <= budget => format!("{attempt}/{budget}"),
        attempt => format!("{attempt}"),
    }
}

/// An instant as pages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// For machines: RFC 3339 in UTC.
    pub(super) iso: String,
    /// For people, from now: `3m ago`, `in 10s`.
    pub(super) told: String,
}

/// An instant, told from another.
pub(super) fn moment(at_us: i64, now_us: i64) -> Moment {
    let iso = jiff::Timestamp::from_microsecond(at_us)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
    let span = span(at_us.abs_diff(now_us) / 1000);
    let told = if at_us > now_us { format!("in {span}") } else { format!("{span} ago") };
    Moment { iso, told }
}

/// A length of time in milliseconds: `250ms`, `4.1s`, `1m 12s`, `3h 5m`, `2d 4h`.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0 => format!("{ms}ms"),
        1..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

/// Bytes for people.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = usize::try_from(count.max(1).ilog2() / 10).unwrap_or(0).min(units.len() - 1);
    let unit = units.get(at).copied().unwrap_or("B");
    let whole = count >> (10 * at);
    let tenth = ((u128::from(count) * 10) >> (10 * at)) % 10;
    if at == 0 || whole >= 10 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// JSON with a line for each field; as it is when it is none.
pub(super) fn json(text: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(text);
    let pretty = value.ok().and_then(|value| serde_json::to_string_pretty(&value).ok());
    block(pretty.as_deref().unwrap_or(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_shown() {
        assert_eq!(line("a\u{202e}b\x1b[2J\r\n"), "a\\u{202e}b\\u{1b}[2J\\r\\n");
        assert_eq!(block("a\tb\nc\x07"), "a\tb\nc\\u{7}");
        assert_eq!(line("grün <b>"), "grün <b>");
        assert!(line(&"x".repeat(10_000)).len() <= SHORT);
    }

    #[test]
    fn spans_and_sizes_are_short() {
        let told = |ms| span(ms);
        assert_eq!([told(0), told(999), told(4100), told(59_999)], ["0ms", "999ms", "4.1s", "59s"]);
        assert_eq!(
            [told(72_000), told(11_100_000), told(187_200_000)],
            ["1m 12s", "3h 5m", "2d 4h"]
        );
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(10 << 20)],
            ["0 B", "1023 B", "1.5 KiB", "10 MiB"]
        );
        assert_eq!(bytes(u64::MAX), "16777215 TiB");
        assert_eq!([count(1), count(999), count(1203)], ["1", "999", "1\u{202f}203"]);
        assert_eq!(moment(0, 5_000_000).told, "5.0s ago");
        assert_eq!(moment(5_000_000, 0).told, "in 5.0s");
    }
}
