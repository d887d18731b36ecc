//! When, where and how often a task runs.

use std::fs;

use capsule_proto::v1::{Options, SubmitRequest};
use capsule_tests::{Home, rpc, wait_for};
use serde_json::Value;

fn status(home: &Home, id: u64) -> String {
    home.show(id)["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_task_for_later_waits_and_survives_a_restart() {
    let home = Home::new();
    let daemon = home.start();
    let later = home.submit(["--in", "1h", "--", "true"]);
    let soon = home.submit(["--in", "1s", "--", "true"]);
    assert_eq!(status(&home, later), "scheduled");
    daemon.kill();
    let _daemon = home.start();
    assert_eq!(home.ended(soon)["status"], "completed");
    assert_eq!(status(&home, later), "scheduled");
    let due = home.show(soon)["due_at"].clone();
    assert_eq!(due, Value::Null, "it is not due any more");
    home.capsule(["promote", &later.to_string()]).run().exits(0);
    assert_eq!(home.ended(later)["status"], "completed");
}

#[test]
fn priority_orders_what_waits() {
    let home = Home::new();
    let _daemon = home.start_with(&["--slots", "1"]);
    let gate = home.submit(["--shell", "--", "until [ -e go ]; do sleep 0.05; done"]);
    home.running(gate);
    let note = |name: &str| format!("echo {name} >> order");
    for (priority, name) in [("0", "b"), ("-50", "c"), ("50", "a"), ("0", "b2")] {
        home.submit(["--priority", priority, "--shell", "--", &note(name)]);
    }
    fs::write(home.path("h/go"), "").unwrap();
    home.capsule(["wait", "--all"]).run().exits(0);
    assert_eq!(fs::read_to_string(home.path("h/order")).unwrap(), "a\nb\nb2\nc\n");
}

#[test]
fn failures_are_tried_again_as_often_as_was_asked() {
    let home = Home::new();
    let _daemon = home.start();
    let flags = ["--delivery", "at-least-once", "--retries", "2", "--backoff", "fixed:50ms"];
    let id =
        home.submit([&flags[..], &["--shell", "--", "echo try $CAPSULE_ATTEMPT; exit 9"]].concat());
    let task = home.ended(id);
    assert_eq!((&task["status"], &task["attempt"]), (&"failed".into(), &3.into()), "{task}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(home.output(id), b"try 3\n", "the newest attempt is shown");
    let first = home.capsule(["tail", &id.to_string(), "--attempt", "1"]).run().exits(0).text();
    assert_eq!(first, "try 1\n");

    let never = [&flags[..], &["--no-retry-exit-code", "9", "--", "sh", "-c", "exit 9"]].concat();
    assert_eq!(home.ended(home.submit(never))["attempt"], 1);
    home.capsule(["retry", &id.to_string()]).run().exits(0);
    let again = home.ended(id);
    assert_eq!(again["attempt"], 6, "a fresh budget, and the attempts go on: {again}");
    let copy = home.capsule(["retry", &id.to_string(), "--as-new", "--json"]).run().exits(0);
    assert!(copy.text().contains(r#""id":3"#), "{}", copy.text());
}

#[test]
fn a_task_starts_after_another_only_if_that_ended_so() {
    let home = Home::new();
    let _daemon = home.start();
    let gate = "until [ -e go ]; do sleep 0.05; done; exit 1";
    let first = home.submit(["--shell", "--", gate]).to_string();
    let ok = home.submit(["--after", &first, "--", "true"]);
    let any = home.submit(["--after", &format!("{first}:any"), "--", "true"]);
    let failed = home.submit(["--after", &format!("{first}:failed"), "--", "true"]);
    let next = home.submit(["--after", &ok.to_string(), "--", "true"]);
    for id in [ok, any, failed, next] {
        assert_eq!(status(&home, id), "pending");
        assert!(home.show(id)["waiting"].is_string());
    }
    fs::write(home.path("h/go"), "").unwrap();
    let task = home.ended(ok);
    assert_eq!(task["status"], "cancelled");
    assert_eq!(task["reason"], format!("dependency {first} failed"));
    assert_eq!(home.ended(any)["status"], "completed");
    assert_eq!(home.ended(failed)["status"], "completed");
    assert_eq!(home.ended(next)["status"], "cancelled");
    home.capsule(["submit", "--after", "99", "--", "true"]).run().exits(4);
}

#[test]
fn a_key_stands_for_one_task() {
    let home = Home::new();
    let daemon = home.start();
    let import = ["--key", "import-7", "--name", "import", "--"];
    let id = home.submit([&import[..], &["true"]].concat());
    home.ended(id);
    assert_eq!(home.submit([&import[..], &["true"]].concat()), id);
    daemon.kill();
    let _daemon = home.start();
    let again = home.capsule(["submit", "--json"]).args(import).args(["true"]).run().exits(0);
    assert_eq!((&again.json()["id"], &again.json()["existing"]), (&id.into(), &true.into()));
    home.capsule(["submit"]).args(import).args(["false"]).run().exits(5);
    assert_eq!(home.capsule(["list", "--count"]).run().text().trim(), "1");
}

#[test]
fn a_lock_lets_one_in_and_merges_refuses_or_queues_the_next() {
    let home = Home::new();
    let _daemon = home.start();
    let gate = "until [ -e go ]; do sleep 0.05; done";
    let locked = |policy: &str| {
        let words = ["--lock", "owner:acme", "--name", "index", "--lock-policy", policy];
        home.capsule(["submit", "--json"]).args(words).args(["--shell", "--", gate]).run()
    };
    let first = locked("merge").exits(0).json()["id"].as_u64().unwrap();
    home.running(first);
    let merged = locked("merge").exits(0).json();
    assert_eq!((&merged["id"], &merged["merged"]), (&first.into(), &true.into()));
    locked("reject").exits(5);
    let waits = locked("wait").exits(0).json()["id"].as_u64().unwrap();
    let waiting = home.show(waits);
    assert_eq!(waiting["status"], "pending");
    let why = waiting["waiting"].as_str().unwrap();
    assert!(why.contains("owner:acme") && why.contains(&first.to_string()), "{why}");
    let replaced = locked("replace").exits(0).json()["id"].as_u64().unwrap();
    assert_eq!(home.ended(waits)["status"], "cancelled");
    let lock = home.capsule(["lock", "list", "--json"]).run().exits(0).json();
    assert_eq!((&lock[0]["holder"], &lock[0]["waiters"]), (&first.into(), &vec![replaced].into()));
    fs::write(home.path("h/go"), "").unwrap();
    home.ended(first);
    assert_eq!(home.ended(replaced)["status"], "completed");
}

#[test]
fn a_held_task_starts_when_it_is_let_go() {
    let home = Home::new();
    let _daemon = home.start();
    let id = home.submit(["--hold", "--", "true"]);
    let why = home.capsule(["why", &id.to_string()]).run().exits(0).text();
    assert!(why.contains("hold") || why.contains("held"), "{why}");
    assert_eq!(status(&home, id), "pending");
    home.capsule(["edit", &id.to_string(), "--no-hold"]).run().exits(0);
    assert_eq!(home.ended(id)["status"], "completed");
    let late = home.submit(["--hold", "--start-within", "100ms", "--", "true"]);
    assert_eq!(home.ended(late)["status"], "cancelled");
}

#[test]
fn draining_and_paused_queues_start_nothing() {
    let home = Home::new();
    let daemon = home.start();
    home.capsule(["queue", "pause", "slow"]).run().exits(0);
    let slow = home.submit(["--queue", "slow", "--", "true"]);
    home.capsule(["run", "--", "true"]).run().exits(0);
    assert_eq!(status(&home, slow), "pending");
    daemon.kill();
    let _daemon = home.start();
    home.capsule(["run", "--", "true"]).run().exits(0);
    assert_eq!(status(&home, slow), "pending", "the pause survives");
    home.capsule(["queue", "resume", "slow"]).run().exits(0);
    assert_eq!(home.ended(slow)["status"], "completed");

    let last = home.submit(["--", "sleep", "0.3"]);
    home.running(last);
    home.capsule(["drain"]).run().exits(0);
    assert_eq!(status(&home, last), "completed", "drain answers when all is idle");
    let kept = home.submit(["--", "true"]);
    assert_eq!(home.status()["draining"], true);
    assert_eq!(status(&home, kept), "pending");
}

#[test]
fn two_hundred_clients_at_once_are_all_answered() {
    let home = Home::new();
    let _daemon = home.start();
    let submits = (0..200).map(|_| home.capsule(["submit", "--hold", "--", "true"]).start());
    let ids: std::collections::BTreeSet<String> =
        submits.collect::<Vec<_>>().into_iter().map(|one| one.end().exits(0).text()).collect();
    assert_eq!(ids.len(), 200, "two hundred at once have an id each");
    wait_for("all are listed", || {
        (home.capsule(["list", "--count"]).run().text().trim() == "200").then_some(())
    });
    home.capsule(["cancel", "--all", "--yes"]).run().exits(0);
    assert_eq!(home.status()["by_status"]["cancelled"], 200);
}

#[test]
fn submits_on_a_stream_are_answered_in_order_and_durable() {
    let home = Home::new();
    let daemon = home.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = || Options { hold: true, ..Options::default() };
    let rows: Vec<SubmitRequest> = (0..500)
        .map(|row| match row % 100 {
            // Nothing to run: this one is refused, and the next is not.
            7 => SubmitRequest::default(),
            _ => rpc::script("true", held()),
        })
        .collect();
    let results = runtime.block_on(async {
        let mut client = rpc::connect(&home.socket()).await.unwrap();
        let stream = client.submit_stream(tokio_stream::iter(rows)).await.unwrap();
        let mut results = Vec::new();
        let mut stream = stream.into_inner();
        while let Some(result) = stream.message().await.unwrap() {
            results.push(result);
        }
        results
    });
    daemon.kill();
    assert_eq!(results.len(), 500);
    for (row, result) in results.iter().enumerate() {
        let refused = row % 100 == 7;
        assert_eq!(refused, !result.error.is_empty(), "{row}: {result:?}");
        assert_eq!(refused, result.id == 0, "{row}: {result:?}");
    }
    let ids: Vec<u64> = results.iter().map(|result| result.id).filter(|id| *id > 0).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let _daemon = home.start();
    assert_eq!(home.capsule(["list", "--count"]).run().exits(0).text().trim(), "495");
    assert_eq!(home.show(*ids.last().unwrap())["status"], "pending");
}
