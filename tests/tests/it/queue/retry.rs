//! Budgets: how often a task is tried, how long it waits in between, how long it may run, and what
//! `capsule retry` gives it anew.

use std::fs;

use capsule_tests::{processes, wait_for};
use serde_json::{Value, json};

use super::Queue;

fn numbers(task: &Value) -> Vec<u64> {
    task["attempts"].as_array().unwrap().iter().map(|it| it["number"].as_u64().unwrap()).collect()
}

/// An instant in milliseconds.
fn millis(at: &Value) -> i64 {
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    at.as_millisecond()
}

#[test]
fn two_retries_are_three_attempts_with_pauses() {
    let queue = Queue::with(
        "[tasks.fails]\ncommand = [\"sh\", \"-c\", \"echo $CAPSULE_ATTEMPT >> runs; exit 9\"]\n\
         retries = 2\nbackoff = \"fixed:400ms\"\n",
    );
    let id = queue.submit("fails");
    let task = queue.home.ended(id);
    assert_eq!((&task["status"], &task["reason"]), (&json!("failed"), &json!("exit 9")));
    assert_eq!(
        (&task["attempt"], &task["failures"], &task["retries"]),
        (&json!(3), &json!(3), &json!(2))
    );
    assert_eq!(numbers(&task), [1, 2, 3]);
    assert_eq!(fs::read_to_string(queue.dir().join("runs")).unwrap(), "1\n2\n3\n");
    for pair in task["attempts"].as_array().unwrap().windows(2) {
        let pause = millis(&pair[1]["claimed_at"]) - millis(&pair[0]["ended_at"]);
        assert!(pause >= 200, "half of the backoff at least: {pause} ms");
    }
    queue.say("wait @last").run().exits(20);
    let shown = queue.say("list").run().exits(0).text();
    assert!(shown.contains("3/3"), "{shown}");
}

#[test]
fn a_pause_survives_a_killed_daemon() {
    let mut queue = Queue::with(
        "[tasks.fails]\ncommand = [\"sh\", \"-c\", \"echo run >> runs; exit 1\"]\n\
         retries = 1\nbackoff = \"fixed:1h\"\n\
         [tasks.soon]\ncommand = [\"false\"]\nretries = 1\nbackoff = \"fixed:2s\"\n",
    );
    let id = queue.submit("fails");
    let before = queue.until(id, "retry");
    queue.crash();
    let after = queue.home.show(id);
    assert_eq!(after["status"], "retry", "{after}");
    assert_eq!(after["due_at"], before["due_at"]);
    queue.say(&format!("promote {id}")).run().exits(0);
    let task = queue.home.ended(id);
    assert_eq!((numbers(&task), &task["failures"]), (vec![1, 2], &json!(2)));
    assert_eq!(fs::read_to_string(queue.dir().join("runs")).unwrap(), "run\nrun\n");

    // However long the restart takes, the next attempt comes by itself, and not before its time.
    let soon = queue.submit("soon");
    wait_for("the first attempt has ended", || {
        queue.home.show(soon)["attempts"][0]["ended_at"].is_string().then_some(())
    });
    queue.crash();
    let task = queue.home.ended(soon);
    assert_eq!(numbers(&task), [1, 2]);
    let [first, second] = [0, 1].map(|index| &task["attempts"][index]);
    let pause = millis(&second["claimed_at"]) - millis(&first["ended_at"]);
    assert!(pause >= 1000, "half of the backoff at least: {pause} ms");
}

#[test]
fn a_timeout_ends_the_whole_tree_and_uses_up_a_retry() {
    let queue = Queue::with(
        "[tasks.slow]\ncommand = [\"sh\", \"-c\", \"sleep 1000 & echo $! >> pids; wait\"]\n\
         retries = 1\nbackoff = \"fixed:1ms\"\ntimeout = \"300ms\"\ngrace = \"100ms\"\n\
         [tasks.once]\ncommand = [\"sleep\", \"1000\"]\nretries = 3\ntimeout = \"200ms\"\n\
         no_retry_on = [\"timeout\"]\n",
    );
    let id = queue.submit("slow");
    let task = queue.home.ended(id);
    assert_eq!(task["status"], "timeout");
    assert_eq!(numbers(&task), [1, 2]);
    for attempt in task["attempts"].as_array().unwrap() {
        assert_eq!(attempt["verdict"], "timeout", "{attempt}");
        let wall = attempt["receipt"]["wall_ms"].as_f64().unwrap();
        assert!((300.0..20_000.0).contains(&wall), "{wall}");
    }
    for pid in fs::read_to_string(queue.dir().join("pids")).unwrap().lines() {
        assert!(!processes::alive(pid.parse().unwrap()), "{pid} outlived its attempt");
    }
    queue.say("wait @last").run().exits(22);

    let once = queue.home.ended(queue.submit("once"));
    assert_eq!((&once["status"], numbers(&once).len()), (&json!("timeout"), 1));
    // A submit may say otherwise; 0 is none.
    let short = queue.home.ended(queue.submit("once --timeout 50ms --retries 0"));
    assert_eq!(short["status"], "timeout");
    let none = queue.submitted("once --timeout 0 --dry-run");
    assert_eq!(none["retries"], 3);
}

