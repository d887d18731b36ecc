//! `submit`: what goes to the daemon, and what is printed.

use capsule_proto::v1::submit_request::Work;
use capsule_proto::v1::{Call, Program, Status};

use crate::fake::{Fake, sync_leads, task};

fn call(fake: &Fake) -> Call {
    match fake.last_submit().work.unwrap() {
        Work::Call(call) => call,
        Work::Program(program) => panic!("a program: {program:?}"),
    }
}

fn program(fake: &Fake) -> Program {
    match fake.last_submit().work.unwrap() {
        Work::Program(program) => program,
        Work::Call(call) => panic!("a call: {call:?}"),
    }
}

fn with_app() -> Fake {
    let fake = Fake::start();
    fake.lock().definitions.push(sync_leads());
    fake
}

#[test]
fn a_program_is_sent_with_its_folder_and_the_environment_that_it_needs() {
    let fake = Fake::start();
    let words = ["submit", "--env", "A=1", "--in", "5m", "--", "echo", "--wait", "a b"];
    let mut command = fake.command(&words);
    command.env("SECRET", "x").env("LC_TIME", "C").current_dir("/usr");
    let ended = crate::fake::ended(command.spawn().unwrap());
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "1842\n", ""));
    let it = program(&fake);
    assert_eq!(it.argv, ["echo", "--wait", "a b"]);
    assert_eq!(it.cwd, "/usr");
    assert_eq!(it.env.get("A").map(String::as_str), Some("1"));
    assert!(it.env.contains_key("PATH") && it.env.contains_key("LC_TIME"));
    assert!(!it.env.contains_key("SECRET") && !it.env.contains_key("CAPSULE_SOCKET"));
    assert_eq!(fake.last_submit().options.unwrap().delay_ms, Some(300_000));
}

#[test]
fn all_of_the_environment_and_stdin_on_request() {
    let fake = Fake::start();
    let mut command =
        fake.command(&["submit", "--env-all", "--stdin", "-", "--shell", "--", "cat | wc"]);
    command.env("SECRET", "x").stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"in\0put").unwrap();
    assert_eq!(crate::fake::ended(child).code, 0);
    let it = program(&fake);
    assert!(it.shell && it.env.contains_key("SECRET"));
    assert_eq!(it.stdin.as_deref(), Some(b"in\0put".as_slice()));
}

#[test]
fn words_behind_a_task_go_raw_without_our_flags() {
    let fake = with_app();
    let words = [
        "submit",
        "-q",
        "sync_leads",
        "--owner-id",
        "acme",
        "--queue",
        "slow",
        "--limit=5",
        "-l",
        "a=b",
    ];
    let ended = fake.run(&words);
    assert_eq!((ended.code, ended.out.as_str()), (0, "1842\n"), "{ended:?}");
    let it = call(&fake);
    assert_eq!(it.raw, ["--owner-id", "acme", "--limit=5"]);
    assert_eq!(it.taken, ["queue"]);
    let options = fake.last_submit().options.unwrap();
    assert_eq!(options.queue, "slow");
    assert_eq!(options.labels.get("a").map(String::as_str), Some("b"));
}

#[test]
fn a_flag_that_is_a_parameter_goes_to_the_task() {
    let fake = with_app();
    let ended = fake.run(&["submit", "sync_leads", "--owner-id", "acme", "--wait", "5"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "1842\n"), "{ended:?}");
    assert_eq!(call(&fake).raw, ["--owner-id", "acme", "--wait", "5"]);
    assert_eq!(fake.lock().submits.len(), 2);
    let ended = fake.run(&["submit", "--wait", "sync_leads", "--owner-id", "acme", "--wait", "5"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(call(&fake).raw, ["--owner-id", "acme", "--wait", "5"]);
}

#[test]
fn typos_are_explained_by_the_definition() {
    let fake = with_app();
    let ended = fake.run(&["submit", "sync_leads", "--owner-idd", "acme"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("a similar argument exists: '--owner-id'"), "{}", ended.err);
    let ended = fake.run(&["submit", "sync_leads"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--owner-id <TEXT>"), "{}", ended.err);
    let ended = fake.run(&["submit", "sync_lead", "--owner-id", "acme"]);
    assert_eq!(ended.code, 2);
    let expected =
        "error: unrecognized task 'sync_lead'\n  tip: a similar task exists: 'sync_leads'\n";
    assert_eq!(ended.err, expected);
}

#[test]
fn help_behind_the_name_is_the_tasks() {
    let fake = with_app();
    let ended = fake.run(&["submit", "sync_leads", "--help"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for expected in
        ["Sync the leads", "Task parameters:", "--owner-id <TEXT>", "Capsule options:", "--key"]
    {
        assert!(ended.out.contains(expected), "{expected}: {}", ended.out);
    }
    assert!(fake.lock().submits.is_empty());
}

#[test]
fn parameters_come_in_four_ways() {
    let fake = with_app();
    let file = fake.path("body");
    std::fs::write(&file, "--from a file").unwrap();
    let at = format!("@{}", file.display());
    let words = [
        "submit",
        "sync_leads",
        "-p",
        &format!("owner_id={at}"),
        "-P",
        "limit:=[1]",
        "--payload",
        "{\"x\":1}",
    ];
    assert_eq!(fake.run(&words).code, 0);
    let it = call(&fake);
    assert_eq!(it.payload_json, "{\"x\":1}");
    assert_eq!((it.params[0].value.as_str(), it.params[0].json), ("--from a file", false));
    assert_eq!((it.params[1].value.as_str(), it.params[1].json), ("[1]", true));
    assert_eq!(fake.run(&["submit", "sync_leads", "--owner-id", &at]).code, 0);
    assert_eq!(call(&fake).raw, ["--owner-id=--from a file"]);
}

#[test]
fn rows_go_in_batches_and_bad_ones_are_told() {
    let fake = with_app();
    let rows = "{\"owner_id\":\"acme\"}\n".repeat(2500);
    let ended = fake.run_with(&["submit", "sync_leads", "--each", "-"], &rows);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 2500), "{}", ended.err);
    assert_eq!(fake.lock().heard, ["batch 1000", "batch 1000", "batch 500"]);
    let ended =
        fake.run_with(&["submit", "sync_leads", "--each", "-"], "{\"a\":1}\n\n{\"bad\":1}\n");
    assert_eq!((ended.code, ended.out.lines().count()), (2, 1));
    assert_eq!(ended.err, "error: row 2: bad row\n");
}

#[test]
fn a_merged_submit_prints_the_id_that_stands() {
    let fake = with_app();
    fake.lock().tasks.push(task(1842, "rebuild_index", Status::Running));
    fake.lock().merged = true;
    let words = ["submit", "sync_leads", "--owner-id", "acme"];
    let ended = fake.run(&words);
    assert_eq!((ended.code, ended.out.as_str()), (0, "1842\n"));
    let ended = fake.run(&[&words[..], &["--json=id,merged"]].concat());
    assert_eq!(ended.out, "{\"id\":1842,\"merged\":true}\n");
}

#[test]
fn a_dry_run_queues_nothing() {
    let fake = with_app();
    let ended = fake.run(&["submit", "sync_leads", "--owner-id", "acme", "--dry-run"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "{\n  \"a\": 1\n}\n"), "{ended:?}");
    assert!(fake.last_submit().dry_run && fake.lock().tasks.is_empty());
}

#[test]
fn waiting_exits_by_the_outcome() {
    let fake = Fake::start();
    fake.lock().ending = task(0, "", Status::Timeout);
    assert_eq!(fake.run(&["submit", "--wait", "--", "sleep", "9"]).code, 22);
}
