//! `[schedules.NAME]` of a manifest.

use serde_json::json;

use super::{fires, history, listed, shown, until_completed};
use crate::queue::Queue;

const BEAT: &str =
    "[tasks.beat]\ncommand = [\"echo\", \"{text}\"]\n[tasks.beat.params]\ntext = \"str\"\n";

fn with(schedule: &str) -> String {
    format!("{BEAT}[schedules.pulse]\ntask = \"beat\"\nargs = {{ text = \"ok\" }}\n{schedule}\n")
}

#[test]
fn it_fires_and_a_deploy_keeps_its_history_and_its_pause() {
    let mut queue = Queue::bare();
    let first = queue.deploy(&with("every = \"1s\"")).exits(0).text();
    assert!(first.contains("+ schedule pulse"), "{first}");
    let rows = until_completed(&queue, "pulse", 2);
    let done = rows.iter().find(|row| row["status"] == "completed").unwrap();
    assert_eq!(queue.home.output(done["task"].as_u64().unwrap()), b"ok\n");
    queue.say("schedule pause pulse --note holidays").run().exits(0);
    let before = shown(&queue, "pulse");
    let kept = history(&queue, "pulse").len();

    let second = queue.deploy(&with("cron = \"* * * * * *\"\ntz = \"Europe/Berlin\"")).exits(0);
    assert!(second.text().contains("~ schedule pulse"), "{}", second.text());
    let after = shown(&queue, "pulse");
    assert_eq!(after["id"], before["id"]);
    assert_eq!((&after["generation"], &after["paused"]["note"]), (&json!(2), &json!("holidays")));
    assert_eq!(after["rule"], "* * * * * *");
    assert_eq!(history(&queue, "pulse").len(), kept, "its history stays");
    queue.crash();
    queue.say("schedule resume pulse").run().exits(0);
    let count = fires(&queue, "pulse").len();
    let rows = until_completed(&queue, "pulse", count + 2);
    let new = rows.iter().filter(|row| row["generation"] == 2 && row["what"] == "fired");
    assert!(new.count() >= 2, "{rows:?}");
    assert_eq!(queue.json("schedule audit pulse")["gaps"], json!(0));

    let refused = queue.say("schedule remove pulse").run().exits(5).errors();
    assert!(refused.contains("capsule schedule pause demo/pulse"), "{refused}");
    let third = queue.deploy(BEAT).exits(0).text();
    assert!(third.contains("- schedule pulse"), "{third}");
    assert_eq!((listed(&queue, ""), listed(&queue, "--all")), (vec![], vec!["pulse".to_owned()]));
    assert!(fires(&queue, "pulse").len() >= count + 2);
}

#[test]
fn what_makes_no_sense_registers_nothing() {
    let queue = Queue::bare();
    for (schedule, told) in [
        ("cron = \"61 * * * *\"", "minute: 61 is out of range"),
        ("cron = \"0 0 30 2 *\"", "never comes"),
        ("cron = \"0 0 * * *\"\ntz = \"Mars/Crater\"", "is no time zone"),
        (
            "every = \"1h\"\nstart = 2030-01-02T00:00:00Z\nend = 2030-01-01T00:00:00Z",
            "before start",
        ),
        ("every = \"1h\"\ncorn = 1", "unknown field `corn`"),
    ] {
        let refused = queue.deploy(&with(schedule)).exits(2).errors();
        assert!(refused.contains("[schedules.pulse]") && refused.contains(told), "{refused}");
    }
    let unknown = format!("{BEAT}[schedules.pulse]\ntask = \"bleat\"\nevery = \"1h\"\n");
    let refused = queue.deploy(&unknown).exits(2).errors();
    assert!(refused.contains("there is no task bleat"), "{refused}");
    let unfit = format!("{BEAT}[schedules.pulse]\ntask = \"beat\"\nevery = \"1h\"\n");
    let refused = queue.deploy(&unfit).exits(2).errors();
    assert!(refused.contains("args: beat needs --text"), "{refused}");
    assert_eq!(queue.json("app list"), json!([]));
    // What is allowed and seldom meant is told.
    let lint = queue.deploy(&with("cron = \"*/90 * * * *\"")).exits(0).errors();
    assert!(lint.contains("schedule pulse: */90 is minute 0 alone"), "{lint}");
}
