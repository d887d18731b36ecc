//! Apps run by the SDK's own runner, unmodified.

use std::fs;
use std::path::{Path, PathBuf};

use capsule_tests::{processes, wait_for};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Deployed, seed_app};

/// Tasks that wait for files in `folder`, and fail in all ways.
const TRIALS: &str = r#"
import asyncio
import os

import cpsl

app = cpsl.App("trials", image=cpsl.Image())


@app.task()
async def wait(file: str):
    open(file + ".begun", "a").write("x\n")
    while not os.path.exists(file):
        await asyncio.sleep(0.02)


@app.task(retries=1)
async def fail(text: str):
    raise ValueError(text)


@app.task(retries=3, retry_for=[KeyError])
async def hopeless():
    raise ValueError("no retry makes it good")


@app.task(process=True)
async def apart():
    raise LookupError("in a process of its own")


@app.task(timeout=1)
async def stuck(file: str):
    open(file + ".begun", "a").write("x\n")
    while not os.path.exists(file):
        pass
"#;

impl Deployed {
    /// The process of the runner.
    fn runner(&self) -> i32 {
        wait_for("there is one stock runner", || {
            let mut found = self.home.processes();
            found.retain(|process| process.command.contains("-m cpsl.runner"));
            (found.len() == 1).then(|| found[0].pid)
        })
    }

    fn waits(&self, name: &str, file: &str) -> (u64, PathBuf) {
        let file = self.home.path(file);
        let id = self.home.submit([name, "--file", &file.display().to_string()]);
        (id, file)
    }
}

/// Waits until an attempt has begun so many times.
fn begun(file: &Path, times: usize) {
    wait_for("it begins", || {
        let text = fs::read_to_string(file.with_extension("begun")).unwrap_or_default();
        (text.lines().count() == times).then_some(())
    });
}

#[test]
fn the_seed_runs_in_the_sdks_own_runner() {
    let Some(app) = Deployed::stock(&seed_app()) else { return };
    let shown = app.json(&["app", "show", "seed", "--json"]).to_string();
    assert!(shown.contains("stock") && shown.contains("capsule.toml asks for it"), "{shown}");
    app.runner();
    let said = app.says(&["chat", "seed", "--as", "ann", "--once", "go", "--wait"]);
    assert!(said.contains("Lead sync started"), "{said}");
    let task = app.becomes("sync_leads", "completed");
    let shown = app.json(&["show", &task["id"].to_string(), "--json"]);
    assert_eq!(shown["attempts"][0]["isolation"], "the SDK's runner", "{shown}");
    app.says(&["submit", "rebuild_index", "--owner-id", "u1", "--wait"]);
    let task = app.json(&["show", "@last", "--json"]);
    assert_eq!((&task["status"], &task["lock"]), (&json!("completed"), &json!("owner:u1")));
}

#[test]
fn a_schedules_run_is_delivered_and_submits_for_the_system() {
    let Some(app) = Deployed::stock(&seed_app()) else { return };
    app.says(&["schedule", "trigger", "hourly_sync"]);
    let task = app.becomes("sync_leads", "completed");
    let shown = app.json(&["show", &task["id"].to_string(), "--json"]).to_string();
    assert!(shown.contains("system"), "{shown}");
    let history = app.json(&["schedule", "history", "hourly_sync", "--json"]);
    assert_eq!(history[0]["status"], "delivered", "{history}");
    let tick = history[0]["task"].to_string();
    let result = app.json(&["result", &tick]).to_string();
    assert!(result.contains("does not say how the run ends"), "{result}");
    let board = app.says(&["board", "--page", "Tasks", "--once"]);
    assert!(board.contains("Background work") && board.contains("sync_leads"), "{board}");
}

#[test]
fn failures_are_told_by_name_and_counted_here() {
    let Some(app) = Deployed::stock(TRIALS) else { return };
    for (words, reason, attempts) in [
        (&["fail", "--text", "a: b", "--backoff", "fixed:10ms"][..], "ValueError: a: b", 2),
        (&["hopeless"], "ValueError: no retry makes it good", 1),
        (&["apart"], "LookupError: in a process of its own", 1),
    ] {
        let task = app.home.ended(app.home.submit(words));
        assert_eq!((&task["status"], &task["reason"]), (&json!("failed"), &json!(reason)));
        assert_eq!(task["attempt"], attempts, "{task}");
    }
}

