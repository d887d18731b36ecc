//! What scripts rely on: exit codes and the shapes of `--json`.

use capsule_tests::{Home, processes, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The keys of an object in their order, separated by spaces.
fn keys(value: &Value) -> String {
    let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
    object.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Tasks that ended in every way, and one that runs: completed 1, failed 2, timeout 3, lost 4,
/// cancelled 5, running 6.
fn with_all_ends() -> (Home, capsule_tests::Daemon) {
    let home = Home::new();
    let daemon = home.start();
    home.submit(["--owner", "ada", "-l", "team=red", "--", "true"]);
    home.submit(["--name", "failing", "-l", "team=red", "--", "sh", "-c", "echo oops >&2; exit 3"]);
    home.submit(["--timeout", "100ms", "--grace", "0s", "--", "sleep", "1000"]);
    home.ended(3);
    let lost = home.submit(["--", "sleep", "1000"]);
    home.running(lost);
    processes::send(home.keeper().0, Signal::SIGKILL);
    home.ended(lost);
    home.submit(["--hold", "--queue", "slow", "--", "true"]);
    home.capsule(["cancel", "5"]).run().exits(0);
    home.submit(["--", "sleep", "1000"]);
    home.running(6);
    (home, daemon)
}

#[test]
fn exit_codes_tell_how_tasks_ended() {
    let (home, _daemon) = with_all_ends();
    let ends = [("1", 0), ("2", 20), ("3", 22), ("4", 23), ("5", 21), ("6", 24)];
    for (id, code) in ends {
        home.capsule(["wait", id, "--timeout", "0"]).run().exits(code);
        home.capsule(["result", id]).run().exits(code);
    }
    home.capsule(["wait", "6", "--timeout", "200ms"]).run().exits(124);
    home.capsule(["wait", "1", "2", "5"]).run().exits(20);
    home.capsule(["wait", "6", "1", "--any"]).run().exits(0);
    home.capsule(["wait", "2", "3", "--for", "done"]).run().exits(0);
    home.capsule(["wait", "6", "--for", "running"]).run().exits(0);
    home.capsule(["wait", "--all", "--task", "failing"]).run().exits(20);
    home.capsule(["wait", "--all", "--task", "nobody"]).run().exits(4);

    let submit = |words: &[&str]| home.capsule(["submit", "--wait"]).args(words).run();
    submit(&["--", "true"]).exits(0);
    submit(&["--", "false"]).exits(20);
    submit(&["--timeout", "50ms", "--grace", "0s", "--", "sleep", "1000"]).exits(22);
    submit(&["--", "no-such-program"]).exits(20);
}

#[test]
fn what_is_not_there_gives_four() {
    let home = Home::new();
    let _daemon = home.start();
    for verb in ["show", "wait", "result", "tail", "why", "cancel", "retry", "promote", "rm"] {
        for id in ["99", "@last", "0198c0de-0000-7000-8000-000000000000"] {
            let error = home.capsule([verb, id]).run();
            assert_eq!(error.code(), 4, "{verb} {id}: {}", error.errors());
        }
    }
    let error = home.capsule(["show", "99", "--json"]).run().exits(4);
    let error: Value = serde_json::from_slice(&error.err).unwrap();
    assert_eq!(keys(&error["error"]), "code message hint exit");
    assert_eq!(error["error"]["exit"], 4);
}

#[test]
fn what_makes_no_sense_gives_two() {
    let home = Home::new();
    let _daemon = home.start();
    home.submit(["--", "true"]);
    let calls: [&[&str]; 16] = [
        &["no-such-verb"],
        &["show"],
        &["wait"],
        &["wait", "--task", "x"],
        &["wait", "1", "--all"],
        &["list", "--no-such-flag"],
        &["list", "--status", "asleep"],
        &["list", "--json=no_such_field"],
        &["submit"],
        &["submit", "--"],
        &["submit", "--priority", "200", "--", "true"],
        &["submit", "--in", "1h", "--at", "2030-01-01", "--", "true"],
        &["submit", "--in", "soon", "--", "true"],
        &["submit", "--backoff", "often", "--", "true"],
        &["submit", "--delivery", "at-most-once", "--retries", "2", "--", "true"],
        &["run", "--env", "NOT_SET_ANYWHERE", "--", "true"],
    ];
    for call in calls {
        let error = home.capsule(call.iter().copied()).run();
        assert_eq!(error.code(), 2, "{call:?}: {}{}", error.text(), error.errors());
        assert!(error.out.is_empty(), "{call:?}: {}", error.text());
    }
    assert_eq!(home.capsule(["list", "--count"]).run().text().trim(), "1", "nothing was queued");
}

#[test]
fn what_cannot_be_done_now_gives_five() {
    let (home, _daemon) = with_all_ends();
    home.capsule(["retry", "1"]).run().exits(5);
    home.capsule(["retry", "6"]).run().exits(5);
    home.capsule(["rm", "6"]).run().exits(5);
    home.capsule(["promote", "1"]).run().exits(5);
    home.capsule(["cancel", "1"]).run().exits(0);
    assert_eq!(home.show(1)["status"], "completed", "a verdict that came first stands");
    assert_eq!(home.show(6)["status"], "running");
}

const TASK: &str = "id uuid app name display_name revision status reason waiting owner uid queue priority \
    labels lock key created_at due_at started_at ended_at attempt failures retries exit_code \
    signal pid summary progress hold cancelling schedule seq merged_into";
const SHOWN: &str = "program payload result error attempts gates timeline backoff timeout_ms grace_ms \
    delivery longest_ms";
const ATTEMPT: &str = "number verdict reason claimed_at started_at ended_at pid receipt revision stopped \
    isolation error";
const STATUS: &str = "running version pid uptime_ms state_dir socket store_uuid store_bytes log_bytes \
    by_status slots slots_used shared shared_used draining keeper seq free_bytes degraded";

#[test]
fn json_has_the_same_keys_always() {
    let (home, _daemon) = with_all_ends();
    let list = home.capsule(["list", "--json"]).run().exits(0).json();
    let tasks = list.as_array().unwrap();
    let statuses: Vec<&Value> = tasks.iter().map(|task| &task["status"]).collect();
    assert_eq!(statuses, ["running", "cancelled", "failed", "timeout", "failed", "completed"]);
    for task in tasks {
        assert_eq!(keys(task), TASK);
        let shown = home.show(task["id"].as_u64().unwrap());
        assert_eq!(keys(&shown), format!("{TASK} {SHOWN}"));
        for attempt in shown["attempts"].as_array().unwrap() {
            assert_eq!(keys(attempt), ATTEMPT);
        }
    }
    let status = home.status();
    assert_eq!(keys(&status), STATUS);
    assert_eq!((&status["by_status"]["failed"], &status["slots_used"]), (&2.into(), &1.into()));
    assert_eq!(keys(&status["keeper"]), "connected pid instance attribution");
    let chunk = home.capsule(["tail", "2", "--json", "--no-follow"]).run().exits(0).json();
    assert_eq!(keys(&chunk), "id attempt time stream data gap cursor pruned");
    assert_eq!((&chunk["stream"], &chunk["data"]), (&"err".into(), &"oops\n".into()));
    let told = home.capsule(["wait", "2", "--json"]).run().exits(20).json();
    assert_eq!(keys(&told), TASK);
}

#[test]
fn lists_are_filtered_counted_and_cut() {
    let (home, _daemon) = with_all_ends();
    let ids = |words: &[&str]| {
        let text = home.capsule(["list", "-q"]).args(words).run().exits(0).text();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(&[]), "6 5 4 3 2 1");
    assert_eq!(ids(&["--status", "failed,timeout"]), "4 3 2");
    assert_eq!(ids(&["--owner", "ada"]), "1");
    assert_eq!(ids(&["--label", "team=red"]), "2 1");
    assert_eq!(ids(&["--label", "team=red", "--status", "failed"]), "2");
    assert_eq!(ids(&["--task", "failing"]), "2");
    assert_eq!(ids(&["--queue", "slow"]), "5");
    assert_eq!(ids(&["--grep", "oops"]), "2");
    assert_eq!(ids(&["--grep", "sleep", "-n", "2"]), "6 4");
    assert_eq!(ids(&["--grep", "nowhere"]), "");
    assert_eq!(ids(&["--schedule", "nightly"]), "");
    home.capsule(["cancel", "--all", "--grep", "nowhere", "--yes"]).run();
    assert_eq!(home.show(6)["status"], "running", "a filter that finds nothing means no task");
    assert_eq!(ids(&["--since", "1h"]), "6 5 4 3 2 1");
    assert_eq!(ids(&["--until", "1h"]), "");
    assert_eq!(ids(&["-n", "2"]), "6 5");
    let count = home.capsule(["list", "--count", "--status", "failed"]).run().exits(0).text();
    assert_eq!(count.trim(), "2");
    let chosen = home.capsule(["list", "--json=status,id", "-n", "1"]).run().exits(0).text();
    assert_eq!(chosen.trim(), r#"[{"status":"running","id":6}]"#);
    let lines = home.capsule(["list", "-o", "ndjson"]).run().exits(0).text();
    assert_eq!(lines.lines().count(), 6);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
}

#[test]
fn an_id_may_be_typed_in_many_ways() {
    let (home, _daemon) = with_all_ends();
    let uuid = home.show(2)["uuid"].as_str().unwrap().to_owned();
    for id in ["2", "#2", &uuid, &uuid[uuid.len() - 8..]] {
        let shown = home.capsule(["show", id, "--json=id"]).run().exits(0).text();
        assert_eq!(shown.trim(), r#"{"id":2}"#, "{id}");
    }
    let last = home.capsule(["show", "@last", "--json=id"]).run().exits(0).text();
    assert_eq!(last.trim(), r#"{"id":6}"#);
    let failed = home.capsule(["show", "@failed", "--json=id"]).run().exits(0).text();
    assert_eq!(failed.trim(), r#"{"id":4}"#);
    home.capsule(["wait", "-", "--for", "done"]).stdin("1 x\n2 y\n").run().exits(0);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = Home::new();
    let _daemon = home.start();
    for _ in 0..30 {
        home.submit(["--hold", "--", "true"]);
    }
    let program = home.program("capsule");
    for verb in ["list --all", "list --json", "show 1", "status", "help states"] {
        let script = format!("{{ {program} {verb}; echo \"exit $?\" >&2; }} | :");
        assert_eq!(home.shell(&script).run().exits(0).errors(), "exit 0\n", "{verb}");
    }
}

#[test]
fn every_verb_explains_itself_without_a_daemon() {
    let home = Home::new();
    let top = home.capsule(["--help"]).run().exits(0).text();
    let verbs: Vec<&str> = top
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in verbs {
        let help = home.capsule([verb, "--help"]).run().exits(0);
        assert!(help.text().contains("Usage: "), "{verb}: {}", help.text());
        assert!(help.err.is_empty(), "{verb}: {}", help.errors());
    }
    for topic in ["exit-codes", "environment", "formatting", "ids", "states", "time"] {
        let help = home.capsule(["help", topic]).run().exits(0);
        assert!(help.out.len() > 100, "{topic}: {}", help.text());
    }
    wait_for("no daemon was started", || home.processes().is_empty().then_some(()));
}
