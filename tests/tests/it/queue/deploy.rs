//! `capsule deploy` and `capsule app`: revisions that are shown, repeated, refused and taken back.

use serde_json::json;

use super::Queue;

const ONE: &str = "[tasks.one]\ncommand = [\"true\"]\n";

#[test]
fn a_deploy_shows_what_changes_and_the_same_again_changes_nothing() {
    let queue = Queue::bare();
    let first = queue.deploy(ONE).exits(0).text();
    assert_eq!(first, "deployed demo@r1\n  + task one\n");
    let again = queue.say("deploy").run().exits(0).text();
    assert_eq!(again, "unchanged demo@r1\n");
    queue.say("deploy --exit-code").run().exits(0);

    let changed = "[tasks.one]\ncommand = [\"true\"]\nretries = 2\ntimeout = \"5m\"\n\
                   [tasks.two]\ncommand = [\"true\"]\n";
    let second = queue.deploy(changed).exits(0).text();
    let lines: Vec<&str> = second.lines().map(str::trim).collect();
    assert_eq!(lines[0], "deployed demo@r2");
    for line in ["~ task one: retries 0 → 2", "~ task one: timeout none → 5m", "+ task two"] {
        assert!(lines.contains(&line), "{line}: {second}");
    }
    let third = queue.deploy(ONE).exits(0).text();
    assert!(third.contains("- task two"), "{third}");
    // What only looks different is the same.
    let same = queue.deploy(&format!("# a comment\n\n{ONE}")).exits(0).text();
    assert!(same.starts_with("unchanged demo@r3"), "{same}");
}

#[test]
fn a_dry_run_registers_nothing() {
    let queue = Queue::bare();
    queue.manifest(&format!("[app]\nname = \"demo\"\n{ONE}"));
    let plan = queue.say("deploy --dry-run").run().exits(0).text();
    assert_eq!(plan, "would deploy demo@r1\n  + task one\n");
    queue.say("deploy --dry-run --exit-code").run().exits(5);
    assert_eq!(queue.json("app list"), json!([]));
    queue.say("submit one").run().exits(2);
    // By folder, by file, under another name, from anywhere.
    let dir = queue.dir().display().to_string();
    let there = queue.say(&format!("deploy {dir} --name other")).cwd("/").run().exits(0);
    assert!(there.text().starts_with("deployed other@r1"), "{}", there.text());
    let plan = queue.json(&format!("deploy {dir}/capsule.toml --name other --dry-run"));
    assert_eq!((&plan["changed"], &plan["revision"]), (&json!(false), &json!(1)));
}

/// What is wrong with a manifest, and what the refusal must say.
const BAD: [(&str, &[&str]); 22] = [
    ("[app]\nname = \"demo\"\n[tasks.a\ncommand = [\"true\"]\n", &["line 3", "unclosed table"]),
    ("", &["missing field `app`"]),
    ("[app]\nnme = \"demo\"\n", &["line 2", "unknown field `nme`", "`name`"]),
    ("[app]\nname = \"a b\"\n", &["\"a b\"", "letters"]),
    ("retires = 3\ncommand = [\"true\"]", &["[tasks.a]", "unknown field `retires`", "`retries`"]),
    ("command = [\"true\"]\ntimeout = \"5 parsecs\"", &["timeout", "ms, s, m, h, d"]),
    ("command = [\"true\"]\nbackoff = \"often\"", &["backoff", "fixed:10s"]),
    ("command = [\"true\"]\nbackoff = \"exponential:1h..5s\"", &["backoff"]),
    ("command = [\"true\"]\nlock = \"{who\"", &["lock", "unbalanced"]),
    ("command = [\"true\"]\nlock = \"a:{who}\"", &["lock", "{who} is no parameter"]),
    (
        "command = [\"true\"]\nlock = \"a:{who}\"\nparams.who = { type = \"list\" }",
        &["lock", "{who} is a list"],
    ),
    (
        "command = [\"true\"]\nlock = \"a:{who}\"\nparams.who = { type = \"str\" }",
        &["lock", "{who} may be missing", "default"],
    ),
    (
        "command = [\"true\"]\nretries = 1\ndelivery = \"at_most_once\"",
        &["delivery", "at_most_once allows no retries"],
    ),
    ("command = [\"true\", \"{who}\"]", &["command", "{who} is no parameter"]),
    ("retries = 1", &["[tasks.a] has no command"]),
    ("command = []", &["[tasks.a] has no command"]),
    (
        "command = [\"true\"]\nparams.n = { type = \"integer\" }",
        &["params.n", "\"integer\"", "str, int, float"],
    ),
    (
        "command = [\"true\"]\nparams.n = { type = \"int\", default = \"x\" }",
        &["params.n", "default", "whole number"],
    ),
    (
        "command = [\"true\"]\nparams.n = { type = \"str\", choices = [\"a\"], default = \"b\" }",
        &["params.n", "one of a"],
    ),
    ("command = [\"true\"]\npriority = 101", &["priority", "-100 to 100"]),
    ("command = [\"true\"]\nno_retry_on = [\"rain\"]", &["no_retry_on", "exit, signal, timeout"]),
    ("command = [\"true\"]\nrlimits.files = 3", &["rlimits.files", "nofile"]),
];

