//! What verbs print that look at things.

use std::io::Read as _;
use std::process::Stdio;

use capsule_proto::v1::Status;

use crate::fake::{Fake, chunk, sync_leads, task};

fn with_tasks() -> Fake {
    let fake = Fake::start();
    let mut failed = task(1842, "sync\x1b[2J", Status::Failed);
    failed.reason = "exit 3".to_owned();
    failed.attempt = 1;
    fake.lock().tasks.push(failed);
    fake.lock().tasks.push(task(1843, "report", Status::Completed));
    fake
}

#[test]
fn limits_are_told_in_units_for_people_and_in_numbers_for_programs() {
    let fake = Fake::start();
    let told = fake.run(&["limits"]);
    assert_eq!(told.code, 0, "{told:?}");
    let line = |name: &str| told.out.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("payload").contains("1 MiB"));
    assert!(line("keep_completed").contains("none"));
    assert!(line("keep_completed").contains("--keep-completed"));
    assert!(line("tasks").contains("1000000") && line("tasks").contains("12"));
    let json: serde_json::Value =
        serde_json::from_str(&fake.run(&["limits", "--json"]).out).unwrap();
    assert_eq!(json[0]["value"], 1 << 20);
    assert_eq!(json[1]["value"], serde_json::Value::Null);
    assert_eq!(json[2]["used"], 12);
}

#[test]
fn lists_in_every_format() {
    let fake = with_tasks();
    let ended = fake.run(&["list", "--time", "iso"]);
    let expected = "\
        ID    STATUS     TASK           OWNER  TRY  AGE                   TOOK  NOTE\n\
        1843  completed  report                -    2026-09-21T14:13:20Z  -\n\
        1842  failed     sync\\u{1b}[2J         1/1  2026-09-21T14:13:20Z  -     exit 3\n";
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, expected, ""));
    assert_eq!(fake.run(&["ls", "-q"]).out, "1843\n1842\n");
    assert_eq!(fake.run(&["ls", "-o", "id", "-n", "1"]).out, "1843\n");
    assert_eq!(fake.run(&["ls", "--all", "-o", "id"]).out, "1843\n1842\n");
    assert_eq!(fake.run(&["ls", "--count"]).out, "2\n");
    assert_eq!(
        fake.run(&["ls", "--json", "id,status", "--state", "Failed"]).out,
        "[{\"id\":1842,\"status\":\"failed\"}]\n"
    );
    assert_eq!(
        fake.run(&["ls", "-o", "ndjson", "--json=id"]).out,
        "{\"id\":1843}\n{\"id\":1842}\n"
    );
    assert_eq!(fake.run(&["ls", "--json", "nothing"]).code, 2);
    assert_eq!(fake.run(&["ls", "--json=nothing"]).code, 2);
    assert!(fake.run(&["ls", "--json=help"]).out.contains("created_at\n"));
}

#[test]
fn all_pages_are_fetched() {
    let fake = Fake::start();
    fake.lock().tasks.extend((1..=2500).map(|id| task(id, "x", Status::Completed)));
    assert_eq!(fake.run(&["ls", "--all", "-q"]).out.lines().count(), 2500);
    assert_eq!(fake.run(&["ls", "-n", "1500", "-q"]).out.lines().count(), 1500);
    assert_eq!(fake.run(&["ls", "-q"]).out.lines().count(), 20);
}

#[test]
fn show_tells_attempts_with_receipts() {
    let fake = with_tasks();
    fake.lock().log = vec![chunk("out", b"1\n2\n3\n4\n5\n6\x1b[2J\n")];
    fake.lock().error = "ValueError: \x1b[31mno".to_owned();
    let ended = fake.run(&["show", "1842"]);
    for expected in [
        "1842 sync\\u{1b}[2J  failed: exit 3",
        "attempts  1 · failed · exit 3 · 4.1s wall · 1.5s CPU · 3 MiB peak · killed",
        "error     ValueError: \\u{1b}[31mno",
        "log       (its end)  capsule tail 1842\n    2\n    3\n    4\n    5\n    6\n",
        "hint      capsule retry 1842",
    ] {
        assert!(ended.out.contains(expected), "{expected:?}: {}", ended.out);
    }
    let ended = fake.run(&["show", "1842", "1843", "--json=id,attempts"]);
    assert!(ended.out.starts_with("[{\"id\":1842,\"attempts\":[{\"number\":1,"), "{}", ended.out);
    assert!(ended.out.contains("\"wall_ms\":4100,"), "{}", ended.out);
}

