//! What a task waits for: time, other tasks, a hand that holds it, queues, slots, and the gates
//! that `capsule why` names.

use std::fs;
use std::time::Duration;

use capsule_tests::wait_for;
use serde_json::{Value, json};

use super::{Queue, gates};

/// What `capsule why` says first.
fn why(queue: &Queue, id: u64) -> (String, Value) {
    let said = queue.json(&format!("why {id}"));
    let text = queue.say(&format!("why {id}")).run().exits(0).text();
    let kinds = gates(&said).into_iter().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert!(!kinds.is_empty() || !text.contains("waits"), "{text}");
    (kinds, said)
}

#[test]
fn why_names_the_true_gate() {
    let queue = Queue::with_slots(
        "1",
        "[tasks.holds]\ncommand = [\"sleep\", \"1000\"]\nlock = \"l\"\nlock_policy = \"wait\"\ntimeout = \"5m\"\n\
         [tasks.fails]\ncommand = [\"false\"]\nretries = 1\nbackoff = \"fixed:1h\"\n\
         [tasks.changes]\ncommand = [\"true\"]\nparams.n = \"int\"\n",
    );
    // Retry backoff: before the slot is taken for good.
    let fails = queue.submit("fails");
    queue.until(fails, "retry");
    let holder = queue.submit("holds");
    queue.home.running(holder);
    queue.say("queue pause stopped --note Christmas").run().exits(0);

    let (kinds, said) = why(&queue, fails);
    assert_eq!(kinds, "retry slot");
    assert!(said["gates"][0]["until_at"].is_string() && said["earliest_at"].is_string(), "{said}");

    let locked = queue.submit("holds");
    let (kinds, said) = why(&queue, locked);
    assert_eq!(kinds, "lock slot");
    let text = said["gates"][0]["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("lock l held by {holder} (running ")), "{text}");
    assert_eq!(said["gates"][0]["tasks"], json!([holder]));
    let listed = queue.say("list").run().exits(0).text();
    assert!(listed.contains("lock l held by"), "a list tells it too: {listed}");

    let slot = queue.submit("changes --n 1");
    assert_eq!(why(&queue, slot).0, "slot");
    assert_eq!(queue.home.show(slot)["waiting"], "all 1 slots are taken, 0 ahead of it");

    let paused = queue.submit("changes --n 1 --queue stopped");
    let (kinds, said) = why(&queue, paused);
    assert_eq!(kinds, "paused slot");
    assert_eq!(said["gates"][0]["text"], "queue stopped is paused: Christmas");

    let later = queue.submit("changes --n 1 --in 1h");
    let (kinds, said) = why(&queue, later);
    assert_eq!(kinds, "not_before slot");
    assert_eq!(said["earliest_at"], queue.home.show(later)["due_at"]);

    let after = queue.submit(&format!("changes --n 1 --after {slot}"));
    let (kinds, said) = why(&queue, after);
    assert_eq!(kinds, "dependency slot");
    assert_eq!(said["gates"][0]["text"], format!("after {slot} (pending)"));

    let held = queue.submit("changes --n 1 --hold");
    assert_eq!(why(&queue, held).0, "hold slot");

    // The definition changes under a waiting task; the old ones wait, and fit again later.
    let changed = "[tasks.holds]\ncommand = [\"true\"]\n[tasks.changes]\ncommand = [\"true\"]\n\
                   params.m = \"int\"\n";
    queue.deploy(changed).exits(0);
    queue.say(&format!("cancel {holder} {locked} --now")).run().exits(0);
    let (kinds, said) = why(&queue, slot);
    assert_eq!(kinds, "definition_changed");
    let text = said["gates"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("definition changed (r1→r2)") && text.contains('n'), "{text}");
    queue.say("app rollback demo").run().exits(0);
    assert_eq!(queue.home.ended(slot)["status"], "completed");
    assert_eq!(queue.home.ended(after)["status"], "completed");
    assert_eq!(why(&queue, slot).0, "");
    queue.say("why 999").run().exits(4);
}

#[test]
fn a_task_starts_after_others_have_ended_as_it_wants() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.02; done; exit $0\", \"{code}\"]\n\
         params.code = { type = \"int\", default = 0 }\n[tasks.next]\ncommand = [\"true\"]\n",
    );
    let (good, bad) = (queue.submit("t"), queue.submit("t --code 1"));
    let (good, bad) = (good.to_string(), bad.to_string());
    let cases = [
        (format!("--after {good}"), "completed"),
        (format!("--after {good}:ok"), "completed"),
        (format!("--after {good}:any"), "completed"),
        (format!("--after {good}:failed"), "cancelled"),
        (format!("--after {bad}"), "cancelled"),
        (format!("--after {bad}:any"), "completed"),
        (format!("--after {bad}:failed"), "completed"),
        (format!("--after {good} --after {bad}:failed"), "completed"),
        (format!("--after {good} --after {bad}"), "cancelled"),
    ];
    let waiting: Vec<u64> =
        cases.iter().map(|(words, _)| queue.submit(&format!("next {words}"))).collect();
    for id in &waiting {
        assert_eq!(queue.home.show(*id)["status"], "pending");
    }
    let chained = queue.submit(&format!("next --after {}", waiting[4]));
    fs::write(queue.dir().join("go"), "").unwrap();
    for ((words, status), id) in cases.iter().zip(&waiting) {
        assert_eq!(queue.home.ended(*id)["status"], *status, "{words}");
        // Asked when all has ended, it comes to the same.
        let now = queue.submit(&format!("next {words}"));
        assert_eq!(queue.home.ended(now)["status"], *status, "{words} of what has ended");
    }
    let reason = queue.home.show(waiting[4])["reason"].clone();
    assert_eq!(reason, format!("dependency {bad} failed"));
    assert_eq!(queue.home.ended(chained)["reason"], format!("dependency {} cancelled", waiting[4]));
    queue.say("submit next --after 999").run().exits(4);
    queue.say(&format!("submit next --after {good}:soon")).run().exits(2);
}

