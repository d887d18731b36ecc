//! `run`: output, exit codes and Ctrl-C.

use std::io::{BufRead as _, BufReader, Read as _};

use capsule_proto::v1::{Status, TaskView};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::{Fake, chunk, ended, sync_leads};

fn ending(status: Status, exit_code: Option<i32>, signal: Option<i32>, reason: &str) -> TaskView {
    let reason = reason.to_owned();
    TaskView { status: status.into(), exit_code, signal, reason, ..TaskView::default() }
}

#[test]
fn a_program_has_its_own_streams_and_code() {
    let fake = Fake::start();
    {
        let mut state = fake.lock();
        state.log = vec![
            chunk("out", b"to \x1b[31mout\xc3"),
            chunk("err", b"to err\n"),
            chunk("out", b"\xa4\n"),
        ];
        state.ending = ending(Status::Failed, Some(3), None, "exit 3");
    }
    let ended = fake.run(&["run", "--", "sh", "-c", "exit 3"]);
    assert_eq!((ended.code, ended.out.as_str()), (3, "to \x1b[31moutä\n"));
    assert_eq!(ended.err, "to err\n");
}

#[test]
fn exit_codes_of_programs() {
    let cases = [
        (ending(Status::Completed, Some(0), None, ""), 0),
        (ending(Status::Failed, None, Some(9), "SIGKILL"), 137),
        (ending(Status::Failed, None, None, "cannot start: no such file or directory"), 127),
        (ending(Status::Failed, None, None, "cannot start: permission denied"), 126),
        (ending(Status::Failed, None, None, "cannot start: unknown user"), 125),
        (ending(Status::Failed, None, None, "lost: keeper died"), 23),
    ];
    for (ending, code) in cases {
        let fake = Fake::start();
        fake.lock().ending = ending.clone();
        assert_eq!(fake.run(&["run", "--", "x"]).code, code, "{ending:?}");
    }
}

#[test]
fn our_own_failure_is_125() {
    let ended = ended(crate::fake::bare(&["run", "--", "true"]).spawn().unwrap());
    assert_eq!(ended.code, 125);
    assert!(ended.err.starts_with("error: capsuled is not running"), "{}", ended.err);
}

#[test]
fn a_task_prints_its_result_and_exits_by_its_status() {
    let fake = Fake::start();
    {
        let mut state = fake.lock();
        state.definitions.push(sync_leads());
        state.log = vec![chunk("out", b"syncing\n")];
        state.result_json = "{\"synced\": 10}".to_owned();
    }
    let words = ["run", "sync_leads", "--owner-id", "acme"];
    let ended = fake.run(&words);
    assert_eq!((ended.code, ended.out.as_str()), (0, "{\"synced\":10}\n"));
    assert_eq!(ended.err, "syncing\n");
    fake.lock().ending = ending(Status::Failed, Some(3), None, "exit 3");
    assert_eq!(fake.run(&words).code, 20);
    assert_eq!(fake.run(&[&words[..], &["--exit-code"]].concat()).code, 3);
}

#[test]
fn the_log_of_a_task_without_a_result_leaves_stdout_alone() {
    let fake = Fake::start();
    {
        let mut state = fake.lock();
        let mut definition = sync_leads();
        definition.command = vec!["./sync".to_owned()];
        state.definitions.push(definition);
        state.log = vec![chunk("out", b"rows\n")];
    }
    let ended = fake.run(&["run", "sync_leads", "--owner-id", "acme"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "", "rows\n"));
}

/// Starts the command and waits until the log comes, so that it follows.
fn following(
    fake: &Fake,
    words: &[&str],
) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    {
        let mut state = fake.lock();
        state.endless = true;
        state.log = vec![chunk("out", b"begun\n")];
    }
    let mut child = fake.command(words).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    (child, out)
}

fn interrupt(child: &std::process::Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

#[test]
fn ctrl_c_asks_the_daemon_to_cancel() {
    let fake = Fake::start();
    let (child, _out) = following(&fake, &["run", "--", "sleep", "99"]);
    interrupt(&child);
    let ended = ended(child);
    assert_eq!(ended.code, 21, "{ended:?}");
    assert!(ended.err.contains("cancelling 1842"), "{}", ended.err);
    assert!(fake.lock().heard.iter().any(|heard| heard.starts_with("cancel")));
}

#[test]
fn ctrl_c_leaves_the_task_alone_when_asked_to() {
    let fake = Fake::start();
    let (mut child, mut out) =
        following(&fake, &["run", "--detach-on-interrupt", "--", "sleep", "99"]);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "1842 goes on: capsule tail 1842\n");
    assert!(!fake.lock().heard.iter().any(|heard| heard.starts_with("cancel")));
}

#[test]
fn a_daemon_that_comes_back_is_followed_on() {
    let mut fake = Fake::start();
    let (child, mut out) = following(&fake, &["run", "--", "sleep", "99"]);
    fake.die();
    fake.lock().endless = false;
    fake.lock().log = vec![chunk("out", b"ended\n")];
    fake.serve();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let ended = ended(child);
    assert_eq!((ended.code, rest.as_str()), (0, "ended\n"), "{ended:?}");
    assert!(ended.err.contains("the daemon went away"), "{}", ended.err);
}

#[test]
fn waiting_for_a_daemon_can_be_given_up() {
    let mut fake = Fake::start();
    let (mut child, _out) = following(&fake, &["run", "--", "sleep", "99"]);
    fake.die();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.contains("the daemon went away"), "{line}");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn tail_too_follows_a_daemon_that_comes_back() {
    let mut fake = Fake::start();
    fake.lock().tasks.push(crate::fake::task(1842, "x", Status::Running));
    let (child, mut out) = following(&fake, &["tail", "-f", "@last"]);
    fake.die();
    fake.lock().endless = false;
    fake.lock().log = vec![chunk("out", b"ended\n")];
    fake.serve();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((ended(child).code, rest.as_str()), (0, "ended\n"));
}