#[test]
fn a_killed_runner_loses_what_it_ran_once_and_is_started_again() {
    let Some(app) = Deployed::stock(TRIALS) else { return };
    let (first, second) = (app.waits("wait", "one"), app.waits("wait", "two"));
    begun(&first.1, 1);
    begun(&second.1, 1);
    let runner = app.runner();
    processes::send(runner, Signal::SIGKILL);
    begun(&first.1, 2);
    begun(&second.1, 2);
    assert_ne!(app.runner(), runner);
    for (id, file) in [first, second] {
        fs::write(file, "").unwrap();
        let task = app.home.ended(id);
        assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(2)), "{task}");
        assert_eq!(task["attempts"][0]["reason"], "its app host died", "{task}");
    }
}

#[test]
fn attempts_in_a_runner_survive_a_killed_daemon() {
    let Some(mut app) = Deployed::stock(TRIALS) else { return };
    let (id, file) = app.waits("wait", "one");
    begun(&file, 1);
    let runner = app.runner();
    app.restart();
    fs::write(&file, "").unwrap();
    let task = app.home.ended(id);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)), "{task}");
    assert_eq!(app.runner(), runner, "the same runner");
    begun(&file, 1);
}

#[test]
fn a_runner_that_does_not_stop_an_attempt_is_killed_for_it() {
    let Some(app) = Deployed::stock(TRIALS) else { return };
    let (innocent, file) = app.waits("wait", "one");
    begun(&file, 1);
    let runner = app.runner();
    let never = app.home.path("never").display().to_string();
    let words = ["stuck", "--file", &never, "--grace", "100ms"];
    let task = app.home.ended(app.home.submit(words));
    let reason = "ran over its timeout 1s, killed";
    assert_eq!((&task["status"], &task["reason"]), (&json!("timeout"), &json!(reason)), "{task}");
    begun(&file, 2);
    assert_ne!(app.runner(), runner);
    fs::write(&file, "").unwrap();
    let task = app.home.ended(innocent);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(2)), "{task}");
}

#[test]
fn a_cancel_reaches_the_runner_and_an_old_one_ends_when_idle() {
    let Some(app) = Deployed::stock(TRIALS) else { return };
    let (id, file) = app.waits("wait", "one");
    begun(&file, 1);
    let old = app.runner();
    app.deploy(&TRIALS.replace("retries=1", "retries=2")).exits(0);
    assert!(processes::alive(old), "it has something to do");
    app.home.capsule(["cancel", &id.to_string()]).run().exits(0);
    let task = app.home.ended(id);
    assert_eq!(task["status"], "cancelled", "{task}");
    wait_for("the old runner ends", || (!processes::alive(old)).then_some(()));
}

#[test]
fn what_waits_for_a_runner_that_cannot_boot_fails_with_its_reason() {
    let broken = r#"
import os

if "CAPSULE_GATEWAY_HOST" in os.environ:
    raise RuntimeError("no database")
"#;
    let Some(app) = Deployed::stock(&format!("{broken}{TRIALS}")) else { return };
    let task = app.home.ended(app.waits("wait", "one").0);
    let reason = task["reason"].as_str().unwrap();
    assert!(
        reason.contains("the app cannot be served") && reason.contains("no database"),
        "{task}"
    );
}

#[test]
fn a_class_runs_too_and_is_given_the_projects_environment() {
    let code = r#"
import os

import cpsl

app = cpsl.App("shop")


@app.cls(image=cpsl.Image(), secrets=["TOKEN"])
class Shop:
    @cpsl.task()
    async def tell(self):
        names = ["FROM_DOTENV", "TOKEN", "CAPSULE_VERSION_ID", "CAPSULE_APP_ID"]
        raise ValueError(" ".join(os.environ.get(name, "-") for name in names))
"#;
    let Some(app) = Deployed::stock(TRIALS) else { return };
    app.home.capsule(["secret", "set", "TOKEN"]).stdin(b"hidden").run().exits(0);
    fs::write(app.home.path("app/.env"), "FROM_DOTENV=dot\nCAPSULE_APP_ID=other\n").unwrap();
    let deployed = app.deploy(code).exits(0);
    assert!(deployed.errors().contains("port 8080"), "{}", deployed.errors());
    let task = app.home.ended(app.home.submit(["tell"]));
    assert_eq!(task["reason"], "ValueError: dot hidden r1 shop", "{task}");
}