#[test]
fn some_failures_are_not_tried_again() {
    let queue = Queue::with(
        "[tasks.codes]\ncommand = [\"sh\", \"-c\", \"exit $0\", \"{code}\"]\nretries = 1\n\
         backoff = \"fixed:1ms\"\nno_retry_exit_codes = [3, 4]\nparams.code = \"int\"\n\
         [tasks.exits]\ncommand = [\"false\"]\nretries = 1\nbackoff = \"fixed:1ms\"\nno_retry_on = [\"exit\"]\n\
         [tasks.dies]\ncommand = [\"sh\", \"-c\", \"kill -SEGV $$\"]\nretries = 1\n\
         backoff = \"fixed:1ms\"\nno_retry_on = [\"signal\"]\n\
         [tasks.lost]\ncommand = [\"./no-such-program\"]\nretries = 5\n",
    );
    let attempts = |line: &str| {
        let task = queue.home.ended(queue.submit(line));
        assert_eq!(task["status"], "failed", "{task}");
        numbers(&task).len()
    };
    assert_eq!(attempts("codes --code 2"), 2);
    assert_eq!(attempts("codes --code 3"), 1);
    assert_eq!(attempts("codes --code 4"), 1);
    assert_eq!(attempts("codes --code 5 --no-retry-exit-code 5"), 1);
    assert_eq!(attempts("exits"), 1);
    assert_eq!(attempts("dies"), 1);
    assert_eq!(attempts("codes --code 6 --no-retry-on exit"), 1);
    // What can never start is a verdict with its step.
    let lost = queue.home.ended(queue.submit("lost"));
    assert_eq!(numbers(&lost).len(), 1);
    let reason = lost["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("cannot start") && lost.to_string().contains("no-such-program"),
        "{lost}"
    );
}

#[test]
fn retry_gives_a_fresh_budget_under_the_same_id() {
    let queue =
        Queue::with("[tasks.t]\ncommand = [\"false\"]\nretries = 2\nbackoff = \"fixed:1ms\"\n");
    let id = queue.submit("t");
    assert_eq!(numbers(&queue.home.ended(id)), [1, 2, 3]);
    // The next budget, on the newest revision; the numbers go on.
    queue
        .deploy(
            "[tasks.t]\ncommand = [\"sh\", \"-c\", \"[ $CAPSULE_ATTEMPT -ge 5 ]\"]\nretries = 2\n\
         backoff = \"fixed:1ms\"\n",
        )
        .exits(0);
    queue.say("retry @failed").run().exits(0);
    let task = queue.home.ended(id);
    assert_eq!((&task["status"], numbers(&task)), (&json!("completed"), vec![1, 2, 3, 4, 5]));
    assert_eq!(task["revision"], 2);
    let shown = queue.say("list").run().exits(0).text();
    assert!(shown.contains("5 (retry 1/2)"), "{shown}");

    // One that completed is only copied.
    let refused = queue.say(&format!("retry {id}")).run().exits(5).errors();
    assert!(refused.contains(&format!("capsule retry {id} --as-new")), "{refused}");
    let copy = queue.json(&format!("retry {id} --as-new"));
    let copied = copy[0]["id"].as_u64().unwrap();
    assert!(copied > id);
    // As the attempts of a copy begin anew, it fails.
    assert_eq!(numbers(&queue.home.ended(copied)), [1, 2, 3]);
    // One that runs or waits is not retried.
    let waiting = queue.submit("t --hold");
    queue.say(&format!("retry {waiting}")).run().exits(5);
    queue.say(&format!("cancel {waiting}")).run().exits(0);
    queue.say(&format!("retry {waiting} --retries 0")).run().exits(0);
    let again = queue.until(waiting, "pending");
    assert_eq!((&again["retries"], &again["hold"]), (&json!(0), &json!(true)));
}

#[test]
fn a_submit_overrides_its_definition() {
    let queue =
        Queue::with("[tasks.t]\ncommand = [\"false\"]\nretries = 2\nbackoff = \"fixed:1h\"\n");
    let id = queue.submit("t --retries 1 --backoff fixed:1ms");
    let task = queue.home.ended(id);
    assert_eq!((numbers(&task), &task["retries"]), (vec![1, 2], &json!(1)));
    let patient = queue.submit("t");
    let waits = queue.until(patient, "retry");
    let pause = millis(&waits["due_at"]) - millis(&waits["attempts"][0]["ended_at"]);
    assert!((1_790_000..3_610_000).contains(&pause), "half to all of an hour: {pause}");
    // A pause need not be waited for.
    queue.say(&format!("promote {patient}")).run().exits(0);
    wait_for("the second attempt is over", || {
        (queue.home.show(patient)["failures"] == 2).then_some(())
    });
    queue.say(&format!("cancel {patient}")).run().exits(0);
    assert_eq!(queue.home.show(patient)["status"], "cancelled");
}
