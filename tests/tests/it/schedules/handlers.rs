//! Schedules of an app's code. Their handlers are described, not run: what a run does is the apps'.

use std::fs;

use capsule_tests::Output;
use serde_json::json;

use crate::queue::Queue;

/// Deploys the app `leads` with these schedules, each a name and when it fires.
fn deploy(queue: &Queue, schedules: &[(&str, &str)]) -> Output {
    let schedules: Vec<_> =
        schedules.iter().map(|(name, cron)| json!({"name": name, "cron": cron})).collect();
    let text = json!({"format": 1, "kind": "python", "app": "leads", "schedules": schedules});
    fs::write(queue.dir().join("leads.toml"), text.to_string()).unwrap();
    queue.say("deploy leads.toml").run()
}

#[test]
fn schedules_are_listed_run_by_hand_and_survive_a_crash() {
    let mut queue = Queue::bare();
    deploy(&queue, &[("nightly", "30 3 * * mon-fri"), ("leap", "0 0 29 2 *")]).exits(0);
    let before = queue.json("schedule list");
    let names: Vec<_> = before.as_array().unwrap().iter().map(|it| &it["label"]).collect();
    assert_eq!(names, ["leap", "nightly"]);
    assert_eq!(before[1]["last"], json!(null));
    let next = queue.json("schedule next nightly -n 2");
    assert_eq!(next[0]["planned_at"], before[1]["next_at"]);
    assert!(next[1]["planned_at"].as_str().unwrap().ends_with("T03:30:00Z"), "{next}");

    let id: u64 =
        queue.say("schedule trigger leads/nightly").run().exits(0).text().trim().parse().unwrap();
    let task = queue.home.ended(id);
    assert_eq!((&task["name"], &task["schedule"]), (&json!("nightly"), &json!("nightly")));
    queue.crash();
    let history = queue.json("schedule history nightly");
    assert_eq!((&history[0]["what"], &history[0]["task"]), (&json!("manual"), &json!(id)));
    let after = queue.json("schedule list");
    assert_eq!((&after[1]["id"], &after[1]["next_at"]), (&before[1]["id"], &before[1]["next_at"]));
    for (filter, count) in [("nightly", 1), ("leads/nightly", 1), ("other/nightly", 0), ("leap", 0)]
    {
        let found = queue.json(&format!("list --all --schedule {filter}"));
        assert_eq!(found.as_array().unwrap().len(), count, "{filter}");
    }
    queue.say("app rm leads --yes").run().exits(0);
    assert_eq!(queue.json("schedule list"), json!([]));
    assert_eq!(queue.json("schedule list --all").as_array().unwrap().len(), 2);
    queue.say("schedule trigger nightly").run().exits(5);
}

#[test]
fn what_cannot_be_scheduled_is_refused_with_its_field() {
    let queue = Queue::bare();
    for (cron, told) in [
        ("61 * * * *", "minute: 61 is out of range, it goes from 0 to 59"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 * *", "has 4 fields"),
    ] {
        let refused = deploy(&queue, &[("nightly", cron)]).exits(2);
        let said = refused.errors();
        assert!(said.contains("nightly") && said.contains(told), "{said}");
    }
    assert_eq!(queue.json("app list"), json!([]));
    deploy(&queue, &[("nightly", "@daily")]).exits(0);
    let refused = queue.say("submit nightly").run().exits(5);
    assert!(refused.errors().contains("capsule schedule trigger nightly"), "{}", refused.errors());
    queue.say("schedule end nightly").run().exits(5);
    queue.say("schedule history nope").run().exits(4);
}
