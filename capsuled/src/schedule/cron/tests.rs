//! The translation by hand-made cases, and against another implementation.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    timestamp(&text.parse::<DateTime<Utc>>().unwrap())
}

/// The first fires after a moment of Tuesday, 2026-12-01.
fn fires(cron: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(cron).unwrap();
    let mut now = at("2026-12-01T08:30:15.5Z");
    let mut found = Vec::new();
    for _ in 0..count {
        let next = cron.next_after(now).unwrap();
        assert!(next > now);
        assert_eq!(cron.last_until(next), Some(next));
        assert_eq!(cron.last_until(Timestamp(next.0 - 1)).filter(|last| *last > now), None);
        now = next;
        let text = DateTime::from_timestamp_micros(next.0).unwrap();
        found.push(text.format("%a %Y-%m-%d %H:%M").to_string());
    }
    found
}

#[test]
fn expressions_mean_what_a_crontab_means() {
    for (cron, expected) in [
        ("0 * * * *", ["Tue 2026-12-01 09:00", "Tue 2026-12-01 10:00"]),
        ("* * * * *", ["Tue 2026-12-01 08:31", "Tue 2026-12-01 08:32"]),
        ("*/20 8-9 * * *", ["Tue 2026-12-01 08:40", "Tue 2026-12-01 09:00"]),
        ("0 9 * * 1-5", ["Tue 2026-12-01 09:00", "Wed 2026-12-02 09:00"]),
        ("0 9 * * MON-FRI", ["Tue 2026-12-01 09:00", "Wed 2026-12-02 09:00"]),
        ("0 0 * * 0", ["Sun 2026-12-06 00:00", "Sun 2026-12-13 00:00"]),
        ("0 0 * * 7", ["Sun 2026-12-06 00:00", "Sun 2026-12-13 00:00"]),
        ("0 0 * * sat-sun", ["Sat 2026-12-05 00:00", "Sun 2026-12-06 00:00"]),
        ("0 0 * * 6,0", ["Sat 2026-12-05 00:00", "Sun 2026-12-06 00:00"]),
        ("0 0 13 * fri", ["Fri 2026-12-04 00:00", "Fri 2026-12-11 00:00"]),
        ("0 0 3 * fri", ["Thu 2026-12-03 00:00", "Fri 2026-12-04 00:00"]),
        ("0 0 */2 * fri", ["Fri 2026-12-11 00:00", "Fri 2026-12-25 00:00"]),
        ("0 0 29 2 *", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("5/25 8 * * *", ["Tue 2026-12-01 08:55", "Wed 2026-12-02 08:05"]),
        ("0 0 31 * *", ["Thu 2026-12-31 00:00", "Sun 2027-01-31 00:00"]),
        ("@hourly", ["Tue 2026-12-01 09:00", "Tue 2026-12-01 10:00"]),
        ("@daily", ["Wed 2026-12-02 00:00", "Thu 2026-12-03 00:00"]),
        ("@weekly", ["Sun 2026-12-06 00:00", "Sun 2026-12-13 00:00"]),
        ("@monthly", ["Fri 2027-01-01 00:00", "Mon 2027-02-01 00:00"]),
        ("@Yearly", ["Fri 2027-01-01 00:00", "Sat 2028-01-01 00:00"]),
        ("0 0 1 jan,Jul *", ["Fri 2027-01-01 00:00", "Thu 2027-07-01 00:00"]),
    ] {
        assert_eq!(fires(cron, 2), expected, "{cron}");
    }
}

#[test]
fn errors_name_the_field() {
    for (cron, said) in [
        ("", "cron \"\" has 0 fields, five are wanted: minute hour day month weekday"),
        (
            "0 0 * * * *",
            "cron \"0 0 * * * *\" has 6 fields, five are wanted: minute hour day month weekday",
        ),
        ("60 * * * *", "cron \"60 * * * *\": minute: 60 is out of range, it goes from 0 to 59"),
        ("* 24 * * *", "cron \"* 24 * * *\": hour: 24 is out of range, it goes from 0 to 23"),
        ("* * 0 * *", "cron \"* * 0 * *\": day of month: 0 is out of range, it goes from 1 to 31"),
        ("* * L * *", "cron \"* * L * *\": day of month: \"l\" is not a number"),
        ("* * * 13 *", "cron \"* * * 13 *\": month: 13 is out of range, it goes from 1 to 12"),
        ("* * * * 8", "cron \"* * * * 8\": day of week: 8 is out of range, it goes from 0 to 7"),
        (
            "* * * * funday",
            "cron \"* * * * funday\": day of week: \"funday\" is neither a number nor a name",
        ),
        ("*/0 * * * *", "cron \"*/0 * * * *\": minute: a step is a number from 1 on, not \"0\""),
        ("*/90 * * * *", "cron \"*/90 * * * *\": minute: a step of 90 is longer than the field"),
        ("30-10 * * * *", "cron \"30-10 * * * *\": minute: 30-10 goes backwards"),
        ("+1 * * * *", "cron \"+1 * * * *\": minute: \"+1\" is not a number"),
        ("1,, * * * *", "cron \"1,, * * * *\": minute: \"\" is not a number"),
        ("@reboot", "cron \"@reboot\" is none of @hourly, @daily, @weekly, @monthly and @yearly"),
        ("0 0 30 2 *", "cron \"0 0 30 2 *\" never comes: none of its months has such a day"),
        ("0 0 31 4,6 *", "cron \"0 0 31 4,6 *\" never comes: none of its months has such a day"),
    ] {
        assert_eq!(Cron::parse(cron).unwrap_err().to_string(), said);
    }
}

/// An element of a field: a value, a range, or either with a step.
fn element(low: u32, high: u32) -> impl Strategy<Value = String> {
    (low..=high, low..=high, 1..=high.min(6), 0..3).prop_map(|(one, other, step, form)| {
        let (from, to) = (one.min(other), one.max(other));
        match form {
            0 => one.to_string(),
            1 => format!("{from}-{to}"),
            _ => format!("{from}-{to}/{step}"),
        }
    })
}

fn field(low: u32, high: u32, open: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        open => Just("*".to_owned()),
        1 => (1..high.min(20)).prop_map(|step| format!("*/{step}")),
        3 => proptest::collection::vec(element(low, high), 1..4).prop_map(|list| list.join(",")),
    ]
}

