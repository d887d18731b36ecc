//! The filter language: what people type into a search field, as a [`Filter`].
//!
//! `task:sync* owner:acme state:failed,timeout age:<1h "some text"`. Every word narrows; words
//! without a colon are a text in the task's name or arguments. One parser for the command line, the
//! board and the page, so that the same words mean the same everywhere.

use crate::v1::{Filter, Status};

/// The names that stand before a colon, each with what it asks for and an example.
pub const WORDS: [(&str, &str, &str); 10] = [
    ("task", "name of the task; * at its end stands for any rest", "task:sync*"),
    ("-task", "no task of this name", "-task:sync*"),
    ("state", "its status, several with commas", "state:failed,timeout"),
    ("owner", "on whose behalf", "owner:acme"),
    ("queue", "the queue it waits in", "queue:default"),
    ("lock", "the lock it runs under", "lock:owner:acme"),
    ("label", "a label, with its value or any", "label:team=ops"),
    ("app", "the app it belongs to", "app:leads"),
    ("schedule", "the schedule that made it", "schedule:nightly"),
    ("age", "submitted less (<) or more (>) than this long ago", "age:<1h"),
];

/// Reads what people typed. `now_us` is the time that ages are counted from.
///
/// # Errors
/// A sentence that says which word cannot be understood, and what would be.
pub fn parse(text: &str, now_us: i64) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let mut texts = Vec::new();
    for word in words(text)? {
        match word {
            Word::Text(text) => texts.push(text),
            Word::Named(name, value) if value.is_empty() => {
                return Err(format!("{name}: wants something behind the colon"));
            }
            Word::Named(name, value) => ask(&mut filter, &name, value, now_us)?,
        }
    }
    filter.text = texts.join(" ");
    Ok(filter)
}

fn ask(filter: &mut Filter, name: &str, value: String, now_us: i64) -> Result<(), String> {
    match name {
        "task" | "name" => filter.names.extend(value.split(',').map(str::to_owned)),
        "-task" | "-name" => filter.except_names.extend(value.split(',').map(str::to_owned)),
        "state" | "status" => {
            for word in value.split(',') {
                filter.statuses.extend(statuses(word)?.iter().map(|status| i32::from(*status)));
            }
        }
        "owner" => filter.owner = value,
        "queue" => filter.queue = value,
        "lock" => filter.lock = value,
        "app" => filter.app = value,
        "schedule" => filter.schedule = value,
        "label" => {
            let (label, value) = value.split_once('=').unwrap_or((&value, ""));
            filter.labels.insert(label.to_owned(), value.to_owned());
        }
        "age" => {
            let (is_less, span) = match value.strip_prefix('<') {
                Some(span) => (true, span),
                None => (false, value.strip_prefix('>').ok_or("age wants < or >: age:<1h")?),
            };
            let at = now_us.saturating_sub(span_us(span)?);
            *if is_less { &mut filter.since_us } else { &mut filter.until_us } = Some(at);
        }
        unknown => {
            let known: Vec<&str> = WORDS.iter().map(|(name, _, _)| *name).collect();
            return Err(format!("{unknown}: is none of {}; a text needs quotes", known.join(", ")));
        }
    }
    Ok(())
}

/// A status, or a word for several.
fn statuses(word: &str) -> Result<&'static [Status], String> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "scheduled" => &[Status::Scheduled],
        "pending" => &[Status::Pending],
        "claimed" => &[Status::Claimed],
        "running" => &[Status::Running],
        "retry" => &[Status::Retry],
        "completed" => &[Status::Completed],
        "failed" => &[Status::Failed],
        "timeout" => &[Status::Timeout],
        "cancelled" | "canceled" => &[Status::Cancelled],
        "waiting" => &[Status::Scheduled, Status::Pending, Status::Retry],
        "ended" => &[Status::Completed, Status::Failed, Status::Timeout, Status::Cancelled],
        _ => return Err(format!("state:{word} is no status; try running, failed, waiting, ended")),
    })
}

/// A span with its unit, in microseconds.
fn span_us(text: &str) -> Result<i64, String> {
    let wanted = || format!("{text:?} is no span; write 90s, 5m, 1h or 2d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wanted)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(wanted()),
    };
    let number: i64 = number.parse().map_err(|_| wanted())?;
    Ok(number.saturating_mul(seconds * 1_000_000))
}