#[test]
fn a_bad_manifest_is_refused_and_the_running_revision_stays() {
    let queue = Queue::with(ONE);
    for (text, wanted) in BAD {
        let whole = text.is_empty() || text.starts_with("[app]");
        let head = if whole { "" } else { "[app]\nname = \"demo\"\n[tasks.a]\n" };
        queue.manifest(&format!("{head}{text}"));
        let refused = queue.say("deploy").run().exits(2);
        let said = refused.errors();
        assert!(said.contains("capsule.toml"), "it names the file: {said}");
        for word in wanted {
            assert!(said.contains(word), "{word:?} for {text:?}: {said}");
        }
    }
    let big = format!("[app]\nname = \"demo\"\n{}", "# x\n".repeat(70_000));
    queue.manifest(&big);
    assert!(queue.say("deploy").run().exits(2).errors().contains("the limit is 262144"));
    queue.say("deploy no/such.toml").run().exits(2);
    queue.say("deploy /etc/passwd").run().exits(2);

    let app = queue.json("app show demo");
    assert_eq!((&app["revision"], &app["tasks"]), (&json!(1), &json!(1)));
    queue.say("run one").run().exits(0);
}

#[test]
fn an_app_goes_back_to_a_revision_and_is_removed() {
    let queue = Queue::with("[tasks.say]\ncommand = [\"echo\", \"one\"]\n");
    queue.deploy("[tasks.say]\ncommand = [\"echo\", \"two\"]\n").exits(0);
    let said = |queue: &Queue| queue.say("run say").run().exits(0).errors();
    assert_eq!(said(&queue), "two\n");

    let back = queue.say("app rollback demo").run().exits(0).text();
    assert!(back.starts_with("deployed demo@r1"), "{back}");
    assert_eq!(said(&queue), "one\n");
    queue.say("app rollback demo r2").run().exits(0);
    assert_eq!(said(&queue), "two\n");
    queue.say("app rollback demo r9").run().exits(4);
    queue.say("app rollback nobody").run().exits(4);

    let revisions = queue.json("app revisions demo");
    let current: Vec<&serde_json::Value> =
        revisions.as_array().unwrap().iter().filter(|it| it["current"] == true).collect();
    assert_eq!(current.len(), 1, "{revisions}");
    assert_eq!(current[0]["revision"], 2);
    let list = queue.json("app list");
    assert_eq!((&list[0]["name"], &list[0]["revision"]), (&json!("demo"), &json!(2)));
    assert_eq!(list[0]["dir"], queue.dir().canonicalize().unwrap().display().to_string());

    let waiting = queue.submit("say --hold");
    queue.say("app remove demo").run().exits(7);
    let removed = queue.json("app remove demo --yes");
    assert_eq!(removed["waiting"], 1);
    assert_eq!(queue.home.show(waiting)["status"], "pending", "it waits for the app to return");
    assert_eq!(queue.json("app list"), json!([]));
    queue.say("submit say").run().exits(2);
    // Its tasks stay known, and it can come again.
    assert!(queue.count() >= 4);
    queue.say("deploy").run().exits(0);
    assert_eq!(said(&queue), "two\n");
    queue.say(&format!("edit {waiting} --no-hold")).run().exits(0);
    assert_eq!(queue.home.ended(waiting)["status"], "completed");
}
