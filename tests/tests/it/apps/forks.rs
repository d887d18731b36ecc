//! Plain functions begin as forks of a warm process, and do without it.

use capsule_tests::{processes, wait_for};
use nix::sys::signal::Signal;

use super::Deployed;

const APP: &str = r#"
import os
import time
import cpsl

app = cpsl.App("forked", image=cpsl.Image())
importer = os.getpid()

@app.task(process=True)
def who():
    print("here")
    return {"importer": importer, "pid": os.getpid()}

@app.task(process=True)
def nap():
    time.sleep(600)
"#;

/// Runs a task; the process that imported the app, when that is another than the task's own.
fn server_of_one(app: &Deployed) -> Option<i32> {
    app.says(&["submit", "who", "--wait"]);
    let result = app.json(&["result", "@last"]);
    assert_eq!(app.says(&["tail", "@last"]), "here\n");
    let pid = |name: &str| i32::try_from(result[name].as_i64().unwrap()).unwrap();
    (pid("importer") != pid("pid")).then_some(pid("importer"))
}

#[test]
fn plain_functions_are_forked_whatever_becomes_of_daemon_and_server() {
    let Some(mut app) = Deployed::new(APP) else { return };
    let status = app.says(&["status"]);
    if !status.contains("cgroup") {
        println!("NO CGROUP CAN BE MADE HERE: nothing is forked");
        return;
    }
    let first = wait_for("an attempt is forked", || server_of_one(&app));
    app.says(&["submit", "nap"]);
    let nap = app.becomes("nap", "running")["pid"].clone();
    // The server dies: the next one takes over, and its children go on.
    processes::send(first, Signal::SIGKILL);
    let second =
        wait_for("another server", || server_of_one(&app).filter(|server| *server != first));
    app.restart();
    wait_for("a server of the new daemon", || {
        server_of_one(&app).filter(|server| *server != second)
    });
    let id = app.becomes("nap", "running")["id"].to_string();
    assert_eq!(app.becomes("nap", "running")["pid"], nap);
    app.says(&["cancel", &id]);
    app.becomes("nap", "cancelled");
    // A new revision has a server of its own.
    app.deploy(&APP.replace("here", "there")).exits(0);
    wait_for("a server of the new revision", || {
        app.says(&["submit", "who", "--wait"]);
        let result = app.json(&["result", "@last"]);
        assert_eq!(app.says(&["tail", "@last"]), "there\n");
        (result["importer"] != result["pid"]).then_some(())
    });
}
