//! App hosts, played by a script: what the daemon gives them and what becomes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use capsule_tests::{Daemon, Home, processes, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A home with the app `demo` deployed.
struct App {
    /// Ends before its home, or it would start another keeper there.
    daemon: Option<Daemon>,
    home: Home,
}

const SCRIPT: &str = include_str!("fake_host.py");

impl App {
    fn new(slots: &str) -> Self {
        let home = Home::new();
        let daemon = Some(home.start_with(&["--slots", slots]));
        let app = Self { daemon, home };
        let script = app.folder().join("python");
        fs::create_dir(app.folder()).unwrap();
        fs::write(&script, SCRIPT).unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
        app.deploy(&json!({}));
        app
    }

    fn folder(&self) -> PathBuf {
        self.home.path("h/app")
    }

    /// Deploys the app with these fields besides.
    fn deploy(&self, more: &Value) {
        let param = json!({"name": "file", "type": "str", "default": ""});
        let task = |name: &str, timeout: u32, retries: u32, is_async: bool| {
            json!({"name": name, "async": is_async, "timeout": timeout, "retries": retries,
                "params": [param]})
        };
        let mut text = json!({
            "format": 1, "kind": "python", "app": "demo", "entry": "app.py:app",
            "interpreter": self.folder().join("python"), "dir": self.folder(),
            "source": self.folder(), "mode": "host",
            "tasks": [task("quick", 0, 0, true), task("wait", 0, 0, true),
                task("stuck", 1, 0, true), task("raise", 0, 1, true), task("plain", 0, 2, false)],
        });
        for (name, value) in more.as_object().unwrap() {
            text[name] = value.clone();
        }
        let file = self.home.path("h/capsule.toml");
        fs::write(&file, text.to_string()).unwrap();
        self.home.capsule(["deploy"]).run().exits(0);
    }

    fn submit(&self, name: &str, file: &str) -> u64 {
        let file = format!("file={file}");
        self.home.submit([name, "--param", &file])
    }

    fn heard(&self, what: &str) -> usize {
        let heard = fs::read_to_string(self.folder().join("heard")).unwrap_or_default();
        heard.lines().filter(|line| line.starts_with(what)).count()
    }

    /// Waits until the host has begun so many attempts; gives its process.
    fn host(&self, begun: usize) -> i32 {
        wait_for("the host begins them", || (self.heard("start") >= begun).then_some(()));
        wait_for("there is one host", || {
            let mut hosts = self.home.processes();
            hosts.retain(|process| process.command.trim_end().ends_with(" host"));
            (hosts.len() == 1).then(|| hosts[0].pid)
        })
    }
}

#[test]
fn a_host_runs_attempts_and_their_output_and_results_are_kept() {
    let app = App::new("1");
    let id = app.submit("quick", "x");
    let task = app.home.ended(id);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)), "{task}");
    assert_eq!(app.home.output(id), b"quick begins\n");
    assert_eq!(task["result"], json!({"given": {"file": "x"}}), "{task}");
    wait_for("the verdict is acknowledged", || (app.heard("ack") == 1).then_some(()));
    let failed = app.home.ended(app.submit("raise", ""));
    assert_eq!((&failed["status"], &failed["attempt"]), (&json!("failed"), &json!(2)), "{failed}");
    assert_eq!(failed["reason"], "KeyError: 'x'", "{failed}");
    let plain = app.submit("plain", "y");
    let task = app.home.ended(plain);
    assert_eq!(task["reason"], "ValueError: no such owner", "{task}");
    assert_eq!(task["attempt"], 1, "no retry makes it good: {task}");
    assert_eq!(app.home.output(plain), b"given {\"file\":\"y\"}\n");
}

#[test]
fn a_killed_host_loses_each_of_its_attempts_once() {
    let app = App::new("1");
    let ids: Vec<u64> = (0..50).map(|_| app.submit("wait", "go")).collect();
    // One slot is enough: what shares a host takes none.
    let host = app.host(50);
    processes::send(host, Signal::SIGKILL);
    let again = wait_for("another host begins them again", || {
        (app.heard("start") >= 100).then(|| app.host(100))
    });
    assert_ne!(again, host);
    fs::write(app.folder().join("go"), "").unwrap();
    for id in ids {
        let task = app.home.ended(id);
        assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(2)), "{task}");
        let first = &task["attempts"][0];
        assert_eq!(
            (&first["verdict"], &first["reason"]),
            (&json!("lost"), &json!("its app host died"))
        );
    }
    assert_eq!(app.heard("start"), 100);
}

