//! Schedules from outside: of an app's code, of a manifest, by hand and from a crontab, with real
//! fires.

mod backfill;
mod clock;
mod crontab;
mod hand;
mod handlers;
mod manifest;
mod plans;

use capsule_tests::wait_for;
use serde_json::Value;

use crate::queue::Queue;

/// The history of a schedule, newest first.
fn history(queue: &Queue, name: &str) -> Vec<Value> {
    queue.json(&format!("schedule history {name} -n 1000")).as_array().unwrap().clone()
}

/// Those rows that made a task.
fn fires(queue: &Queue, name: &str) -> Vec<Value> {
    history(queue, name).into_iter().filter(|row| !row["status"].is_null()).collect()
}

/// Waits until so many fires have a task that is completed, and gives the history.
#[track_caller]
fn until_completed(queue: &Queue, name: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{name} has {count} completed runs"), || {
        let rows = history(queue, name);
        let done = rows.iter().filter(|row| row["status"] == "completed").count();
        (done >= count).then_some(rows)
    })
}

/// One schedule as `schedule show` has it.
fn shown(queue: &Queue, name: &str) -> Value {
    queue.json(&format!("schedule show {name}"))
}

/// What the list of schedules shows, ended ones too.
fn listed(queue: &Queue, words: &str) -> Vec<String> {
    let listed = queue.json(&format!("schedule list {words}"));
    listed.as_array().unwrap().iter().map(|it| it["label"].as_str().unwrap().to_owned()).collect()
}
