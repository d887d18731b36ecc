//! Verbs that steer tasks, and waiting for them.

use std::io::{BufRead as _, BufReader, Read as _};

use capsule_proto::v1::Status;

use crate::fake::{Fake, task};

fn with_tasks() -> Fake {
    let fake = Fake::start();
    let mut state = fake.lock();
    state.tasks.push(task(1842, "sync_leads", Status::Running));
    state.tasks.push(task(1843, "sync_leads", Status::Running));
    state.tasks.push(task(1844, "report", Status::Failed));
    drop(state);
    fake
}

#[test]
fn cancel_waits_and_says_how_it_ended() {
    let fake = with_tasks();
    let ended = fake.run(&["cancel", "#1842", "--now"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "1842  cancelled (killed)\n"), "{ended:?}");
    assert_eq!(fake.lock().heard, ["cancel grace=Some(0) dry=false"]);
    let ended = fake.run(&["cancel", "1844"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "1844 already ended\n"));
}

#[test]
fn many_need_a_yes() {
    let fake = with_tasks();
    let words = ["cancel", "--status", "running", "--all"];
    let ended = fake.run(&words);
    assert_eq!(ended.code, 7);
    assert!(ended.err.contains("About to cancel 2 tasks (sync_leads ×2)."), "{}", ended.err);
    assert!(ended.err.contains("--yes"), "{}", ended.err);
    assert_eq!(fake.lock().heard, ["cancel grace=None dry=true"]);
    let ended = fake.run(&[&words[..], &["--yes"]].concat());
    assert_eq!((ended.code, ended.out.lines().count()), (0, 2), "{ended:?}");
    let ended = fake.run(&["rm", "--status", "scheduled", "--all"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, "no task matches\n"));
}

#[test]
fn a_filter_needs_all() {
    let fake = with_tasks();
    for verb in ["cancel", "retry", "rm", "wait"] {
        let ended = fake.run(&[verb, "--status", "running"]);
        assert_eq!(ended.code, 2, "{verb}");
        assert!(ended.err.contains("--all"), "{verb}: {}", ended.err);
    }
}

#[test]
fn ids_come_on_stdin() {
    let fake = with_tasks();
    let ended = fake.run_with(&["retry", "-", "--timeout", "20m"], "1844  failed\n");
    assert_eq!((ended.code, ended.out.as_str()), (0, "1844  retried\n"), "{ended:?}");
    assert_eq!(fake.lock().heard, ["retry timeout=Some(1200000) new=false"]);
    assert_eq!(fake.run_with(&["retry", "-"], "").code, 2);
}

#[test]
fn edit_promote_and_remove() {
    let fake = with_tasks();
    assert_eq!(fake.run(&["edit", "1842", "--priority", "-5", "--no-hold"]).code, 0);
    assert_eq!(fake.run(&["promote", "1842"]).out, "1842  promoted\n");
    assert_eq!(fake.run(&["rm", "1844"]).out, "1844  removed\n");
    assert_eq!(
        fake.lock().heard,
        ["edit priority=Some(-5) hold=Some(false)", "promote", "remove dry=false"]
    );
    assert_eq!(fake.run(&["edit", "1842"]).code, 2);
}

#[test]
fn prune_asks_first() {
    let fake = with_tasks();
    let words = ["prune", "--status", "failed", "--older-than", "30d"];
    assert_eq!(fake.run(&words).code, 7);
    let ended = fake.run(&[&words[..], &["-y"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (0, "removed 1\n"));
    let ended = fake.run(&[&words[..], &["--dry-run"]].concat());
    assert_eq!((ended.code, ended.out.as_str()), (0, "1844  would be removed\n"));
    assert_eq!(fake.run(&["prune"]).code, 2);
}

#[test]
fn waiting() {
    let fake = with_tasks();
    fake.lock().endless = true;
    assert_eq!(fake.run(&["wait", "1842", "--timeout", "0"]).code, 24);
    assert_eq!(fake.run(&["wait", "1842", "--timeout", "20ms"]).code, 124);
    assert_eq!(fake.run(&["wait", "1844"]).code, 20);
    assert_eq!(fake.run(&["wait", "1844", "--for", "done"]).code, 0);
    assert_eq!(fake.run(&["wait", "--status", "scheduled", "--all"]).code, 4);
    fake.lock().endless = false;
    let ended = fake.run(&["wait", "1842", "1843"]);
    assert_eq!(ended.out, "1842  completed  sync_leads\n1843  completed  sync_leads\n");
    assert_eq!(ended.code, 0);
}

#[test]
fn results() {
    let fake = with_tasks();
    fake.lock().result_json = "\"ten\"".to_owned();
    assert_eq!(fake.run(&["result", "1842"]).code, 24);
    let ended = fake.run(&["result", "1842", "--wait", "--raw"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "ten\n"));
    assert_eq!(fake.run(&["result", "1842"]).out, "\"ten\"\n");
    assert_eq!(fake.run(&["result", "1844"]).code, 20);
}

#[test]
fn a_wait_outlives_the_daemon() {
    let mut fake = with_tasks();
    fake.lock().endless = true;
    let mut child = fake.command(&["wait", "1844", "1842"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    out.read_line(&mut told).unwrap();
    assert_eq!(told, "1844  failed  report\n");
    fake.die();
    fake.lock().endless = false;
    fake.serve();
    told.clear();
    out.read_to_string(&mut told).unwrap();
    assert_eq!(told, "1842  completed  sync_leads\n");
    let ended = crate::fake::ended(child);
    assert_eq!(ended.code, 20);
    assert!(ended.err.contains("the daemon went away"), "{}", ended.err);
}
