//! `schedule add` and all that is done to a schedule by hand.

use std::collections::BTreeSet;
use std::fs;

use capsule_tests::wait_for;
use serde_json::json;

use super::{fires, history, listed, shown, until_completed};
use crate::queue::Queue;

#[test]
fn a_program_fires_by_the_clock_over_a_crash_and_its_audit_finds_no_gap() {
    let mut queue = Queue::bare();
    let script = "echo x >>beats";
    let words = ["schedule", "add", "beat", "--every", "1s", "--", "sh", "-c", script];
    let added = queue.home.capsule(words).run().exits(0).text();
    assert!(added.starts_with("added beat, next "), "{added}");
    until_completed(&queue, "beat", 2);
    queue.crash();
    let before = fires(&queue, "beat").len();
    until_completed(&queue, "beat", before + 2);

    queue.say("schedule pause beat --note maintenance").run().exits(0);
    let rows = wait_for("all runs have ended", || {
        let rows = history(&queue, "beat");
        let open = rows.iter().filter(|row| !row["status"].is_null());
        open.into_iter().all(|row| row["status"] == "completed").then_some(rows)
    });
    let made: Vec<_> = rows.iter().filter(|row| !row["status"].is_null()).collect();
    let planned: BTreeSet<_> = rows.iter().map(|row| row["planned_at"].as_str()).collect();
    assert_eq!(planned.len(), rows.len(), "a planned fire has two records: {rows:#?}");
    let tasks: BTreeSet<_> = made.iter().map(|row| row["task"].as_u64()).collect();
    assert_eq!(tasks.len(), made.len(), "two fires made one task: {rows:#?}");
    let beats = fs::read_to_string(queue.dir().join("beats")).unwrap();
    assert_eq!(beats.lines().count(), made.len(), "each run ran once: {rows:#?}");
    assert_eq!(queue.json("list --all --schedule beat").as_array().unwrap().len(), made.len());

    let audit = queue.json("schedule audit beat");
    assert_eq!((&audit["gaps"], &audit["gaps_at"]), (&json!(0), &json!([])), "{audit}");
    assert!(audit["planned"].as_u64().unwrap() >= made.len() as u64, "{audit}");
    let told = queue.say("schedule audit beat").run().exits(0).text();
    assert!(told.ends_with("no gap\n"), "{told}");
}

#[test]
fn a_pause_a_skip_a_trigger_and_the_end_are_in_the_history() {
    let mut queue = Queue::bare();
    queue.say("schedule add beat --every 1s -- true").run().exits(0);
    until_completed(&queue, "beat", 1);
    queue.say("schedule pause beat --note repairs").run().exits(0);
    queue.crash();
    let paused = shown(&queue, "beat");
    assert_eq!(
        (&paused["paused"]["by"], &paused["paused"]["note"]),
        (&paused["owner"], &json!("repairs"))
    );
    let list = queue.say("schedule list").run().exits(0).text();
    assert!(list.contains("paused"), "{list}");
    let told = queue.say("schedule show beat").run().exits(0).text();
    assert!(told.contains("repairs") && told.contains("not until it is resumed"), "{told}");

    // By hand it runs all the same.
    let count = fires(&queue, "beat").len();
    let id: u64 = queue.say("schedule trigger beat").run().exits(0).text().trim().parse().unwrap();
    assert_eq!(queue.home.ended(id)["schedule"], "beat");
    let newest = &fires(&queue, "beat")[0];
    assert_eq!((&newest["what"], &newest["task"]), (&json!("manual"), &json!(id)));
    assert_eq!(fires(&queue, "beat").len(), count + 1, "nothing fires while it is paused");
    queue.say("schedule skip-next beat").run().exits(5);

    let resumed = queue.say("schedule resume beat").run().exits(0).text();
    assert!(resumed.starts_with("resumed beat, next "), "{resumed}");
    let skip = queue.json("schedule skip-next beat")["skip_at"].clone();
    let row = wait_for("the fire is passed over", || {
        history(&queue, "beat").into_iter().find(|row| row["what"] == "passed_over")
    });
    assert_eq!((&row["planned_at"], &row["why"]), (&skip, &paused["owner"]));
    until_completed(&queue, "beat", count + 2);
    assert_eq!(queue.json("schedule audit beat")["gaps"], json!(0));

    queue.say("schedule remove beat").run().exits(0);
    assert_eq!(listed(&queue, ""), [""; 0]);
    assert_eq!(listed(&queue, "--all"), ["beat"]);
    assert!(!history(&queue, "beat").is_empty(), "its history stays");
    queue.say("schedule resume beat").run().exits(5);
}

