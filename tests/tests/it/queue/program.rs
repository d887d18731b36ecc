//! What a program of a definition is given and what it may leave: argv, payload, result, events,
//! the daemon itself. The examples that `docs/programs.md` shows run here as they are.

use std::fs;
use std::path::{Path, PathBuf};

use capsule_tests::wait_for;
use serde_json::{Value, json};

use super::Queue;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/programs").canonicalize().unwrap()
}

/// The examples, deployed from where they are.
fn deployed() -> Queue {
    let queue = Queue::bare();
    queue.say("deploy").args([examples()]).run().exits(0);
    queue
}

fn greets(queue: &Queue, id: u64, greeting: &str) {
    let task = queue.home.ended(id);
    assert_eq!(task["status"], "completed", "{task}");
    assert_eq!(task["result"], json!({"greeted": 2, "attempt": 1}));
    let said = String::from_utf8(queue.home.output(id)).unwrap();
    assert_eq!(said, format!("{greeting}, Ada\n{greeting}, Bob B.\n"));
    let words = ["tail", &id.to_string(), "--no-follow", "-n", "all", "--stream", "event"];
    let events = queue.home.capsule(words).run().exits(0).text();
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"done": 2, "total": 2, "text": "people"}));
}

#[test]
fn the_example_in_shell_runs() {
    let queue = deployed();
    let words = ["hello_sh", "--names", "Ada", "--names", "Bob B."];
    let id = queue.home.submit(words);
    greets(&queue, id, "Hello");
    let result = queue.say(&format!("result {id}")).run().exits(0).json();
    assert_eq!(result["greeted"], 2);
    let id = queue.home.submit([words.as_slice(), &["--greeting", "Servus"]].concat());
    greets(&queue, id, "Servus");
}

#[test]
fn the_example_in_python_runs() {
    let queue = deployed();
    let payload = r#"{"greeting": "Moin", "names": ["Ada", "Bob B."]}"#;
    greets(&queue, queue.home.submit(["hello_py", "--payload", payload]), "Moin");
}

#[test]
fn the_example_in_rust_runs() {
    let queue = deployed();
    let program = queue.home.program("examples/hello");
    assert!(Path::new(&program).is_file(), "{program} is not built: cargo build --examples");
    let words = ["hello_rs", "--program", &program, "--names", "Ada", "--names", "Bob B."];
    greets(&queue, queue.home.submit(words), "Hello");
}

#[test]
fn the_example_that_submits_another_task_runs() {
    let queue = deployed();
    let id = queue.submit("hello_all --names Ada --names Eve");
    let task = queue.home.ended(id);
    assert_eq!((&task["status"], &task["result"]["greeted"]), (&json!("completed"), &json!(2)));
    assert_eq!(queue.count(), 2);
    let said = String::from_utf8(queue.home.output(id)).unwrap();
    assert_eq!(said, format!("task {id} submitted task {}\n", id + 1));
}

#[test]
fn the_page_about_programs_tells_what_is_there() {
    let page = fs::read_to_string(examples().join("../../docs/programs.md")).unwrap();
    let variables = [
        "CAPSULE_TASK_ID",
        "CAPSULE_ATTEMPT",
        "CAPSULE_TASK",
        "CAPSULE_APP",
        "CAPSULE_SOCKET",
        "CAPSULE_PAYLOAD_FILE",
        "CAPSULE_RESULT_FILE",
        "CAPSULE_EVENT_FD",
    ];
    for variable in variables {
        assert!(page.contains(variable), "{variable}");
    }
    // A task has these and no others.
    let queue = Queue::with("[tasks.env]\ncommand = [\"env\"]\n");
    let text = queue.say("run env").run().exits(0).errors();
    let mut seen: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("CAPSULE_"))
        .filter_map(|line| line.split('=').next())
        .collect();
    seen.sort_unstable();
    let mut wanted = variables;
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    for name in ["hello.sh", "hello.py", "hello.rs", "hello_all.sh"] {
        let code = fs::read_to_string(examples().join(name)).unwrap();
        assert!(page.contains(code.trim_end()), "docs/programs.md shows another {name}");
    }
}

