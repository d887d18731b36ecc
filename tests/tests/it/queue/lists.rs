//! Many tasks at once: bulk submits, filters that all commands share, waiting, removing, and what
//! the feed and the board show.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use capsule_tests::wait_for;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Queue;

const T: &str = "[tasks.t]\ncommand = [\"sh\", \"-c\", \"exit $0\", \"{code}\"]\n\
                 params.code = { type = \"int\", default = 0 }\n";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}

#[test]
fn two_and_a_half_thousand_rows_are_submitted_and_bad_ones_are_told_by_row() {
    let queue = Queue::with(T);
    queue.say("queue pause bulk").run().exits(0);
    let mut rows = String::new();
    for row in 1..=2500 {
        match row {
            7 => rows.push_str("{\"code\": \"seven\"}\n"),
            1200 => rows.push_str("{\"cod\": 1}\n"),
            1201 => rows.push_str("not json\n"),
            2499 => rows.push_str("[1]\n"),
            _ => writeln!(rows, "{{\"code\": {}}}", row % 3).unwrap(),
        }
    }
    let call = queue.say("submit t --each - --queue bulk -l from=rows").stdin(rows.clone());
    let bulk = call.run().exits(2);
    let submitted = ids(&bulk.text());
    assert_eq!(submitted.len(), 2496);
    assert_eq!(submitted.iter().collect::<BTreeSet<_>>().len(), 2496);
    let told: Vec<String> = bulk.errors().lines().map(str::to_owned).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for (line, row) in told.iter().zip(["row 7:", "row 1200:", "row 1201:", "row 2499:"]) {
        assert!(line.starts_with(&format!("error: {row}")), "{line}");
    }
    let count = queue.say("list --label from=rows --count").run().exits(0).text();
    assert_eq!(count.trim(), "2496");

    // As JSON each row has an answer, also the refused.
    fs::write(queue.dir().join("rows.ndjson"), "{\"code\": 1}\n\n{\"code\": []}\n{}\n").unwrap();
    let told = queue.say("submit t --each rows.ndjson --queue bulk --json").run().exits(2);
    let told = lines(&told.text());
    let rows: Vec<&Value> = told.iter().map(|it| &it["row"]).collect();
    assert_eq!(rows, [1, 2, 3]);
    assert_eq!(
        (&told[1]["id"], &told[1]["error_code"]),
        (&Value::Null, &json!("invalid_argument"))
    );
    queue.say("submit t --each nowhere.ndjson").run().exits(2);
    // All of them are cancelled by one word.
    let cancelled = queue.json("cancel --queue bulk --all --yes");
    assert_eq!(cancelled.as_array().unwrap().len(), 2498);
    assert_eq!(queue.say("list --status pending --count").run().exits(0).text().trim(), "0");
}

#[test]
fn list_cancel_retry_and_prune_share_their_filters() {
    let queue = Queue::with(&format!("{T}[tasks.u]\ncommand = [\"true\"]\n"));
    let held = |words: &str| queue.submit(&format!("{words} --hold"));
    let one = held("t --code 1 --owner ann -l color=red --queue slow");
    let two = held("t --owner bob -l color=blue -l size=s");
    let three = held("u --owner ann --lock deep");
    let failed = queue.submit("t --code 3");
    queue.home.ended(failed);
    let list = |filter: &str| ids(&queue.say(&format!("list -q {filter}")).run().exits(0).text());
    let cases: [(&str, Vec<u64>); 13] = [
        ("--owner ann", vec![three, one]),
        ("--queue slow", vec![one]),
        ("--label color=blue", vec![two]),
        ("-l color=blue -l size=m", vec![]),
        ("--task u", vec![three]),
        ("--task t,u --owner ann", vec![three, one]),
        ("--lock deep", vec![three]),
        ("--status failed", vec![failed]),
        ("--status pending,failed --task t", vec![failed, two, one]),
        ("--app demo", vec![failed, three, two, one]),
        ("--since 1h", vec![failed, three, two, one]),
        ("--until 1h", vec![]),
        ("--grep code=1", vec![one]),
    ];
    for (filter, wanted) in &cases {
        assert_eq!(&list(filter), wanted, "{filter}");
        let count = queue.say(&format!("list {filter} --count")).run().exits(0).text();
        assert_eq!(count.trim(), wanted.len().to_string(), "{filter}");
        for verb in ["cancel", "retry", "rm"] {
            let words = format!("{verb} {filter} --all --dry-run --json");
            let planned = queue.say(&words).run().json();
            let planned: BTreeSet<u64> =
                planned.as_array().unwrap().iter().map(|it| it["id"].as_u64().unwrap()).collect();
            assert_eq!(planned, wanted.iter().copied().collect(), "{verb} {filter}");
        }
        let pruned = queue.json(&format!("prune {filter} --keep 0 --dry-run"));
        let ended = wanted.iter().filter(|id| **id == failed).count();
        assert_eq!(pruned.as_array().unwrap().len(), ended, "prune {filter}: {pruned}");
    }
    // Without --all, without --yes, nothing is done.
    queue.say("cancel --owner ann").run().exits(2);
    queue.say("cancel --owner ann --all").run().exits(7);
    let asked = queue.say("cancel --owner ann --all").run().errors();
    assert!(asked.contains("--yes"), "{asked}");
    assert_eq!(list("--status pending"), [three, two, one]);
    queue.say("cancel --owner ann --all --yes --reason enough").run().exits(0);
    assert_eq!(list("--status cancelled"), [three, one]);
    assert!(queue.home.show(one).to_string().contains("enough"));
    queue.say("retry --owner ann --task u --all --yes").run().exits(0);
    assert_eq!(queue.home.show(three)["status"], "pending");
    assert_eq!(list("-n 2"), [failed, three]);
    queue.say("list --status gone").run().exits(2);
}

