//! Apps that fail, hang, crash and are killed: each with a true outcome, and nothing lost.

use capsule_tests::{processes, wait_for};
use nix::sys::signal::Signal;

use super::Deployed;

const TROUBLE: &str = r#"
import asyncio, os, time
import cpsl

app = cpsl.App("trouble", image=cpsl.Image())

class Odd(ValueError):
    pass

@app.task(retries=2, retry_for=[KeyError])
async def picky(n: int):
    raise Odd(f"not {n}")

@app.task(process=True)
def abort():
    os.abort()

@app.task()
async def count(to: int = 3):
    for n in range(to):
        print("step", n)
    return to

@app.task(timeout=1)
async def slow():
    await asyncio.sleep(600)

@app.task()
async def nap(seconds: float, n: int = 0):
    await asyncio.sleep(seconds)
    return n

@app.task(process=True)
async def fork_and_submit(n: int):
    handle = await count.submit(to=n)
    return handle.task_id
"#;

#[test]
fn errors_have_a_name_and_are_not_tried_again_unless_asked_for() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    let code = app.home.capsule(["submit", "picky", "--n", "7", "--wait"]).run().code();
    assert_eq!(code, 20, "the task failed");
    let task = app.becomes("picky", "failed");
    assert_eq!(task["reason"], "Odd: not 7");
    assert_eq!(task["attempt"], 1, "KeyError alone is tried again");
    let log = app.home.capsule(["tail", "@last"]).run().exits(0).errors();
    assert!(log.contains("app.py") && log.contains("raise Odd"), "{log}");
}

#[test]
fn a_crash_is_a_signal_and_leaves_the_app_alone() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    assert_ne!(app.home.capsule(["submit", "abort", "--wait"]).run().code(), 0);
    let task = app.becomes("abort", "failed");
    assert_eq!(task["reason"], "killed by SIGABRT");
    app.says(&["submit", "count", "--to", "2", "--wait"]);
    assert_eq!(app.says(&["tail", "@last"]), "step 0\nstep 1\n");
}

#[test]
fn a_timeout_ends_a_coroutine() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    assert_ne!(app.home.capsule(["submit", "slow", "--wait"]).run().code(), 0);
    app.becomes("slow", "timeout");
}

#[test]
fn a_process_submits_tasks_of_its_app() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    app.says(&["submit", "fork_and_submit", "--n", "5", "--wait"]);
    let task = app.becomes("count", "completed");
    assert_eq!(app.json(&["result", &task["id"].to_string()]), 5);
}

#[test]
fn a_cancelled_coroutine_ends_at_once() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    app.says(&["submit", "nap", "--seconds", "600"]);
    let task = app.becomes("nap", "running");
    app.says(&["cancel", &task["id"].to_string()]);
    app.becomes("nap", "cancelled");
}

/// The process of the app's host.
fn host(app: &Deployed) -> i32 {
    wait_for("the app host runs", || {
        let all = app.home.processes();
        let host = all.iter().find(|process| process.command.trim_end().ends_with(" host"));
        host.map(|process| process.pid)
    })
}

#[test]
fn tasks_in_a_killed_host_run_again_and_none_is_lost() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    for n in 0..20 {
        app.says(&["submit", "nap", "--seconds", "1.5", "--n", &n.to_string()]);
    }
    app.becomes("nap", "running");
    let old = host(&app);
    processes::send(old, Signal::SIGKILL);
    wait_for("all have ended", || {
        let status = app.home.status();
        (status["by_status"]["completed"] == 20 || status["tasks"]["completed"] == 20).then_some(())
    });
    assert_ne!(host(&app), old);
    assert!(!processes::alive(old), "it was killed");
}

#[test]
fn a_bad_app_is_refused_with_its_line_and_the_good_one_stays() {
    let Some(app) = Deployed::new(TROUBLE) else { return };
    let bad = TROUBLE.replace("retry_for=[KeyError]", "lock=\"x:{nobody}\"");
    let refused = app.deploy(&bad);
    assert_ne!(refused.code(), 0);
    let errors = refused.errors();
    assert!(errors.contains("app.py:") && errors.contains("nobody"), "{errors}");
    let refused = app.deploy("import cpsl\n\nimport nothing_like_it\n");
    assert!(refused.errors().contains("app.py:3"), "{}", refused.errors());
    app.says(&["submit", "count", "--wait"]);
    assert_eq!(app.json(&["result", "@last"]), 3);
}

#[test]
fn coroutines_outlive_the_daemon() {
    let Some(mut app) = Deployed::new(TROUBLE) else { return };
    app.says(&["submit", "nap", "--seconds", "3", "--n", "9"]);
    app.becomes("nap", "running");
    let before = host(&app);
    app.restart();
    let task = app.becomes("nap", "completed");
    assert_eq!(task["attempt"], 1, "it went on: {task}");
    assert_eq!(host(&app), before);
}