#[test]
fn time_and_hands_hold_a_task_back() {
    let queue = Queue::with("[tasks.t]\ncommand = [\"true\"]\n");
    let soon = queue.submitted("t --in 400ms");
    assert_eq!(soon["status"], "scheduled");
    let task = queue.home.ended(soon["id"].as_u64().unwrap());
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at(&task["started_at"]) >= at(&task["created_at"]) + Duration::from_millis(400));
    let past = queue.submit("t --at 2020-01-01T00:00:00Z");
    assert_eq!(queue.home.ended(past)["status"], "completed", "a time in the past is now");
    let far = queue.submit("t --at 2099-01-01T00:00:00Z");
    assert_eq!(queue.home.show(far)["due_at"], "2099-01-01T00:00:00Z");
    for bad in ["--in soon", "--at 25:99", "--in -5m", "--in 1h --at 2099-01-01"] {
        queue.say(&format!("submit t {bad}")).run().exits(2);
    }

    let held = queue.submit("t --hold");
    let edited =
        queue.json(&format!("edit {held} --priority 50 --queue slow -l a=b --display-name X"));
    assert_eq!(edited[0]["task"]["priority"], 50);
    let task = queue.home.show(held);
    assert_eq!(
        (&task["queue"], &task["labels"], &task["display_name"]),
        (&json!("slow"), &json!({"a": "b"}), &json!("X"))
    );
    assert_eq!((&task["hold"], &task["status"]), (&json!(true), &json!("pending")));
    queue.say(&format!("edit {held}")).run().exits(2);
    queue.say(&format!("edit {held} --no-hold")).run().exits(0);
    assert_eq!(queue.home.ended(held)["status"], "completed");
    queue.say(&format!("edit {held} --priority 1")).run().exits(5);

    queue.say(&format!("promote {far}")).run().exits(0);
    assert_eq!(queue.home.ended(far)["status"], "completed");
    let moved = queue.submit("t --in 1h");
    queue.say(&format!("edit {moved} --at 2020-01-01T00:00:00Z")).run().exits(0);
    assert_eq!(queue.home.ended(moved)["status"], "completed");

    // What does not start in time does not start.
    queue.say("queue pause default").run().exits(0);
    let late = queue.submit("t --start-within 200ms");
    let expired = queue.until(late, "cancelled");
    assert_eq!(expired["reason"], "did not start in time");
    assert_eq!(expired["attempt"], 0);
}

#[test]
fn queues_are_paused_limited_and_ordered_by_priority() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"echo $0 >> order\", \"{n}\"]\nparams.n = \"int\"\n\
         [tasks.s]\ncommand = [\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.02; done\"]\nqueue = \"two\"\n",
    );
    queue.say("queue limit one 1").run().exits(0);
    queue.say("queue pause one --note later").run().exits(0);
    let listed = queue.json("queue list");
    let one = listed.as_array().unwrap().iter().find(|it| it["name"] == "one").unwrap();
    assert_eq!(
        (&one["paused"], &one["note"], &one["limit"]),
        (&json!(true), &json!("later"), &json!(1))
    );
    let ids: Vec<u64> = [(1, 0), (2, -5), (3, 100), (4, 0), (5, 7)]
        .iter()
        .map(|(n, priority)| queue.submit(&format!("t --n {n} --queue one --priority={priority}")))
        .collect();
    assert!(ids.iter().all(|id| queue.home.show(*id)["status"] == "pending"));
    queue.say("queue resume one").run().exits(0);
    wait_for("all quick ones have completed", || {
        let done = queue.say("list --all --status completed --count").run().exits(0).text();
        (done.trim() == ids.len().to_string()).then_some(())
    });
    let order = fs::read_to_string(queue.dir().join("order")).unwrap();
    assert_eq!(order, "3\n5\n1\n4\n2\n", "highest first, then first come");

    // A limit holds a third one back; without it that starts.
    queue.say("queue limit two 2").run().exits(0);
    let ids: Vec<u64> = (0..3).map(|_| queue.submit("s")).collect();
    queue.home.running(ids[0]);
    queue.home.running(ids[1]);
    assert_eq!(why(&queue, ids[2]).1["gates"][0]["text"], "queue two runs 2 of 2");
    queue.say("queue limit two none").run().exits(0);
    queue.home.running(ids[2]);
    for bad in ["queue limit two 0", "queue limit two many", "queue limit two", "queue pause"] {
        queue.say(bad).run().exits(2);
    }

    // A drain lets the running ones end and starts nothing.
    let drain = queue.say("drain").start();
    wait_for("it drains", || (queue.home.status()["draining"] == true).then_some(()));
    let later = queue.submit("t --n 6");
    assert_eq!(why(&queue, later).0, "draining");
    fs::write(queue.dir().join("go"), "").unwrap();
    drain.end().exits(0);
    assert_eq!(queue.home.status()["slots_used"], 0);
    assert_eq!(queue.home.show(later)["status"], "pending");
    queue.say("drain --off").run().exits(0);
    assert_eq!(queue.home.ended(later)["status"], "completed");
}

