//! Parameters of a task as flags of the command line.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use super::Queue;

const EVERY: &str = r#"
[tasks.every]
help = "Take one of each"
command = ["true"]
[tasks.every.params]
name_of = { type = "str", required = true, help = "Whose it is" }
count = { type = "int", default = 7 }
share = { type = "float", default = 0.5 }
loud = { type = "bool" }
quiet = { type = "bool", default = true }
tags = { type = "list", default = [] }
body = { type = "json", default = { a = 1 } }
file = { type = "path" }
at_time = { type = "datetime" }
every = { type = "duration", default = "5m" }
stage = { type = "str", choices = ["new", "won"], default = "new" }
"#;

/// The arguments that a task was submitted with.
#[track_caller]
fn given(queue: &Queue, words: &[&str]) -> Value {
    let words = ["submit", "every", "--json", "--dry-run"].iter().chain(words);
    queue.home.capsule(words).run().exits(0).json()["payload"].clone()
}

#[test]
fn each_type_comes_through_flags() {
    let queue = Queue::with(EVERY);
    let defaults = given(&queue, &["--name-of", "acme"]);
    assert_eq!(
        defaults,
        json!({"name_of": "acme", "count": 7, "share": 0.5, "loud": false, "quiet": true,
               "tags": [], "body": {"a": 1}, "every": "5m", "stage": "new"})
    );
    let words = [
        "--name_of=a=b c",
        "--count",
        "-3",
        "--share",
        "2.25",
        "--loud",
        "--no-quiet",
        "--tags",
        "x",
        "--tags",
        "y z",
        "--body",
        "[1, null]",
        "--file",
        "in/data.csv",
        "--at-time",
        "2026-12-01T09:00:00+01:00",
        "--every",
        "90s",
        "--stage",
        "won",
    ];
    let whole = given(&queue, &words);
    let file = queue.dir().join("in/data.csv").display().to_string();
    assert_eq!(
        whole,
        json!({"name_of": "a=b c", "count": -3, "share": 2.25, "loud": true, "quiet": false,
               "tags": ["x", "y z"], "body": [1, null], "file": file,
               "at_time": "2026-12-01T08:00:00Z", "every": "1m30s", "stage": "won"})
    );
    let off = given(&queue, &["--name-of", "", "--loud=false", "--quiet=true", "--file", "/x"]);
    assert_eq!(
        (&off["loud"], &off["quiet"], &off["file"]),
        (&json!(false), &json!(true), &json!("/x"))
    );
    assert_eq!(off["name_of"], "");
    assert_eq!(queue.count(), 0, "a dry run queues nothing");
}

#[test]
fn a_payload_a_pair_and_a_flag_stand_over_each_other_in_this_order() {
    let queue = Queue::with(EVERY);
    let payload = r#"{"name_of": "p", "count": 1, "share": 1, "tags": ["p"]}"#;
    let seen =
        given(&queue, &["--payload", payload, "-p", "count=2", "-P", "share:=3.5", "--share", "4"]);
    assert_eq!(
        (&seen["name_of"], &seen["count"], &seen["share"]),
        (&json!("p"), &json!(2), &json!(4.0))
    );
    assert_eq!(seen["tags"], json!(["p"]));

    fs::write(queue.dir().join("p.json"), payload).unwrap();
    assert_eq!(given(&queue, &["--payload", "@p.json"])["name_of"], "p");
    let stdin = queue.say("submit every --json --dry-run --payload -").stdin(payload).run();
    assert_eq!(stdin.exits(0).json()["payload"]["name_of"], "p");
    fs::write(queue.dir().join("name.txt"), "from\na file").unwrap();
    assert_eq!(given(&queue, &["--name-of", "@name.txt"])["name_of"], "from\na file");
    assert_eq!(given(&queue, &["--name-of", "@@name.txt"])["name_of"], "@name.txt");
    let json =
        given(&queue, &["-p", "name_of=5", "-P", "tags:=[\"a\", \"b\"]", "-P", "body:=\"t\""]);
    assert_eq!((&json["name_of"], &json["body"]), (&json!("5"), &json!("t")));
    assert_eq!(json["tags"], json!(["a", "b"]));
}

#[test]
fn the_help_of_a_task_names_its_parameters() {
    let queue = Queue::with(EVERY);
    for words in ["submit every --help", "run every --help", "submit every -h"] {
        let help = queue.say(words).run().exits(0).text();
        for part in [
            "Take one of each",
            "--name-of <TEXT>",
            "Whose it is",
            "--count <INT>",
            "[default: 7]",
            "--share <FLOAT>",
            "--loud",
            "--tags <ITEM>",
            "--body <JSON>",
            "--file <PATH>",
            "--at-time <DATETIME>",
            "--every <DURATION>",
            "new, won",
            "Capsule options",
        ] {
            assert!(help.contains(part), "{part:?} of {words}: {help}");
        }
    }
    let all = queue.json("tasks every");
    let names: Vec<&str> =
        all["params"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 11, "{names:?}");
    assert_eq!(queue.json("tasks")[0]["name"], "every");
}