/// The days as another implementation reads them: a star with a step is a restriction to it.
fn days() -> impl Strategy<Value = (String, String)> {
    let list = |low, high| {
        proptest::collection::vec(element(low, high), 1..4).prop_map(|list| list.join(","))
    };
    let star = || Just("*".to_owned());
    prop_oneof![(field(1, 31, 1), star()), (star(), field(0, 7, 1)), (list(1, 31), list(0, 7)),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn it_agrees_with_another_implementation(
        minute in field(0, 59, 2),
        hour in field(0, 23, 2),
        (day, weekday) in days(),
        month in field(1, 12, 3),
        from in 0_i64..4_000_000_000,
    ) {
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        let other = croner::parser::CronParser::builder().build().parse(&text).unwrap();
        let mut now = DateTime::from_timestamp(from, 0).unwrap();
        let Ok(ours) = Cron::parse(&text) else {
            let next = other.find_next_occurrence(&now, false);
            prop_assert!(next.is_err(), "{text}: refused, yet it fires at {next:?}");
            return Ok(());
        };
        for _ in 0..6 {
            let next = other.find_next_occurrence(&now, false).unwrap();
            prop_assert_eq!(ours.next_after(timestamp(&now)), Some(timestamp(&next)), "{}", text);
            let before = ours.last_until(Timestamp(timestamp(&next).0 - 1));
            prop_assert!(before.is_none_or(|before| before <= timestamp(&now)), "{}", text);
            now = next;
        }
    }
}
