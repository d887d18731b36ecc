//! What must hold of an app beyond what its import shows.

use super::introspect::Fault;

/// The five fields: name, least, most, words from the least value on.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day", 1, 31, &[]),
    (
        "month",
        1,
        12,
        &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    ),
    ("weekday", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// Why a schedule's expression is none.
pub(super) fn cron_fault(name: &str, cron: &str, (file, line): (&str, u32)) -> Option<Fault> {
    let why = cron_problem(cron)?;
    Some(Fault {
        kind: "cron".to_owned(),
        message: format!("the schedule {name}: {why} (in {cron:?})"),
        file: file.to_owned(),
        line,
        traceback: String::new(),
    })
}

/// What is wrong with a cron expression of five fields.
fn cron_problem(cron: &str) -> Option<String> {
    let fields: Vec<&str> = cron.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Some(format!("a cron expression has 5 fields, this has {}", fields.len()));
    }
    let wrong = |(text, (name, least, most, words)): (&&str, &(&str, u32, u32, &[&str]))| {
        let fits = text.split(',').all(|part| fits(part, (*least, *most), words));
        (!fits).then(|| format!("the {name} {text:?} is none of {least}-{most}"))
    };
    fields.iter().zip(&FIELDS).find_map(wrong)
}

/// `*`, `5`, `mon`, `1-5`, each with `/STEP`.
fn fits(part: &str, (least, most): (u32, u32), words: &[&str]) -> bool {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step <= most)),
        None => (part, Some(1)),
    };
    if step.is_none_or(|step| step == 0) {
        return false;
    }
    let value = |text: &str| -> Option<u32> {
        let word = words.iter().position(|word| text.eq_ignore_ascii_case(word));
        let number = match word {
            Some(at) => u32::try_from(at).ok()?.checked_add(least)?,
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
            None => return None,
        };
        Some(number).filter(|number| (least..=most).contains(number))
    };
    if range == "*" {
        return true;
    }
    match range.split_once('-') {
        Some((from, to)) => {
            matches!((value(from), value(to)), (Some(from), Some(to)) if from <= to)
        }
        None => value(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_within_their_bounds() {
        for good in
            ["0 * * * *", "*/5 0-6 1,15 jan-MAR mon-fri", "59 23 31 12 7", "0 9-17/2 * * SUN"]
        {
            assert_eq!(cron_problem(good), None, "{good}");
        }
        for (bad, why) in [
            ("* * * *", "this has 4"),
            ("0 0 * * * *", "this has 6"),
            ("60 * * * *", "the minute \"60\""),
            ("* 24 * * *", "the hour"),
            ("* * 0 * *", "the day"),
            ("* * * foo *", "the month"),
            ("* * * * 8", "the weekday"),
            ("*/0 * * * *", "the minute"),
            ("5-1 * * * *", "the minute"),
            ("+5 * * * *", "the minute"),
            ("@hourly", "this has 1"),
        ] {
            let told = cron_problem(bad).unwrap_or_default();
            assert!(told.contains(why), "{bad}: {told}");
        }
    }
}
