//! The translation by hand-made cases, and against another implementation.

mod croniter;
mod zones;

use chrono::Utc;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    timestamp(&text.parse::<DateTime<Utc>>().unwrap())
}

fn timestamp(at: &DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
}

/// The first fires after a moment of Tuesday, 2026-12-01.
fn fires(cron: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(cron, "", "").unwrap();
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
fn seconds_come_first_and_a_tilde_is_the_same_each_time() {
    let found = fires("*/20 30 8 * * *", 2);
    assert_eq!(found, ["Tue 2026-12-01 08:30", "Tue 2026-12-01 08:30"]);
    let of = |text: &str, name: &str| {
        let cron = Cron::parse(text, "", name).unwrap();
        let next = cron.next_after(at("2026-12-01T00:00:00Z")).unwrap();
        DateTime::from_timestamp_micros(next.0).unwrap().format("%H:%M").to_string()
    };
    assert_eq!(of("~ ~ * * *", "a"), of("~ ~ * * *", "a"));
    let names = 0..200;
    let times: std::collections::BTreeSet<String> =
        names.map(|name| of("~ ~ * * *", &name.to_string())).collect();
    assert!(times.len() > 150, "{} times of 200 names", times.len());
    for name in 0..50 {
        let minute = of("10~20 5 * * *", &name.to_string());
        assert!(("05:10".."05:21").contains(&minute.as_str()), "{minute}");
        let cron = Cron::parse("~/15 * * * *", "", &name.to_string()).unwrap();
        let one = cron.next_after(Timestamp(0)).unwrap();
        assert!(one.0 <= 15 * 60_000_000 && one.0 % 60_000_000 == 0, "{one:?}");
        assert_eq!(cron.next_after(one).unwrap().0 - one.0, 15 * 60_000_000);
    }
}

#[test]
fn an_expression_is_said_in_words() {
    for (cron, zone, said) in [
        ("0 * * * *", "", "every hour, UTC"),
        ("* * * * *", "", "every minute, UTC"),
        ("*/15 * * * *", "", "every 15 minutes, UTC"),
        ("5 * * * *", "", "at minute 5 of every hour, UTC"),
        ("30 3 * * mon-fri", "Europe/Berlin", "at 03:30 from Monday to Friday, Europe/Berlin"),
        ("0 0 1,15 * *", "", "at 00:00 on the 1st and 15th of the month, UTC"),
        ("0 9,17 * * *", "", "at 09:00 and 17:00 every day, UTC"),
        ("*/15 9-17 * * *", "", "every 15 minutes of the hours from 9 to 17 every day, UTC"),
        ("0 0 13 * fri", "", "at 00:00 on the 13th of the month and on Friday, UTC"),
        ("0 12 * jun-aug *", "", "at 12:00 every day from June to August, UTC"),
        ("0 0 1 1 *", "", "at 00:00 on the 1st of the month in January, UTC"),
        ("0 */6 * * *", "", "at 00:00, 06:00, 12:00 and 18:00, UTC"),
        ("*/10 * * * * *", "", "every 10 seconds, UTC"),
        ("5 */2 * * *", "", "at minute 5 of every 2nd hour, UTC"),
        ("@weekly", "asia/tokyo", "at 00:00 on Sunday, Asia/Tokyo"),
    ] {
        assert_eq!(Cron::parse(cron, zone, "").unwrap().to_string(), said, "{cron}");
    }
}

#[test]
fn what_is_seldom_meant_is_told() {
    for (cron, told) in [
        ("0 * * * *", vec![]),
        ("*/90 * * * *", vec!["*/90 is minute 0 alone: an hour has 60 minutes"]),
        (
            "*/25 * * * *",
            vec!["*/25 begins anew when an hour does: its last step is 10 minutes, not 25"],
        ),
        (
            "* 3 * * *",
            vec!["it fires in every minute of hour 3; once is 0 in place of the first *"],
        ),
        (
            "0 0 13 * fri",
            vec!["day of month and day of week are both given: it fires when either fits"],
        ),
        ("0 0 31 * *", vec!["there is no day 31 in February, April, June, September, November"]),
        ("0 0 31 1 *", vec![]),
    ] {
        assert_eq!(Cron::parse(cron, "", "").unwrap().lints(), told, "{cron}");
    }
}

#[test]
fn a_change_of_the_clocks_is_told_with_the_fire() {
    let shift = |cron: &str, from: &str| {
        let cron = Cron::parse(cron, "Europe/Berlin", "").unwrap();
        let next = cron.next_after(at(from)).unwrap();
        let text = DateTime::from_timestamp_micros(next.0).unwrap().format("%H:%M").to_string();
        (text, cron.shift(next))
    };
    // 2027-03-28 02:00 → 03:00 at 01:00 UTC, 2027-10-31 03:00 → 02:00 at 01:00 UTC.
    let gap = Shift::Gap(at("2027-03-28T02:30:00Z").0);
    assert_eq!(shift("30 2 * * *", "2027-03-28T00:00:00Z"), ("01:00".to_owned(), Some(gap)));
    assert_eq!(shift("0 3 * * *", "2027-03-28T00:00:00Z"), ("01:00".to_owned(), None));
    assert_eq!(shift("30 * * * *", "2027-03-28T00:45:00Z"), ("01:30".to_owned(), None));
    let first = Some(Shift::First);
    assert_eq!(shift("30 2 * * *", "2027-10-31T00:00:00Z"), ("00:30".to_owned(), first));
    assert_eq!(shift("30 2 * * *", "2027-10-31T00:30:00Z"), ("01:30".to_owned(), None));
    let (earlier, later) = (Some(Shift::Earlier), Some(Shift::Later));
    assert_eq!(shift("30 * * * *", "2027-10-31T00:00:00Z"), ("00:30".to_owned(), earlier));
    assert_eq!(shift("30 * * * *", "2027-10-31T00:30:00Z"), ("01:30".to_owned(), later));
    let unknown = Cron::parse("0 0 * * *", "Europe/Berlyn", "").unwrap_err();
    assert_eq!(unknown, CronError::Zone("Europe/Berlyn".to_owned()));
}

#[test]
fn the_place_that_is_wrong_is_marked() {
    let marked = |text: &str| Cron::parse(text, "", "").unwrap_err().marked();
    assert_eq!(marked("0 25 * * *").as_deref(), Some("0 25 * * *\n  ^^"));
    assert_eq!(marked("  0 0 * 1,xyz *").as_deref(), Some("0 0 * 1,xyz *\n      ^^^^^"));
    assert_eq!(marked("@reboot"), None);
}

#[test]
fn errors_name_the_field() {
    for (cron, said) in [
        (
            "",
            "cron \"\" has 0 fields, five are wanted: minute hour day month weekday, or six with the second first",
        ),
        (
            "0 0 0 * * * *",
            "cron \"0 0 0 * * * *\" has 7 fields, five are wanted: minute hour day month weekday, or six with the second first",
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
        ("30-10 * * * *", "cron \"30-10 * * * *\": minute: 30-10 goes backwards"),
        ("+1 * * * *", "cron \"+1 * * * *\": minute: \"+1\" is not a number"),
        ("1,, * * * *", "cron \"1,, * * * *\": minute: \"\" is not a number"),
        ("@reboot", "cron \"@reboot\" is none of @hourly, @daily, @weekly, @monthly and @yearly"),
        ("0 0 30 2 *", "cron \"0 0 30 2 *\" never comes: none of its months has such a day"),
        ("0 0 31 4,6 *", "cron \"0 0 31 4,6 *\" never comes: none of its months has such a day"),
    ] {
        assert_eq!(Cron::parse(cron, "", "").unwrap_err().to_string(), said);
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
        let Ok(ours) = Cron::parse(&text, "", "") else {
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