#[test]
fn ended_tasks_are_removed_and_leave_a_word() {
    let queue = Queue::with(T);
    let many: Vec<u64> = (0..4).map(|_| queue.submit("t")).collect();
    for id in &many {
        queue.home.ended(*id);
    }
    let failed = queue.submit("t --code 1");
    queue.home.ended(failed);
    let waiting = queue.submit("t --hold");
    queue.say(&format!("rm {waiting}")).run().exits(5);
    queue.say(&format!("rm {}", many[0])).run().exits(0);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    for verb in ["show", "result", "wait", "cancel", "retry", "why", "tail", "rm"] {
        let said = queue.say(&format!("{verb} {}", many[0])).run().exits(4).errors();
        let near = [today, today.yesterday().unwrap()];
        let words = near.map(|day| format!("{} is completed, pruned on {day}", many[0]));
        assert!(words.iter().any(|it| said.contains(it)), "{verb}: {said}");
    }
    queue.say("prune").run().exits(2);
    queue.say("prune --keep 1 --status completed").run().exits(7);
    queue.say("prune --older-than 1h --yes").run().exits(0);
    assert_eq!(queue.count(), 5);
    queue.say("prune --keep 1 --status completed --yes").run().exits(0);
    let left = ids(&queue.say("list -q").run().exits(0).text());
    assert_eq!(left, [waiting, failed, many[3]]);
    queue.say("prune --older-than 0s --yes").run().exits(0);
    assert_eq!(ids(&queue.say("list -q").run().exits(0).text()), [waiting]);
    let said = queue.say(&format!("show {failed}")).run().exits(4).errors();
    assert!(said.contains(&format!("{failed} is failed, pruned on")), "{said}");
    // An id is never used again.
    assert!(queue.submit("t") > waiting);
}

#[test]
fn wait_has_many_forms() {
    let queue = Queue::with(&format!(
        "{T}[tasks.long]\ncommand = [\"sh\", \"-c\", \"until [ -e go ]; do sleep 0.02; done\"]\n"
    ));
    let (good, bad) = (queue.submit("t"), queue.submit("t --code 1"));
    queue.say(&format!("wait {good}")).run().exits(0);
    queue.say(&format!("wait {good} {bad}")).run().exits(20);
    queue.say(&format!("wait {bad} --for done")).run().exits(0);
    queue.say(&format!("wait {bad} --for completed")).run().exits(20);
    let long = queue.submit("long");
    queue.say(&format!("wait {long} --for running")).run().exits(0);
    queue.say(&format!("wait {long} --timeout 0")).run().exits(24);
    queue.say(&format!("wait {long} --timeout 100ms")).run().exits(124);
    queue.say(&format!("wait {long} {good} --any")).run().exits(0);
    queue.say("wait --task t --all").run().exits(20);
    queue.say("wait --task nothing --all").run().exits(4);
    queue.say("wait 999").run().exits(4);
    // Ids come from stdin, and from what was there last.
    let piped = queue.say("wait -").stdin(format!("{good}\n{bad}  and words\n")).run();
    piped.exits(20);
    queue.say("wait -").stdin("").run().exits(2);
    queue.say("wait @failed").run().exits(20);
    assert_eq!(queue.json("show @last")["id"], long);
    assert_eq!(queue.json("show @failed")["id"], bad);
    let uuid = queue.home.show(good)["uuid"].as_str().unwrap().to_owned();
    assert_eq!(queue.json(&format!("show {uuid}"))["id"], good);
    assert_eq!(queue.json(&format!("show {}", &uuid[uuid.len() - 8..]))["id"], good);
    assert_eq!(queue.json(&format!("show #{good}"))["id"], good);

    let waiter = queue.say(&format!("wait {long}")).start();
    fs::write(queue.dir().join("go"), "").unwrap();
    waiter.end().exits(0);
    queue.say("submit t --code 1 --wait").run().exits(20);
    queue.say("submit t -w").run().exits(0);
    queue.say("result @last").run().exits(0);
    queue.say(&format!("result {bad}")).run().exits(20);
    let id = queue.say("submit t -q").run().exits(0).text();
    assert!(id.trim().parse::<u64>().is_ok(), "{id}");
    assert_eq!(queue.say(&format!("cancel {} -q", id.trim())).run().text(), "");
    // Every id of a pipe is a task of the next command.
    let pipe = format!(
        "{c} list -q --status failed | {c} retry - && {c} list -q --status failed | {c} wait -",
        c = queue.home.program("capsule")
    );
    queue.home.shell(&pipe).run();
    assert_eq!(queue.until(bad, "failed")["attempt"], 2);
}