/// Words behind `capsule submit` that are refused, and what the refusal must say.
const BAD: [(&str, &[&str]); 20] = [
    ("evry --name-of a", &["evry", "every"]),
    ("nothing-like-it", &["nothing-like-it", "capsule tasks"]),
    ("every", &["--name-of <TEXT>"]),
    ("every --nam-of a", &["--nam-of", "--name-of"]),
    ("every --name-of a --cuont 3", &["--cuont", "--count"]),
    ("every --name-of", &["--name-of <TEXT>", "value is required"]),
    ("every --name-of a --count", &["--count <INT>", "value is required"]),
    ("every --name-of a --count three", &["--count <INT>", "three"]),
    ("every --name-of a --count 99999999999999999999", &["--count <INT>"]),
    ("every --name-of a --share half", &["--share <FLOAT>", "half"]),
    ("every --name-of a --loud=maybe", &["--loud", "maybe", "true"]),
    ("every --name-of a --body {", &["--body", "JSON"]),
    ("every --name-of a --at-time yesterday-ish", &["--at-time", "a time as"]),
    ("every --name-of a --every 5parsecs", &["--every", "a duration as"]),
    ("every --name-of a --stage lost", &["--stage", "new, won"]),
    ("every --name-of a stray", &["stray"]),
    ("every --name-of a --name-of b", &["--name-of", "multiple times"]),
    ("every --payload [1]", &["--payload", "JSON object"]),
    ("every --payload {\"name_of\":\"a\",\"x\":1}", &["x"]),
    ("every -p name_of", &["NAME=TEXT"]),
];

#[test]
fn words_that_do_not_fit_are_refused_and_nothing_is_queued() {
    let queue = Queue::with(EVERY);
    for (words, wanted) in BAD {
        let said = queue.say(&format!("submit {words}")).run().exits(2).errors();
        for word in wanted {
            assert!(said.contains(word), "{word:?} for {words:?}: {said}");
        }
        let told = queue.say(&format!("submit {words} --json")).run();
        if !words.ends_with("-of") && !words.ends_with("--count") {
            let error: Value = serde_json::from_slice(&told.err).unwrap();
            assert_eq!(error["error"]["exit"], 2, "{error}");
        }
    }
    assert_eq!(queue.count(), 0);
}

/// Every long option of `capsule submit` and of `capsule` itself, and some of other verbs.
fn reserved(queue: &Queue) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for verb in ["submit --help", "run --help", "--help", "wait --help", "list --help"] {
        let help = queue.say(verb).run().exits(0).text();
        let options = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        for option in options {
            let end = |c: char| !c.is_ascii_lowercase() && c != '-';
            let name = option.split(end).next().unwrap_or_default().trim_matches('-');
            if !name.is_empty() && !names.iter().any(|it| it == name) {
                names.push(name.to_owned());
            }
        }
    }
    assert!(names.len() > 40, "{names:?}");
    names
}

#[test]
fn every_reserved_name_can_be_a_parameter() {
    let queue = Queue::bare();
    let names = reserved(&queue);
    let fields: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
    let mut tables = String::from("[tasks.all]\ncommand = [\"true\"]\n");
    for field in &fields {
        writeln!(tables, "params.{field} = {{ type = \"str\", default = \"\" }}").unwrap();
    }
    for field in &fields {
        let head = format!("[tasks.only_{field}]\ncommand = [\"true\"]");
        writeln!(tables, "{head}\nparams.{field} = \"str\"").unwrap();
    }
    queue.deploy(&tables).exits(0);

    let seen = |words: &[&str]| {
        let call = queue.home.capsule(words).env("CAPSULE_FORMAT", "json");
        call.run().exits(0).json()["payload"].clone()
    };
    for (name, field) in names.iter().zip(&fields) {
        let flag = format!("--{name}");
        let joined = format!("--{name}=v a l");
        let only = format!("only_{field}");
        // Ours stand before the name of the task, its own behind it, in both forms.
        for own in [["all", joined.as_str()].as_slice(), &[&only, &flag, "v a l"]] {
            let words = [&["submit", "--dry-run"], own].concat();
            assert_eq!(seen(&words)[field], "v a l", "{words:?}");
        }
        let pair = format!("{field}=pair");
        assert_eq!(seen(&["submit", "--dry-run", "-p", &pair, &only])[field], "pair");
    }
    let help = queue.say("submit all -h").run().exits(0).text();
    for name in &names {
        assert!(help.contains(&format!("--{name} ")), "--{name}: {help}");
    }
    // Queued for real, one for all.
    let all: Vec<String> = names.iter().map(|name| format!("--{name}=x")).collect();
    let call = queue.home.capsule(["submit", "all"]).args(&all).run().exits(0).text();
    let payload = queue.home.show(call.trim().parse().unwrap())["payload"].clone();
    assert!(fields.iter().all(|field| payload[field] == "x"), "{payload}");
}