#[test]
fn words_payload_and_surroundings_arrive() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", 'for word; do echo \"<$word>\"; done; cat $CAPSULE_PAYLOAD_FILE; \
         echo; echo $CAPSULE_TASK/$CAPSULE_APP/$CAPSULE_TASK_ID/$CAPSULE_ATTEMPT; echo $MORE; pwd', \"t\", \
         \"{s}\", \"--n={n}\", \"{list}\", \"{none}\", \"{{s}}\", \"{b}\"]\n\
         env = { MORE = \"given here\" }\ncwd = \"sub\"\n\
         [tasks.t.params]\ns = \"str\"\nn = { type = \"int\", default = 3 }\nlist = { type = \"list\", default = [] }\n\
         none = { type = \"str\" }\nb = { type = \"bool\" }\n",
    );
    fs::create_dir(queue.dir().join("sub")).unwrap();
    let id = queue.home.submit([
        "t",
        "--s",
        "it's \"a\" $HOME\nline",
        "--list",
        "x y",
        "--list",
        "",
        "--b",
    ]);
    assert_eq!(queue.home.ended(id)["status"], "completed");
    let said = String::from_utf8(queue.home.output(id)).unwrap();
    let folder = queue.dir().join("sub").canonicalize().unwrap();
    let wanted = format!(
        "<it's \"a\" $HOME\nline>\n<--n=3>\n<x y>\n<>\n<{{s}}>\n<true>\n\
         {{\"s\":\"it's \\\"a\\\" $HOME\\nline\",\"n\":3,\"list\":[\"x y\",\"\"],\"b\":true}}\n\
         t/demo/{id}/1\ngiven here\n{}\n",
        folder.display()
    );
    assert_eq!(said, wanted);
    // A large payload comes whole.
    let text = "x".repeat(900_000);
    fs::write(queue.dir().join("big"), &text).unwrap();
    queue.deploy("[tasks.big]\ncommand = [\"sh\", \"-c\", \"wc -c < $CAPSULE_PAYLOAD_FILE\"]\nparams.s = \"str\"\n").exits(0);
    assert_eq!(
        queue.say("run big --s @big").run().exits(0).errors().trim(),
        (900_000 + 8).to_string()
    );
}

#[test]
fn progress_is_seen_while_it_runs() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", '''\n\
         echo '{\"done\": 3, \"total\": 12, \"text\": \"leads\"}' >&$CAPSULE_EVENT_FD\n\
         echo 'not json' >&$CAPSULE_EVENT_FD\n\
         echo '{\"done\": 4, \"total\": 12, \"text\": \"leads\"}' >&$CAPSULE_EVENT_FD\n\
         until [ -e go ]; do sleep 0.02; done''']\n",
    );
    let id = queue.submit("t");
    wait_for("its progress is told", || {
        (queue.home.show(id)["progress"]["done"] == 4.0).then_some(())
    });
    let progress = queue.home.show(id)["progress"].clone();
    assert_eq!((&progress["total"], &progress["text"]), (&json!(12.0), &json!("leads")));
    let listed = queue.say("list").run().exits(0).text();
    assert!(listed.contains("4/12 leads"), "{listed}");
    assert_eq!(queue.json("list")[0]["progress"], progress);
    fs::write(queue.dir().join("go"), "").unwrap();
    assert_eq!(queue.home.ended(id)["status"], "completed");
    assert!(queue.home.output(id).is_empty(), "events are no output");
}

#[test]
fn a_result_may_be_missing_no_json_or_too_big() {
    let queue = Queue::with(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"{script}\"]\nparams.script = \"str\"\n",
    );
    let result = |script: &str| {
        let id = queue.home.submit(["t", "--script", script]);
        let task = queue.home.ended(id);
        assert_eq!(task["status"], "completed", "{task}");
        task
    };
    assert_eq!(result("true")["result"], Value::Null);
    assert_eq!(result("echo '[1, 2]' > $CAPSULE_RESULT_FILE")["result"], json!([1, 2]));
    assert_eq!(result("printf words > $CAPSULE_RESULT_FILE")["result"], "words");
    let big = result("head -c 2000000 /dev/zero > $CAPSULE_RESULT_FILE");
    assert_eq!(big["result"], Value::Null);
    assert!(queue.home.log().contains("it is over 1 MiB"), "the daemon says why");
    let odd = result("rm -f $CAPSULE_RESULT_FILE; mkfifo $CAPSULE_RESULT_FILE");
    assert_eq!(odd["result"], Value::Null, "a pipe nobody writes to blocks nobody");
}