#[test]
fn the_end_of_a_uuid_may_be_all_digits() {
    let queue = Queue::with(T);
    // One in seventeen ends in six digits.
    let rows = "{}\n".repeat(300);
    queue.say("submit t --each - --hold").stdin(rows).run().exits(0);
    let tasks = queue.json("list --all");
    let digits = |uuid: &str| {
        let end = uuid[uuid.len() - 6..].to_owned();
        end.bytes().all(|byte| byte.is_ascii_digit()).then_some(end)
    };
    let found = tasks.as_array().unwrap().iter().find_map(|task| {
        let end = digits(task["uuid"].as_str().unwrap())?;
        (end.parse::<u64>().unwrap() > 300).then(|| (end, task["id"].clone()))
    });
    let (end, id) = found.unwrap();
    assert_eq!(queue.json(&format!("show {end}"))["id"], id);
}

#[test]
fn the_feed_tells_changes_in_order_and_each_once() {
    let queue = Queue::with(T);
    let before = queue.home.status()["seq"].as_u64().unwrap();
    let program = queue.home.program("capsule");
    let feed = queue.home.shell(&format!("exec {program} events --from {before} > feed")).start();
    let id = queue.submit("t");
    queue.home.ended(id);
    let removed = queue.submit("t --hold");
    queue.say(&format!("cancel {removed}")).run().exits(0);
    queue.say(&format!("rm {removed}")).run().exits(0);
    let text = wait_for("the feed tells the last change", || {
        let text = fs::read_to_string(queue.dir().join("feed")).unwrap_or_default();
        let removal = format!("\"removed\":{removed},");
        text.lines().any(|line| line.contains(&removal)).then_some(text)
    });
    feed.signal(Signal::SIGINT);
    feed.end();
    let told = lines(&text);
    let changes: Vec<&Value> = told.iter().filter(|it| it["event"] == "task").collect();
    let seqs: Vec<u64> = changes.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]) && seqs[0] > before, "{seqs:?}");
    let statuses: Vec<&str> = changes
        .iter()
        .filter(|it| it["task"]["id"] == id)
        .map(|it| it["task"]["status"].as_str().unwrap())
        .collect();
    // Changes that come together are told as one, by the state they lead to.
    assert_eq!(statuses.last().copied(), Some("completed"), "{statuses:?}");
    assert!(told.iter().any(|it| it["event"] == "removed" && it["removed"] == removed), "{told:?}");
}

#[test]
fn the_board_is_text_once() {
    let queue = Queue::with(T);
    queue.home.ended(queue.submit("t"));
    queue.home.ended(queue.submit("t --code 1 --display-name Broken"));
    queue.submit("t --hold");
    let board = queue.say("board --once").env("COLUMNS", "120").run().exits(0).text();
    for word in ["PENDING 1", "COMPLETED 1", "FAILED 1", "Broken", "held back"] {
        assert!(board.contains(word), "{word}: {board}");
    }
    let only = queue.say("board --once --status failed").run().exits(0).text();
    assert!(only.contains("Broken") && !only.contains("held back"), "{only}");
    let as_json = queue.json("board --once");
    assert!(as_json.to_string().contains("Broken"), "{as_json}");
}