/// Narrows a filter by another one: what is left is in both.
pub fn narrow(filter: &mut Filter, by: &Filter) {
    let by = by.clone();
    let mut possible = true;
    if filter.statuses.is_empty() {
        filter.statuses = by.statuses;
    } else if !by.statuses.is_empty() {
        filter.statuses.retain(|status| by.statuses.contains(status));
        possible = !filter.statuses.is_empty();
    }
    for (mine, other) in [
        (&mut filter.app, by.app),
        (&mut filter.owner, by.owner),
        (&mut filter.queue, by.queue),
        (&mut filter.lock, by.lock),
        (&mut filter.schedule, by.schedule),
    ] {
        possible &= mine.is_empty() || other.is_empty() || *mine == other;
        if mine.is_empty() {
            *mine = other;
        }
    }
    if filter.names.is_empty() {
        filter.names = by.names;
    } else if !by.names.is_empty() {
        filter.names = in_both(&filter.names, &by.names);
        possible &= !filter.names.is_empty();
    }
    filter.except_names.extend(by.except_names);
    filter.labels.extend(by.labels);
    if !by.text.is_empty() {
        filter.text = by.text;
    }
    filter.since_us = filter.since_us.max(by.since_us);
    filter.until_us = match (filter.until_us, by.until_us) {
        (Some(mine), Some(other)) => Some(mine.min(other)),
        (mine, other) => mine.or(other),
    };
    if !possible {
        // No task was submitted before the beginning of time.
        filter.until_us = Some(i64::MIN);
    }
}

/// The narrower of the patterns of which one covers the other.
fn in_both(mine: &[String], other: &[String]) -> Vec<String> {
    let covers = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    };
    let covered = |these: &[String], those: &[String]| -> Vec<String> {
        let these = these.iter().filter(|name| those.iter().any(|it| covers(it, name)));
        these.cloned().collect()
    };
    let mut both = covered(mine, other);
    both.extend(covered(other, mine));
    both.sort_unstable();
    both.dedup();
    both
}

enum Word {
    Text(String),
    Named(String, String),
}

/// Words, apart at spaces; a quoted part may have some, and colons that name nothing.
fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.peek() {
        if first.is_whitespace() {
            rest.next();
            continue;
        }
        let (mut name, mut value, mut quoted) = (None, String::new(), false);
        while let Some(character) = rest.next_if(|c| quoted || !c.is_whitespace()) {
            match character {
                '"' => quoted = !quoted,
                ':' if !quoted && name.is_none() => name = Some(std::mem::take(&mut value)),
                other => value.push(other),
            }
        }
        if quoted {
            return Err("a quote is not closed".to_owned());
        }
        words.push(match name {
            Some(name) => Word::Named(name, value),
            None => Word::Text(value),
        });
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_narrow() {
        let text = r#"task:sync*,report -task:sync_x state:failed,timeout age:<1h label:team=ops label:x lock:owner:acme two "a: b""#;
        let filter = parse(text, 3_600_000_000).unwrap();
        assert_eq!(filter.names, ["sync*", "report"]);
        assert_eq!(filter.except_names, ["sync_x"]);
        assert_eq!(filter.statuses, [i32::from(Status::Failed), i32::from(Status::Timeout)]);
        assert_eq!((filter.since_us, filter.until_us), (Some(0), None));
        assert_eq!(filter.labels["team"], "ops");
        assert_eq!(filter.labels["x"], "");
        assert_eq!(filter.lock, "owner:acme");
        assert_eq!(filter.text, "two a: b");
        assert_eq!(parse("  ", 0).unwrap(), Filter::default());
        assert_eq!(parse(r#"owner:"a b""#, 0).unwrap().owner, "a b");
    }

    #[test]
    fn every_word_that_is_named_is_understood() {
        for (name, _, example) in WORDS {
            let filter = parse(example, 0).unwrap();
            assert_ne!(filter, Filter::default(), "{name}");
            assert!(example.starts_with(&format!("{name}:")), "{example}");
        }
    }

    #[test]
    fn what_is_no_word_is_told() {
        let refused = |text| parse(text, 0).unwrap_err();
        assert!(refused("what:x").starts_with("what: is none of task"), "{}", refused("what:x"));
        assert!(refused("state:nope").contains("no status"));
        assert!(refused("age:1h").contains("age:<1h"));
        assert!(refused("age:<1x").contains("no span"));
        assert!(refused("age:<99999999999999999999s").contains("no span"));
        assert_eq!(refused("owner:"), "owner: wants something behind the colon");
        assert_eq!(refused("\"open"), "a quote is not closed");
    }

    #[test]
    fn filters_narrow_and_never_widen() {
        let filter = |names: &[&str], app: &str, statuses: &[Status]| Filter {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            app: app.to_owned(),
            statuses: statuses.iter().map(|status| i32::from(*status)).collect(),
            ..Filter::default()
        };
        let both = |mut one: Filter, other: &Filter| {
            narrow(&mut one, other);
            one
        };
        let narrowed = both(filter(&["sync*"], "", &[]), &filter(&["sync_a", "report"], "x", &[]));
        assert_eq!((narrowed.names, narrowed.app.as_str()), (vec!["sync_a".to_owned()], "x"));
        for (one, other) in [
            (filter(&["a"], "", &[]), filter(&["b"], "", &[])),
            (filter(&[], "a", &[]), filter(&[], "b", &[])),
            (filter(&[], "", &[Status::Failed]), filter(&[], "", &[Status::Running])),
        ] {
            assert_eq!(both(one, &other).until_us, Some(i64::MIN), "nothing is both");
        }
    }
}