#[test]
fn a_definition_limits_itself() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.02; done\"]\nconcurrency = 2\n",
    );
    let ids: Vec<u64> = (0..3).map(|_| queue.submit("t")).collect();
    queue.home.running(ids[0]);
    queue.home.running(ids[1]);
    let (kinds, said) = why(&queue, ids[2]);
    assert_eq!((kinds.as_str(), &said["gates"][0]["text"]), ("limit", &json!("t runs 2 of 2")));
    fs::write(queue.dir().join("go"), "").unwrap();
    assert_eq!(queue.home.ended(ids[2])["status"], "completed");
}

/// Each quick task notes itself, and how many of its kind and of the slow ones run now.
const FLOOD: &str = "[tasks.quick]\ncommand = [\"sh\", \"-c\", \"\"\"
: > now-$CAPSULE_TASK_ID; echo $CAPSULE_TASK_ID >> ran; set -- now-*; echo $# >> counts
rm now-$CAPSULE_TASK_ID\"\"\"]
[tasks.slow]\ncommand = [\"sh\", \"-c\", \": > now-slow-$CAPSULE_TASK_ID; sleep 1000\"]\n";

fn lines(queue: &Queue, file: &str) -> Vec<u64> {
    let text = fs::read_to_string(queue.dir().join(file)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn flood(queue: &Queue, count: usize) -> Vec<u64> {
    let rows = "{}\n".repeat(count);
    let said = queue.say("submit quick --each - -q").stdin(rows).run().exits(0).text();
    said.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_flood_of_quick_tasks_keeps_to_the_slots_whatever_happens() {
    let mut queue = Queue::with_slots("2", FLOOD);
    let mut ids = flood(&queue, 300);
    wait_for("it flows", || (lines(&queue, "ran").len() > 100).then_some(()));
    // What is claimed ahead is put back: once the pause was answered, only what had a slot goes on.
    queue.say("queue pause default").run().exits(0);
    let paused = lines(&queue, "ran").len();
    wait_for("nothing lives", || {
        let status = queue.home.status();
        (status["slots_used"] == 0).then_some(())
    });
    let ran = lines(&queue, "ran").len();
    assert!(ran > 100 && ran <= paused + 2, "{paused} at the answer, then {ran}");
    let ended = queue.say("list --all --status completed --count").run().exits(0).text();
    assert_eq!(ended.trim(), ran.to_string());
    queue.say("queue resume default").run().exits(0);
    ids.extend(flood(&queue, 100));
    wait_for("it flows again", || (lines(&queue, "ran").len() > ran + 40).then_some(()));
    queue.crash();

    // Slow ones behind quick ones get no more than the slots either, and the rest waits.
    let slow: Vec<u64> = (0..6).map(|_| queue.submit("slow")).collect();
    wait_for("two run and four wait", || {
        let statuses: Vec<_> =
            slow.iter().map(|id| queue.home.show(*id)["status"].clone()).collect();
        let of = |status: &str| statuses.iter().filter(|found| *found == status).count();
        (of("running") == 2 && of("pending") == 4).then_some(())
    });
    for id in &slow {
        queue.say(&format!("cancel {id} --now")).run().exits(0);
        let task = queue.home.ended(*id);
        assert_eq!(task["status"], "cancelled");
    }
    for id in &ids {
        assert_eq!(queue.home.ended(*id)["status"], "completed");
    }
    let mut ran = lines(&queue, "ran");
    ran.sort_unstable();
    assert_eq!(ran, ids, "each once");
    let most = lines(&queue, "counts").into_iter().max();
    assert!(most <= Some(2), "{most:?} at once");
}
