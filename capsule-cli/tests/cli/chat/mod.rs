//! Talking to an app; the app is played by a script.

mod server;

use std::io::{BufRead as _, BufReader, Read as _};

use capsule_proto::v1::chat_event::Event;
use capsule_proto::v1::{Block, Card, Notification, Status, TextChunk, TurnEnd};

use crate::fake::{Fake, ended, task};

fn text(text: &str) -> Event {
    Event::Text(TextChunk { request_id: "r".to_owned(), text: text.to_owned() })
}

fn card(status: Status) -> Event {
    let task = task(1842, "sync_leads", status);
    Event::Card(Card { message: "Lead sync started".to_owned(), task: Some(task) })
}

fn turn_end(error: &str) -> Event {
    Event::TurnEnd(TurnEnd { request_id: "r".to_owned(), error: error.to_owned() })
}

fn saying(events: Vec<Event>) -> Fake {
    let fake = Fake::start();
    fake.lock().chat = events;
    fake
}

#[test]
fn once_prints_the_reply_and_leaves_the_task_running() {
    let fake = saying(vec![text("on "), card(Status::Pending), text("it\x1b[2J"), turn_end("")]);
    let ended = fake.run(&["chat", "leads", "--as", "ada", "--org", "acme", "--once", "sync"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "on \npending 1842 sync_leads  Lead sync started\nit\n");
    assert_eq!(ended.err, "1842 goes on: capsule tail 1842\n");
    let heard = ["open leads ada acme session=", "say \"sync\" in s1"];
    assert_eq!(fake.lock().heard, heard);
}

#[test]
fn wait_ends_with_the_tasks_and_by_how_they_ended() {
    let events = vec![card(Status::Running), turn_end(""), text("halfway\n"), card(Status::Failed)];
    let fake = saying(events);
    let ended = fake.run(&["chat", "leads", "--once", "sync", "--wait"]);
    assert_eq!(ended.code, 20, "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert!(lines[2].starts_with("failed 1842"), "{ended:?}");
}

#[test]
fn an_error_of_the_app_is_told_and_exits_1() {
    let fake = saying(vec![turn_end("ValueError: no\x1b")]);
    let ended = fake.run(&["chat", "leads", "--once", "sync"]);
    assert_eq!((ended.code, ended.err.as_str()), (1, "error: ValueError: no\\u{1b}\n"));
}

#[test]
fn lines_of_stdin_are_messages_one_turn_after_the_other() {
    let note = Notification { text: "halfway".to_owned(), detail: "of\tit".to_owned() };
    let block = Block { id: "b1".to_owned(), r#type: "table".to_owned(), json: "{}".to_owned() };
    let events = vec![text("hello"), Event::Notification(note), Event::Block(block), turn_end("")];
    let fake = saying(events);
    let ended = fake.run_with(&["chat", "-q"], "one\n\ntwo\n");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out.matches("hello\n* halfway of").count(), 2, "{ended:?}");
    assert!(ended.out.contains("[table] b1"), "{ended:?}");
    let heard = fake.lock().heard.join(", ");
    assert_eq!(heard, "open    session=, say \"one\" in s1, say \"two\" in s1");
}

#[test]
fn json_is_one_event_a_line() {
    let fake = saying(vec![text("on it"), card(Status::Completed), turn_end("")]);
    let ended = fake.run(&["chat", "leads", "--once", "sync", "--json"]);
    let kinds: Vec<String> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["opened", "text", "card", "turn_end"], "{ended:?}");
}

#[test]
fn ctrl_c_leaves_the_tasks_alone() {
    let fake = saying(vec![card(Status::Running)]);
    let mut child = fake.command(&["chat", "leads", "--once", "sync", "--wait"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("running 1842"), "{line}");
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    out.read_to_string(&mut line).unwrap();
    let ended = ended(child);
    assert_eq!((ended.code, ended.err.as_str()), (130, "1842 goes on: capsule tail 1842\n"));
}

#[test]
fn sessions_are_listed() {
    let fake = saying(Vec::new());
    let ended = fake.run(&["chat", "leads", "--list"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("s1") && ended.out.contains("sync acme"), "{}", ended.out);
    let ended = fake.run(&["chat", "leads", "--list", "-q"]);
    assert_eq!(ended.out, "s1\n");
}