#[test]
fn tail_is_raw_off_a_terminal() {
    let fake = with_tasks();
    fake.lock().log = vec![chunk("out", b"a\x1b[2J\n"), chunk("err", b"b\n")];
    let ended = fake.run(&["tail", "1842"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "a\x1b[2J\n", "b\n"));
    assert_eq!(fake.lock().heard, ["tail 1842 follow=false"]);
    let ended = fake.run(&["logs", "1842", "1843"]);
    assert_eq!(ended.out, "1842  a\x1b[2J\n1843  a\x1b[2J\n");
    let ended = fake.run(&["tail", "1842", "--json=stream,data", "-f"]);
    assert_eq!(
        ended.out,
        "{\"stream\":\"out\",\"data\":\"a\\u001b[2J\\n\"}\n{\"stream\":\"err\",\"data\":\"b\\n\"}\n"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::start();
    fake.lock().tasks.extend((1..=1000).map(|id| task(id, "x", Status::Completed)));
    for words in
        [&["ls", "--all"][..], &["ls", "--all", "--json"], &["help", "exit-codes"], &["--help"]]
    {
        let mut child = fake.command(words).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn the_daemon_its_queues_and_locks() {
    let fake = Fake::start();
    let ended = fake.run(&["status"]);
    let head = "capsuled 0.0.9 runs since 3h 5m  pid 812  1 of 8 slots in use\n";
    assert!(ended.code == 0 && ended.out.starts_with(head), "{}", ended.out);
    let own = env!("CARGO_PKG_VERSION");
    let expected = format!("capsule {own} (protocol 1.1)\ncapsuled 0.0.9 (protocol 1.0)\n");
    assert_eq!(fake.run(&["version"]).out, expected);
    assert_eq!(fake.run(&["queue", "list", "-q"]).out, "default\n");
    let ended = fake.run(&["queue", "pause", "slow", "--note", "db", "--json=name,paused,note"]);
    assert_eq!(ended.out, "{\"name\":\"slow\",\"paused\":true,\"note\":\"db\"}\n");
    assert_eq!(fake.run(&["queue", "limit", "slow", "none"]).code, 0);
    assert_eq!(fake.run(&["queue", "limit", "slow", "-1"]).code, 2);
    assert_eq!(fake.run(&["lock", "show", "owner:acme", "-q"]).out, "owner:acme\n");
    assert_eq!(fake.run(&["lock", "show", "nobody"]).code, 4);
    assert_eq!(fake.run(&["drain", "--json"]).out, "{\"draining\":true,\"running\":0}\n");
    assert_eq!(fake.run(&["drain", "--off"]).out, "tasks start again\n");
}

#[test]
fn apps_and_their_tasks() {
    let fake = Fake::start();
    fake.lock().definitions.push(sync_leads());
    let manifest = fake.path("capsule.toml");
    std::fs::write(&manifest, "# a manifest\n").unwrap();
    let dir = fake.path("").canonicalize().unwrap();
    let ended = fake.run(&["deploy", fake.path("").to_str().unwrap()]);
    assert_eq!(ended.out, "deployed leads@r8\n  + task report\n");
    assert_eq!(ended.err, "warning: limit is odd\n");
    assert_eq!(fake.lock().heard, [format!("deploy # a manifest in {}", dir.display())]);
    let path = manifest.to_str().unwrap();
    assert_eq!(fake.run(&["deploy", path, "--dry-run", "--exit-code"]).code, 5);
    assert_eq!(fake.run(&["deploy", "app.py"]).code, 2);
    assert_eq!(fake.run(&["app", "list", "-q"]).out, "leads\n");
    assert_eq!(fake.run(&["app", "show", "other"]).code, 4);
    assert!(fake.run(&["app", "show", "leads"]).out.contains("sync_leads"));
    assert_eq!(fake.run(&["app", "rollback", "leads", "r6"]).out, "deployed leads@r6\n");
    assert_eq!(fake.run(&["app", "remove", "leads"]).code, 7);
    assert_eq!(fake.run(&["app", "remove", "leads", "-y"]).code, 0);
    assert_eq!(fake.run(&["tasks", "-q"]).out, "sync_leads\n");
    let ended = fake.run(&["tasks", "sync_leads"]);
    assert!(ended.out.contains("parameters   --owner-id str (required)"), "{}", ended.out);
    assert!(
        ended.out.contains("submit       capsule submit sync_leads --owner-id …"),
        "{}",
        ended.out
    );
    assert_eq!(fake.run(&["tasks", "sync_lead"]).code, 2);
}

#[test]
fn why_board_and_events() {
    let fake = with_tasks();
    assert_eq!(
        fake.run(&["why", "1842"]).out,
        "It waits for a lock.\n  1. lock owner:acme held by 1840 (running 12s)\n"
    );
    let ended = fake.run(&["board", "--once"]);
    assert!(ended.out.contains("1843 report"), "{}", ended.out);
    assert!(!ended.out.contains('\x1b'), "{}", ended.out);
    let ended = fake.run(&["board", "--json=boards"]);
    let value: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let done = &value["boards"][0]["columns"][3];
    assert_eq!((&done["label"], &done["total"]), (&"COMPLETED".into(), &1.into()), "{value}");
    assert_eq!(done["tasks"][0]["name"], "report");
    let ended = fake.run(&["events", "--json=seq,event,removed"]);
    assert_eq!(ended.out, "{\"seq\":3,\"event\":\"removed\",\"removed\":7}\n");
    let ended = fake.run(&["events", "--snapshot", "--task", "report", "--json=event"]);
    assert_eq!(ended.out, "{\"event\":\"task\"}\n{\"event\":\"ready\"}\n{\"event\":\"removed\"}\n");
}

#[test]
fn an_app_is_named_by_its_file() {
    let fake = Fake::start();
    let dir = fake.path("project");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("app.py"), "").unwrap();
    let entry = format!("{}/app.py:app", dir.display());
    let ended = fake.run(&["deploy", &entry, "--strict"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let dir = dir.canonicalize().unwrap();
    assert_eq!(
        fake.lock().heard.last().unwrap(),
        &format!("deploy app.py:app in {}", dir.display())
    );
    let ended = fake.run(&["deploy", &format!("{}/app.py", dir.display())]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("app.py:app"), "{}", ended.err);
}

#[test]
fn a_page_shows_its_boards_and_names_the_rest() {
    let fake = Fake::start();
    fake.lock().tasks.push(task(7, "report", Status::Completed));
    let ended = fake.run(&["board", "--page", "tasks", "--once"]);
    assert!(
        ended.out.starts_with("text Hello\n Capsule  Tasks · Background work"),
        "{}",
        ended.out
    );
    for part in ["Now 0", "Other 1", "✓ 7 report", "completed · "] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    let ended = fake.run(&["board", "--page", "Tasks", "--json=page"]);
    assert_eq!(ended.out, "{\"page\":\"Tasks\"}\n");
    assert_eq!(fake.run(&["board", "--pages", "-q"]).out, "Tasks\n");
    let ended = fake.run(&["board", "--page", "Nope"]);
    assert_eq!(ended.code, 4);
    assert!(ended.err.contains("it has Tasks"), "{}", ended.err);
}

#[test]
fn a_secret_comes_from_stdin_and_is_never_shown() {
    let fake = Fake::start();
    let ended = fake.run_with(&["secret", "set", "API_KEY"], "k e y\n");
    assert_eq!((ended.code, ended.out.as_str()), (0, "set API_KEY\n"));
    assert_eq!(fake.lock().heard.last().unwrap(), "secret API_KEY=k e y");
    let ended = fake.run(&["secret", "list"]);
    assert!(ended.out.contains("API_KEY  ••••••••"), "{}", ended.out);
    assert_eq!(fake.run(&["secret", "rm", "API_KEY"]).code, 0);
    assert_eq!(fake.run(&["secret", "rm", "OTHER"]).code, 4);
}