#[test]
fn attempts_in_a_host_survive_a_killed_daemon() {
    let mut app = App::new("1");
    let (goes_on, ends, cancelled) =
        (app.submit("wait", "go"), app.submit("wait", "now"), app.submit("wait", "-"));
    let host = app.host(3);
    app.daemon.take().unwrap().kill();
    fs::write(app.folder().join("now"), "").unwrap();
    app.daemon = Some(app.home.start_with(&["--slots", "1"]));
    let task = app.home.ended(ends);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)), "{task}");
    app.home.capsule(["cancel", &cancelled.to_string()]).run().exits(0);
    assert_eq!(app.home.ended(cancelled)["status"], "cancelled");
    fs::write(app.folder().join("go"), "").unwrap();
    let task = app.home.ended(goes_on);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)), "{task}");
    assert_eq!(app.host(3), host, "the same host, and nothing was begun twice");
    assert_eq!(app.heard("start"), 3);
}

#[test]
fn a_host_that_died_while_no_daemon_looked_loses_what_it_ran() {
    let mut app = App::new("1");
    let id = app.submit("wait", "go");
    let host = app.host(1);
    app.daemon.take().unwrap().kill();
    processes::send(host, Signal::SIGKILL);
    wait_for("it is gone", || (!processes::alive(host)).then_some(()));
    fs::write(app.folder().join("go"), "").unwrap();
    app.daemon = Some(app.home.start_with(&["--slots", "1"]));
    let task = app.home.ended(id);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(2)), "{task}");
    assert_eq!(task["attempts"][0]["reason"], "its app host died", "{task}");
}

#[test]
fn a_host_that_cannot_stop_an_attempt_is_killed_for_it() {
    let app = App::new("1");
    let innocent = app.submit("wait", "go");
    app.host(1);
    let grace = ["--grace", "100ms"];
    let stuck = app.home.submit([&["stuck"][..], &grace[..]].concat());
    app.host(2);
    let task = app.home.ended(stuck);
    assert_eq!(
        (&task["status"], &task["reason"]),
        (&json!("timeout"), &json!("ran over its timeout 1s, killed")),
        "{task}"
    );
    assert_eq!(app.heard(&format!("stacks {stuck} 1")), 1);
    fs::write(app.folder().join("go"), "").unwrap();
    let task = app.home.ended(innocent);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(2)), "{task}");
}

#[test]
fn an_old_revisions_host_ends_when_its_attempts_have() {
    let app = App::new("1");
    let id = app.submit("wait", "go");
    let old = app.host(1);
    app.deploy(&json!({"handlers": {"message": [""]}, "tasks": [
        {"name": "quick", "async": true, "timeout": 9}]}));
    let quick = app.home.submit(["quick"]);
    assert_eq!(app.home.ended(quick)["status"], "completed");
    assert!(processes::alive(old), "it has something to do");
    fs::write(app.folder().join("go"), "").unwrap();
    assert_eq!(app.home.ended(id)["attempt"], 1);
    wait_for("the old host ends", || (!processes::alive(old)).then_some(()));
}

#[test]
fn what_waits_for_an_app_that_cannot_boot_fails_with_its_reason() {
    let app = App::new("1");
    let host = app.host(0);
    fs::write(app.folder().join("broken"), "").unwrap();
    processes::send(host, Signal::SIGKILL);
    wait_for("it is gone", || (!processes::alive(host)).then_some(()));
    let task = app.home.ended(app.submit("quick", ""));
    assert_eq!(task["reason"], "boot: the app cannot be served: no database", "{task}");
}

#[test]
fn an_interpreter_that_is_gone_is_named() {
    let app = App::new("1");
    app.deploy(
        &json!({"interpreter": "/no/such/python", "tasks": [{"name": "quick", "async": true}]}),
    );
    let task = app.home.ended(app.home.submit(["quick"]));
    let reason = task["reason"].as_str().unwrap();
    assert!(reason.starts_with("HostError: the app cannot be served: "), "{task}");
    assert!(reason.contains("/no/such/python"), "{task}");
}
