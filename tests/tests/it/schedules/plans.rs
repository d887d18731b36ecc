//! `next`, `preview` and the runs that one run makes wait.

use capsule_tests::wait_for;
use serde_json::{Value, json};

use super::{history, listed};
use crate::queue::Queue;

/// A preview as JSON; words are separated by bars.
fn preview(queue: &Queue, words: &str) -> Vec<Value> {
    let words = ["--format=json", "schedule", "preview"].into_iter().chain(words.split('|'));
    queue.home.capsule(words).run().exits(0).json().as_array().unwrap().clone()
}

#[test]
fn a_preview_marks_what_a_change_of_the_clocks_does() {
    let queue = Queue::bare();
    let march = "--cron|30 2 * * *|--tz|Europe/Berlin|--from|2027-03-27|--to|2027-03-30";
    let fires = preview(&queue, march);
    let walls: Vec<_> = fires.iter().map(|fire| fire["wall"].as_str().unwrap()).collect();
    assert_eq!(walls, ["2027-03-27 02:30 CET", "2027-03-28 03:00 CEST", "2027-03-29 02:30 CEST"]);
    assert_eq!(fires[1]["planned_at"], "2027-03-28T01:00:00Z");
    assert_eq!(fires[1]["note"], "no 02:30 that day: right after it");
    assert_eq!((&fires[0]["note"], &fires[2]["note"]), (&json!(null), &json!(null)));

    let october = "--cron|30 2 * * *|--tz|Europe/Berlin|--from|2027-10-31|--to|2027-11-01";
    let fires = preview(&queue, october);
    assert_eq!(fires.len(), 1, "{fires:?}");
    assert_eq!(fires[0]["planned_at"], "2027-10-31T00:30:00Z");
    assert_eq!(fires[0]["note"], "comes twice: the first time only");
    // With a star in its clock it follows real time.
    let hours = "--cron|30 * * * *|--tz|Europe/Berlin|--from|2027-10-31T00:00:00Z|-n|3";
    let walls: Vec<_> = preview(&queue, hours).iter().map(|fire| fire["wall"].clone()).collect();
    assert_eq!(walls, ["2027-10-31 02:30 CEST", "2027-10-31 02:30 CET", "2027-10-31 03:30 CET"]);

    let words = ["schedule", "preview"].into_iter().chain(march.split('|'));
    let told = queue.home.capsule(words).run().exits(0).text();
    assert!(told.contains("no 02:30 that day"), "{told}");
    let lint = ["schedule", "preview", "--cron", "*/90 * * * *"];
    let lint = queue.home.capsule(lint).run().exits(0).errors();
    assert!(lint.contains("*/90 is minute 0 alone"), "{lint}");
    assert_eq!(listed(&queue, "--all"), [""; 0]);
}

#[test]
fn the_next_fires_are_told_in_the_zone_of_the_schedule() {
    let queue = Queue::bare();
    let words =
        ["schedule", "add", "nightly", "--cron", "30 3 * * *", "--tz", "Asia/Tokyo", "--", "true"];
    queue.home.capsule(words).run().exits(0);
    let next = queue.json("schedule next nightly -n 3");
    let next = next.as_array().unwrap();
    assert_eq!(next.len(), 3);
    for fire in next {
        assert!(fire["wall"].as_str().unwrap().ends_with(" 03:30 JST"), "{fire}");
        assert!(fire["planned_at"].as_str().unwrap().ends_with("T18:30:00Z"), "{fire}");
    }
    let told = queue.say("schedule show nightly").run().exits(0).text();
    assert!(told.contains("at 03:30 every day, Asia/Tokyo"), "{told}");
}

#[test]
fn a_run_longer_than_its_period_makes_the_next_wait_or_be_skipped() {
    let queue = Queue::bare();
    let script = "while [ ! -e go ]; do sleep 0.05; done";
    for (name, overlap) in [("skips", "skip"), ("waits", "buffer-one")] {
        let words = ["schedule", "add", name, "--every", "1s", "--overlap", overlap];
        queue.home.capsule(words).args(["--", "sh", "-c", script]).run().exits(0);
    }
    let first = |name: &str| {
        wait_for(&format!("{name} has a fire and one that meets it"), || {
            let rows = history(&queue, name);
            let run = rows.iter().rev().find(|row| !row["status"].is_null())?["task"].clone();
            let met = rows.iter().find(|row| row["what"] == "skipped")?;
            (met["task"] == run).then_some(run)
        })
    };
    let (skips, _) = (first("skips"), first("waits"));
    let waiting = queue.json("schedule show waits");
    assert_eq!(waiting["waiting"].as_array().unwrap().len(), 1, "{waiting}");
    let at = waiting["waiting"][0].clone();
    let rows = history(&queue, "skips");
    assert_eq!(rows.iter().filter(|row| row["what"] == "fired").count(), 1, "{skips}: {rows:?}");

    std::fs::write(queue.dir().join("go"), "").unwrap();
    let row = wait_for("what waited has run", || {
        let row = history(&queue, "waits").into_iter().find(|row| row["planned_at"] == at)?;
        (row["status"] == "completed").then_some(row)
    });
    assert_eq!(row["what"], "buffered");
}