const GREET: &str = "[tasks.greet]\ncommand = [\"echo\", \"hi\", \"{who}\"]\n\
                     [tasks.greet.params]\nwho = \"str\"\ncount = { type = \"int\", default = 1 }\n";

#[test]
fn a_task_of_an_app_is_submitted_with_its_arguments_until_its_limit() {
    let queue = Queue::with(GREET);
    let add = "schedule add greet_ann --every 1s --limit 1 greet -p who=ann";
    let added = queue.json(add);
    assert_eq!((&added["app"], &added["name"]), (&json!("demo"), &json!("greet")));
    let rows = until_completed(&queue, "demo/greet_ann", 1);
    assert_eq!(queue.home.output(rows[0]["task"].as_u64().unwrap()), b"hi ann\n");
    let done = shown(&queue, "greet_ann");
    assert_eq!(
        (&done["done"], &done["fires"], &done["next_at"]),
        (&json!(true), &json!(1), &json!(null))
    );
    let list = queue.say("schedule list").run().exits(0).text();
    assert!(list.contains("done"), "{list}");

    // The same name again changes it: what was stays.
    let changed = queue.say("schedule add greet_ann --every 1h greet -p who=bob").run().exits(0);
    assert!(changed.text().starts_with("changed greet_ann, next "), "{}", changed.text());
    let changed = shown(&queue, "greet_ann");
    assert_eq!((&changed["id"], &changed["generation"]), (&added["id"], &json!(2)));
    assert_eq!(history(&queue, "greet_ann").len(), rows.len());
    for (filter, count) in [("greet_ann", 1), ("demo/greet_ann", 1), ("greet", 0)] {
        let found = queue.json(&format!("list --all --schedule {filter}"));
        assert_eq!(found.as_array().unwrap().len(), count, "{filter}");
    }
    let id = added["id"].as_u64().unwrap();
    assert_eq!(queue.json(&format!("list --all --schedule {id}")).as_array().unwrap().len(), 1);
}

/// What cannot be a schedule: how it is asked for, and what the refusal says.
const BAD: [(&str, &[&str]); 17] = [
    ("--cron|61 * * * *|true", &["61 * * * *\n", "\n  ^^", "minute", "capsule help cron"]),
    ("--cron|0 0 30 2 *|true", &["never comes"]),
    ("--cron|0 0 * *|true", &["has 4 fields"]),
    ("--cron|@every 10ms|true", &["1s"]),
    ("--cron|0 * * * *|--tz|Mars/Crater|true", &["\"Mars/Crater\" is no time zone"]),
    ("--every|10ms|true", &["1s"]),
    ("--every|1s|--tz|UTC|true", &["--tz"]),
    ("--every|1s|--cron|0 * * * *|true", &["--cron"]),
    ("--every|1s|--start|2030-01-02|--end|2030-01-01|true", &["its end is before its start"]),
    ("--every|1s|--end|2020-01-01|true", &["all its times are over"]),
    ("--every|1s|--limit|0|true", &["limit of 0"]),
    ("--every|1s|--overlap|maybe|true", &["\"maybe\"", "buffer_one"]),
    ("--every|1s|--catch-up|all(0)|true", &["\"all(0)\"", "latest"]),
    ("true", &["--cron, --every or --once", "capsule help cron"]),
    ("--every|1s|greet", &["--who"]),
    ("--every|1s|greet|-p|who=ann|-p|count=many", &["--count"]),
    ("--every|1s|nope", &["nope"]),
];

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let queue = Queue::with(GREET);
    for (words, told) in BAD {
        let mut words: Vec<&str> = words.split('|').collect();
        let at = words.iter().position(|word| *word == "true");
        if let Some(at) = at {
            words.insert(at, "--");
        }
        let all = ["schedule", "add", "bad"].into_iter().chain(words.clone());
        let refused = queue.home.capsule(all).run();
        let said = refused.errors();
        for part in told {
            assert!(said.contains(part), "{words:?} lacks {part:?}: {said}");
        }
        assert_eq!(refused.code(), 2, "{words:?}: {said}");
    }
    assert_eq!(listed(&queue, "--all"), [""; 0]);
    queue.say("schedule add 17 --every 1s -- true").run().exits(2);
    queue.say("schedule trigger bad").run().exits(4);
}
