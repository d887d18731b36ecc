//! `schedule backfill`, with real runs.

use std::collections::BTreeSet;
use std::fs;

use capsule_tests::wait_for;
use serde_json::{Value, json};

use super::{fires, history, shown, until_completed};
use crate::queue::Queue;

/// Fails when another one runs meanwhile.
const ALONE: &str = "mkdir one && sleep 0.2 && rmdir one && echo x >>runs";

fn runs(queue: &Queue) -> usize {
    fs::read_to_string(queue.dir().join("runs")).map_or(0, |runs| runs.lines().count())
}

#[test]
fn hours_before_a_schedule_was_there_run_one_after_another_over_a_crash() {
    let mut queue = Queue::bare();
    let add = ["schedule", "add", "hourly", "--cron", "0 * * * *", "--", "sh", "-c", ALONE];
    queue.home.capsule(add).run().exits(0);
    let words = "schedule backfill hourly --from 30h --to 25h";
    let dry = queue.json(&format!("{words} --dry-run"));
    let planned: Vec<Value> =
        dry["fires"].as_array().unwrap().iter().map(|it| it["planned_at"].clone()).collect();
    assert!(planned.len() >= 5, "{dry}");
    assert_eq!(history(&queue, "hourly"), [json!(null); 0]);

    let said = queue.say(words).run().exits(0).text();
    assert!(said.starts_with("backfills ") && said.contains("one after another"), "{said}");
    wait_for("the first has run", || (runs(&queue) > 0).then_some(()));
    queue.crash();
    let rows = until_completed(&queue, "hourly", planned.len());
    assert!(rows.iter().all(|row| row["what"] == "backfilled"), "{rows:#?}");
    let of: Vec<&Value> = rows.iter().rev().map(|row| &row["planned_at"]).collect();
    assert_eq!(of, planned.iter().collect::<Vec<_>>());
    assert_eq!(runs(&queue), planned.len(), "each ran once, and alone: {rows:#?}");
    let began: Vec<u64> = rows.iter().map(|row| row["task"].as_u64().unwrap()).collect();
    assert!(began.is_sorted_by(|later, earlier| later > earlier), "{began:?}");
    let counts = shown(&queue, "hourly");
    assert_eq!((&counts["fires"], &counts["backfill"]), (&json!(0), &json!(0)));

    let from = planned[0].as_str().unwrap();
    let to = planned[planned.len() - 1].as_str().unwrap();
    let again = queue.say(&format!("schedule backfill hourly --from {from} --to {to}")).run();
    let nothing = format!("nothing is left to backfill of hourly; fired before: {}", planned.len());
    assert_eq!(again.exits(0).text().trim(), nothing);
    assert_eq!(history(&queue, "hourly").len(), planned.len());
}

#[test]
fn what_a_pause_swallowed_is_run_and_the_audit_finds_no_gap() {
    let queue = Queue::bare();
    queue.say("schedule add beat --every 1s --overlap allow -- true").run().exits(0);
    until_completed(&queue, "beat", 1);
    queue.say("schedule pause beat").run().exits(0);
    let before = fires(&queue, "beat").len();
    wait_for("three fires have been swallowed", || {
        let audit = queue.json("schedule audit beat");
        (audit["outcomes"]["paused"].as_u64() >= Some(3)).then_some(())
    });
    let done = queue.json("schedule backfill beat --from 1h --to now");
    let count = done["fires"].as_array().unwrap().len();
    assert!(count >= 3, "{done}");
    assert_eq!(done["started"], json!(count), "runs may meet: {done}");
    let rows = until_completed(&queue, "beat", before + count);
    let planned: BTreeSet<_> = rows.iter().map(|row| row["planned_at"].as_str()).collect();
    assert_eq!(planned.len(), rows.len(), "{rows:#?}");
    queue.say("schedule resume beat").run().exits(0);
    until_completed(&queue, "beat", before + count + 1);
    let audit = queue.json("schedule audit beat");
    assert_eq!((&audit["gaps"], &audit["outcomes"]["backfilled"]), (&json!(0), &json!(count)));
}

#[test]
fn what_cannot_be_backfilled_is_refused_with_what_to_do() {
    let queue = Queue::bare();
    let add = ["schedule", "add", "minutely", "--cron", "* * * * *", "--", "true"];
    queue.home.capsule(add).run().exits(0);
    let refused = queue.say("schedule backfill minutely --from 4h --to 1h").run();
    let said = refused.errors();
    for part in ["fires are left to backfill", "room for 100", "--to "] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(refused.code(), 5, "{said}");
    let hint = said.lines().find_map(|line| line.split_once("capsule schedule backfill "));
    let (_, shorter) = hint.unwrap();
    queue.say(&format!("schedule backfill {shorter} --dry-run")).run().exits(0);
    assert!(fires(&queue, "minutely").len() < 3, "nothing was backfilled");
    queue.say("schedule backfill minutely --from 1h --to 2030-01-01").run().exits(2);
    queue.say("schedule backfill minutely --from 1h --to 2h").run().exits(2);
    queue.say("schedule backfill nobody --from 2h --to 1h").run().exits(4);
}
